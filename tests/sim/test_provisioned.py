"""Provisioned concurrency in the pool: ready before traffic, used first, replaced, never let go."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from gateway.errors import TooManyRequestsException
from gateway.records import Alias, Function, FunctionVersion, Provisioned
from gateway.scheduler.policy import MIB, Policy
from gateway.scheduler.provision import Standing, Status
from sandbox.outcome import Work
from sandbox.spec import FunctionSpec
from sandbox.testing import Behaviour, FakeSandbox, FakeState, Run
from tests.sim.records import function, version
from tests.sim.world import POLICY, World
from tests.simloop import simulate

INIT_S = 0.1
RUN_S = 0.01
KEPT = "provisioned-concurrency"


def provisioned(count: int, number: str = "1", *, name: str = "echo", memory_mb: int = 128) -> FunctionVersion:
    asked = Provisioned(executions=count, last_modified="2026-01-01T00:00:00+0000") if count else None
    return dataclasses.replace(version(name, number, memory_mb=memory_mb), provisioned=asked)


def play(
    scenario: Callable[[World], Awaitable[None]],
    *functions: Function,
    behaviour: Behaviour | None = None,
    policy: Policy = POLICY,
    settle_s: float = 2.0,
) -> None:
    """In several orders of events, `settle_s` after the functions were made; and nothing is left after it."""

    async def played() -> None:
        world = World(functions, behaviour=behaviour, policy=policy)
        await asyncio.sleep(settle_s)
        try:
            await scenario(world)
        finally:
            await world.close()

    for seed in range(5):
        simulate(played(), seed)


def kept(world: World) -> list[FakeSandbox]:
    """Sandboxes that were started with the environment of provisioned concurrency."""
    return [one for one in world.host.live.values() if one.spec is not None and one.spec.initialization_type == KEPT]


def standing(world: World, wanted: FunctionVersion) -> Standing:
    found = world.pool.standing(wanted)
    assert found is not None
    return found


def test_they_are_there_before_anybody_asks_and_used_first() -> None:
    async def scenario(world: World) -> None:
        assert [one.state for one in kept(world)] == [FakeState.READY] * 3
        assert standing(world, provisioned(3)) == Standing(3, 3, 3, Status.READY)
        first = [world.begin(qualifier="1") for _ in range(3)]
        await asyncio.sleep(RUN_S / 2)
        assert standing(world, provisioned(3)).available == 0
        spilled = await world.invoke(qualifier="1")
        assert spilled.took_s > RUN_S, "one more than there are is an invocation on demand"
        assert world.tallies.of("echo").provisioned == {"used": 3, "spilled": 1}
        assert [(await one).took_s for one in first] == [pytest.approx(RUN_S)] * 3
        for _ in range(10):
            assert (await world.invoke(qualifier="1")).took_s == pytest.approx(RUN_S)
        assert sum(one.invocations for one in kept(world)) >= 13, "the other sandbox is idle, but it is not taken"
        assert standing(world, provisioned(3)) == Standing(3, 3, 3, Status.READY)

    play(scenario, function(version(), provisioned(3)))


def test_what_is_idle_for_a_day_is_as_it_was() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(86_400)
        assert [one.state for one in kept(world)] == [FakeState.READY] * 2
        assert (await world.invoke(qualifier="1")).took_s == pytest.approx(RUN_S)

    play(scenario, function(version(), provisioned(2)))


def test_the_operator_may_have_them_frozen() -> None:
    async def scenario(world: World) -> None:
        assert [one.state for one in kept(world)] == [FakeState.FROZEN] * 2
        for _ in range(3):
            assert (await world.invoke(qualifier="1")).took_s == pytest.approx(RUN_S)
        await asyncio.sleep(6)
        assert [one.state for one in kept(world)] == [FakeState.FROZEN] * 2
        assert world.pool.snapshot()["memory"]["used_bytes"] >= 2 * 128 * MIB, "they count what they may use"

    policy = dataclasses.replace(POLICY, freeze_provisioned_s=0.5)
    play(scenario, function(version(), provisioned(2)), policy=policy)


def test_neighbours_that_churn_do_not_make_them_cold() -> None:
    """Memory for six sandboxes, two of which are provisioned, and ten functions that push one another out."""

    async def scenario(world: World) -> None:
        async def churn(number: int) -> None:
            for _ in range(20):
                await world.invoke(f"other-{number}")
                await asyncio.sleep(0.05)

        async def steady() -> None:
            for _ in range(300):
                assert (await world.invoke(qualifier="1")).took_s == pytest.approx(RUN_S)
                await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            for number in range(10):
                group.create_task(churn(number))
            for _ in range(2):
                group.create_task(steady())
        assert sum(world.tallies.totals.evictions.values()) > 20
        assert len(kept(world)) == 2

    policy = dataclasses.replace(POLICY, memory_bytes=6 * 128 * MIB + 20 * MIB)
    others = [function(version(f"other-{number}")) for number in range(10)]
    play(scenario, function(version(), provisioned(2)), *others, policy=policy)


@pytest.mark.parametrize("how", ["idle", "busy", "timeout"])
def test_one_that_dies_or_is_reset_is_replaced(how: str) -> None:
    async def scenario(world: World) -> None:
        (before,) = kept(world)
        if how == "idle":
            before.die()
        else:
            call = world.begin(qualifier="1", payload=b'"slow"')
            await asyncio.sleep(0.5)
            if how == "busy":
                before.die()
            await call
            await asyncio.sleep(0.02)
        assert standing(world, provisioned(1)).status is Status.IN_PROGRESS
        await asyncio.sleep(1)
        (after,) = kept(world)
        assert after is not before
        assert standing(world, provisioned(1)) == Standing(1, 1, 1, Status.READY)
        assert (await world.invoke(qualifier="1")).took_s == pytest.approx(RUN_S)

    def run(work: Work) -> Run:
        return Run(run_s=60 if work.payload == b'"slow"' else RUN_S)

    play(scenario, function(version(), provisioned(1)), behaviour=Behaviour(run=run))


@pytest.mark.parametrize("ended", [1, 3])
def test_one_whose_runtime_ended_while_it_was_idle_is_passed_over(ended: int) -> None:
    """If all have, the invocation is run all the same, by one that runs Init again."""

    async def scenario(world: World) -> None:
        for one in kept(world)[-ended:]:
            one._needs_init = True
        served = await world.invoke(qualifier="1")
        assert served.result.function_error is None
        assert served.took_s == pytest.approx(RUN_S if ended == 1 else RUN_S + INIT_S)
        await asyncio.sleep(1)
        assert standing(world, provisioned(3)) == Standing(3, 3, 3, Status.READY)

    play(scenario, function(version(), provisioned(3)))


def test_an_init_that_fails_is_told_and_tried_again() -> None:
    broken = True

    def fails(spec: FunctionSpec) -> bool:
        return broken and spec.initialization_type == KEPT

    async def scenario(world: World) -> None:
        nonlocal broken
        found = standing(world, provisioned(2))
        assert (found.status, found.allocated) == (Status.FAILED, 0)
        assert found.reason == "FUNCTION_ERROR_INIT_FAILURE"
        assert (await world.invoke(qualifier="1")).took_s > RUN_S, "it can still be invoked on demand"
        broken = False
        await asyncio.sleep(61)
        assert standing(world, provisioned(2)) == Standing(2, 2, 2, Status.READY)
        broken = True  # for the next order of events

    play(scenario, function(version(), provisioned(2)), behaviour=Behaviour(init_fails=fails))


def test_more_than_the_machine_holds_fails_with_the_reason_and_leaves_what_fits() -> None:
    async def scenario(world: World) -> None:
        found = standing(world, provisioned(9))
        assert (found.status, found.allocated) == (Status.FAILED, 3)
        assert "too few for 9" in str(found.reason)
        world.catalog.replace("echo", function(version(), provisioned(2)))
        await asyncio.sleep(1)
        assert standing(world, provisioned(2)).status is Status.READY

    policy = dataclasses.replace(POLICY, memory_bytes=3 * 128 * MIB + 40 * MIB)
    play(scenario, function(version(), provisioned(9)), policy=policy)


def test_idle_sandboxes_on_demand_make_room_for_it() -> None:
    async def scenario(world: World) -> None:
        for number in range(3):
            await world.invoke(f"other-{number}")
        world.catalog.replace("echo", function(version(), provisioned(3)))
        await asyncio.sleep(2)
        assert standing(world, provisioned(3)).status is Status.READY

    policy = dataclasses.replace(POLICY, memory_bytes=3 * 128 * MIB + 40 * MIB)
    others = [function(version(f"other-{number}")) for number in range(3)]
    play(scenario, function(version(), provisioned(0)), *others, policy=policy)


def test_fewer_are_ordinary_sandboxes_and_none_ends_with_the_version() -> None:
    async def scenario(world: World) -> None:
        world.catalog.replace("echo", function(version(), provisioned(1)))
        assert standing(world, provisioned(1)) == Standing(1, 1, 1, Status.READY)
        assert len(kept(world)) == 3, "those that are there serve on"
        await asyncio.sleep(POLICY.keep_alive_s + 1)
        assert len(kept(world)) == 1, "and go as all others do"
        world.catalog.replace("echo", function(version()))
        await asyncio.sleep(1)
        assert not kept(world)
        assert world.pool.standing(provisioned(1)) is None

    play(scenario, function(version(), provisioned(3)), policy=dataclasses.replace(POLICY, keep_alive="fixed"))


def test_its_concurrency_is_set_aside_from_the_functions_own() -> None:
    """Recorded: with two reserved and two provisioned, $LATEST is throttled at once."""

    async def scenario(world: World) -> None:
        with pytest.raises(TooManyRequestsException) as caught:
            await world.invoke()
        assert caught.value.members["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
        calls = [world.begin(qualifier="1") for _ in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(one, TooManyRequestsException) for one in results) == 1

    play(scenario, function(version(), provisioned(2), reserved_concurrency=2))


def test_who_comes_while_one_that_has_answered_finishes_waits_for_it() -> None:
    async def scenario(world: World) -> None:
        first = world.begin(qualifier="1")
        await first
        second = await world.invoke(qualifier="1")
        assert second.took_s == pytest.approx(RUN_S + 0.02)

    play(
        scenario,
        function(version(), provisioned(1), reserved_concurrency=1),
        behaviour=Behaviour(run=lambda work: Run(run_s=RUN_S, finish_s=0.02)),
    )


def test_an_aliass_is_that_of_the_versions_that_it_points_to() -> None:
    def alias(number: str, former: Alias | None = None, **weights: float) -> Alias:
        asked = Provisioned(executions=4, last_modified="")
        more = {key.removeprefix("v"): weight for key, weight in weights.items()}
        return Alias(name="live", version=number, weights=more, revision_id="1", provisioned=asked, former=former)

    def with_alias(found: Alias) -> Function:
        return function(version(), version(version="1"), version(version="2"), aliases={"live": found})

    async def scenario(world: World) -> None:
        one, two = version(version="1"), version(version="2")
        assert standing(world, one) == Standing(4, 4, 4, Status.READY)
        assert world.pool.standing(two) is None
        world.catalog.replace("echo", with_alias(alias("2", former=alias("1"))))
        assert (await world.invoke(qualifier="live")).result.version.version == "1", "what is not there yet gets no traffic"
        await asyncio.sleep(2)
        assert [standing(world, which).allocated for which in (one, two)] == [4, 4]
        world.catalog.replace("echo", with_alias(alias("2")))
        assert world.pool.standing(one) is None
        answer = await world.invoke(qualifier="live")
        assert answer.result.version.version == "2"
        assert answer.took_s == pytest.approx(RUN_S)
        world.catalog.replace("echo", with_alias(alias("2", v1=0.25)))
        await asyncio.sleep(2)
        assert [standing(world, which).allocated for which in (one, two)] == [1, 3]

    play(scenario, with_alias(alias("1")))
