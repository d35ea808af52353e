"""Which image serves a runtime, and what of it runs functions: for zip functions on the docker driver.

An image is found by its name, every time: one that is built or pulled while Lambent runs is there for the next stem. Any image
will do that has the interpreter where AWS's, Docker's own or Debian's images have it, or a bootstrap at /var/runtime/bootstrap.
"""

from __future__ import annotations

import os
import platform
from typing import Final

from sandbox.errors import RuntimeUnavailable
from sandbox.guest import syscalls
from sandbox.images.emulation import MACHINES, emulation
from sandbox.images.engine import PLATFORMS, Engine, EngineImage
from sandbox.native.interpreters import PROVIDED_RUNTIMES, PYTHON_RUNTIMES
from sandbox.spec import Architecture

DEFAULT_IMAGES: Final = "lambent/{runtime}:{architecture}"
_INTERPRETERS: Final = ("/var/lang/bin/{}", "/usr/local/bin/{}", "/usr/bin/{}")


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
        for runtime in (*PYTHON_RUNTIMES, *PROVIDED_RUNTIMES):
            try:
                found[runtime] = True, f"image {self._name(runtime, own)}, {(await self.image(runtime, own))[:19]}"
            except RuntimeUnavailable as error:
                found[runtime] = False, str(error)
        return found

    def interpreters(self, runtime: str, container: int) -> list[str]:
        """Where the interpreter of a Python runtime is in a container (its pidfd); nothing for what brings its own program.

        Raises RuntimeUnavailable when there is none, OSError when the container has ended.
        """
        if not runtime.startswith("python"):
            return []
        root = os.open(f"/proc/{syscalls.pid_of(container)}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for pattern in _INTERPRETERS:
                path = pattern.format(runtime)
                if syscalls.exists_in_root(root, path):
                    return [path]
        finally:
            os.close(root)
        raise RuntimeUnavailable(f"the image of {runtime} has no interpreter at {_INTERPRETERS[0].format(runtime)}")
