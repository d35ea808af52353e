"""An event loop without a clock and without an order that anybody could come to rely on.

Time stands still while anything is ready, then jumps to the next timer, so an hour passes in the time that the work of that hour
takes. What is ready at once runs in an order shuffled by the seed: the same seed gives the same run, another seed another one. It
has no I/O; if nothing is ready and no timer is set, nothing will ever happen again, and that raises `Deadlock`.

Uses two private names of asyncio's own loop, which is why it is for tests only.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(Exception):
    """Somebody waits for what can't come."""


class SimLoop(asyncio.SelectorEventLoop):
    """`time` begins at 1,000 s."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._now = 1000.0
        self._random = random.Random(seed)
        self._steps = 0
        self._at_step: tuple[int, Callable[[], object]] | None = None

    def time(self) -> float:
        return self._now

    def after_steps(self, steps: int, callback: Callable[[], object]) -> None:
        """Call back between two steps of the loop, so many from now: so a test gets at a task at each of its awaits."""
        self._at_step = self._steps + steps, callback

    def _run_once(self) -> None:
        self._steps += 1
        if self._at_step is not None and self._steps >= self._at_step[0]:
            callback = self._at_step[1]
            self._at_step = None
            callback()
        timers = self._scheduled
        while timers and timers[0].cancelled():
            heapq.heappop(timers)
        if not self._ready:
            if not timers:
                raise Deadlock
            self._now = max(self._now, timers[0].when())
        batch = list(self._ready)
        self._ready.clear()
        while timers and timers[0].when() <= self._now:
            batch.append(heapq.heappop(timers))
        self._random.shuffle(batch)
        for handle in batch:
            if not handle.cancelled():
                handle._run()


class SimClock:
    """Both clocks follow the loop; the epoch is that of the tests' dates, 2026-11-21T00:00:00Z at time 0."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return 1_795_219_200.0 + asyncio.get_running_loop().time()


def simulate(work: Coroutine[Any, Any, T], seed: int = 0) -> T:
    """Run `work` in virtual time. Raises what it raises, what a callback raised, and RuntimeError if it leaves a task behind."""
    loop = SimLoop(seed)
    faults: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: faults.append(context))
    try:
        result = loop.run_until_complete(work)
        left = asyncio.all_tasks(loop)
        if left:
            raise RuntimeError(f"seed {seed}: tasks left behind: {left}")
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                loop.run_until_complete(task)
        loop.close()
    for fault in faults:
        raise fault.get("exception") or RuntimeError(f"seed {seed}: {fault['message']}")
    return result
