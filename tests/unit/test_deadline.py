"""One timer for all deadlines: never early, exact, and not armed anew for each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sandbox.deadline import Deadline
from tests.sandboxes import LoopClock

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


class Noted:
    def __init__(self) -> None:
        self.times: list[float] = []
        self.deadline = Deadline(LoopClock(), lambda: self.times.append(now()))

    def in_(self, delay_s: float) -> None:
        self.deadline.set(now() + delay_s, now())


async def test_reached_once_and_not_early() -> None:
    noted = Noted()
    noted.in_(2.5)
    await asyncio.sleep(100)
    assert noted.times == [pytest.approx(2.5)]


async def test_cleared_is_not_reached() -> None:
    noted = Noted()
    noted.in_(2)
    noted.deadline.clear()
    await asyncio.sleep(10)
    assert noted.times == []


async def test_later_one_takes_the_place_of_the_one_before() -> None:
    noted = Noted()
    for _ in range(10):
        noted.in_(3)
        await asyncio.sleep(1)
        noted.deadline.clear()
    noted.in_(3)
    await asyncio.sleep(10)
    assert noted.times == [pytest.approx(13)]


async def test_earlier_one_is_met_too() -> None:
    noted = Noted()
    noted.in_(900)
    noted.deadline.clear()
    noted.in_(1)
    await asyncio.sleep(0.5)
    assert noted.times == []
    await asyncio.sleep(1)
    assert noted.times == [pytest.approx(1)]


async def test_deadlines_that_follow_each_other_share_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    armed = 0
    call_later = loop.call_later

    def counted(*arguments: Any, **keywords: Any) -> asyncio.TimerHandle:
        nonlocal armed
        armed += 1
        return call_later(*arguments, **keywords)

    noted = Noted()
    monkeypatch.setattr(loop, "call_later", counted)
    for _ in range(1000):
        noted.in_(3)
        noted.deadline.clear()
    assert armed == 1


async def test_closed_leaves_no_timer() -> None:
    noted = Noted()
    noted.in_(3)
    noted.deadline.close()
    await asyncio.sleep(10)
    assert noted.times == []


async def test_loop_that_wakes_early_waits_for_the_rest() -> None:
    """uvloop rounds to milliseconds: the timer may fire before the clock says so."""

    class Behind:
        def monotonic(self) -> float:
            return now() - 0.0004

        def wall(self) -> float:
            return 0.0

    times: list[float] = []
    deadline = Deadline(Behind(), lambda: times.append(now()))
    deadline.set(1.0, 0.0)
    await asyncio.sleep(5)
    assert times == [pytest.approx(1.001)]
