"""Unpacks the layers of an image into a directory, from inside it: a program that goes there by chroot before it writes a byte.

``python -m sandbox.images.unpack DIRECTORY BYTES LAYERS``, BYTES: the most that it may take, LAYERS as JSON: [[descriptor,
offset, size, digest], …]. Whatever names, symlinks and hard links an archive holds, they lead nowhere but into the image. Devices
and pipes are left out. It writes lines of JSON: how many bytes of the layers are done, now and then, and at last the files in
/opt/extensions and what it takes, or what went wrong.
"""

from __future__ import annotations

import bz2
import contextlib
import encodings.idna
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import signal
import stat
import sys
import tarfile
import zlib
from typing import Final

from sandbox.guest import syscalls

#: How often it is told how far it is, in bytes of the layers as they lie there.
_TOLD_BYTES: Final = 16 << 20
#: What could be imported later than the chroot is imported before it.
_NEEDED: Final = (bz2, encodings.idna, gzip, lzma, zlib)
UNPACKED_MAX_BYTES: Final = 10 << 30  #: as AWS has it for an image
_BLOCK_BYTES: Final = 4096
_OPAQUE: Final = ".wh..wh..opq"
_WHITEOUT: Final = ".wh."
#: What sandboxes mount something on.
_DIRECTORIES: Final = ("proc", "dev", "sys", "tmp", "etc", "var", "run", "opt", "var/task", "var/runtime")
#: Where something is mounted already when the others are, so that none of them may lead there.
_FIRST: Final = ("proc", "dev", "sys")
_FILES: Final = ("etc/passwd", "etc/hosts", "etc/resolv.conf")


class Section(io.RawIOBase):
    """A part of a file; `digest` is of what was read of it so far."""

    done = 0  # of all parts
    told = 0

    def __init__(self, file: io.FileIO, offset: int, size: int) -> None:
        self._file = file
        self._left = size
        self.digest = hashlib.sha256()
        file.seek(offset)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(min(len(buffer), self._left)) or b""
        buffer[: len(data)] = data
        self._left -= len(data)
        self.digest.update(data)
        Section.done += len(data)
        if Section.done >= Section.told + _TOLD_BYTES:
            Section.told = Section.done
            print(json.dumps({"done": Section.done}), flush=True)
        return len(data)


class TooLarge(ValueError):
    """It is larger than what it may take."""


class Unpacker:
    """The root directory of this process is the image, which may take `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._made: set[str] = set()  # by this layer

    def layer(self, source: io.BufferedReader) -> None:
        """Raises OSError, tarfile.TarError, ValueError."""
        self._made = set()
        with tarfile.open(fileobj=source, mode="r|*") as tar:
            for member in tar:
                self._member(tar, member)
        while source.read(1 << 20):  # what follows the archive's end belongs to its digest
            pass

    def _member(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = os.path.normpath("/" + member.name)
        directory, name = os.path.split(path)
        if name == _OPAQUE:
            self._clear(directory)
            return
        if name.startswith(_WHITEOUT):
            _remove(os.path.join(directory, name.removeprefix(_WHITEOUT)))
            return
        if path == "/":
            return
        self._make_directories(directory)
        self._take(member.size if member.isreg() else 0)
        if not (member.isdir() and os.path.isdir(path) and not os.path.islink(path)):
            _remove(path)
        if member.isdir():
            os.makedirs(path, exist_ok=True)
        elif member.isreg():
            source = tar.extractfile(member)
            assert source is not None
            with open(path, "xb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        elif member.issym():
            os.symlink(member.linkname, path)
        elif member.islnk():
            os.link(os.path.normpath("/" + member.linkname), path, follow_symlinks=False)
        else:
            return
        self._made.add(path)
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
        if not member.issym():
            os.chmod(path, stat.S_IMODE(member.mode))

    def _make_directories(self, path: str) -> None:
        """Those of them that no member made."""
        missing = path
        while not os.path.lexists(missing):
            self._take(0)
            missing = os.path.dirname(missing)
        os.makedirs(path, exist_ok=True)

    def _take(self, size: int) -> None:
        """A file system has so many blocks, and so many names: the smallest file counts as a block, and so does a name."""
        self.bytes += max(_BLOCK_BYTES, size)
        if self.bytes > self._max_bytes:
            raise TooLarge(f"it is larger than {self._max_bytes >> 20} MB")

    def _clear(self, directory: str) -> None:
        """What lower layers have in it."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for name in os.listdir(directory):
                path = os.path.join(directory, name)
                if path not in self._made:
                    _remove(path)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)


def _complete() -> None:
    """Make what is missing of what sandboxes mount something on. It may lie elsewhere in the image: they follow symlinks."""
    for name in _DIRECTORIES:
        leads_to = os.path.realpath(f"/{name}")
        wrong = leads_to != f"/{name}" and (name in _FIRST or leads_to.split("/")[1] in ("", *_FIRST))
        if wrong or not os.path.isdir(f"/{name}"):
            _remove(f"/{name}")
            os.mkdir(f"/{name}", 0o755)
    for name in _FILES:
        if os.path.islink(f"/{name}") or not os.path.isfile(f"/{name}"):
            _remove(f"/{name}")
            with open(f"/{name}", "xb"):
                pass


def extensions() -> list[str]:
    """External extensions that an image brings."""
    found = []
    with contextlib.suppress(OSError):
        found = [name for name in sorted(os.listdir("/opt/extensions")) if os.path.isfile(f"/opt/extensions/{name}")]
    return found


def main() -> int:
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody would take what is unpacked
    directory, max_bytes, layers = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    os.chroot(directory)
    os.chdir("/")
    os.umask(0o022)
    try:
        unpacker = Unpacker(max_bytes)
        for descriptor, offset, size, digest in layers:
            section = Section(io.FileIO(descriptor, closefd=False), offset, size)
            unpacker.layer(io.BufferedReader(section, 1 << 20))
            if digest and f"sha256:{section.digest.hexdigest()}" != digest:
                raise ValueError(f"layer {digest} is damaged")
        _complete()
    except (OSError, tarfile.TarError, ValueError, EOFError, zlib.error, lzma.LZMAError) as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}", "too_large": isinstance(error, TooLarge)}))
        return 1
    print(json.dumps({"extensions": extensions(), "bytes": unpacker.bytes}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
