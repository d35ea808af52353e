"""The one place of this package where time is read, so that tests can put another clock in."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Both in seconds: `monotonic` for durations, `wall` (since the epoch) for what is shown or sent."""

    def monotonic(self) -> float: ...
    def wall(self) -> float: ...


class SystemClock:
    """The machine's clocks. `monotonic` has microseconds where uvloop's `loop.time` has milliseconds."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
