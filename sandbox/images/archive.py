"""Images as files: OCI layouts and archives, and what `docker save` writes. Nothing here needs an engine.

An archive is read where it lies: a layer is an open file, an offset and a size, and is unpacked straight from there. Whoever
names one need not be root, and this is: nothing but files and directories is opened, and no symlink is followed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sandbox.errors import ImageError
from sandbox.guest import syscalls

SCHEMES: Final = ("oci", "oci-archive", "docker-archive")
_MAX_JSON: Final = 8 << 20
_MAX_LAYERS: Final = 500  #: each can be a descriptor; engines take 127
_MAX_MEMBERS: Final = 10_000  #: all are kept at once
_MAX_LINKS: Final = 10
_INDEXES: Final = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """Where a layer's tar file lies, compressed or not."""

    file: io.FileIO  #: open as long as its image is; layers of one archive share it
    offset: int
    size: int
    digest: str  #: ``sha256:…`` of these bytes; empty where only the engine that wrote it vouches for it


@dataclasses.dataclass(frozen=True, slots=True)
class Archived:
    """One image of an archive, with its files open: whoever has it closes it."""

    id: str  #: digest of its configuration
    config: dict[str, Any]  #: the whole document: architecture, config, rootfs
    config_bytes: bytes
    layers: tuple[Layer, ...]
    opened: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack, repr=False, compare=False)

    def close(self) -> None:
        """Idempotent."""
        self.opened.close()


def parse(uri: str) -> tuple[str, str] | None:
    """(path, name in the archive or empty) of an ``oci:``, ``oci-archive:`` or ``docker-archive:`` URI; None for any other."""
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme not in SCHEMES:
        return None
    if not rest.startswith("/"):
        raise ImageError(f"Source image {uri}: the path must be absolute.")
    path, colon, name = rest.rpartition(":")
    return (path, name) if colon and not os.path.exists(rest) else (rest, "")


def read(uri: str, path: str, name: str, architecture: str) -> Archived:
    """Look into it; `architecture` is Go's name. Blocks, but for nothing that is not a file. Raises ImageError."""
    try:
        with contextlib.ExitStack() as opened, _Files.open(path, opened) as files:
            if "index.json" in files:
                found = _oci(files, name, architecture)
            elif "manifest.json" in files:
                found = _saved(files, name)
            else:
                raise ImageError(f"Source image {uri} is neither an OCI layout nor an archive of one.")
            return dataclasses.replace(found, opened=opened.pop_all())
    except FileNotFoundError:
        raise ImageError(f"Source image {uri} does not exist. Provide a valid source image.", missing=True) from None
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ImageError(f"Source image {uri} cannot be read: {type(error).__name__}: {error}") from error


class _Files:
    """The files of a directory (a descriptor), or of a tar file, by their names; those that it opens are `opened`'s."""

    def __init__(self, directory: int, archive: io.FileIO | None, opened: contextlib.ExitStack) -> None:
        self._directory = directory
        self._archive = archive
        self._opened = opened
        self._members: dict[str, tarfile.TarInfo] = {}
        if archive is not None:
            with tarfile.open(fileobj=archive, mode="r:") as tar:
                for member in tar:
                    self._members[member.name.removeprefix("./")] = member
                    if len(self._members) > _MAX_MEMBERS:
                        raise ValueError(f"it has more than {_MAX_MEMBERS} members")

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str, opened: contextlib.ExitStack) -> Iterator[_Files]:
        place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if stat.S_ISDIR(os.fstat(place).st_mode):
                yield cls(place, None, opened)
            else:
                yield cls(-1, opened.enter_context(_regular(place)), opened)
        finally:
            os.close(place)

    def __contains__(self, name: str) -> bool:
        if self._archive is not None:
            return name in self._members
        try:
            self._beneath(name).close()
        except FileNotFoundError:
            return False
        return True

    def _beneath(self, name: str) -> io.FileIO:
        place = syscalls.open_beneath(self._directory, name, kind=0)
        try:
            return _regular(place)
        finally:
            os.close(place)

    def place(self, name: str, digest: str = "") -> Layer:
        if ".." in name.split("/") or name.startswith("/"):
            raise ValueError(f"{name} leads out of the archive")
        if self._archive is None:
            file = self._opened.enter_context(self._beneath(name))
            return Layer(file, 0, os.fstat(file.fileno()).st_size, digest)
        member = self._members[name]
        for _ in range(_MAX_LINKS):  # `docker save` links layers that images share
            if member.isreg():
                return Layer(self._archive, member.offset_data, member.size, digest)
            if not (member.issym() or member.islnk()):
                break
            target = (
                os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname))
                if member.issym()
                else member.linkname
            )
            member = self._members[target]
        raise ValueError(f"{name} is no file")

    def content(self, name: str) -> bytes:
        place = self.place(name)
        if place.size > _MAX_JSON:
            raise ValueError(f"{name} is too large")
        content = os.pread(place.file.fileno(), place.size, place.offset)
        if place.file is not self._archive:
            place.file.close()
        return content

    def blob(self, digest: str) -> bytes:
        content = self.content(_blob(digest))
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise ValueError(f"{digest} is not what it says")
        return content


def _blob(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64:
        raise ValueError(f"{digest!r} is no digest of a kind that is known")
    return f"blobs/sha256/{value}"


def _oci(files: _Files, name: str, architecture: str) -> Archived:
    descriptor = _chosen(json.loads(files.content("index.json"))["manifests"], name, architecture)
    manifest = json.loads(files.blob(descriptor["digest"]))
    while descriptor.get("mediaType") in _INDEXES or "manifests" in manifest:
        descriptor = _chosen(manifest["manifests"], "", architecture)
        manifest = json.loads(files.blob(descriptor["digest"]))
    config = files.blob(manifest["config"]["digest"])
    layers = tuple(files.place(_blob(one["digest"]), one["digest"]) for one in _not_too_many(manifest["layers"]))
    return Archived(manifest["config"]["digest"], json.loads(config), config, layers)


def _chosen(manifests: list[dict[str, Any]], name: str, architecture: str) -> dict[str, Any]:
    if name:
        key = "org.opencontainers.image.ref.name"
        manifests = [one for one in manifests if (one.get("annotations") or {}).get(key, "").rpartition(":")[2] == name]
    fitting = [one for one in manifests if (one.get("platform") or {}).get("architecture") == architecture]
    if not manifests:
        raise ValueError(f"there is no image {name!r} in it" if name else "there is no image in it")
    return (fitting or manifests)[0]


def _saved(files: _Files, name: str) -> Archived:
    images = json.loads(files.content("manifest.json"))
    if name:
        images = [one for one in images if name in [tag.rpartition(":")[2] for tag in one.get("RepoTags") or ()]]
    (image, *_) = images
    config = files.content(image["Config"])
    layers = tuple(files.place(layer) for layer in _not_too_many(image["Layers"]))
    return Archived(f"sha256:{hashlib.sha256(config).hexdigest()}", json.loads(config), config, layers)


def _not_too_many(layers: list[Any]) -> list[Any]:
    if len(layers) > _MAX_LAYERS:
        raise ValueError(f"it has more than {_MAX_LAYERS} layers")
    return layers


def _regular(place: int) -> io.FileIO:
    """The file that is at an O_PATH descriptor, for reading: to open what is no file could wait for ever, or do something."""
    if not stat.S_ISREG(os.fstat(place).st_mode):
        raise ValueError("what lies there is no file, or a symbolic link to one")
    return io.FileIO(os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def write_saved(image: Archived, target: Path) -> None:
    """The same image as `docker load` takes it. Blocks. Raises OSError."""

    with tarfile.open(target, "w") as tar:

        def add(name: str, size: int, source: Any) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = size
            tar.addfile(entry, source)

        names = []
        for number, layer in enumerate(image.layers):
            names.append(f"{number}/layer.tar")
            layer.file.seek(layer.offset)
            add(names[-1], layer.size, layer.file)
        config = f"{image.id.partition(':')[2]}.json"
        add(config, len(image.config_bytes), io.BytesIO(image.config_bytes))
        manifest = json.dumps([{"Config": config, "RepoTags": None, "Layers": names}]).encode()
        add("manifest.json", len(manifest), io.BytesIO(manifest))
