"""What sandboxes of images are made in: image functions, and zip functions of an architecture that this host is not.

The spawner's share in images: what the gateway asks about them, and the mount that is a sandbox's root.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path

from sandbox.errors import RuntimeUnavailable
from sandbox.images.engine import Engine
from sandbox.images.programs import OWN, Programs
from sandbox.images.roots import RuntimeRoots
from sandbox.images.store import ImageStore
from sandbox.native.channel import Message
from sandbox.native.driver import HOST_ARCHITECTURE
from sandbox.native.jail import Jail
from sandbox.native.porters import read_only
from sandbox.spec import Architecture, Image

EMULATED_STEM_S = 90.0  #: an interpreter's start under qemu-user takes seconds, and many of them on a busy machine
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def is_imaged(request: Message) -> bool:
    """Whether what is to be made has an image's files for its root."""
    return bool(request.get("image")) or (
        request.get("architecture", HOST_ARCHITECTURE) != HOST_ARCHITECTURE and request["architecture"] in list(Architecture)
    )


class Imaged:
    """The unpacked images below `directory`; `names` is the name of a runtime's image, `in_use` what sandboxes have now; `told`
    hears how far the unpacking of one is: its URI, bytes that are done, bytes in all."""

    def __init__(
        self,
        directory: Path,
        engine: Engine,
        names: str,
        max_bytes: int,
        in_use: Callable[[], Collection[str]],
        told: Callable[[str, int, int], None],
    ) -> None:
        self._store = ImageStore(directory, engine, max_bytes, in_use, told)
        self._roots = RuntimeRoots(self._store, engine, names)
        self._images: list[str] = []  # of a list that comes in parts
        self._runtimes: list[tuple[str, str]] = []

    def prepare(self) -> None:
        """Remove what an earlier spawner left half done, in the background."""
        self._store.shelf.prepare()

    async def resolve(self, uri: str, architecture: Architecture) -> Image:
        """What an ImageUri means now. Raises ImageError, EngineUnavailable, OSError."""
        return await self._store.resolve(uri, architecture)

    async def look(self, runtime: str, architecture: Architecture) -> None:
        """Have what stems of another architecture are made in. Raises RuntimeUnavailable, OSError."""
        if architecture is not HOST_ARCHITECTURE:
            await self._roots.look(runtime, architecture)

    def keep(self, message: Message) -> None:
        """Images and zip runtimes that functions need, in as many messages as it takes; what else is unpacked goes."""
        images, runtimes = message.get("images"), message.get("runtimes")
        assert isinstance(images, list)
        assert isinstance(runtimes, list)
        self._images += map(str, images)
        self._runtimes += [(str(runtime), str(architecture)) for runtime, architecture in runtimes]
        if not message.get("more"):
            self._store.shelf.keep(self._images, self._runtimes)
            self._images, self._runtimes = [], []

    async def root(self, jail: Jail, request: Message) -> tuple[int, Programs]:
        """A read-only mount of an image's files for this sandbox, and what waits in them for a function.

        Raises RuntimeUnavailable, OSError.
        """
        if request.get("architecture") != HOST_ARCHITECTURE:
            jail.stem_s = EMULATED_STEM_S
        if image := str(request.get("image") or ""):  # found by its digest, wherever the gateway would like it to point
            path = self._store.shelf.root(image) if _DIGEST.fullmatch(image) else None
            if path is None:
                raise RuntimeUnavailable(f"image {image} is not here any more: update the function's code with its ImageUri")
            jail.image = image
            return read_only(path), OWN
        found = await self._roots.get(str(request["runtime"]), Architecture(str(request["architecture"])))
        jail.image = found.image
        return read_only(found.path), found.programs

    def released(self, jail: Jail) -> None:
        """That sandbox has ended."""
        if jail.image:
            self._store.shelf.released(jail.image)

    async def end(self) -> None:
        """Unpack no further."""
        await self._store.end()

    async def close(self) -> None:
        await self._store.shelf.close()
