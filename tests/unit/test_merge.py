"""Several layers as one tree: the last one wins, whatever stood there, and nothing is written through a link."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.control.merge import merge, size_bytes


def tree(root: Path, entries: Mapping[str, str]) -> Path:
    """``name: text`` is a file, ``name/`` a directory, ``name@: target`` a link."""
    root.mkdir()
    for name, content in entries.items():
        path = root / name.rstrip("/@")
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir()
        elif name.endswith("@"):
            path.symlink_to(content)
        else:
            path.write_text(content)
    return root


def read(root: Path) -> dict[str, str]:
    found = {}
    for directory, directories, files in os.walk(root):
        for name in [*directories, *files]:
            path = Path(directory, name)
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[f"{key}@"] = os.readlink(path)
            elif path.is_file():
                found[key] = path.read_text()
            elif not any(path.iterdir()):
                found[f"{key}/"] = ""
    return found


@pytest.mark.parametrize(
    ("layers", "merged"),
    [
        ([{"a": "1", "d/b": "1"}, {"d/b": "2", "d/c": "2"}], {"a": "1", "d/b": "2", "d/c": "2"}),
        ([{"d/a": "1", "d/e/f": "1", "da": "1"}, {"d": "2"}], {"d": "2", "da": "1"}),
        ([{"d": "1"}, {"d/a": "2"}], {"d/a": "2"}),
        ([{"d@": "x", "x/": ""}, {"d/a": "2"}], {"d/a": "2", "x/": ""}),
        ([{"x/a": "1", "d/b": "1"}, {"d@": "x"}], {"x/a": "1", "d@": "x"}),
        ([{"a@": "b", "b": "1"}, {"a": "2"}], {"a": "2", "b": "1"}),
        ([{"a": "1"}, {"a/": ""}, {"a": "3"}], {"a": "3"}),
    ],
    ids=["side by side", "file over directory", "directory over file", "over link", "link over directory", "file over link", "3"],
)
def test_the_last_one_wins(tmp_path: Path, layers: list[dict[str, str]], merged: dict[str, str]) -> None:
    sources = [tree(tmp_path / str(number), entries) for number, entries in enumerate(layers)]
    before = [read(one) for one in sources]
    target = tmp_path / "target"
    target.mkdir()
    merge(sources, target)
    assert read(target) == merged
    assert [read(one) for one in sources] == before  # nothing was written through a link


def test_files_take_no_space_again(tmp_path: Path) -> None:
    layer = tree(tmp_path / "layer", {"a": "x" * 100, "d/b": "y" * 11, "l@": "a"})
    (tmp_path / "target").mkdir()
    merge([layer], tmp_path / "target")
    assert (tmp_path / "target/a").stat().st_ino == (layer / "a").stat().st_ino
    assert size_bytes(str(layer)) == size_bytes(str(tmp_path / "target")) == 111


def test_a_file_linked_too_often_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(31, "Too many links")

    monkeypatch.setattr(os, "link", full)
    layer = tree(tmp_path / "layer", {"a": "1", "l@": "a"})
    (tmp_path / "target").mkdir()
    merge([layer], tmp_path / "target")
    assert read(tmp_path / "target") == {"a": "1", "l@": "a"}
