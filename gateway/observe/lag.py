"""How late the event loop is: the one thread that does everything here, so whatever it is late for everybody waits for.

A timer every 0.1 s notes how much later than asked it was called. A stall that is shorter than that is seen only if the
timer falls into it, so seldom ones are found by their share of the time, not each. uvloop's timers count whole milliseconds: up
to 2 ms is no lateness.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.clock import Clock
from gateway.tally import LAG_S, Histogram

EVERY_S: Final = 0.1


class Lag:
    """Observes the loop that `start` is called in, until `close`."""

    def __init__(self, clock: Clock) -> None:
        self.late_s = Histogram(LAG_S)
        self._now = clock.monotonic
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Lag {self.late_s!r}>"

    def start(self) -> None:
        self._again(asyncio.get_running_loop())

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(EVERY_S, self._beat, loop, self._now() + EVERY_S)

    def _beat(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        self.late_s.add(max(0.0, self._now() - due_s))
        self._again(loop)
