"""Traces that are made: one kind of load each, so that it shows what a policy is good and bad at.

In all of them a function is called every ten minutes or so, where the fixed ten minutes are worst: the mean interval is drawn
between half a minute and two hours.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Final

from loadtests.simulation.azure_shape import azure_shape
from loadtests.simulation.trace import Function, Trace, gathered

INTERVAL_S: Final = (30.0, 7200.0)
MEMORY_MB: Final = (128, 128, 256, 512, 1024)
RUN_S: Final = 0.3
BURST: Final = 12
PARETO: Final = 1.2
DAY_S: Final = 86_400.0

Source = Callable[[random.Random, float, float], Iterator[float]]


def poisson(rng: random.Random, interval_s: float, duration_s: float) -> Iterator[float]:
    """Independent calls."""
    time_s = rng.expovariate(1 / interval_s)
    while time_s < duration_s:
        yield time_s
        time_s += rng.expovariate(1 / interval_s)


def diurnal(rng: random.Random, interval_s: float, duration_s: float) -> Iterator[float]:
    """Independent calls that are frequent at noon and hardly come at night."""
    for time_s in poisson(rng, interval_s / 2, duration_s):
        if rng.random() < (1 - math.cos(2 * math.pi * time_s / DAY_S)) / 2:
            yield time_s


def bursty(rng: random.Random, interval_s: float, duration_s: float) -> Iterator[float]:
    """Several calls at once, and nothing for long."""
    for time_s in poisson(rng, interval_s * BURST / 2, duration_s):
        for _ in range(rng.randint(1, BURST)):
            yield time_s + rng.random()


def periodic(rng: random.Random, interval_s: float, duration_s: float) -> Iterator[float]:
    """Clocks."""
    time_s = rng.random() * interval_s
    while time_s < duration_s:
        yield time_s + rng.random() * 0.5
        time_s += interval_s


def heavy_tailed(rng: random.Random, interval_s: float, duration_s: float) -> Iterator[float]:
    """Pareto distributed intervals: most are short, some so long that a mean says nothing."""
    least_s = interval_s * (PARETO - 1) / PARETO
    time_s = rng.random() * interval_s
    while time_s < duration_s:
        yield time_s
        time_s += least_s * rng.paretovariate(PARETO)


def once(rng: random.Random, interval_s: float, duration_s: float) -> Iterator[float]:
    """One call and never again."""
    yield rng.random() * duration_s


SOURCES: Final[dict[str, Source]] = {
    "poisson": poisson,
    "diurnal": diurnal,
    "bursty": bursty,
    "periodic": periodic,
    "heavy-tailed": heavy_tailed,
    "once": once,
}
KINDS: Final = ("azure", *SOURCES)


def synthetic(kind: str, seed: int, functions: int = 400, hours: float = 24.0) -> Trace:
    """A trace of one kind; the same seed gives the same trace."""
    if kind == "azure":
        return azure_shape(seed, functions, hours)
    rng = random.Random(f"{kind} {seed}")
    made: list[Function] = []
    calls: list[tuple[float, int, float]] = []
    low_s, high_s = INTERVAL_S
    for number in range(functions):
        memory_mb = rng.choice(MEMORY_MB)
        made.append(Function(f"f{number}", memory_mb, memory_mb * (0.3 + 0.5 * rng.random())))
        interval_s = low_s * (high_s / low_s) ** rng.random()
        calls += [(time_s, number, rng.expovariate(1 / RUN_S)) for time_s in SOURCES[kind](rng, interval_s, hours * 3600)]
    return gathered(f"{kind} {seed}", made, calls)
