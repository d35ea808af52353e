"""Freezing through the engine, for where a container's cgroup cannot be written: a door that looks like a freezer's file.

The gateway writes FROZEN or THAWED to a descriptor that came with the sandbox, as it does everywhere. Here that is a pipe, whose
other end asks the engine. So nothing of it is on anybody else's hot path; what it costs is the engine's time, some ten
milliseconds before a function runs on. The last word counts, and only what is not so already is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable
from typing import Final

from sandbox.docker.cgroups import ContainerGroup
from sandbox.errors import SandboxError
from sandbox.images.engine import Engine, EngineRefused
from sandbox.native import leftovers
from sandbox.tasks import Tasks

log = logging.getLogger("lambent.spawner")

FROZEN: Final = "FROZEN"
THAWED: Final = "THAWED"
AGAIN_S: Final = 0.2  #: an engine that does not answer may soon


class Pauser:
    """Pauses one container. `open` once, `close` at its end."""

    def __init__(self, engine: Engine, container: str) -> None:
        self._engine = engine
        self._container = container
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(lambda error: log.error("a task failed: %r", error))
        self._inside = -1
        self._wanted = self._paused = False

    def open(self) -> int:
        """The end to write to, which is the caller's."""
        self._inside, door = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._loop.add_reader(self._inside, self._told)
        return door

    def _told(self) -> None:
        words = os.read(self._inside, 65536)
        if not words:  # the gateway has closed its end
            self._shut()
            return
        self._wanted = words.endswith(FROZEN.encode())
        if not self._tasks:
            self._tasks.start(self._ask(), f"pause {self._container}")

    async def _ask(self) -> None:
        while self._wanted != self._paused:
            wanted = self._wanted
            try:
                await (self._engine.pause if wanted else self._engine.unpause)(self._container)
            except EngineRefused:  # it is so already, or there is no container any more
                pass
            except SandboxError as error:
                log.warning("%s is not %s yet: %s", self._container, "frozen" if wanted else "thawed", error)
                await asyncio.sleep(AGAIN_S)
                continue
            self._paused = wanted

    def _shut(self) -> None:
        if self._inside >= 0:
            self._loop.remove_reader(self._inside)
            os.close(self._inside)
            self._inside = -1

    async def close(self) -> None:
        self._shut()
        self._tasks.cancel()
        await self._tasks.join()


@dataclasses.dataclass(slots=True)
class PausedGroup(ContainerGroup):
    """A container's group whose freezer is the engine."""

    door: Callable[[], int] = lambda: -1

    def freeze_fd(self) -> int:
        return self.door()

    @property
    def freezer_words(self) -> tuple[str, str]:
        return FROZEN, THAWED

    def thaw_after_kill(self) -> None:
        """The engine thaws what it removes. All in it must be dead by then, so that nothing of it runs once more."""
        for directory in list(self.directories.values())[:1]:
            with contextlib.suppress(OSError):
                leftovers.kill_members(directory)


def paused(group: ContainerGroup, pauser: Pauser) -> PausedGroup:
    """The same group, frozen by `pauser`."""
    fields = {field.name: getattr(group, field.name) for field in dataclasses.fields(group)}
    return PausedGroup(**fields, door=pauser.open)
