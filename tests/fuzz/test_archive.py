"""Whatever bytes come, unzipping them ends in a directory that holds nothing but itself, or in one of three errors.

Fuzzed whole (made of hostile entries), damaged (bytes changed in a good archive) and cut.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.control.archive import ArchiveEmpty, ArchiveTooLarge, BadArchive, unpack
from tests.unit.test_archive import entry, zipped

LIMIT = 4096

_parts = st.sampled_from(["a", "b", "c", ".", "..", "", "a" * 255, "ä", "\\", "CON", " ", "-"])
_names = st.lists(_parts, min_size=1, max_size=6).map("/".join)
_modes = st.sampled_from(
    [0, 0o100644, 0o100000, 0o107777, stat.S_IFDIR | 0o700, stat.S_IFLNK | 0o777, stat.S_IFIFO, stat.S_IFCHR]
)
_contents = st.one_of(_names.map(str.encode), st.binary(max_size=100), st.just(bytes(LIMIT + 1)))
_archives = st.lists(st.tuples(st.builds(entry, _names, _modes, system=st.sampled_from([0, 3])), _contents), max_size=6).map(
    lambda entries: zipped(*entries)
)


def checked(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        (root / "beside").write_text("untouched")
        target = root / "target"
        target.mkdir()
        try:
            total = unpack(data, target, limit_bytes=LIMIT)
        except (BadArchive, ArchiveTooLarge, ArchiveEmpty):
            pass
        else:
            found = list(target.rglob("*"))
            assert total == sum(path.lstat().st_size for path in found if stat.S_ISREG(path.lstat().st_mode))
            for path in found:
                kind = path.lstat().st_mode
                assert stat.S_ISREG(kind) or stat.S_ISDIR(kind) or stat.S_ISLNK(kind)
                assert os.path.realpath(path).startswith(os.path.realpath(target))
                if not stat.S_ISLNK(kind):
                    assert kind & 0o444 == 0o444
                    assert not kind & 0o7022
        # a limit on what is written holds in every case
        assert sum(path.lstat().st_size for path in target.rglob("*") if path.is_file() and not path.is_symlink()) <= LIMIT
        assert sorted(path.name for path in root.iterdir()) == ["beside", "target"]
        assert (root / "beside").read_text() == "untouched"


@pytest.mark.slow
@settings(max_examples=150)
@given(_archives)
def test_hostile_entries(data: bytes) -> None:
    checked(data)


@pytest.mark.slow
@settings(max_examples=150)
@given(_archives, st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged(data: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    checked(bytes(damaged))


@given(_archives, st.integers(0, 2**16), st.integers(0, 2**16))
def test_cut(data: bytes, start: int, end: int) -> None:
    checked(data[start % len(data) : end % (len(data) + 1)])


@given(st.binary(max_size=300))
def test_anything(data: bytes) -> None:
    checked(data)
    checked(b"PK\3\4" + data + b"PK\1\2" + data + b"PK\5\6" + data)
