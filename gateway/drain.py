"""The gateway's end: what a signal means, and what a second one.

On SIGTERM or SIGINT the front door closes and what runs may finish, within the budget of `--drain-s`; a second signal ends that
wait. Everything else is closed afterwards by `app.py`, in the opposite order of its making.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any

from sandbox.tasks import Tasks

_log = logging.getLogger(__name__)


class Ending:
    """Hears the signals from its making on. `begun` is done at the first, `hurried` at the second."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = loop.create_future()
        self.hurried: asyncio.Future[None] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.hear)

    def hear(self) -> None:
        """What a signal does."""
        if not self.begun.done():
            self.begun.set_result(None)
        elif not self.hurried.done():
            self.hurried.set_result(None)

    async def patiently(self, work: Coroutine[Any, Any, None]) -> bool:
        """Run `work` until it is done or `hurried` is; whether it was done. What it raises is raised."""
        done = await _until(work, self.hurried, "drain")
        if not done:
            _log.warning("told a second time to end: what still runs is cut off")
        return done

    async def unless_begun(self, work: Coroutine[Any, Any, None]) -> bool:
        """The same for the start: who is told to end does not first wait for a spawner that may never come."""
        return await _until(work, self.begun, "start")


async def _until(work: Coroutine[Any, Any, None], stop: asyncio.Future[None], name: str) -> bool:
    task = Tasks(lambda _: None).start(work, name)
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.wait({task})
    return False
