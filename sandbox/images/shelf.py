"""The unpacked images on disk: which are here, what they take, who needs them; and their removal.

    <directory>/<digest>/image.json     what the image says of itself
    <directory>/<digest>/bytes          what it takes
    <directory>/<digest>/runtimes       zip functions' runtimes that it was taken for, ``RUNTIME ARCHITECTURE`` a line
    <directory>/<digest>/root/          its files; mounted read-only as the root of every sandbox that runs it

A root is unpacked under a temporary name and renamed when it is complete, so what is there is whole; it goes by the opposite way.
An image stays as long as a function version is made with it (the gateway says which: `keep`), as a sandbox has it, and for
`SPARED_S` after somebody asked for it, since a function that is being made has no record yet. Until the gateway
has said anything, nothing is removed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import tempfile
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final

from sandbox.spec import Image
from sandbox.tasks import Tasks

SPARED_S: Final = 600.0  #: after it was last asked for
SPARED_WHEN_SHORT_S: Final = 60.0  #: the same where there is no room for another one
AGAIN_S: Final = 60.0  #: until what a sandbox still had is looked at again
_TEMPORARY: Final = ("making.", "removing.", "saved.")
_log = logging.getLogger("lambent.spawner")


class Shelf:
    """`in_use` gives the ids of images that sandboxes have now. Belongs to one event loop."""

    def __init__(self, directory: Path, in_use: Callable[[], Collection[str]] = frozenset) -> None:
        self.directory = directory
        self._in_use = in_use
        self._wanted: frozenset[str] | None = None  # by functions; None: nobody has said it yet
        self._runtimes: frozenset[str] = frozenset()
        self._asked_s: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks = Tasks(lambda error: _log.error("removing images failed", exc_info=error))

    def prepare(self) -> None:
        """Remove what an earlier process left half done, in the background."""
        if self.directory.is_dir():
            left = [self.directory / name for name in os.listdir(self.directory) if name.startswith(_TEMPORARY)]
            if left:
                self._tasks.start(_remove(*left), "remove what is left of images")

    def work(self, prefix: str) -> Path:
        """A new directory on the same disk, for files that are not complete yet."""
        self.made()
        path = Path(tempfile.mkdtemp(dir=self.directory, prefix=f"{prefix}."))
        os.chmod(path, 0o711)
        return path

    def made(self) -> Path:
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        return self.directory

    def root(self, image_id: str) -> Path | None:
        """The files of an image that is here."""
        path = self.directory / _name(image_id) / "root"
        return path if path.is_dir() else None

    def find(self, image_id: str) -> Image | None:
        """An image that is here; from now on it is spared for a while."""
        if self.root(image_id) is None:
            return None
        self._asked(image_id)
        return Image.of(json.loads((self.directory / _name(image_id) / "image.json").read_text()))

    def add(self, work: Path, image: Image, unpacked_bytes: int) -> None:
        """`work` holds the complete `root` of an image."""
        (work / "image.json").write_text(json.dumps(image.plain()))
        (work / "bytes").write_text(str(unpacked_bytes))
        self._asked(image.id)
        if self.root(image.id) is None:
            os.rename(work, self.directory / _name(image.id))

    def serve(self, image_id: str, runtime: str, architecture: str) -> None:
        """It is the root of that runtime's zip functions, and stays as long as there are such."""
        self._asked(image_id)
        path = self.directory / _name(image_id) / "runtimes"
        line = f"{runtime} {architecture}"
        if line not in _lines(path):
            with path.open("a") as file:
                file.write(f"{line}\n")

    def bytes(self) -> int:
        """What all together take on disk, as far as it is known."""
        return sum(int("".join(_lines(self.directory / name / "bytes")) or 0) for name in self._names())

    def keep(self, images: Iterable[str], runtimes: Iterable[tuple[str, str]]) -> None:
        """Functions need these images and zip runtimes, and no others: the others go, now or when they can."""
        self._wanted = frozenset(map(_name, images))
        self._runtimes = frozenset(f"{runtime} {architecture}" for runtime, architecture in runtimes)
        self.look()

    def look(self) -> None:
        """Remove what nobody needs any more, in the background."""
        if self._wanted is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._take_away(SPARED_S):
            self._timer = asyncio.get_running_loop().call_later(AGAIN_S, self.look)

    def released(self, image_id: str) -> None:
        """A sandbox of it has ended."""
        if self._timer is not None and not self._is_wanted(_name(image_id)):
            self.look()

    async def make_room(self) -> None:
        """Remove what no function and no sandbox has, with less patience; returns when it is gone."""
        if self._wanted is not None:
            self._take_away(SPARED_WHEN_SHORT_S)
        await self._tasks.join()

    def _take_away(self, spared_s: float) -> int:
        """How many must wait. What goes is out of reach when this returns, and its files are removed by a task."""
        waiting = 0
        used = set(map(_name, self._in_use()))
        now = asyncio.get_running_loop().time()
        for name in self._names():
            if self._is_wanted(name):
                continue
            if name in used or now < self._asked_s.get(name, -math.inf) + spared_s:
                waiting += 1
                continue
            self._asked_s.pop(name, None)
            gone = Path(tempfile.mkdtemp(dir=self.directory, prefix="removing."))
            os.rename(self.directory / name, gone / name)
            _log.info("image sha256:%s is used by no function any more and is removed", name[:12])
            self._tasks.start(_remove(gone), f"remove image {name[:12]}")
        return waiting

    def _is_wanted(self, name: str) -> bool:
        assert self._wanted is not None
        return name in self._wanted or not self._runtimes.isdisjoint(_lines(self.directory / name / "runtimes"))

    def _names(self) -> list[str]:
        if not self.directory.is_dir():
            return []
        return [name for name in os.listdir(self.directory) if not name.startswith(_TEMPORARY)]

    def _asked(self, image_id: str) -> None:
        self._asked_s[_name(image_id)] = asyncio.get_running_loop().time()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._tasks.join()


def _name(image_id: str) -> str:
    return image_id.partition(":")[2]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


async def _remove(*paths: Path) -> None:
    """By a program: thousands of files take a thread of ours seconds, in which the event loop would get its turns late."""
    process = await asyncio.create_subprocess_exec("nice", "rm", "-rf", "--one-file-system", *map(str, paths))
    if await process.wait() != 0:
        _log.error("not all of %s could be removed", ", ".join(map(str, paths)))
