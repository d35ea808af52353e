"""How many invocations a second the simulator does: what limits how much can be tried."""

from __future__ import annotations

import dataclasses
import random
import time
from typing import Final

from loadtests.simulation.compare import Run, memory_of_fixed
from loadtests.simulation.core_run import CoreRun
from loadtests.simulation.pool_run import PoolRun
from loadtests.simulation.trace import Function, Trace, gathered
from loadtests.simulation.versions import Machine, policy

CALLS: Final = 30_000
FUNCTIONS: Final = 100
LASTS_S: Final = 600.0
POLICIES: Final = ("fixed", "worth")
ROUNDS: Final = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """Invocations for each second of a processor, with the slower of `POLICIES`, in the best of `ROUNDS`.

    The processor's time, not the wall's: on a processor of its own that is the same, and beside others it is what the code costs.
    """

    core: float  #: through the scheduler's core alone
    pool: float  #: through the pool and an event loop as well


def even() -> Trace:
    """Calls at any time of functions of one kind. Each is called every two seconds, so most find a sandbox that is frozen."""
    rng = random.Random(1)
    functions = [Function(f"f{number}", 128, 60) for number in range(FUNCTIONS)]
    calls = [(rng.random() * LASTS_S, rng.randrange(FUNCTIONS), 0.05) for _ in range(CALLS)]
    return gathered("even", functions, calls)


def measure() -> Speed:
    """On `even` with the memory that the fixed time needs. Takes some fifteen seconds."""
    trace = even()
    machine = Machine()
    memory_bytes = memory_of_fixed(trace, machine)

    def once(run: Run, name: str) -> float:
        player = run(trace, policy(name, memory_bytes), machine)
        began_s = time.process_time()
        player.play()
        return len(trace) / (time.process_time() - began_s)

    def slower(run: Run) -> float:
        return min(max(once(run, name) for _ in range(ROUNDS)) for name in POLICIES)

    return Speed(slower(CoreRun), slower(PoolRun))
