"""Deployment packages on disk: each archive once, under its own digest, unpacked once, never changed.

    <directory>/<digest>/package.zip    what was uploaded, for GetFunction
    <directory>/<digest>/files/         what becomes /var/task, or /opt where it is the only layer
    <directory>/opt-<digest>/files/     several layers merged, for /opt; by the digests of the layers, in their order

A package is unpacked under a temporary name and renamed when it is complete and on disk, so what is there is whole. It goes when
no function version and no layer version needs it any more: at the next start, or after an hour, because a sandbox that runs the
old code may still do so for a quarter of one.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import concurrent.futures
import contextlib
import ctypes
import dataclasses
import errno
import hashlib
import hmac
import logging
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Self, TypeVar
from urllib.parse import parse_qs, urlencode

from gateway.clock import Clock
from gateway.control.archive import UNZIPPED_MAX_BYTES, ArchiveEmpty, ArchiveTooLarge, BadArchive, unpack
from gateway.control.merge import merge, size_bytes
from gateway.errors import CodeStorageExceededException, InvalidParameterValueException, RequestEntityTooLargeException
from gateway.records import Function, FunctionVersion, Layer

T = TypeVar("T")

#: Path under which packages are downloaded.
PACKAGES: Final = "/_code/"

ZIPPED_MAX_BYTES: Final = 52_428_800
COLLECT_AFTER_S: Final = 3600.0
LINK_LIFETIME_S: Final = 600.0  # as long as AWS's are good

_UNZIP_FAILED: Final = "Could not unzip uploaded file. Please check your file, then try to upload again."
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """A deployment package that is in the store."""

    key: str  #: its name there
    sha256: str  #: base64, as AWS shows it
    size_bytes: int  #: zipped
    unzipped_bytes: int


class CodeStore:
    """The packages of one gateway, in `directory`. Make it with `open`; have `changed` called for every change of a function,
    `layer_changed` for every change of a layer."""

    def __init__(self, directory: Path) -> None:
        self._sizes: dict[str, int] = {}  # unzipped, as far as somebody asked
        self._directory = directory
        self._files = os.fspath(directory) + "/%s/files"
        self._threads = concurrent.futures.ThreadPoolExecutor(max_workers=2, thread_name_prefix="code")
        self._needed: collections.Counter[str] = (
            collections.Counter()
        )  # by versions, and by `add` and `merged` until they are done
        self._leaving: dict[str, asyncio.TimerHandle] = {}

    @classmethod
    async def open(cls, directory: Path, functions: Iterable[Function], layers: Iterable[Layer] = ()) -> Self:
        """Make or open the store, and remove what none of these functions and layers needs."""
        store = cls(directory)
        users: dict[str, set[str]] = {}  # of each key, for people
        for function in functions:
            for version in function.versions.values():
                for key in _keys(version):
                    users.setdefault(key, set()).add(f"function {function.name}")
        for layer in layers:
            for one in layer.versions.values():
                users.setdefault(one.code_key, set()).add(f"layer {layer.name}:{one.version}")
        found = await store._in_thread(lambda: store._sweep(set(users)))
        for key in users.keys() - found:
            _log.error("the code of %s is missing in %s: deploy it again", ", ".join(sorted(users[key])), directory)
        return store

    def path(self, code_key: str) -> str:
        """Directory of the unpacked code, which never changes. Does not look whether it is there."""
        return self._files % code_key

    def package(self, code_key: str) -> Path:
        """The archive as it was uploaded."""
        return self._directory / code_key / "package.zip"

    @contextlib.asynccontextmanager
    async def add(self, archive: bytes) -> AsyncIterator[Package]:
        """Have this archive in the store. It stays at least until the block ends; after that, as long as a function needs it.

        Raises InvalidParameterValueException and RequestEntityTooLargeException for what AWS would not take either,
        CodeStorageExceededException where the disk is full, OSError where it is broken.
        """
        if len(archive) > ZIPPED_MAX_BYTES:
            raise RequestEntityTooLargeException(f"Zipped size must be smaller than {ZIPPED_MAX_BYTES} bytes")
        digest = await self._in_thread(lambda: hashlib.sha256(archive).digest())
        key = digest.hex()
        self._need(key)
        try:
            await self._in_thread(lambda: self._unpack(key, archive))
            unzipped_bytes = await self.unzipped_bytes(key)
            yield Package(key, base64.b64encode(digest).decode(), len(archive), unzipped_bytes)
        except BadArchive as error:
            reason = f" ({error})" if str(error) else ""
            raise InvalidParameterValueException(_UNZIP_FAILED + reason) from error
        except ArchiveTooLarge as error:
            raise InvalidParameterValueException(f"Unzipped size must be smaller than {UNZIPPED_MAX_BYTES} bytes") from error
        except ArchiveEmpty as error:
            raise InvalidParameterValueException("Uploaded file must be a non-empty zip") from error
        except OSError as error:
            if (full := _no_space(error)) is not None:
                raise full from error
            raise
        finally:
            self._leave(key)

    @contextlib.asynccontextmanager
    async def merged(self, keys: Sequence[str]) -> AsyncIterator[str]:
        """Have these packages, the later over the earlier, in the store as one tree; the key of it, empty for no packages.

        It stays at least until the block ends; after that, as long as a function needs it. That the packages are there to begin
        with is for the caller to see to. A single one is its own tree. Raises as `add` does for the disk.
        """
        if not keys:
            yield ""
            return
        key = keys[0] if len(keys) == 1 else "opt-" + hashlib.sha256("\n".join(keys).encode()).hexdigest()
        for one in {key, *keys}:
            self._need(one)
        try:
            if len(keys) > 1:
                await self._in_thread(lambda: self._make(key, lambda files: merge([Path(self.path(one)) for one in keys], files)))
            yield key
        except OSError as error:
            if (full := _no_space(error)) is not None:
                raise full from error
            raise
        finally:
            for one in {key, *keys}:
                self._leave(one)

    async def unzipped_bytes(self, key: str) -> int:
        """Size of an unpacked package, which must be there. Raises OSError."""
        if key not in self._sizes:
            self._sizes[key] = await self._in_thread(lambda: size_bytes(self.path(key)))
        return self._sizes[key]

    def known_bytes(self, key: str) -> int:
        """What `unzipped_bytes` says of a package that was added, or asked for, since this process began."""
        return self._sizes[key]

    def changed(self, old: Function | None, new: Function | None) -> None:
        """To be called for every change of a function, also once for each that is there at the start."""
        for version in new.versions.values() if new else ():
            for key in _keys(version):
                self._need(key)
        for version in old.versions.values() if old else ():
            for key in _keys(version):
                self._leave(key)

    def layer_changed(self, old: Layer | None, new: Layer | None) -> None:
        """To be called for every change of a layer, also once for each that is there at the start."""
        for version in new.versions.values() if new else ():
            self._need(version.code_key)
        for version in old.versions.values() if old else ():
            self._leave(version.code_key)

    async def close(self) -> None:
        """Finish what is being unpacked or removed. What is waiting to be removed is removed at the next start."""
        for timer in self._leaving.values():
            timer.cancel()
        self._leaving.clear()
        await asyncio.to_thread(self._threads.shutdown)

    def _need(self, key: str) -> None:
        self._needed[key] += 1
        timer = self._leaving.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _leave(self, key: str) -> None:
        self._needed[key] -= 1
        if self._needed[key] <= 0:
            del self._needed[key]
            self._leaving[key] = asyncio.get_running_loop().call_later(COLLECT_AFTER_S, self._remove, key)

    def _remove(self, key: str) -> None:
        # atomic: no await. Once it is renamed nobody can take it for a package that is there.
        del self._leaving[key]
        self._sizes.pop(key, None)
        gone = self._directory / f"gone-{key}-{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._directory / key, gone)
            self._threads.submit(shutil.rmtree, gone, ignore_errors=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _unpack(self, key: str, archive: bytes) -> None:
        def make(files: Path) -> None:
            unpack(archive, files)
            files.with_name("package.zip").write_bytes(archive)

        self._make(key, make)

    def _make(self, key: str, make: Callable[[Path], None]) -> None:
        """Have `make` fill the directory `files` of a new entry, and put that in its place when it is on disk."""
        final = self._directory / key
        if final.is_dir():
            return
        temporary = self._directory / f"new-{key}-{secrets.token_hex(4)}"
        try:
            files = temporary / "files"
            files.mkdir(parents=True)
            make(files)
            _to_disk(temporary)
            try:
                os.rename(temporary, final)
            except OSError:
                if not final.is_dir():  # else another thread had the same archive and was faster
                    raise
            _to_disk(self._directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _sweep(self, needed: set[str]) -> set[str]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = set()
        for entry in os.scandir(self._directory):
            if entry.name in needed:
                found.add(entry.name)
            else:
                shutil.rmtree(entry.path, ignore_errors=True)
        return found


def _no_space(error: OSError) -> CodeStorageExceededException | None:
    """A full disk is a limit that a caller understands and does not try again at once; None for anything else."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    _log.error("no space is left for deployment packages: %s", error)
    return CodeStorageExceededException("Code storage limit exceeded: no space is left on the disk of the data directory.")


def _keys(version: FunctionVersion) -> tuple[str, ...]:
    """What of the store a function version needs. Layers that were merged it needs no longer."""
    return tuple(key for key in (version.code_key, version.opt_key) if key)


class CodeLinks:
    """Links under which a package can be downloaded for ten minutes, by whoever was given the link and nobody else.

    `clock` says when they end. The secret is this process's own: a restart ends all of them.
    """

    __slots__ = ("_clock", "_secret", "_store")

    def __init__(self, *, store: CodeStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._secret = secrets.token_bytes(32)

    def make(self, code_key: str) -> str:
        """Path and query of a new link."""
        expires = str(int(self._clock.wall() + LINK_LIFETIME_S))
        return f"{PACKAGES}{code_key}?{urlencode({'Expires': expires, 'Signature': self._sign(code_key, expires)})}"

    def follow(self, code_key: str, query: str) -> Path | None:
        """The archive that a link leads to, None where the link is no good (any more)."""
        given = parse_qs(query)
        expires, signature = given.get("Expires", [""])[-1], given.get("Signature", [""])[-1]
        if (
            not hmac.compare_digest(signature.encode(), self._sign(code_key, expires).encode())
            or int(expires) < self._clock.wall()
        ):
            return None
        return self._store.package(code_key)

    def _sign(self, code_key: str, expires: str) -> str:
        return hmac.new(self._secret, f"{code_key}\n{expires}".encode(), "sha256").hexdigest()


def _to_disk(directory: Path) -> None:
    """Have everything of this file system on disk: one call for thousands of files, where fsync would be one each."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _syncfs is None:
            os.sync()
        elif _syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed")
    finally:
        os.close(descriptor)


_syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)  # Linux only
