"""Images as files: OCI layouts and archives, and what `docker save` writes. Nothing here needs an engine.

An archive is read where it lies: a layer is a file, an offset and a size, and is unpacked straight from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from sandbox.errors import ImageError

SCHEMES: Final = ("oci", "oci-archive", "docker-archive")
_MAX_JSON: Final = 8 << 20
_INDEXES: Final = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """Where a layer's tar file lies, compressed or not."""

    path: str
    offset: int
    size: int
    digest: str  #: ``sha256:…`` of these bytes; empty where only the engine that wrote it vouches for it


@dataclasses.dataclass(frozen=True, slots=True)
class Archived:
    """One image of an archive."""

    id: str  #: digest of its configuration
    config: dict[str, Any]  #: the whole document: architecture, config, rootfs
    config_bytes: bytes
    layers: tuple[Layer, ...]


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
    """Look into it; `architecture` is Go's name. Blocks. Raises ImageError."""
    try:
        with _Files.open(path) as files:
            if "index.json" in files:
                return _oci(files, name, architecture)
            if "manifest.json" in files:
                return _saved(files, name)
    except FileNotFoundError:
        raise ImageError(f"Source image {uri} does not exist. Provide a valid source image.", missing=True) from None
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ImageError(f"Source image {uri} cannot be read: {type(error).__name__}: {error}") from error
    raise ImageError(f"Source image {uri} is neither an OCI layout nor an archive of one.")


class _Files:
    """The files of a directory or of a tar file, by their names."""

    def __init__(self, path: str, tar: tarfile.TarFile | None) -> None:
        self._path = path
        self._tar = tar
        self._members = {member.name.removeprefix("./"): member for member in tar} if tar is not None else {}

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str) -> Iterator[_Files]:
        if os.path.isdir(path):
            yield cls(path, None)
            return
        with tarfile.open(path, "r:") as tar:
            yield cls(path, tar)

    def __contains__(self, name: str) -> bool:
        return name in self._members if self._tar is not None else (Path(self._path) / name).is_file()

    def place(self, name: str, digest: str = "") -> Layer:
        if ".." in name.split("/") or name.startswith("/"):
            raise ValueError(f"{name} leads out of the archive")
        if self._tar is None:
            path = Path(self._path) / name
            return Layer(str(path), 0, path.stat().st_size, digest)
        member = self._members[name]
        while member.issym() or member.islnk():  # `docker save` links layers that images share
            target = (
                os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname))
                if member.issym()
                else member.linkname
            )
            member = self._members[target]
        return Layer(self._path, member.offset_data, member.size, digest)

    def content(self, name: str) -> bytes:
        place = self.place(name)
        if place.size > _MAX_JSON:
            raise ValueError(f"{name} is too large")
        with open(place.path, "rb") as file:
            file.seek(place.offset)
            return file.read(place.size)

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
    layers = tuple(files.place(_blob(one["digest"]), one["digest"]) for one in manifest["layers"])
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
    layers = tuple(files.place(layer) for layer in image["Layers"])
    return Archived(f"sha256:{hashlib.sha256(config).hexdigest()}", json.loads(config), config, layers)


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
            with open(layer.path, "rb") as file:
                file.seek(layer.offset)
                add(names[-1], layer.size, file)
        config = f"{image.id.partition(':')[2]}.json"
        add(config, len(image.config_bytes), io.BytesIO(image.config_bytes))
        manifest = json.dumps([{"Config": config, "RepoTags": None, "Layers": names}]).encode()
        add("manifest.json", len(manifest), io.BytesIO(manifest))
