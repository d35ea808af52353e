"""What an ImageUri means to the engine: the image that it has by that name, pulled or loaded where it has none."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path

from sandbox.errors import ImageError
from sandbox.images import archive
from sandbox.images.engine import PLATFORMS, Engine
from sandbox.images.store import fetched, of_config, resolved
from sandbox.spec import Architecture, Image


class EngineImages:
    """Nothing of an image is kept here: containers are made from its id, which stays the same whatever becomes of its name."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def resolve(self, uri: str, architecture: Architecture) -> Image:
        """Raises ImageError, EngineUnavailable, OSError."""
        if (place := archive.parse(uri)) is not None:
            name = await self._load(uri, *place, architecture)
            pinned = f"{uri}@{name}"
        else:
            name, pinned = uri, ""
        found = await fetched(self._engine, name, architecture)
        extensions = await self._engine.extensions(found.id)
        return of_config(
            found.id,
            pinned or resolved(uri, found),
            found.size_bytes,
            {"architecture": found.architecture},
            found.config,
            extensions,
        )

    async def _load(self, uri: str, path: str, name: str, architecture: Architecture) -> str:
        """Give the engine an image that is a file; its id."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(None, archive.read, uri, path, name, PLATFORMS[architecture])
        with contextlib.closing(found):
            if await self._engine.image(found.id) is None:
                with tempfile.NamedTemporaryFile(prefix="lambent-load.") as file:
                    await loop.run_in_executor(None, archive.write_saved, found, Path(file.name))
                    await self._engine.load(file.name)
                if await self._engine.image(found.id) is None:
                    raise ImageError(f"Source image {uri}: the Docker Engine does not take it.")
            return found.id
