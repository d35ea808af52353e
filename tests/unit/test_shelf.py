"""Unpacked images on disk: who keeps them, when they go, and what becomes of one for which there is no room."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.errors import ImageError
from sandbox.images.engine import Engine
from sandbox.images.shelf import Shelf
from sandbox.images.store import ImageStore, of_config
from sandbox.spec import Architecture
from tests.unit.test_images import layer, saved

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")


def put(shelf: Shelf, image_id: str, size_bytes: int = 1000) -> None:
    work = shelf.work("making")
    (work / "root").mkdir()
    (work / "root" / "file").write_text("x")
    shelf.add(work, of_config(image_id, "name", 1, {"architecture": "amd64"}, {}, []), size_bytes)


def there(shelf: Shelf) -> list[str]:
    return sorted(name[:1] if name[0].isdigit() else name for name in os.listdir(shelf.directory))


@pytest.fixture
async def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Shelf]:
    """With both images, neither of which is spared any more."""
    monkeypatch.setattr("sandbox.images.shelf.SPARED_S", 0.0)
    made = Shelf(tmp_path / "images")
    put(made, ONE)
    put(made, TWO)
    yield made
    await made.close()


async def test_what_no_function_needs_goes(shelf: Shelf) -> None:
    shelf.look()
    assert there(shelf) == ["1", "2"], "nobody has said yet what functions need"
    shelf.keep([ONE], [])
    assert shelf.root(TWO) is None
    await shelf.close()
    assert there(shelf) == ["1"], "its files are gone, and nothing else is left"
    found = shelf.find(ONE)
    assert found is not None
    assert found.id == ONE
    shelf.keep([], [])
    await shelf.close()
    assert there(shelf) == []


async def test_what_a_sandbox_has_stays_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.images.shelf.SPARED_S", 0.0)
    used = {ONE}
    shelf = Shelf(tmp_path / "images", lambda: used)
    put(shelf, ONE)
    shelf.keep([], [])
    assert there(shelf) == ["1"]
    used.clear()
    shelf.released(ONE)
    await shelf.close()
    assert there(shelf) == []


async def test_what_was_asked_for_lately_may_be_a_function_soon(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.images.shelf.SPARED_S", 600.0)
    shelf.keep([], [])
    assert there(shelf) == ["1", "2"]
    monkeypatch.setattr("sandbox.images.shelf.SPARED_WHEN_SHORT_S", 0.0)
    await shelf.make_room()
    assert there(shelf) == []


async def test_what_zip_functions_run_in_stays_as_long_as_there_are_any(shelf: Shelf) -> None:
    shelf.serve(ONE, "python3.11", "arm64")
    shelf.serve(ONE, "python3.11", "arm64")
    shelf.serve(ONE, "provided.al2023", "arm64")
    shelf.keep([], [("provided.al2023", "arm64")])
    await shelf.close()
    assert there(shelf) == ["1"]
    shelf.keep([], [("python3.11", "x86_64")])
    await shelf.close()
    assert there(shelf) == []


async def test_what_a_crash_left_goes_at_the_start(tmp_path: Path) -> None:
    for name in ("making.x", "removing.y", "3" * 64):
        (tmp_path / name / "root").mkdir(parents=True)
    (tmp_path / "saved.z").write_bytes(b"1")
    shelf = Shelf(tmp_path)
    shelf.prepare()
    await shelf.close()
    assert there(shelf) == ["3"]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")


@needs_root
@pytest.mark.slow
async def test_unpacking_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    store = ImageStore(
        tmp_path / "images", Engine("unix:///nowhere"), 1 << 30, told=lambda uri, done, total: told.append((uri, done, total))
    )
    path = saved(tmp_path / "saved.tar", [layer(("a", bytes(24 << 20))), layer(("b", bytes(24 << 20)))])
    uri = f"docker-archive:{path}"
    await store.resolve(uri, Architecture.X86_64)
    done = [done for _, done, _ in told]
    assert len(done) >= 2
    assert len({(each, total) for each, _, total in told}) == 1
    assert done == sorted(done)
    assert 16 << 20 <= done[0] <= done[-1] <= told[0][2]
    await store.shelf.close()


@needs_root
@pytest.mark.slow
async def test_there_is_a_bound_for_all_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody needs makes room; what functions need does not, and the newcomer is refused with what to do."""
    monkeypatch.setattr("sandbox.images.shelf.SPARED_WHEN_SHORT_S", 0.0)
    store = ImageStore(tmp_path / "images", Engine("unix:///nowhere"), 1 << 20)

    async def resolve(name: str, kilobytes: int) -> str:
        path = saved(tmp_path / name, [layer((name, os.urandom(kilobytes << 10)))])
        return (await store.resolve(f"docker-archive:{path}", Architecture.X86_64)).id

    first = await resolve("a", 600)
    store.shelf.keep([first], [])
    with pytest.raises(ImageError, match="take 0 MB of the 1 MB that images_max_mb gives them"):
        await resolve("b", 600)
    assert store.shelf.root(first) is not None
    assert len(os.listdir(store.shelf.directory)) == 1, "nothing of the one that was refused is left"
    store.shelf.keep([], [])
    await resolve("b", 600)
    assert store.shelf.root(first) is None
    await store.shelf.close()
