"""What users feel of keep-alive: per-function rules by tags, pressure, and sandboxes that are started ahead."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from gateway.records import Function
from gateway.scheduler.policy import MIB
from sandbox.testing import Behaviour, FakeState
from tests.sim.records import function, version
from tests.sim.test_pool import INIT_S, RUN_S, in_world, served
from tests.sim.world import POLICY, World

FIXED = dataclasses.replace(POLICY, keep_alive="fixed", keep_alive_s=60)


def tagged(name: str = "echo", **tags: str) -> Function:
    said = {f"lambent:{key.replace('_', '-')}": value for key, value in tags.items()}
    return dataclasses.replace(function(version(name)), tags=said)


def states(world: World, name: str = "echo") -> list[FakeState]:
    return [sandbox.state for sandbox in world.host.live.values() if sandbox.spec and sandbox.spec.name == name]


def test_a_function_s_own_time() -> None:
    async def scenario(world: World) -> None:
        await world.invoke("short")
        await world.invoke("usual")
        await asyncio.sleep(11)
        assert (len(states(world, "short")), len(states(world, "usual"))) == (0, 1)

    in_world(scenario, tagged("short", idle_ttl_s="10"), function(version("usual")), policy=FIXED)


def test_as_many_as_are_wanted_warm_are_kept_and_no_more() -> None:
    async def scenario(world: World) -> None:
        served(await world.burst(20))
        await asyncio.sleep(1)
        many = len(states(world))
        assert 2 < many <= 5, "at most five are kept"
        await asyncio.sleep(10_000)
        assert states(world) == [FakeState.FROZEN] * 2, "two stay for ever"
        assert (await world.invoke()).took_s == pytest.approx(RUN_S)
        await asyncio.sleep(10_000)
        assert len(states(world)) == 2

    in_world(scenario, tagged(min_warm="2", max_warm="5"), policy=FIXED)


def test_a_tag_that_is_set_or_taken_away_counts_at_once() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        await asyncio.sleep(10)
        world.catalog.replace("echo", tagged(min_warm="1"))
        await asyncio.sleep(10_000)
        assert states(world) == [FakeState.FROZEN]
        world.catalog.replace("echo", function(version()))
        await asyncio.sleep(1)
        assert states(world) == []
        await world.invoke()
        await asyncio.sleep(1)
        world.catalog.replace("echo", tagged(max_warm="0"))
        await asyncio.sleep(1)
        assert states(world) == []

    in_world(scenario, policy=FIXED)


def test_memory_that_is_needed_is_taken_from_those_kept_warm_at_last() -> None:
    async def scenario(world: World) -> None:
        await world.invoke("kept")
        await asyncio.sleep(1)
        await world.invoke("other")
        await asyncio.sleep(1)
        await world.invoke("third")
        assert (len(states(world, "kept")), len(states(world, "other"))) == (1, 0), "though it was used before the other"
        await asyncio.sleep(1)
        await world.invoke("large")
        assert len(states(world, "kept")) == 0, "but who calls is not refused for it"

    functions = [tagged("kept", min_warm="1"), function(version("other")), function(version("third"))]
    for keep_alive in ("worth", "fixed", "lru", "greedy-dual", "hybrid"):
        in_world(
            scenario, *functions, function(version("large", memory_mb=370)),
            policy=dataclasses.replace(POLICY, keep_alive=keep_alive, memory_bytes=380 * MIB, stems_min=1, stems_max=1),
            behaviour=Behaviour(idle_bytes=127 * MIB), seeds=2,
        )  # fmt: skip


def test_a_host_that_lacks_memory_is_given_some() -> None:
    async def scenario(world: World) -> None:
        for name in ("a", "b", "kept"):
            await world.invoke(name)
        await asyncio.sleep(1)
        await world.invoke("warm")
        world.pool.pressed()
        await asyncio.sleep(0.1)
        assert [len(states(world, name)) for name in ("a", "b", "kept", "warm")] == [0, 0, 1, 1]
        assert world.tallies.totals.evictions == {"frozen": 2}

    in_world(scenario, *(function(version(name)) for name in ("a", "b", "warm")), tagged("kept", min_warm="1"))


def test_a_sandbox_is_started_before_the_clock_strikes() -> None:
    """Others, more often called, need the memory between its beats."""

    async def scenario(world: World) -> None:
        took_s: list[float] = []

        async def others() -> None:
            while len(took_s) < 12:
                for name in ("a", "b", "c"):
                    await world.invoke(name)
                    await asyncio.sleep(3.7)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(others())
            for _ in range(12):
                took_s.append((await world.invoke("clock")).took_s)
                await asyncio.sleep(300 - took_s[-1])
        assert took_s[6:] == pytest.approx([RUN_S] * 6)
        assert world.tallies.totals.prewarms >= 5
        assert max(took_s[:3]) > INIT_S

    in_world(
        scenario, *(function(version(name)) for name in ("a", "b", "c", "clock")),
        policy=dataclasses.replace(POLICY, memory_bytes=(8 + 3 * 128) * MIB, stems_min=1, stems_max=1),
        behaviour=Behaviour(idle_bytes=120 * MIB), seeds=3,
    )  # fmt: skip


def test_a_function_that_was_changed_or_deleted_is_not_started_ahead() -> None:
    async def scenario(world: World) -> None:
        for _ in range(8):
            await world.invoke()
            await asyncio.sleep(60)
        world.catalog.replace("echo", None)
        await asyncio.sleep(1000)
        assert world.tallies.totals.prewarms == 0
        assert states(world) == []

    in_world(scenario)
