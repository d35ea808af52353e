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
        task = Tasks(lambda _: None).start(work, "drain")
        await asyncio.wait({task, self.hurried}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        _log.warning("told a second time to end: what still runs is cut off")
        task.cancel()
        await asyncio.wait({task})
        return False
