"""Zip functions of an architecture that this host is not: an image's files are their root, and the kernel's emulator runs them.

Which image, a name with {runtime} and {architecture} in it says, as it does for containers. It is looked up, and unpacked, when a
function is deployed, and then it stays what it is; only files on disk are needed for a sandbox.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from sandbox.errors import DriverUnavailable, ImageError, RuntimeUnavailable
from sandbox.images import archive
from sandbox.images.emulation import emulation
from sandbox.images.engine import PLATFORMS, Engine
from sandbox.images.programs import DEFAULT_IMAGES, Programs, programs
from sandbox.images.store import ImageStore
from sandbox.spec import Architecture


@dataclasses.dataclass(frozen=True, slots=True)
class Root:
    """What stems of a runtime are made in."""

    image: str  #: id
    path: Path
    programs: Programs


class RuntimeRoots:
    """`names` is the name of a runtime's image; of an engine that has it, or of a file."""

    def __init__(self, store: ImageStore, engine: Engine, names: str = "") -> None:
        self._store = store
        self._engine = engine
        self._names = names or DEFAULT_IMAGES
        self._known: dict[tuple[str, Architecture], Root] = {}

    async def get(self, runtime: str, architecture: Architecture) -> Root:
        """As it was when it was last looked at. Raises RuntimeUnavailable, OSError."""
        if (why_not := emulation(architecture)) is not None:
            raise RuntimeUnavailable(why_not)
        known = self._known.get((runtime, architecture))
        return known if known is not None and known.path.is_dir() else await self.look(runtime, architecture)

    async def look(self, runtime: str, architecture: Architecture) -> Root:
        """As it is now. Raises RuntimeUnavailable with what to install or to make, OSError."""
        if (why_not := emulation(architecture)) is not None:
            raise RuntimeUnavailable(why_not)
        name = self._names.format(runtime=runtime, architecture=architecture)
        try:
            if archive.parse(name) is None and await self._engine.image(name) is None:  # never from a registry
                raise RuntimeUnavailable(self._missing(runtime, architecture, f"the Docker Engine has no image {name}"))
            image = await self._store.resolve(name, architecture)
        except (ImageError, DriverUnavailable) as error:
            raise RuntimeUnavailable(self._missing(runtime, architecture, str(error))) from error
        if image.architecture != PLATFORMS[architecture]:
            raise RuntimeUnavailable(f"image {name} is for {image.architecture}, not {PLATFORMS[architecture]}")
        path = self._store.shelf.root(image.id)
        assert path is not None
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = Root(image.id, path, programs(directory, runtime))
        finally:
            os.close(directory)
        self._store.shelf.serve(image.id, runtime, architecture)
        self._known[runtime, architecture] = found
        return found

    def _missing(self, runtime: str, architecture: Architecture, why: str) -> str:
        return (
            f"{runtime} for {architecture} runs in the files of an image here, and there is none: {why}. "
            f"deploy/images/build {runtime} {architecture} makes it in the Docker Engine; without one, "
            f"deploy/images/build --archive DIR {runtime} {architecture} makes a file, "
            "for --runtime-images docker-archive:/DIR/{runtime}-{architecture}.tar"
        )
