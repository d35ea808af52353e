"""What the pool and the scheduler do together, one situation a test."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence

import pytest

from gateway.errors import InvalidRuntimeException, ServiceException, TooManyRequestsException
from gateway.records import Alias, Function
from gateway.scheduler.policy import MIB, Policy
from sandbox.errors import DriverUnavailable, RuntimeUnavailable, SandboxError, SandboxGone
from sandbox.outcome import Status
from sandbox.spec import FunctionSpec
from sandbox.testing import Behaviour, FakeState, Run
from tests.sim.records import function, version
from tests.sim.world import POLICY, Served, World
from tests.simloop import simulate

INIT_S = 0.1
RUN_S = 0.01


def in_world(
    scenario: Callable[[World], Awaitable[None]],
    *functions: Function,
    behaviour: Behaviour | None = None,
    policy: Policy = POLICY,
    settle_s: float = 1.0,
    queue_wait_s: float = 30.0,
    seeds: int = 5,
) -> None:
    """Play a scenario, with stems made by the time that it begins, and close the world after it; in several orders of events."""

    async def play() -> None:
        world = World(functions or [function(version())], behaviour=behaviour, policy=policy, queue_wait_s=queue_wait_s)
        await asyncio.sleep(settle_s)
        try:
            await scenario(world)
        finally:
            await world.close()

    for seed in range(seeds):
        simulate(play(), seed)


def served(results: Sequence[Served | BaseException]) -> list[Served]:
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if isinstance(result, Served)]


def test_a_stem_serves_a_cold_start_and_the_sandbox_stays_warm() -> None:
    async def scenario(world: World) -> None:
        assert world.host.opened == POLICY.stems_min
        cold = await world.invoke()
        assert cold.took_s == pytest.approx(INIT_S + RUN_S), "no waiting for a sandbox to be made"
        warm = await world.invoke()
        assert warm.took_s == pytest.approx(RUN_S)
        assert world.starts == 1

    in_world(scenario)


def test_stems_are_refilled_but_not_while_a_start_is_under_way() -> None:
    async def scenario(world: World) -> None:
        opened = world.host.opened
        cold = world.begin()
        await asyncio.sleep(INIT_S / 2)
        assert world.host.opened == opened
        await cold
        await asyncio.sleep(0.1)
        assert world.host.opened == opened + 1

    in_world(scenario)


def test_stems_rehearse_that_nobody_waits_for() -> None:
    async def scenario(world: World) -> None:
        assert all(stem.rehearsed for stem in world.host.live.values())
        await asyncio.gather(*(world.begin(name) for name in names))
        used = [sandbox for sandbox in world.host.live.values() if sandbox.invocations]
        assert len(used) == len(names)
        assert sum(sandbox.rehearsed for sandbox in used) == POLICY.stems_min, "those that were made for somebody did not"
        await asyncio.sleep(1)
        assert all(stem.rehearsed for stem in world.host.live.values() if stem not in used)

    names = [f"f{number}" for number in range(2 * POLICY.stems_min)]
    in_world(scenario, *(function(version(name)) for name in names))


def test_no_stem_is_kept_for_a_runtime_that_nobody_uses() -> None:
    async def scenario(world: World) -> None:
        assert len(world.host.live) == POLICY.stems_min
        other = function(version("other", runtime="python3.12"))
        world.catalog.replace("other", other)
        await asyncio.sleep(1)
        assert len(world.host.live) == 2 * POLICY.stems_min
        world.catalog.replace("other", None)
        await asyncio.sleep(1)
        assert {sandbox.key.runtime for sandbox in world.host.live.values()} == {"python3.11"}

    in_world(scenario)


def test_a_sandbox_is_frozen_after_the_grace_period_and_thawed_for_the_next() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()

        def states() -> set[FakeState]:
            return {sandbox.state for sandbox in world.host.live.values() if sandbox.spec}

        await asyncio.sleep(POLICY.freeze_after_s - 0.01)
        assert states() == {FakeState.READY}
        await asyncio.sleep(0.02)
        assert states() == {FakeState.FROZEN}
        assert (await world.invoke()).took_s == pytest.approx(RUN_S)
        assert world.starts == 1

    in_world(scenario)


def test_with_no_grace_period_a_sandbox_is_frozen_at_once_as_on_aws() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        await asyncio.sleep(0.001)
        assert {sandbox.state for sandbox in world.host.live.values() if sandbox.spec} == {FakeState.FROZEN}

    in_world(scenario, policy=dataclasses.replace(POLICY, freeze_after_s=0))


def test_what_is_not_used_for_long_is_stopped() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        await asyncio.sleep(POLICY.keep_alive_s + 1)
        assert not [sandbox for sandbox in world.host.live.values() if sandbox.spec]
        assert (await world.invoke()).took_s == pytest.approx(INIT_S + RUN_S)

    in_world(scenario, policy=dataclasses.replace(POLICY, keep_alive="fixed"))


def test_a_burst_of_short_invocations_does_not_start_one_sandbox_each() -> None:
    async def scenario(world: World) -> None:
        results = served(await world.burst(100))
        assert world.starts < 40
        assert max(result.took_s for result in results) < 2.5 * INIT_S

    in_world(scenario)


def test_a_burst_of_long_invocations_is_not_served_one_after_the_other() -> None:
    async def scenario(world: World) -> None:
        results = served(await world.burst(60))
        assert max(result.took_s for result in results) < 2 + 4 * INIT_S

    in_world(scenario, behaviour=Behaviour(run=lambda work: Run(run_s=2)), policy=dataclasses.replace(POLICY, memory_bytes=2**34))


def test_a_busy_sandbox_that_frees_soon_is_waited_for() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        results = served(await world.burst(3))
        assert world.starts == 1, "a start would take longer than the two before"
        assert sorted(result.took_s for result in results) == pytest.approx([RUN_S, 2 * RUN_S, 3 * RUN_S])

    in_world(scenario)


def test_a_start_that_came_too_late_is_a_warm_spare() -> None:
    runs = iter([0.05, 0.06, 0.01, 0.01])

    async def scenario(world: World) -> None:
        await world.invoke()
        await world.invoke()
        results = served(await world.burst(3))  # one runs, the others wait, and 2 x 0.05 is longer than a start: one begins
        assert max(result.took_s for result in results) < INIT_S
        await asyncio.sleep(1)
        assert world.starts == 2
        assert max(result.took_s for result in served(await world.burst(2))) == pytest.approx(RUN_S), "both are warm"

    in_world(scenario, behaviour=Behaviour(init_s=0.055, run=lambda work: Run(run_s=next(runs, 0.01))), seeds=1)


def test_a_client_that_leaves_the_queue_leaves_a_warm_sandbox() -> None:
    async def scenario(world: World) -> None:
        call = world.begin()
        await asyncio.sleep(INIT_S / 2)
        call.cancel()
        await asyncio.sleep(INIT_S)
        assert world.book.count("START") == 0
        assert (await world.invoke()).took_s == pytest.approx(RUN_S)

    in_world(scenario)


def test_a_client_that_leaves_does_not_cancel_the_function() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        call = world.begin()
        await asyncio.sleep(RUN_S / 2)
        call.cancel()
        await asyncio.sleep(RUN_S)
        assert world.book.count("REPORT") == 2
        assert world.host.invoked == 2

    in_world(scenario)


def test_a_sandbox_that_is_just_finishing_is_waited_for() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        began = world.loop.time()
        await world.invoke()
        assert world.loop.time() - began == pytest.approx(0.05 + RUN_S)
        assert world.starts == 1

    in_world(scenario, behaviour=Behaviour(run=lambda work: Run(run_s=RUN_S, finish_s=0.05)))


def test_a_sandbox_that_takes_long_to_finish_is_not_waited_for() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        assert (await world.invoke()).took_s < POLICY.finish_wait_s + 2 * INIT_S
        assert world.starts == 2

    in_world(scenario, behaviour=Behaviour(run=lambda work: Run(run_s=RUN_S, finish_s=5)))


def test_reserved_concurrency_of_none_at_all() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(TooManyRequestsException) as caught:
            await world.invoke()
        assert caught.value.members == {"Reason": "ReservedFunctionConcurrentInvocationLimitExceeded"}
        assert world.starts == 0

    in_world(scenario, function(version(), reserved_concurrency=0))


def test_concurrency_limits_are_told_apart_and_given_back() -> None:
    async def scenario(world: World) -> None:
        mine, others = await asyncio.gather(world.burst(4, "mine"), world.burst(4, "other"))
        assert reasons(mine) == ["ReservedFunctionConcurrentInvocationLimitExceeded"] * 2
        assert reasons(others) == ["ConcurrentInvocationLimitExceeded"]
        served([*await world.burst(2, "mine"), *await world.burst(3, "other")])

    in_world(
        scenario,
        function(version("mine"), reserved_concurrency=2),
        function(version("other")),
        policy=dataclasses.replace(POLICY, concurrency=5),
    )


def reasons(results: list[Served | BaseException]) -> list[object]:
    return [result.members["Reason"] for result in results if isinstance(result, TooManyRequestsException)]


def test_who_meets_a_slot_that_is_about_to_be_free_waits_for_it() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        assert (await world.invoke()).took_s == pytest.approx(0.06 + RUN_S)
        results = await world.burst(3)
        assert reasons(results) == ["ReservedFunctionConcurrentInvocationLimitExceeded"] * 2, "one waits, one slot is coming"

    in_world(
        scenario,
        function(version(), reserved_concurrency=1),
        behaviour=Behaviour(run=lambda work: Run(run_s=RUN_S, finish_s=0.06)),
    )


def test_a_slot_that_stays_taken_is_waited_for_100_ms_only() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        began = world.loop.time()
        with pytest.raises(TooManyRequestsException):
            await world.invoke()
        assert world.loop.time() - began == pytest.approx(POLICY.finish_wait_s)

    in_world(
        scenario,
        function(version(), reserved_concurrency=1),
        behaviour=Behaviour(run=lambda work: Run(run_s=RUN_S, finish_s=1)),
    )


def test_after_an_update_no_invocation_meets_the_old_code() -> None:
    async def scenario(world: World) -> None:
        await world.burst(4)
        long_one = world.begin(payload=b"long")
        await asyncio.sleep(0.1)
        old = set(world.host.live)
        world.catalog.replace("echo", function(version(generation=2)))
        fresh = await world.invoke()
        assert fresh.result.version.generation == 2
        assert fresh.took_s >= INIT_S
        assert (await long_one).result.version.generation == 1, "what runs finishes on what it began with"
        await asyncio.sleep(0.1)
        assert not [
            one for one in world.host.live.values() if one.id in old and one.spec and one.spec.code_path == "/code/echo-1"
        ]

    in_world(scenario, behaviour=Behaviour(run=lambda work: Run(run_s=1 if work.payload == b"long" else RUN_S)))


def test_who_waited_before_an_update_is_served_by_what_it_asked_for() -> None:
    async def scenario(world: World) -> None:
        waiting = [world.begin() for _ in range(3)]
        await asyncio.sleep(INIT_S / 2)
        world.catalog.replace("echo", function(version(generation=2)))
        assert {one.result.version.generation for one in await asyncio.gather(*waiting)} == {1}
        await asyncio.sleep(1)
        assert not [one for one in world.host.live.values() if one.spec]

    in_world(scenario)


def test_a_change_that_is_not_of_the_code_or_configuration_keeps_sandboxes() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        changed = function(version(), aliases={"live": Alias(name="live", version="$LATEST", revision_id="1")})
        world.catalog.replace("echo", changed)
        world.catalog.replace("echo", dataclasses.replace(changed, reserved_concurrency=5))
        assert (await world.invoke(qualifier="live")).took_s == pytest.approx(RUN_S)
        assert world.starts == 1

    in_world(scenario)


def test_what_there_is_can_be_seen() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        await asyncio.sleep(1)
        call = world.begin("slow")
        await asyncio.sleep(INIT_S + RUN_S / 2)
        seen = world.pool.snapshot()
        assert seen["functions"] == {"echo": {"frozen": 1}, "slow": {"reserved": 1}}
        assert seen["sandboxes"]["reserved"] == seen["running"] == 1
        assert seen["stems"] == {"python3.11": seen["sandboxes"]["stem"]}
        stems = seen["sandboxes"]["stem"] + seen["sandboxes"].get("making", 0)
        assert seen["memory"]["used_bytes"] == (30 + 128) * MIB + POLICY.stem_bytes * stems
        await call

    in_world(scenario, function(version()), function(version("slow")))


def test_a_deleted_function_leaves_no_sandbox() -> None:
    async def scenario(world: World) -> None:
        await world.burst(3)
        world.catalog.replace("echo", None)
        await asyncio.sleep(0.1)
        assert not world.host.live

    in_world(scenario)


def test_memory_is_made_by_evicting_who_was_used_longest_ago() -> None:
    names = [f"f{number}" for number in range(6)]

    async def scenario(world: World) -> None:
        for name in names:
            await world.invoke(name)
            await asyncio.sleep(1)
        warm = sorted(one.spec.name for one in world.host.live.values() if one.spec)
        assert warm == names[-len(warm) :], "the oldest went first"
        assert 0 < len(warm) < 6

    policy = dataclasses.replace(POLICY, memory_bytes=600 * MIB, stems_min=1, stems_max=1)
    for keep_alive in ("fixed", "lru", "greedy-dual", "worth"):  # the same cost and frequency: all of them come to the same
        in_world(
            scenario, *(function(version(name, memory_mb=256)) for name in names),
            behaviour=Behaviour(idle_bytes=150 * MIB), policy=dataclasses.replace(policy, keep_alive=keep_alive),
        )  # fmt: skip


def test_who_uses_little_is_not_evicted_by_waves_of_wakings() -> None:
    """Idle ones count all that they may use until they are measured; where memory is short that is sooner than usual."""
    names = [f"f{number}" for number in range(40)]

    async def scenario(world: World) -> None:
        for name in names:
            await world.invoke(name)
        at_first = set(world.host.live)
        for first in range(0, 40, 5):
            served(await asyncio.gather(*(world.invoke(name) for name in names[first : first + 5])))
        assert set(world.host.live) >= at_first
        assert len([one for one in world.host.live.values() if one.spec]) == 40

    policy = dataclasses.replace(POLICY, memory_bytes=10 * 128 * MIB, stems_min=0, stems_max=0)
    in_world(
        scenario, *(function(version(name, memory_mb=128)) for name in names),
        behaviour=Behaviour(idle_bytes=3 * MIB), policy=policy,
    )  # fmt: skip


def test_nobody_waits_for_the_memory_of_who_takes_long_to_stop() -> None:
    """Extensions have two seconds for their end. Up to an eighth of the memory may be on its way out like that."""
    names = [f"f{number}" for number in range(8)]

    async def scenario(world: World) -> None:
        for name in names:
            await world.invoke(name)
        await asyncio.sleep(1)  # each is frozen, and counts 30 MB
        for large in ("large", "larger"):
            assert (await world.invoke(large)).took_s < 1
        assert world.pool.snapshot()["sandboxes"]["stopping"] > 1

    in_world(
        scenario,
        *(function(version(name, memory_mb=128)) for name in names),
        *(function(version(name, memory_mb=512)) for name in ("large", "larger")),
        behaviour=Behaviour(stop_s=2),
        policy=dataclasses.replace(POLICY, memory_bytes=700 * MIB, stems_min=0),
    )


def test_an_update_does_not_wait_for_the_memory_of_the_old_ones() -> None:
    """They were just used, and count all that they may use; while they take their time for their end, what they do use."""

    async def scenario(world: World) -> None:
        served(await world.burst(6))
        world.catalog.replace("echo", function(version(memory_mb=512, generation=2)))
        before_s = world.loop.time()
        served(await world.burst(6))
        assert world.loop.time() - before_s < 1.5
        assert world.pool.snapshot()["sandboxes"]["stopping"] == 6, "and they are still there"

    in_world(
        scenario,
        function(version(memory_mb=512)),
        behaviour=Behaviour(stop_s=2, run=lambda work: Run(run_s=0.3)),
        policy=dataclasses.replace(POLICY, memory_bytes=3200 * MIB, stems_min=0, freeze_after_s=10),
    )


def test_who_lingers_longest_makes_haste_when_more_is_needed_than_may_linger() -> None:
    """An eighth of 700 MB may be used beyond it for so long: two of 60 each beside 650, and not nine."""

    async def scenario(world: World) -> None:
        for name in names:
            await world.invoke(name)
        await asyncio.sleep(1)
        assert (await world.invoke("large")).took_s < 0.5
        assert world.pool.snapshot()["sandboxes"]["stopping"] == 2
        assert (await world.invoke("large")).took_s == pytest.approx(RUN_S)

    names = [f"small-{number}" for number in range(9)]
    in_world(
        scenario,
        *(function(version(name, memory_mb=128)) for name in names),
        function(version("large", memory_mb=650)),
        behaviour=Behaviour(stop_s=2, idle_bytes=60 * MIB),
        policy=dataclasses.replace(POLICY, memory_bytes=700 * MIB, stems_min=0),
    )


def test_nobody_waits_for_the_place_of_one_that_lingers() -> None:
    async def scenario(world: World) -> None:
        for name in "abcd":
            assert (await world.invoke(name)).took_s < 0.5
            await asyncio.sleep(1)

    policy = dataclasses.replace(POLICY, max_sandboxes=2, stems_min=0)
    in_world(scenario, *(function(version(name)) for name in "abcd"), behaviour=Behaviour(stop_s=2), policy=policy)


def test_memory_is_waited_for_when_everybody_works() -> None:
    async def scenario(world: World) -> None:
        took_s = sorted(one.took_s for one in served(await asyncio.gather(*(world.invoke(name) for name in "ab"))))
        assert took_s[0] == pytest.approx(INIT_S + 1, abs=0.01)
        assert took_s[1] == pytest.approx(2 * (INIT_S + 1), abs=0.1)

    policy = dataclasses.replace(POLICY, memory_bytes=600 * MIB, stems_min=0)
    in_world(
        scenario, function(version("a", memory_mb=512)), function(version("b", memory_mb=512)),
        behaviour=Behaviour(run=lambda work: Run(run_s=1)), policy=policy,
    )  # fmt: skip


def test_a_frozen_sandbox_counts_what_it_uses_and_thawing_needs_the_rest() -> None:
    async def scenario(world: World) -> None:
        for name in "abc":
            await world.invoke(name)
            await asyncio.sleep(1)
        assert world.starts == 3
        assert sum(one.spec is not None for one in world.host.live.values()) == 3, "3 x 512 MB in 900, because they are frozen"
        results = served(await asyncio.gather(*(world.invoke(name) for name in "abc")))
        assert sorted(result.took_s for result in results)[0] == pytest.approx(RUN_S)
        assert max(result.took_s for result in results) > RUN_S, "not all three can work at once"

    policy = dataclasses.replace(POLICY, memory_bytes=900 * MIB, stems_min=0)
    in_world(scenario, *(function(version(name, memory_mb=512)) for name in "abc"), policy=policy)


def test_a_function_larger_than_the_machine_is_told_so_at_once() -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(ServiceException, match="needs more memory than there is"):
            await world.invoke()

    in_world(scenario, function(version(memory_mb=8192)))


def test_the_number_of_sandboxes_is_limited_too() -> None:
    async def scenario(world: World) -> None:
        for number in range(8):
            await world.invoke(f"f{number}")
            assert len(world.host.live) <= 5

    policy = dataclasses.replace(POLICY, max_sandboxes=5)
    in_world(scenario, *(function(version(f"f{number}")) for number in range(8)), policy=policy)


def test_a_driver_that_is_away_for_a_while_is_waited_for() -> None:
    down = True

    async def scenario(world: World) -> None:
        nonlocal down
        call = world.begin()
        await asyncio.sleep(2)
        assert not call.done()
        down = False
        assert (await call).took_s < 2 + 2

    in_world(
        scenario, behaviour=Behaviour(create_error=lambda key: DriverUnavailable("spawner restarts") if down else None), seeds=1
    )


def test_a_driver_that_stays_away_is_told_when_the_caller_has_waited_long_enough() -> None:
    async def scenario(world: World) -> None:
        began = world.loop.time()
        with pytest.raises(ServiceException, match="spawner restarts"):
            await world.invoke()
        assert world.loop.time() - began == pytest.approx(5)

    in_world(scenario, behaviour=Behaviour(create_error=lambda key: DriverUnavailable("spawner restarts")), queue_wait_s=5)


def test_a_runtime_that_the_host_lacks_is_told_at_once_each_time() -> None:
    async def scenario(world: World) -> None:
        for _ in range(2):
            began = world.loop.time()
            with pytest.raises(InvalidRuntimeException, match="install nodejs"):
                await world.invoke()
            assert world.loop.time() - began < 0.05

    in_world(scenario, behaviour=Behaviour(create_error=lambda key: RuntimeUnavailable("install nodejs")))


@pytest.mark.parametrize(("failures", "passes"), [(1, True), (2, True), (3, False)])
def test_a_sandbox_that_dies_in_its_start_is_tried_again_twice(failures: int, passes: bool) -> None:
    left = failures

    def init_error(spec: FunctionSpec) -> SandboxError | None:
        nonlocal left
        left -= 1
        return SandboxGone("killed") if left >= 0 else None

    async def scenario(world: World) -> None:
        if passes:
            assert (await world.invoke()).result.status is Status.SUCCESS
        else:
            with pytest.raises(ServiceException, match="killed"):
                await world.invoke()
        assert (await world.invoke()).result.status is Status.SUCCESS

    in_world(scenario, behaviour=Behaviour(init_error=init_error), seeds=1)


def test_a_sandbox_that_died_idle_is_not_given_work() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        (sandbox,) = [one for one in world.host.live.values() if one.spec]
        sandbox.die()
        assert (await world.invoke()).took_s == pytest.approx(INIT_S + RUN_S)

    in_world(scenario)


def test_a_sandbox_found_dead_at_the_hand_over_costs_nothing_but_time() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        (sandbox,) = [one for one in world.host.live.values() if one.spec]
        sandbox.on_gone = lambda sandbox, reason: None  # the news is late
        sandbox.die()
        assert (await world.invoke()).result.status is Status.SUCCESS
        assert world.starts == 2
        assert world.book.count("START") == 2, "no START where nothing started"

    in_world(scenario)


def test_a_sandbox_that_dies_under_its_work_is_the_functions_failure_and_never_run_twice() -> None:
    async def scenario(world: World) -> None:
        result = await world.invoke(payload=b"die")
        assert result.result.status is Status.FAILURE
        assert world.host.invoked == 1
        assert (await world.invoke()).result.status is Status.SUCCESS
        assert world.starts == 2

    in_world(scenario, behaviour=Behaviour(run=lambda work: Run(gone=work.payload == b"die")))


def test_stems_that_die_are_replaced() -> None:
    async def scenario(world: World) -> None:
        for sandbox in list(world.host.live.values()):
            sandbox.die()
        await asyncio.sleep(1)
        assert len([one for one in world.host.live.values() if one.state is FakeState.STEM]) == POLICY.stems_min

    in_world(scenario)


def test_a_queue_that_is_full_refuses_who_comes_last() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        results = await world.burst(10)
        assert len(reasons(results)) == 6
        assert len(served([one for one in results if isinstance(one, Served)])) == 4

    in_world(
        scenario,
        behaviour=Behaviour(init_s=1, run=lambda work: Run(run_s=0.001)),
        policy=dataclasses.replace(POLICY, queue_max=3),
    )


def test_who_has_waited_long_enough_is_told() -> None:
    async def scenario(world: World) -> None:
        results = await world.burst(3)
        assert reasons(results) == ["ConcurrentInvocationLimitExceeded"] * 2

    in_world(
        scenario,
        function(version(memory_mb=1024, timeout_s=60)),
        behaviour=Behaviour(run=lambda work: Run(run_s=20)),
        policy=dataclasses.replace(POLICY, memory_bytes=1100 * MIB),
        queue_wait_s=2,
    )


def test_closing_finishes_what_was_let_in_and_lets_nobody_else_in() -> None:
    async def scenario(world: World) -> None:
        calls = [world.begin() for _ in range(5)]
        await asyncio.sleep(0.001)
        closing = world.loop.create_task(world.pool.close(10))
        await asyncio.sleep(0.001)
        with pytest.raises(ServiceException, match="going down"):
            await world.invoke()
        assert [call.result.status for call in await asyncio.gather(*calls)] == [Status.SUCCESS] * 5
        before = world.loop.time()
        await closing
        assert world.loop.time() - before < 0.1, "closing does not sit its time out"

    in_world(scenario)


def test_closing_ends_what_takes_longer_than_it_may() -> None:
    async def scenario(world: World) -> None:
        calls = [world.begin(name) for name in "abb"]
        await asyncio.sleep(1)
        began = world.loop.time()
        await world.pool.close(3)
        assert world.loop.time() - began < 3.1
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [one.result.status for one in results if isinstance(one, Served)] == [Status.FAILURE]
        assert [type(one) for one in results if not isinstance(one, Served)] == [ServiceException] * 2

    in_world(
        scenario,
        function(version("a", timeout_s=900)),
        function(version("b", memory_mb=4096, timeout_s=900)),
        behaviour=Behaviour(run=lambda work: Run(run_s=600)),
    )


def test_closing_while_sandboxes_start_leaves_none() -> None:
    async def scenario(world: World) -> None:
        calls = [world.begin() for _ in range(20)]
        await asyncio.sleep(INIT_S / 2)
        await world.pool.close(0)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(one) for one in results} == {ServiceException}

    in_world(scenario)
