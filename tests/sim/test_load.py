"""An hour and more of load, in virtual time, in fifty orders of events.

What is asserted is what users feel (how long an invocation waited for a sandbox, how often for a cold start) and what operators
are promised (the memory that all sandboxes use together, and that nothing is left).
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
from collections.abc import Callable

import pytest

from gateway.scheduler.policy import MIB
from sandbox.outcome import Work
from sandbox.testing import Behaviour, Run
from tests.sim.records import function, version
from tests.sim.world import POLICY, Served, World
from tests.simloop import simulate

HOUR_S = 3600.0
INIT_S = 0.15
CREATE_S = 0.007


@dataclasses.dataclass
class Load:
    """Of one function: `rate(t)` invocations a second, `size` at once, each for `run_s` on average."""

    name: str
    rate: Callable[[float], float]
    most: float  #: the highest that `rate` gets
    run_s: float
    size: int = 1
    memory_mb: int = 128


@dataclasses.dataclass
class Account:
    """What came of it all."""

    waits_s: list[float] = dataclasses.field(default_factory=list)
    starts: int = 0
    most_bytes: int = 0

    def wait_s(self, quantile: float) -> float:
        return sorted(self.waits_s)[min(len(self.waits_s) - 1, int(quantile * len(self.waits_s)))]

    @property
    def cold_ratio(self) -> float:
        return self.starts / len(self.waits_s)


async def play(loads: list[Load], seed: int, duration_s: float, memory_mb: int) -> Account:
    """Invocations come by the thinned Poisson process of each load; whatever one raises is raised."""
    rng = random.Random(seed)
    runs = {load.name: load.run_s for load in loads}
    account = Account()

    def run(work: Work) -> Run:
        name = work.invoked_arn.rpartition(":")[2]
        planned_s = rng.expovariate(1 / runs[name])
        planned[work.request_id] = planned_s
        account.most_bytes = max(account.most_bytes, world.host.memory_bytes())
        used = rng.randint(20, 90) * MIB
        return Run(run_s=planned_s, finish_s=0.001 if rng.random() < 0.3 else 0, memory_bytes=used)

    planned: dict[str, float] = {}
    world = World(
        [function(version(load.name, memory_mb=load.memory_mb, timeout_s=60)) for load in loads],
        behaviour=Behaviour(create_s=CREATE_S, init_s=INIT_S, run=run),
        policy=dataclasses.replace(POLICY, memory_bytes=memory_mb * MIB),
        seed=seed,
    )

    async def invoke(name: str) -> None:
        served: Served = await world.invoke(name)
        account.waits_s.append(served.took_s - planned[served.request_id])

    async def generate(load: Load) -> None:
        began_s = world.loop.time()
        calls = []
        while (since_s := world.loop.time() - began_s) < duration_s:
            if rng.random() < load.rate(since_s) / load.most:
                calls += [world.loop.create_task(invoke(load.name)) for _ in range(load.size)]
            await asyncio.sleep(rng.expovariate(load.most))
        for call in calls:
            await call

    async with asyncio.TaskGroup() as group:
        for load in loads:
            group.create_task(generate(load))
    account.starts = world.starts
    await world.close()
    return account


def steady(rate: float) -> Callable[[float], float]:
    return lambda since_s: rate


def daily(mean: float) -> Callable[[float], float]:
    """A day's rise and fall, in an hour."""
    return lambda since_s: mean * (1 - math.cos(2 * math.pi * since_s / HOUR_S))


MIX = [
    Load("busy", steady(0.2), 0.2, run_s=0.05),
    Load("slow", steady(0.05), 0.05, run_s=2),
    Load("rare", steady(0.002), 0.002, run_s=0.2),
    Load("daily", daily(0.1), 0.2, run_s=0.1),
    Load("burst", steady(0.002), 0.002, run_s=0.03, size=20),
    Load("fan-out", steady(0.001), 0.001, run_s=1, size=30),
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_an_hour_of_everything_with_enough_memory(seed: int) -> None:
    account = simulate(play(MIX, seed, HOUR_S, memory_mb=8192), seed)
    assert len(account.waits_s) > 1000
    assert account.wait_s(0.5) < 0.001, "most find a warm sandbox"
    assert account.wait_s(0.9) < 2 * INIT_S
    assert account.wait_s(0.99) < 4 * INIT_S
    assert max(account.waits_s) < 1.5
    assert account.cold_ratio < 0.13
    assert account.most_bytes <= 8192 * MIB


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_an_hour_with_a_fraction_of_the_memory(seed: int) -> None:
    """Twelve sandboxes' worth: who comes has to wait for others, or have them evicted, and yet all are served."""
    account = simulate(play(MIX, seed, HOUR_S, memory_mb=1536), seed)
    assert account.wait_s(0.5) < 0.001
    assert account.wait_s(0.9) < 4 * INIT_S
    assert max(account.waits_s) < 10
    assert account.most_bytes <= 1536 * MIB


@pytest.mark.parametrize("seed", range(5))
def test_a_steady_load_is_served_warm(seed: int) -> None:
    account = simulate(play([Load("busy", steady(2), 2, run_s=0.05)], seed, 600, memory_mb=4096), seed)
    assert account.wait_s(0.99) < 0.1
    assert account.cold_ratio < 0.02
