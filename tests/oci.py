"""Makes OCI archives for tests, of what `docker save` writes: Debian's engine is older than its own OCI output."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any


def layout(saved: Path, target: Path, *, damage: bool = False) -> Path:
    """The one image in `saved` as an OCI archive with compressed layers at `target`; with `damage` a layer is another."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    with tarfile.open(saved) as tar:
        (image,) = json.loads(_member(tar, "manifest.json"))
        config = _member(tar, image["Config"])
        layers = [
            blob(gzip.compress(_member(tar, layer), 1, mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip")
            for layer in image["Layers"]
        ]
    if damage:
        digest = layers[-1]["digest"].partition(":")[2]
        blobs[digest] = gzip.compress(b"\0" * 10240, mtime=0)
    manifest = {
        "schemaVersion": 2,
        "config": blob(config, "application/vnd.oci.image.config.v1+json"),
        "layers": layers,
    }
    platform = {"os": "linux", "architecture": json.loads(config)["architecture"]}
    one = {**blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json"), "platform": platform}
    with tarfile.open(target, "w") as tar:

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

        add("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        add("index.json", json.dumps({"schemaVersion": 2, "manifests": [one]}).encode())
        for digest, content in blobs.items():
            add(f"blobs/sha256/{digest}", content)
    return target


def relabelled(saved: Path, target: Path, architecture: str, *, mark: str = "") -> Path:
    """The one image in `saved` at `target`, with a configuration that says this architecture; `mark` makes it another image."""
    with tarfile.open(saved) as source, tarfile.open(target, "w") as tar:
        (image,) = json.loads(_member(source, "manifest.json"))
        config = json.loads(_member(source, image["Config"]))
        changed = json.dumps({**config, "architecture": architecture, "author": mark}).encode()
        for member in source:
            if member.name not in ("manifest.json", image["Config"], "repositories"):
                tar.addfile(member, source.extractfile(member) if member.isreg() else None)
        manifest = json.dumps([{**image, "Config": "config.json", "RepoTags": None}]).encode()
        for name, content in (("config.json", changed), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return target


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()
