"""An event loop whose time stands still while anything is ready and then jumps to the next timer: hours pass in seconds.

The one of the tests also shuffles what is ready at once, to find what relies on an order; this one is for speed. It has no I/O.
Uses two private names of asyncio's own loop, which is why it is not for products.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time` begins at 0."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        timers, ready = self._scheduled, self._ready
        while timers and timers[0].cancelled():
            heapq.heappop(timers)
        if not ready:
            if not timers:
                raise RuntimeError("nothing will ever happen again")
            self._now = max(self._now, timers[0].when())
        while timers and timers[0].when() <= self._now:
            ready.append(heapq.heappop(timers))
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()


class VirtualClock:
    """The gateway's clock on such a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.monotonic: Callable[[], float] = loop.time

    def wall(self) -> float:
        return 1_795_219_200.0 + self.monotonic()


def in_virtual_time(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it to its end. Raises what it raises, or what a callback raised; interrupted, it leaves no task."""
    loop = VirtualLoop()
    faults: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: faults.append(context))
    try:
        result = loop.run_until_complete(work())
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                loop.run_until_complete(task)
        loop.close()
    for fault in faults:
        raise fault.get("exception") or RuntimeError(fault["message"])
    return result
