"""A caller may leave, and a closing be cut short, between any two steps of the loop: nothing is lost by it, and nothing left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sandbox.testing import Behaviour, Run
from tests.sim.records import function, version
from tests.sim.world import World
from tests.simloop import SimLoop, simulate

Victim = Callable[[World], Coroutine[Any, Any, object]]

ENOUGH = 200  #: steps; each victim ends by itself long before


async def cold(world: World) -> object:
    return await world.invoke()


async def warm(world: World) -> object:
    await world.invoke()
    return await world.invoke()


async def queued(world: World) -> object:
    return await asyncio.gather(*(world.invoke() for _ in range(6)))


async def thawed(world: World) -> object:
    await world.invoke()
    await asyncio.sleep(1)
    return await world.invoke()


async def evicting(world: World) -> object:
    await world.invoke("large")
    return await world.invoke("huge")


async def failing(world: World) -> object:
    for sandbox in list(world.host.live.values()):
        sandbox.die()
    return await world.invoke(payload=b"die")


async def closing(world: World) -> object:
    calls = [world.begin() for _ in range(3)]
    await asyncio.sleep(0.05)
    try:
        await world.pool.close(0.02)
    finally:
        await asyncio.gather(*calls, return_exceptions=True)
    return None


async def play(victim: Victim, steps: int) -> bool:
    """Whether the victim was cancelled, or ended before."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    world = World(
        [function(version()), function(version("large", memory_mb=3000)), function(version("huge", memory_mb=4000))],
        behaviour=Behaviour(run=lambda work: Run(gone=work.payload == b"die", finish_s=0.001)),
    )
    task = loop.create_task(victim(world))
    loop.after_steps(steps, task.cancel)
    await asyncio.wait([task])
    if victim is not closing:
        await asyncio.sleep(5)
        assert world.pool.in_flight == 0, "a slot was lost"
        await world.invoke()
        await world.invoke("huge")
    await world.close()
    if not task.cancelled():
        task.result()
    return task.cancelled()


@pytest.mark.parametrize("victim", [cold, warm, queued, thawed, evicting, failing, closing])
def test_cancelled_after_each_step(victim: Victim) -> None:
    cancelled = [simulate(play(victim, steps), seed=steps) for steps in range(1, ENOUGH)]
    assert cancelled[0], "the first was early enough"
    assert not cancelled[-1], "the last was late enough"
