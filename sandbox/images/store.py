"""The images of the native driver: each unpacked once, under its digest, from an archive or from an engine that has it.

    <directory>/<digest>/image.json     what the image says of itself
    <directory>/<digest>/root/          its files; mounted read-only as the root of every sandbox that runs it

A root is unpacked under a temporary name and renamed when it is complete, so what is there is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.errors import ImageError
from sandbox.images import archive
from sandbox.images.archive import Archived
from sandbox.images.engine import PLATFORMS, Engine, EngineFailed, EngineImage, EngineRefused, PullBroken
from sandbox.images.registry import credentials
from sandbox.spec import Architecture, Image


class ImageStore:
    """`engine` gives the images that are not files."""

    def __init__(self, directory: Path, engine: Engine) -> None:
        self._directory = directory
        self._engine = engine
        self._under_way: dict[str, asyncio.Task[Image]] = {}

    def root(self, image_id: str) -> Path | None:
        """The files of an image that is here."""
        path = self._directory / _name(image_id) / "root"
        return path if path.is_dir() else None

    async def resolve(self, uri: str, architecture: Architecture) -> Image:
        """What a URI means now, unpacked. Raises ImageError, EngineUnavailable, OSError."""
        loop = asyncio.get_running_loop()
        if (place := archive.parse(uri)) is not None:
            found = await loop.run_in_executor(None, archive.read, uri, *place, PLATFORMS[architecture])
            return await self._once(found.id, uri, f"{uri}@{found.id}", found)
        image = await fetched(self._engine, uri, architecture)
        if (here := self._read(image.id)) is not None:
            return dataclasses.replace(here, resolved_uri=resolved(uri, image))  # it may be known by another name
        with tempfile.NamedTemporaryFile(dir=self._made(), prefix="saved.") as file:
            await self._engine.save(image.id, file.fileno())
            saved = await loop.run_in_executor(None, archive.read, uri, file.name, "", PLATFORMS[architecture])
            return await self._once(image.id, uri, resolved(uri, image), saved)

    def _made(self) -> Path:
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        return self._directory

    def _read(self, image_id: str) -> Image | None:
        if self.root(image_id) is None:
            return None
        return Image.of(json.loads((self._directory / _name(image_id) / "image.json").read_text()))

    async def _once(self, image_id: str, uri: str, resolved_uri: str, found: Archived) -> Image:
        if (here := self._read(image_id)) is not None:
            return dataclasses.replace(here, resolved_uri=resolved_uri)
        task = self._under_way.get(image_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._unpack(image_id, uri, resolved_uri, found))
            self._under_way[image_id] = task
            task.add_done_callback(lambda _: self._under_way.pop(image_id, None))
        return dataclasses.replace(await asyncio.shield(task), resolved_uri=resolved_uri)

    async def _unpack(self, image_id: str, uri: str, resolved_uri: str, found: Archived) -> Image:
        work = Path(tempfile.mkdtemp(dir=self._made(), prefix="making."))
        try:
            os.chmod(work, 0o711)
            os.mkdir(work / "root", 0o755)
            layers = [[layer.path, layer.offset, layer.size, layer.digest] for layer in found.layers]
            command = (sys.executable, "-m", "sandbox.images.unpack", str(work / "root"), json.dumps(layers))
            process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            said, _ = await process.communicate()
            answer: dict[str, Any] = (
                json.loads(said.splitlines()[-1]) if said else {"error": f"unpacking ended with {process.returncode}"}
            )
            if "error" in answer:
                raise ImageError(f"Source image {uri} cannot be unpacked: {answer['error']}")
            size = sum(layer.size for layer in found.layers)
            image = of_config(image_id, resolved_uri, size, found.config, found.config.get("config") or {}, answer["extensions"])
            (work / "image.json").write_text(json.dumps(image.plain()))
            with contextlib.suppress(FileExistsError):
                os.rename(work, self._directory / _name(image_id))
            return image
        finally:
            await asyncio.get_running_loop().run_in_executor(None, lambda: shutil.rmtree(work, ignore_errors=True))


async def fetched(engine: Engine, uri: str, architecture: Architecture) -> EngineImage:
    """What the engine has under a name; pulled where it has none. Raises ImageError, EngineUnavailable."""
    missing = f"Source image {uri} does not exist. Provide a valid source image."
    try:
        if (found := await engine.image(uri)) is not None:
            return found
        async for _ in engine.pull(uri, architecture, await credentials(uri)):
            pass
        found = await engine.image(uri)
    except PullBroken as error:
        raise ImageError(f"Source image {uri} cannot be used: {error}") from error
    except (EngineFailed, EngineRefused) as error:
        raise ImageError(f"{missing} ({error})", missing=True) from error
    if found is None:
        raise ImageError(missing, missing=True)
    return found


def resolved(uri: str, image: EngineImage) -> str:
    """The name that will always mean the same."""
    name = uri.partition("@")[0]
    name = name if ":" not in name.rpartition("/")[2] else name.rpartition(":")[0]
    known = [one for one in image.repo_digests if one.partition("@")[0] == name]
    return known[0] if known else f"{name}@{image.id}"


def of_config(
    image_id: str, resolved_uri: str, size: int, facts: Mapping[str, Any], config: Mapping[str, Any], extensions: list[str]
) -> Image:
    """From an image's configuration, whose words are the same in engines and in files."""
    return Image(
        id=image_id,
        resolved_uri=resolved_uri,
        size_bytes=size,
        architecture=str(facts.get("architecture", "")),
        entry_point=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        directory=str(config.get("WorkingDir") or "/"),
        environment=dict(str(one).partition("=")[::2] for one in config.get("Env") or ()),
        extensions=tuple(extensions),
    )


def _name(image_id: str) -> str:
    return image_id.partition(":")[2]
