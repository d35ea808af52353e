"""One container as the spawner holds it: asked of the engine, killed without the engine, removed by the engine when it can.

Killing is a signal to the container's first process, held by a descriptor: with it the kernel ends all that is in its pid
namespace, whether the engine answers or not. What the engine could not remove is in the graveyard, and removed when it can.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Mapping
from typing import Any, Final

from sandbox.docker import cgroups
from sandbox.docker.pausing import Pauser, paused
from sandbox.docker.ways import Freeze
from sandbox.errors import SandboxError
from sandbox.images.engine import Engine, EngineRefused, EngineUnavailable
from sandbox.native.cpu import Mode
from sandbox.spec import Architecture
from sandbox.tasks import Tasks

log = logging.getLogger("lambent.spawner")

OWNER: Final = "lambent.owner"
SANDBOX: Final = "lambent.sandbox"
REMOVE_S: Final = 15.0  #: whoever waits for the end of a sandbox waits for the engine no longer than this
_AGAIN_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_CLEAN: Final = 3  #: looks in a row that found nothing: what an engine was asked for before it stopped answering may appear later


class Graveyard:
    """Removes, by their label, the containers of one owner that should not be there any more."""

    def __init__(self, engine: Engine, owner: str) -> None:
        self._engine = engine
        self.owner = owner
        self.living: set[str] = set()  #: names of containers that are used, or asked for
        self._tasks = Tasks(lambda error: log.error("a task failed: %r", error))
        self._digging: asyncio.Task[None] | None = None
        self._more = False

    @property
    def label(self) -> str:
        return f"{OWNER}={self.owner}"

    async def sweep(self) -> list[str]:
        """Remove all that bear the label and do not live; their names. Raises EngineUnavailable, EngineRefused."""
        found = await self._engine.names_or_ids(self.label)
        dead = [name for name, one in found.items() if name != one and name not in self.living]
        for name in dead:
            await self._engine.remove(found[name])
        return dead

    def bury(self) -> None:
        """Something is left, or may yet appear, of a container that is not wanted: look until there is none."""
        self._more = True
        if self._digging is None or self._digging.done():
            self._digging = self._tasks.start(self._dig(), "graveyard")

    async def _dig(self) -> None:
        step = clean = 0
        while clean < _CLEAN:
            if self._more:
                self._more, step, clean = False, 0, 0
            await asyncio.sleep(_AGAIN_S[min(step, len(_AGAIN_S) - 1)])
            step += 1
            try:
                removed = await self.sweep()
            except SandboxError:
                clean = 0
                continue
            clean += 1
            if removed:
                log.info("removed containers that the engine had kept: %s", ", ".join(sorted(removed)))

    async def close(self) -> None:
        self._tasks.cancel()
        await self._tasks.join()
        with contextlib.suppress(SandboxError):
            await self.sweep()


class Container:
    """`start`, then at any time `kill`, and at the end `remove`."""

    def __init__(self, engine: Engine, graveyard: Graveyard, sandbox: str, freeze: Freeze = "cgroup") -> None:
        self._engine = engine
        self._freeze = freeze
        self._pauser: Pauser | None = None
        self._graveyard = graveyard
        self._sandbox = sandbox
        self.name = f"lambent-{graveyard.owner}-{sandbox}"
        self.pidfd = -1
        self._asked = False
        self._uncertain = False  # whether the engine has it, or will have it

    async def start(self, config: Mapping[str, Any], architecture: Architecture | None, mode: Mode) -> cgroups.ContainerGroup:
        """Have the engine make and start it. Raises SandboxError, OSError; `remove` is due whatever it raises."""
        self._asked = True
        self._graveyard.living.add(self.name)
        labels = {**config.get("Labels", {}), OWNER: self._graveyard.owner, SANDBOX: self._sandbox}
        try:
            one = await self._engine.create(self.name, {**config, "Labels": labels}, architecture)
            pid = await self._engine.start(one)
        except EngineRefused:
            raise
        except BaseException:
            self._uncertain = True
            raise
        pidfd = os.pidfd_open(pid)
        try:
            group = cgroups.find(pid, mode)
            # The pid may be another's by now: one that is in the groups of this container is in them for being its own.
            if not any(one in str(path) for path in group.directories.values()):
                raise EngineUnavailable(f"the container {self.name} ended at once")
        except BaseException:
            os.close(pidfd)
            raise
        self.pidfd = pidfd
        if self._freeze != "pause":
            return group
        self._pauser = Pauser(self._engine, self.name)
        return paused(group, self._pauser)

    @property
    def alive(self) -> bool:
        """Whether its first process is: asked of the kernel, not of the engine."""
        if self.pidfd < 0:
            return False
        try:
            signal.pidfd_send_signal(self.pidfd, 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self) -> None:
        """Everything in it, at once. Harmless when it is dead."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    async def remove(self) -> None:
        """Its rest, which the engine keeps; later, where the engine does not answer now. Never raises."""
        if self._pauser is not None:
            await self._pauser.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if not self._asked:
            return
        self._asked = False
        try:
            async with asyncio.timeout(REMOVE_S):
                await self._engine.remove(self.name)
        except (SandboxError, TimeoutError) as error:
            log.warning("container %s stays for now: %s", self.name, str(error) or "the engine takes too long")
            self._uncertain = True
        finally:
            self._graveyard.living.discard(self.name)
            if self._uncertain:
                self._graveyard.bury()
