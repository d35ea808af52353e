"""Unzipping what strangers send: one case a line, and after each nothing is outside of the target."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.control import archive
from gateway.control.archive import ArchiveEmpty, ArchiveTooLarge, BadArchive, unpack

LINK = stat.S_IFLNK | 0o777


def entry(
    name: str, mode: int = 0, *, system: int = 3, time: tuple[int, int, int, int, int, int] = (2020, 1, 2, 3, 4, 6)
) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo("placeholder", time)
    found.filename = name  # as it is: the constructor would tidy it up
    found.external_attr = mode << 16
    found.create_system = system
    return found


def zipped(*entries: tuple[zipfile.ZipInfo | str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    found = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicate names
        with zipfile.ZipFile(found, "w", method) as opened:
            for name, content in entries:
                opened.writestr(name, content, method)
    return found.getvalue()


def patched(data: bytes, offset: int, replacement: bytes) -> bytes:
    """The only entry's central header changed at an offset."""
    at = data.index(b"PK\1\2") + offset
    return data[:at] + replacement + data[at + len(replacement) :]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty directory, with something beside it that must not change."""
    (tmp_path / "beside").write_text("untouched")
    found = tmp_path / "target"
    found.mkdir()
    return found


def test_files_directories_and_links(target: Path) -> None:
    data = zipped(
        ("index.py", "x = 1"),
        (entry("pkg/mod/__init__.py", 0o100600), ""),
        (entry("bootstrap", stat.S_IFREG | 0o4777), "#!/bin/sh"),
        (entry("private", stat.S_IFREG | 0o600), "secret"),
        (entry("no-mode", 0, system=0), "made on Windows"),
        (entry("empty/", stat.S_IFDIR | 0o700), ""),
        (entry("empty/", stat.S_IFDIR | 0o700), ""),
        (entry("./odd//name", 0), "tidied"),
        (entry("pkg/link", LINK), "mod/__init__.py"),
        (entry("up", LINK), "pkg/../index.py"),
        (entry("dangling", LINK), "not-here"),
    )
    assert unpack(data, target) == len("x = 1#!/bin/shsecretmade on Windowstidied")
    modes = {
        str(path.relative_to(target)): stat.S_IMODE(path.lstat().st_mode) for path in target.rglob("*") if not path.is_symlink()
    }
    assert modes == {
        "index.py": 0o644,  # zipfile's own default is 0600: what the owner may read, the sandbox's user may too
        "pkg": 0o755,
        "pkg/mod": 0o755,
        "pkg/mod/__init__.py": 0o644,
        "bootstrap": 0o755,  # no set-user-id, no writing by others
        "private": 0o644,
        "no-mode": 0o644,
        "empty": 0o755,
        "odd": 0o755,
        "odd/name": 0o644,
    }
    assert os.readlink(target / "pkg/link") == "mod/__init__.py"
    assert (target / "up").read_text() == "x = 1"
    assert (target / "bootstrap").stat().st_mtime == 1577934246  # 2020-01-02T03:04:06Z, wherever this runs


def test_execute_bits_are_kept_as_they_are(target: Path) -> None:
    """As on AWS: a bootstrap that only its owner may execute cannot be executed by a function."""
    unpack(zipped((entry("bootstrap", stat.S_IFREG | 0o744), "x")), target)
    assert stat.S_IMODE((target / "bootstrap").stat().st_mode) == 0o744


@pytest.mark.parametrize("time", [(1980, 0, 0, 0, 0, 0), (2107, 12, 31, 23, 59, 58), (2000, 15, 31, 31, 63, 62)])
def test_impossible_times(target: Path, time: tuple[int, int, int, int, int, int]) -> None:
    data = zipped(("a", "x"))
    year, month, day, hour, minute, second = time
    dos = struct.pack("<HH", hour << 11 | minute << 5 | second // 2, (year - 1980) << 9 | month << 5 | day)
    unpack(patched(data, 12, dos), target)
    assert (target / "a").read_text() == "x"


OUT = "leads out of the package"
BOTH = "as a directory and as something else"

BAD: list[tuple[str, Callable[[], bytes], str]] = [
    ("no zip", lambda: b"this is no zip file", ""),
    ("half a zip", lambda: zipped(("a", "x" * 1000))[:60], ""),
    ("no directory", lambda: zipped(("a", "x"))[:-22], ""),
    ("cut at the front", lambda: zipped(("a", os.urandom(100)))[50:], ""),
    ("wrong checksum", lambda: patched(zipped(("a", "xyz"), method=zipfile.ZIP_STORED), 16, b"\0\0\0\0"), ""),
    ("damaged data", lambda: patched(zipped(("a", os.urandom(500))), -300, bytes(20)), ""),
    ("an end without a beginning", lambda: b"PK\5\6" + b"\xff" * 18, ""),
    ("an end that is cut", lambda: b"x" * 100 + b"PK\5\6" + b"\0" * 10, ""),
    ("absolute", lambda: zipped((entry("/etc/passwd"), "x")), "absolute"),
    ("slip", lambda: zipped((entry("../beside"), "x")), OUT),
    ("slip inside", lambda: zipped((entry("a/../../beside"), "x")), OUT),
    ("slip of a directory", lambda: zipped((entry("../new/"), "")), OUT),
    ("no name", lambda: zipped((entry("."), "x")), "no name"),
    ("link to an absolute path", lambda: zipped((entry("a", LINK), "/etc/passwd")), OUT),
    ("link to the parent", lambda: zipped((entry("a", LINK), "..")), OUT),
    ("links that lead out together", lambda: zipped((entry("a", LINK), "."), (entry("d/b", LINK), "../a/../../beside")), OUT),
    ("a link through a link", lambda: zipped(("d/e/f", ""), (entry("a", LINK), "d/e"), (entry("b", LINK), "a/../../..")), OUT),
    ("a file through a link", lambda: zipped((entry("a", LINK), "."), (entry("a/b"), "x")), BOTH),
    ("a file through a link to the outside", lambda: zipped((entry("a", LINK), ".."), (entry("a/beside"), "x")), BOTH),
    ("a link to nothing", lambda: zipped((entry("a", LINK), "")), "leads nowhere"),
    ("a link with a NUL", lambda: zipped((entry("a", LINK), "b\0c")), ""),
    ("a link that is too long", lambda: zipped((entry("a", LINK), "b" * 5000)), "too long"),
    ("twice", lambda: zipped(("a", "x"), ("a", "y")), "twice"),
    ("twice in other words", lambda: zipped((entry("a/b"), "x"), (entry("a//./b"), "y")), "twice"),
    ("file and link", lambda: zipped(("a", "x"), (entry("a", LINK), "b")), "twice"),
    ("file and directory", lambda: zipped(("a", "x"), ("a/b", "y")), BOTH),
    ("a device", lambda: zipped((entry("a", stat.S_IFBLK | 0o666), "")), "neither a file nor a directory"),
    ("a character device", lambda: zipped((entry("a", stat.S_IFCHR | 0o666), "")), "neither a file nor a directory"),
    ("a pipe", lambda: zipped((entry("a", stat.S_IFIFO | 0o666), "")), "neither a file nor a directory"),
    ("a socket", lambda: zipped((entry("a", stat.S_IFSOCK | 0o666), "")), "neither a file nor a directory"),
    ("encrypted", lambda: patched(zipped(("a", "x")), 8, b"\1\0"), "encrypted"),
    ("bzip2", lambda: zipped(("a", "x"), method=zipfile.ZIP_BZIP2), "compressed in a way"),
    ("LZMA", lambda: zipped(("a", "x"), method=zipfile.ZIP_LZMA), "compressed in a way"),
    ("an unknown method", lambda: patched(zipped(("a", "x")), 10, b"\x63\0"), "compressed in a way"),
    ("a name of 300 characters", lambda: zipped(("a" * 300, "x")), "not possible here"),
    ("a name of 5,000 characters", lambda: zipped(("a/" * 100 + "b" * 4800, "x")), "too long"),
    ("300 directories deep", lambda: zipped(("a/" * 300 + "b", "x")), "too long"),
    ("a name that is no UTF-8", lambda: zipped(("ä", "x")).replace("ä".encode(), b"\xff\xfe"), ""),
]  # fmt: skip


@pytest.mark.parametrize(("data", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_is_refused(target: Path, data: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(BadArchive) as caught:
        unpack(data(), target)
    assert reason in str(caught.value)
    assert bool(reason) == bool(str(caught.value))
    assert sorted(path.name for path in target.parent.iterdir()) == ["beside", "target"]
    assert (target.parent / "beside").read_text() == "untouched"


def test_nothing(target: Path) -> None:
    for data in (b"", zipped()):
        with pytest.raises(ArchiveEmpty):
            unpack(data, target)


def test_too_large(target: Path) -> None:
    """By what the headers say, and by what is there when they lie."""
    data = zipped(("a", bytes(1000)), ("b", bytes(1000)))
    assert unpack(data, target, limit_bytes=2000) == 2000
    with pytest.raises(ArchiveTooLarge):
        unpack(data, target / "other", limit_bytes=1999)
    assert not (target / "other").exists(), "refused before anything was written"


def test_headers_that_understate(target: Path) -> None:
    data = patched(zipped(("a", bytes(100_000))), 24, struct.pack("<L", 10))
    with pytest.raises(BadArchive):
        unpack(data, target)
    assert sum(path.stat().st_size for path in target.rglob("*")) <= 10


def test_too_many_entries(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries, and directories that only names imply. The first are counted before zipfile makes an object of each."""
    monkeypatch.setattr(archive, "ENTRIES_MAX", 10)
    unpack(zipped(*((str(number), "") for number in range(10))), target)
    with pytest.raises(BadArchive, match="more than 10 entries"):
        archive._count(zipped(*((str(number), "") for number in range(11))))
    with pytest.raises(BadArchive, match="more than 10 entries"):
        unpack(zipped(("/".join("abcdefghijk"), "")), target)


def test_zip64(target: Path) -> None:
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as opened, opened.open("a", "w", force_zip64=True) as file:
        file.write(b"x")
    assert unpack(found.getvalue(), target) == 1


def test_something_in_front(target: Path) -> None:
    """Archives that are programs, too: executable jars and Python's zipapps."""
    assert unpack(b"#!/usr/bin/env python3\n" + zipped(("a", "x")), target) == 1
