"""The event loop's lag, seen by a clock that a test sets."""

from __future__ import annotations

import asyncio

from gateway.observe.lag import EVERY_S, Lag
from tests.simloop import SimClock, simulate


class StallingClock(SimClock):
    """Beside the loop's time, what the loop was stalled for."""

    stalled_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.stalled_s


def test_lateness_is_what_the_loop_was_stalled_for() -> None:
    async def scenario() -> None:
        clock = StallingClock()
        lag = Lag(clock)
        lag.start()
        await asyncio.sleep(EVERY_S * 10.5)
        assert (lag.late_s.count, lag.late_s.counts[0]) == (10, 10)
        clock.stalled_s = 0.3
        await asyncio.sleep(EVERY_S)
        assert lag.late_s.counts[lag.late_s.bounds.index(0.5)] == 1
        assert 0.29 < lag.late_s.total < 0.31
        lag.close()
        await asyncio.sleep(1)
        assert lag.late_s.count == 11
        lag.close()

    simulate(scenario())
