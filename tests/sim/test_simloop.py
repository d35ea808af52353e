"""The virtual loop itself: deterministic by seed, shuffled between seeds, never idle."""

from __future__ import annotations

import asyncio

import pytest

from tests.simloop import Deadlock, simulate


async def order() -> list[int]:
    seen: list[int] = []

    async def one(number: int) -> None:
        await asyncio.sleep(number % 3)
        seen.append(number)

    await asyncio.gather(*(one(number) for number in range(30)))
    return seen


def test_the_seed_decides_the_order_of_what_is_ready_at_once() -> None:
    assert simulate(order(), 1) == simulate(order(), 1)
    assert simulate(order(), 1) != simulate(order(), 2)


def test_time_decides_before_the_seed_does() -> None:
    assert [number % 3 for number in simulate(order(), 3)] == [0] * 10 + [1] * 10 + [2] * 10


def test_an_hour_takes_no_time() -> None:
    async def sleep() -> float:
        before = asyncio.get_running_loop().time()
        async with asyncio.timeout(7200):
            await asyncio.sleep(3600)
        return asyncio.get_running_loop().time() - before

    assert simulate(sleep()) == 3600


def test_waiting_for_what_cannot_come_is_told() -> None:
    async def wait() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        simulate(wait())


def test_what_a_callback_raises_is_raised() -> None:
    def fail() -> None:
        raise ValueError("in a callback")

    async def work() -> None:
        asyncio.get_running_loop().call_soon(fail)
        await asyncio.sleep(1)

    with pytest.raises(ValueError, match="in a callback"):
        simulate(work())
