"""What /metrics says after something happened, read with Prometheus's own parser."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics
from gateway.observe.lag import Lag
from gateway.observe.metrics import TEMPERATURES, render
from gateway.records import Function
from gateway.scheduler.policy import MIB, Policy
from gateway.scheduler.state import State
from sandbox.errors import DriverUnavailable
from sandbox.outcome import Status, Work
from sandbox.testing import Behaviour, Run
from tests.sim.records import function, version
from tests.sim.world import POLICY, World
from tests.simloop import simulate

Series = dict[tuple[str, ...], float]
openmetrics: Any = parser.text_string_to_metric_families  # has no types


def page(world: World, accept: str = "") -> str:
    metrics = Metrics(version="1.2", driver="fake", pool=world.pool, tallies=world.tallies, lag=Lag(world.clock))
    return render(metrics.picture(), accept)[1].decode()


def series(world: World) -> Series:
    """Each sample's value by its name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page(world))
        for sample in family.samples
    }


def in_world(
    scenario: Callable[[World], Awaitable[None]],
    *functions: Function,
    behaviour: Behaviour | None = None,
    policy: Policy = POLICY,
    queue_wait_s: float = 30.0,
    counted_functions: int = 100,
) -> None:
    async def play() -> None:
        world = World(
            functions or [function(version())], behaviour=behaviour, policy=policy, queue_wait_s=queue_wait_s,
            counted_functions=counted_functions,
        )  # fmt: skip
        await asyncio.sleep(1)
        try:
            await scenario(world)
        finally:
            await world.close()

    simulate(play())


def test_a_cold_and_a_warm_invocation() -> None:
    async def scenario(world: World) -> None:
        before = series(world)
        assert before["lambent_sandboxes", "stem", "stem"] == POLICY.stems_min
        assert before["lambent_cold_start_seconds_count", "make"] == POLICY.stems_min
        await world.invoke()
        await world.invoke()
        found = series(world)
        assert found["lambent_invocations_total", "echo"] == 2
        assert found["lambent_invocation_duration_seconds_count", "echo"] == 2
        assert found["lambent_invocation_duration_seconds_sum", "echo"] == pytest.approx(0.02)
        assert found["lambent_invocation_duration_seconds_bucket", "echo", "0.005"] == 0
        assert found["lambent_invocation_duration_seconds_bucket", "echo", "0.025"] == 2
        assert found["lambent_cold_starts_total", "echo"] == 1
        assert found["lambent_cold_start_seconds_sum", "stem"] == 0
        assert found["lambent_cold_start_seconds_sum", "init"] == pytest.approx(0.1)
        assert found["lambent_queue_wait_seconds_count",] == found["lambent_function_queue_wait_seconds_count", "echo"] == 1
        assert found["lambent_queue_wait_seconds_sum",] == pytest.approx(0.1)
        assert found["lambent_sandboxes", "idle", "warm"] == 1
        assert found["lambent_memory_used_bytes",] > 128 * MIB
        assert found["lambent_memory_budget_bytes",] == POLICY.memory_bytes
        assert ("lambent_errors_total", "echo", "error") not in found
        await asyncio.sleep(1)
        await world.invoke()
        thawed = series(world)
        assert (thawed["lambent_freezes_total",], thawed["lambent_thaws_total",]) == (1, 1)
        assert thawed["lambent_queue_wait_seconds_count",] == 1, "who is thawed for has not waited"

    in_world(scenario)


def test_what_runs_and_waits_now() -> None:
    async def scenario(world: World) -> None:
        tasks = [world.begin() for _ in range(3)]
        await asyncio.sleep(0.05)
        assert series(world)["lambent_waiting",] == 3
        await asyncio.sleep(0.1)
        found = series(world)
        assert found["lambent_running",] == found["lambent_sandboxes", "reserved", "warm"] == 3
        assert found["lambent_concurrency_limit",] == POLICY.concurrency
        await asyncio.gather(*tasks)
        assert series(world)["lambent_running",] == 0

    in_world(scenario, behaviour=Behaviour(run=lambda work: Run(run_s=1)))


@pytest.mark.parametrize("status", [Status.ERROR, Status.FAILURE, Status.TIMEOUT])
def test_errors_by_kind(status: Status) -> None:
    def run(work: Work) -> Run:
        return Run(run_s=99) if status is Status.TIMEOUT else Run(status=status)

    async def scenario(world: World) -> None:
        await world.invoke()
        found = series(world)
        assert found["lambent_errors_total", "echo", status.value] == found["lambent_invocations_total", "echo"] == 1

    in_world(scenario, behaviour=Behaviour(run=run))


def test_a_sandbox_that_dies() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        found = series(world)
        assert found["lambent_errors_total", "echo", "failure"] == found["lambent_lost_sandboxes_total",] == 1

    in_world(scenario, behaviour=Behaviour(run=lambda work: Run(gone=True)))


def test_throttles_by_reason() -> None:
    async def scenario(world: World) -> None:
        await world.burst(3, "mine")
        await world.burst(7, "other")
        await world.burst(4, "full")
        found = series(world)
        assert found["lambent_throttles_total", "mine", "reserved"] == 1
        assert found["lambent_throttles_total", "other", "account"] == 2
        assert found["lambent_invocations_total", "other"] == 5

    in_world(
        scenario,
        function(version("mine"), reserved_concurrency=2),
        function(version("other")),
        function(version("full")),
        policy=dataclasses.replace(POLICY, concurrency=7),
    )


def test_who_waits_too_long_or_among_too_many_is_throttled_for_that() -> None:
    async def scenario(world: World) -> None:
        busy = [world.begin("long") for _ in range(2)]
        await asyncio.sleep(0.5)
        await world.burst(6, "long")
        found = series(world)
        assert found["lambent_throttles_total", "long", "full"] == 3
        assert found["lambent_throttles_total", "long", "late"] == 3
        await asyncio.gather(*busy)

    in_world(
        scenario, function(version("long", timeout_s=60)), behaviour=Behaviour(run=lambda work: Run(run_s=20)), queue_wait_s=5,
        policy=dataclasses.replace(POLICY, max_sandboxes=2, queue_max_per_key=3),
    )  # fmt: skip


def test_what_cannot_be_made_and_what_cannot_be_run() -> None:
    behaviour = Behaviour()

    async def scenario(world: World) -> None:
        behaviour.init_error = lambda spec: DriverUnavailable("away")
        behaviour.create_error = lambda key: DriverUnavailable("away")
        await world.burst(1)
        found = series(world)
        assert found["lambent_not_run_total", "echo", "late_start"] == 1
        assert found["lambent_failed_starts_total", "echo"] >= 1
        assert found["lambent_failed_stems_total", "python3.11"] >= 1
        behaviour.create_error = lambda key: None
        behaviour.init_error = lambda spec: None

    in_world(scenario, behaviour=behaviour, queue_wait_s=2)


def test_evictions() -> None:
    names = [f"f{number}" for number in range(6)]

    async def scenario(world: World) -> None:
        for name in names:
            await world.invoke(name)
            await asyncio.sleep(1)
        found = series(world)
        assert found["lambent_evictions_total", "frozen"] == 6 - found["lambent_sandboxes", "frozen", "frozen"]
        assert found["lambent_evictions_total", "idle"] == 0

    policy = dataclasses.replace(POLICY, memory_bytes=600 * MIB, stems_min=0, stems_max=0)
    in_world(
        scenario, *(function(version(name, memory_mb=256)) for name in names),
        behaviour=Behaviour(idle_bytes=150 * MIB), policy=policy,
    )  # fmt: skip


def test_many_functions_are_few_series_and_none_is_lost() -> None:
    names = [f"f{number}" for number in range(50)]

    async def scenario(world: World) -> None:
        for name in names:
            await world.invoke(name)
        found = series(world)
        invocations = {labels[0]: value for (name, *labels), value in found.items() if name == "lambent_invocations_total"}
        assert invocations == {"f0": 1, "f1": 1, "f2": 1, "(rest)": 47}
        world.catalog.replace("f0", None)
        await world.invoke("f49")  # it is known by its sandbox, and stays where it was
        await asyncio.sleep(POLICY.keep_alive_s + 10)
        await world.invoke("f49")
        found = series(world)
        invocations = {labels[0]: value for (name, *labels), value in found.items() if name == "lambent_invocations_total"}
        assert invocations == {"f1": 1, "f2": 1, "f49": 1, "(rest)": 48}

    in_world(
        scenario, *(function(version(name)) for name in names), counted_functions=3,
        policy=dataclasses.replace(POLICY, memory_bytes=100_000 * MIB, keep_alive="fixed"),
    )  # fmt: skip


def test_both_formats_are_valid() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        old = {sample.name for family in text_string_to_metric_families(page(world)) for sample in family.samples}
        new = {
            sample.name
            for family in openmetrics(page(world, "application/openmetrics-text; version=1.0.0"))
            for sample in family.samples
        }
        assert old == new

    in_world(scenario)


def test_every_metric_is_documented_and_nothing_else() -> None:
    async def scenario(world: World) -> None:
        await world.invoke()
        found = {family.name for family in text_string_to_metric_families(page(world)) if family.name.startswith("lambent_")}
        page_ = Path(__file__).parents[2] / "gateway/observe/DESIGN.md"
        told = re.findall(r"^\| `(lambent_\w+)", page_.read_text(), re.MULTILINE)
        assert sorted(name.removesuffix("_total") for name in told) == sorted(found)

    in_world(scenario)


def test_every_state_has_a_temperature() -> None:
    assert set(TEMPERATURES) == {state.value for state in State} - {State.GONE.value}
