"""A deployment package becomes a directory: unzipping what a stranger sent.

Everything is decided before anything is written. An entry is a file, a directory or a symbolic link, its name leads nowhere but
into the target, none is there twice, no name leads through a link, and all together they are no more and no larger than allowed,
whatever their headers say. Links are made last, and it is the file system that is asked where they lead: two links that are
harmless by themselves need not be so together. Only stored and deflated entries are read, as AWS does: LZMA would let a header
of five bytes ask for gigabytes of memory.

The sandbox's user is not the one that owns the files, so what the owner may read everybody may; nobody may write. Times are those
of the archive, which has no time zone, read as UTC.
"""

from __future__ import annotations

import calendar
import errno
import io
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Final

UNZIPPED_MAX_BYTES: Final = 262_144_000
ENTRIES_MAX: Final = 150_000  #: files and directories, those included that only other names imply
_NAME_MAX_BYTES: Final = 4_000
_DEPTH_MAX: Final = 200
_LINK_MAX_BYTES: Final = 4_000
_CHUNK_BYTES: Final = 256 * 1024
_UNIX: Final = frozenset({3, 19})  #: systems whose entries have a file mode: Unix and macOS

_END: Final = struct.Struct("<4s4H2LH")
_END_64_LOCATOR: Final = struct.Struct("<4sLQL")
_END_64: Final = struct.Struct("<4sQ2H2L4Q")
_ENTRY: Final = struct.Struct("<4s6H3L5H2L")


class BadArchive(Exception):
    """This cannot be unzipped. The message says why, or is empty where it is just no zip file."""


class ArchiveTooLarge(Exception):
    """Unzipped it is larger than a function may be."""


class ArchiveEmpty(Exception):
    """There is nothing in it."""


def unpack(archive: bytes, target: Path, *, limit_bytes: int = UNZIPPED_MAX_BYTES) -> int:
    """Unzip into `target`, an empty directory that only we write to; returns the size in bytes. Blocks: for a worker thread.

    Raises BadArchive, ArchiveTooLarge, ArchiveEmpty, and OSError for what is the disk's fault. Then `target` is half full.
    """
    if not archive:
        raise ArchiveEmpty
    try:
        _count(archive)
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            plan = _Plan(opened.infolist(), limit_bytes)
            return _write(opened, plan, target, limit_bytes)
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BadArchive("") from error
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
            raise BadArchive(f"a name in it is not possible here: {error.strerror}") from error
        raise


class _Plan:
    """What will be where, by path: decided and checked before anything is written."""

    def __init__(self, entries: list[zipfile.ZipInfo], limit_bytes: int) -> None:
        if not entries:
            raise ArchiveEmpty
        self.directories: dict[str, None] = {}  # parents before what is in them
        self.files: dict[str, zipfile.ZipInfo] = {}
        self.links: dict[str, zipfile.ZipInfo] = {}
        total = 0
        for entry in entries:
            total += entry.file_size
            if total > limit_bytes:
                raise ArchiveTooLarge
            self._add(entry)
        for path in self.directories:
            if path in self.files or path in self.links:
                raise BadArchive(f"{path!r} is in it as a directory and as something else")

    def _add(self, entry: zipfile.ZipInfo) -> None:
        name = entry.filename
        if entry.flag_bits & 0x1:
            raise BadArchive(f"{name!r} is encrypted")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BadArchive(f"{name!r} is compressed in a way that is not supported")
        path = _path(name)
        kind = stat.S_IFMT(_mode(entry))
        if kind == stat.S_IFDIR or name.endswith("/"):
            if path:
                self._directory(path)
        elif kind in (0, stat.S_IFREG):
            self._once(path)
            self.files[path] = entry
        elif kind == stat.S_IFLNK:
            self._once(path)
            if entry.file_size > _LINK_MAX_BYTES:
                raise BadArchive(f"the link {name!r} is too long")
            self.links[path] = entry
        else:
            raise BadArchive(f"{name!r} is neither a file nor a directory")
        if len(self.directories) + len(self.files) + len(self.links) > ENTRIES_MAX:
            raise BadArchive(f"it has more than {ENTRIES_MAX} entries")

    def _once(self, path: str) -> None:
        if not path:
            raise BadArchive("an entry has no name")
        if path in self.files or path in self.links:
            raise BadArchive(f"{path!r} is in it twice")
        parent, _, _ = path.rpartition("/")
        if parent:
            self._directory(parent)

    def _directory(self, path: str) -> None:
        missing = []
        while path and path not in self.directories:
            missing.append(path)
            path, _, _ = path.rpartition("/")
        for one in reversed(missing):
            self.directories[one] = None


def _write(opened: zipfile.ZipFile, plan: _Plan, target: Path, limit_bytes: int) -> int:
    root = os.fspath(target)
    total = 0
    for path in plan.directories:
        os.mkdir(f"{root}/{path}")
    for path, entry in plan.files.items():
        with open(f"{root}/{path}", "xb") as file, opened.open(entry) as source:
            while chunk := source.read(_CHUNK_BYTES):
                total += len(chunk)
                if total > limit_bytes:  # more than the headers said
                    raise ArchiveTooLarge
                file.write(chunk)
            file.flush()  # so that nothing is written after the time was set
            os.fchmod(file.fileno(), (_mode(entry) & 0o755 or 0o644) | 0o444)
            os.utime(file.fileno(), (_time(entry), _time(entry)))
    for path, entry in plan.links.items():
        leads_to = opened.read(entry)
        if not leads_to:
            raise BadArchive(f"the link {path!r} leads nowhere")
        os.symlink(leads_to, os.fsencode(f"{root}/{path}"))
    inside = os.path.realpath(root) + "/"
    for path in plan.links:
        if not f"{os.path.realpath(f'{root}/{path}')}/".startswith(inside):
            raise BadArchive(f"the link {path!r} leads out of the package")
    for path in plan.directories:
        os.chmod(f"{root}/{path}", 0o755)
    os.chmod(root, 0o755)
    return total


def _path(name: str) -> str:
    """The name as a path inside the target, without needless parts."""
    if name.startswith("/"):
        raise BadArchive(f"the name {name!r} is absolute")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise BadArchive(f"the name {name!r} leads out of the package")
    if len(parts) > _DEPTH_MAX or len(name.encode(errors="surrogateescape")) > _NAME_MAX_BYTES:
        raise BadArchive("a name in it is too long")
    return "/".join(parts)


def _mode(entry: zipfile.ZipInfo) -> int:
    """The file mode, 0 where the archive has none."""
    return entry.external_attr >> 16 if entry.create_system in _UNIX else 0


def _time(entry: zipfile.ZipInfo) -> int:
    """Seconds since the epoch. DOS times are what they are: months and days may be 0."""
    year, month, day, hour, minute, second = entry.date_time
    return calendar.timegm((year, min(max(month, 1), 12), max(day, 1), hour, minute, second, 0, 1, 0))


def _count(archive: bytes) -> None:
    """Refuses too many entries before anything is made of them: zipfile builds an object for each, half a kilobyte a piece."""
    at = archive.rfind(b"PK\5\6", max(0, len(archive) - 65_535 - _END.size))
    if at < 0 or at + _END.size > len(archive):
        raise BadArchive("")
    size = _END.unpack_from(archive, at)[5]
    end = at
    locator = at - _END_64_LOCATOR.size
    if locator >= _END_64.size and archive[locator : locator + 4] == b"PK\6\7":
        end = locator - _END_64.size
        if archive[end : end + 4] == b"PK\6\6":
            size = _END_64.unpack_from(archive, end)[8]
    position, entries = end - size, 0
    while 0 <= position < end and entries <= ENTRIES_MAX:
        if position + _ENTRY.size > end:
            raise BadArchive("")
        fields = _ENTRY.unpack_from(archive, position)
        position += _ENTRY.size + fields[10] + fields[11] + fields[12]
        entries += 1
    if entries > ENTRIES_MAX:
        raise BadArchive(f"it has more than {ENTRIES_MAX} entries")
