"""The images of the native driver: each unpacked once, under its digest, from an archive or from an engine that has it.

They lie on a shelf (`shelf.py`), which removes those that nobody needs. All together have a bound: where another one would not
fit, what no function uses goes first, and then the image is refused.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from sandbox.errors import ImageError
from sandbox.images import archive
from sandbox.images.archive import Archived
from sandbox.images.engine import PLATFORMS, Engine, EngineFailed, EngineImage, EngineRefused, PullBroken
from sandbox.images.registry import credentials
from sandbox.images.shelf import Shelf
from sandbox.images.unpack import UNPACKED_MAX_BYTES
from sandbox.spec import IMAGE_SETTINGS_MAX_BYTES, Architecture, Image, settings_bytes


class ImageStore:
    """`engine` gives the images that are not files; all unpacked ones together take `max_bytes` of the disk at most. `in_use`
    gives the ids of those that sandboxes have now; `told` hears how far one is: its URI, bytes that are done, bytes in all."""

    def __init__(
        self,
        directory: Path,
        engine: Engine,
        max_bytes: int,
        in_use: Callable[[], Collection[str]] = frozenset,
        told: Callable[[str, int, int], None] = lambda uri, done, total: None,
    ) -> None:
        self.shelf = Shelf(directory, in_use)
        self._engine = engine
        self._max_bytes = max_bytes
        self._told = told
        self._under_way: dict[str, asyncio.Task[Image]] = {}
        self._ending = False
        self._unpacking = asyncio.Lock()  # one at a time: what is left of the bound is one number

    async def resolve(self, uri: str, architecture: Architecture) -> Image:
        """What a URI means now, unpacked. Raises ImageError, EngineUnavailable, OSError."""
        loop = asyncio.get_running_loop()
        if (place := archive.parse(uri)) is not None:
            found = await loop.run_in_executor(None, archive.read, uri, *place, PLATFORMS[architecture])
            return await self._once(found.id, uri, f"{uri}@{found.id}", found)
        image = await fetched(self._engine, uri, architecture)
        if (here := self.shelf.find(image.id)) is not None:
            return dataclasses.replace(here, resolved_uri=resolved(uri, image))  # it may be known by another name
        with tempfile.NamedTemporaryFile(dir=self.shelf.made(), prefix="saved.") as file:
            await self._engine.save(image.id, file.fileno())
            saved = await loop.run_in_executor(None, archive.read, uri, file.name, "", PLATFORMS[architecture])
            return await self._once(image.id, uri, resolved(uri, image), saved)

    async def end(self) -> None:
        """Stop unpacking; whoever waits for it is cancelled. What is half done can be much, and is removed at the next start."""
        self._ending = True
        under_way = list(self._under_way.values())
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _once(self, image_id: str, uri: str, resolved_uri: str, found: Archived) -> Image:
        """`found` is closed, when it is needed no more."""
        if (here := self.shelf.find(image_id)) is not None:
            found.close()
            return dataclasses.replace(here, resolved_uri=resolved_uri)
        task = self._under_way.get(image_id)
        if task is not None:
            found.close()
        else:
            task = asyncio.get_running_loop().create_task(self._unpack(image_id, uri, resolved_uri, found))
            self._under_way[image_id] = task
            task.add_done_callback(lambda _: self._under_way.pop(image_id, None))
            task.add_done_callback(lambda _: found.close())
        return dataclasses.replace(await asyncio.shield(task), resolved_uri=resolved_uri)

    async def _unpack(self, image_id: str, uri: str, resolved_uri: str, found: Archived) -> Image:
        async with self._unpacking:
            size = sum(layer.size for layer in found.layers)
            work = self.shelf.work("making")
            try:
                os.mkdir(work / "root", 0o755)
                answer = await self._unpacked(work / "root", found, uri, await self._room(size, uri))
                image = of_config(
                    image_id, resolved_uri, size, found.config, found.config.get("config") or {}, answer["extensions"]
                )
                self.shelf.add(work, image, answer["bytes"])
                return image
            finally:
                if not self._ending:
                    await asyncio.get_running_loop().run_in_executor(None, lambda: shutil.rmtree(work, ignore_errors=True))

    async def _room(self, least_bytes: int, uri: str) -> int:
        """What may be unpacked now. Raises ImageError where not even `least_bytes` may."""
        room = self._max_bytes - self.shelf.bytes()
        if room < max(least_bytes, min(UNPACKED_MAX_BYTES, self._max_bytes)):
            await self.shelf.make_room()
            room = self._max_bytes - self.shelf.bytes()
        if room < least_bytes:
            raise ImageError(f"Source image {uri} cannot be unpacked: {self._full()}")
        return min(room, UNPACKED_MAX_BYTES)

    def _full(self) -> str:
        used, most = self.shelf.bytes() >> 20, self._max_bytes >> 20
        return f"the images of functions take {used} MB of the {most} MB that images_max_mb gives them"

    async def _unpacked(self, root: Path, found: Archived, uri: str, room_bytes: int) -> dict[str, Any]:
        """Raises ImageError."""
        layers = [[layer.file.fileno(), layer.offset, layer.size, layer.digest] for layer in found.layers]
        command = (sys.executable, "-m", "sandbox.images.unpack", str(root), str(room_bytes), json.dumps(layers))
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
            pass_fds={layer.file.fileno() for layer in found.layers},
        )
        assert process.stdout is not None
        answer: dict[str, Any] = {}
        try:
            async for line in process.stdout:
                answer = json.loads(line)
                if "done" in answer:
                    self._told(uri, answer["done"], sum(layer.size for layer in found.layers))
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if await process.wait() != 0 and "error" not in answer:
            answer = {"error": f"unpacking ended with {process.returncode}"}
        if answer.get("too_large") and room_bytes < UNPACKED_MAX_BYTES:
            answer["error"] = self._full()
        if "error" in answer:
            raise ImageError(f"Source image {uri} cannot be unpacked: {answer['error']}")
        return answer


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
    """From an image's configuration, whose words are the same in engines and in files. Raises ImageError if they are too many."""
    image = Image(
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
    size_of_settings = settings_bytes(image.entry_point, image.command, image.directory, image.environment, image.extensions)
    if size_of_settings > IMAGE_SETTINGS_MAX_BYTES:
        raise ImageError(
            f"Source image {resolved_uri} cannot be used: its ENTRYPOINT, CMD, WORKDIR, ENV and the names in /opt/extensions "
            f"take {size_of_settings} bytes together, and {IMAGE_SETTINGS_MAX_BYTES} are the most."
        )
    return image
