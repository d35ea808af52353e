"""How an environment with extensions ends: told in AWS's order, within AWS's time, and not a moment longer.

    internal ones only:   SIGTERM to the runtime ── 500 ms ── kill
    external ones:        SIGTERM to the runtime ── 600 ms ── its kill ── SHUTDOWN events ── until 2,000 ms from the start ── kill

Whoever ends early shortens it. The runtime's share is 30 % of the budget, as in AWS's runtime interface emulator
(rapid/shutdown.go); AWS's guide says 300 ms. An external extension that is not subscribed to SHUTDOWN is killed when the events
go out. Without any extension there is none of this: the kill comes at once.

The kill is asked for when it begins, and so lands in time also when many environments end at once and this process has other
things to do. Removing what is left is its user's, after `run`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Final

from sandbox.clock import Clock
from sandbox.driver import ExitStatus, Handle
from sandbox.runtime_api import extensions as api
from sandbox.runtime_api.extensions import Extension, Extensions
from sandbox.runtime_api.server import RuntimeApi

INTERNAL_S: Final = 0.5
EXTERNAL_S: Final = 2.0
RUNTIME_SHARE: Final = 0.3


class Shutdown:
    """One shutdown of one environment; `reason` is ``spindown``, ``timeout`` or ``failure``. Its user tells it who has ended."""

    def __init__(self, handle: Handle, runtime_api: RuntimeApi, clock: Clock, *, runtime_alive: bool, reason: str) -> None:
        assert runtime_api.extensions is not None
        self._handle = handle
        self._api = runtime_api
        self._extensions: Extensions = runtime_api.extensions
        self._clock = clock
        self._runtime_alive = runtime_alive
        self._reason = reason
        self._hurried = False
        self._news: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Returns when all have ended, or when those that are left are to be killed."""
        began_s, wall_s = self._clock.monotonic(), self._clock.wall()
        external = any(extension.external for extension in self._extensions)
        limit_s = EXTERNAL_S if external else INTERNAL_S
        self._handle.thaw()
        self._handle.kill_at(began_s + limit_s)
        if self._runtime_alive:
            self._handle.signal(signal.SIGTERM)
            await self._until(lambda: not self._runtime_alive, began_s + (limit_s * RUNTIME_SHARE if external else limit_s))
        if not external or self._hurried:
            return
        if self._runtime_alive:
            self._handle.signal(signal.SIGKILL)
        for extension in self._extensions.processes:
            if api.SHUTDOWN not in extension.events:
                self._handle.signal(signal.SIGKILL, extension.name)
        self._api.tell(api.SHUTDOWN, api.shutdown_event(self._reason, int((wall_s + limit_s) * 1000)))
        await self._until(lambda: not self._extensions.processes, began_s + limit_s)
        for extension in self._extensions.processes:
            extension.see(api.Event.KILLED)

    def hurry(self) -> None:
        """There is no time any more: `run` returns as soon as the loop lets it."""
        self._hurried = True
        self._tell()

    def runtime_ended(self) -> None:
        self._runtime_alive = False
        self._tell()

    def extension_ended(self, extension: Extension, status: ExitStatus) -> None:
        """Its `alive` is False already."""
        extension.see(api.Event.ENDED if status.code == 0 else api.Event.KILLED)
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _until(self, condition: Callable[[], bool], at_s: float) -> None:
        while not condition() and not self._hurried:
            left_s = at_s - self._clock.monotonic()
            if left_s <= 0:
                return
            self._news = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._news}, timeout=left_s)
