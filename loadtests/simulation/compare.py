"""Every policy on the same trace with the same memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from gateway.scheduler.keepalive import NAMES
from gateway.scheduler.policy import Policy
from loadtests.simulation.clairvoyant import clairvoyant
from loadtests.simulation.core_run import CoreRun
from loadtests.simulation.measures import Measures
from loadtests.simulation.trace import Trace
from loadtests.simulation.versions import UNLIMITED_BYTES, Machine, policy

STEP_BYTES: Final = 64 << 20  #: to which a machine's memory is rounded up
ORDER: Final = ("fixed", "lru", "greedy-dual", "hybrid", "worth")
assert set(ORDER) == set(NAMES)
BOUND: Final = "clairvoyant"

Progress = Callable[[str, int], None]  #: what runs, and how many of its invocations are done


class Player(Protocol):
    """A `CoreRun` or a `PoolRun`."""

    def play(self, progress: Callable[[int], None] = ...) -> Measures: ...


Run = Callable[[Trace, Policy, Machine], Player]


def memory_of_fixed(trace: Trace, machine: Machine, progress: Progress = lambda what, done: None) -> int:
    """The memory with which the fixed ten minutes are never short of any: the yardstick of "equal memory", in bytes."""
    run = CoreRun(trace, policy("fixed", UNLIMITED_BYTES), machine)
    most_bytes = run.play(lambda done: progress("measuring memory", done)).most_bytes
    return math.ceil(most_bytes / STEP_BYTES) * STEP_BYTES


def compared(
    trace: Trace,
    memory_bytes: int,
    machine: Machine,
    names: Sequence[str] = ORDER,
    run: Run = CoreRun,
    progress: Progress = lambda what, done: None,
) -> Iterator[Measures]:
    """One policy after the other."""
    for name in names:

        def told(done: int, name: str = name) -> None:
            progress(name, done)

        yield run(trace, policy(name, memory_bytes), machine).play(told)


def side_by_side(
    traces: Sequence[Trace],
    memories: Sequence[int],
    machine: Machine,
    names: Sequence[str] = ORDER,
    run: Run = CoreRun,
    progress: Callable[[Trace], Progress] = lambda trace: lambda what, done: None,
) -> dict[str, list[Measures]]:
    """By policy, and the bound, what came of each trace with its memory in bytes."""
    runs: dict[str, list[Measures]] = {}
    for trace, memory_bytes in zip(traces, memories, strict=True):
        for measures in compared(trace, memory_bytes, machine, names, run, progress(trace)):
            runs.setdefault(measures.policy, []).append(measures)
        runs.setdefault(BOUND, []).append(clairvoyant(trace, memory_bytes))
    return runs
