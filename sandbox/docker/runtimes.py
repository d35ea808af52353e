"""Which image serves a runtime, and what of it runs functions: for zip functions on the docker driver.

An image is found by its name, every time: one that is built or pulled while Lambent runs is there for the next stem.
"""

from __future__ import annotations

import os
import platform

from sandbox.errors import RuntimeUnavailable
from sandbox.guest import syscalls
from sandbox.images.emulation import MACHINES, emulation
from sandbox.images.engine import PLATFORMS, Engine, EngineImage
from sandbox.images.programs import DEFAULT_IMAGES, Programs, programs
from sandbox.native.interpreters import PROVIDED_RUNTIMES, PYTHON_RUNTIMES
from sandbox.native.nodes import NODE_RUNTIMES
from sandbox.spec import Architecture


class Runtimes:
    """`images` is the name of a runtime's image, with {runtime} and {architecture} in it."""

    def __init__(self, engine: Engine, images: str = "") -> None:
        self._engine = engine
        self._images = images or DEFAULT_IMAGES

    async def image(self, runtime: str, architecture: Architecture) -> str:
        """The id of the image of a runtime. Raises RuntimeUnavailable, and what the engine raises."""
        if (why_not := emulation(architecture)) is not None:
            raise RuntimeUnavailable(why_not)
        name = self._name(runtime, architecture)
        return self._checked(name, architecture, await self._engine.image(name)).id

    def _name(self, runtime: str, architecture: Architecture) -> str:
        return self._images.format(runtime=runtime, architecture=architecture)

    def _checked(self, name: str, architecture: Architecture, found: EngineImage | None) -> EngineImage:
        if found is None:
            raise RuntimeUnavailable(
                f"the Docker Engine has no image {name}; deploy/images/build makes one from Debian's packages"
            )
        if found.architecture != PLATFORMS[architecture]:
            raise RuntimeUnavailable(f"image {name} is for {found.architecture}, not {PLATFORMS[architecture]}")
        return found

    async def support(self) -> dict[str, tuple[bool, str]]:
        """What the engine has now, by runtime, for the host's own architecture."""
        found: dict[str, tuple[bool, str]] = {}
        own = next((one for one, machine in MACHINES.items() if machine == platform.machine()), Architecture.X86_64)
        for runtime in (*PYTHON_RUNTIMES, *NODE_RUNTIMES, *PROVIDED_RUNTIMES):
            try:
                found[runtime] = True, f"image {self._name(runtime, own)}, {(await self.image(runtime, own))[:19]}"
            except RuntimeUnavailable as error:
                found[runtime] = False, str(error)
        return found

    def programs(self, runtime: str, container: int) -> Programs:
        """What waits for a function in a container (its pidfd). Raises RuntimeUnavailable when it has nothing for that runtime,
        OSError when it has ended."""
        root = os.open(f"/proc/{syscalls.pid_of(container)}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return programs(root, runtime)
        finally:
            os.close(root)
