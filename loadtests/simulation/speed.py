"""How many invocations a second the simulator does: what limits how much can be tried."""

from __future__ import annotations

import dataclasses
from typing import Final

from loadtests.simulation.azure_shape import azure_shape
from loadtests.simulation.compare import Run, memory_of_fixed
from loadtests.simulation.core_run import CoreRun
from loadtests.simulation.pool_run import PoolRun
from loadtests.simulation.versions import Machine, policy

SEED: Final = 100  #: one that policies were tuned on: it says nothing of them
FUNCTIONS: Final = 40
HOURS: Final = 6.0
POLICIES: Final = ("fixed", "worth")
ROUNDS: Final = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Speed:
    """Invocations for each second on the wall, with the slower of `POLICIES`, in the best of `ROUNDS`."""

    core: float  #: through the scheduler's core alone
    pool: float  #: through the pool and an event loop as well


def measure() -> Speed:
    """On the Azure-shaped trace with the memory that the fixed time needs. Takes some ten seconds."""
    trace = azure_shape(SEED, FUNCTIONS, HOURS)
    machine = Machine()
    memory_bytes = memory_of_fixed(trace, machine)

    def best(run: Run, name: str) -> float:
        return max(run(trace, policy(name, memory_bytes), machine).play().per_s for _ in range(ROUNDS))

    return Speed(*(min(best(run, name) for name in POLICIES) for run in (CoreRun, PoolRun)))
