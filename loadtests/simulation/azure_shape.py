"""A trace with the published shape of Azure Functions' load.

The figures are those of "Serverless in the Wild: Characterizing and Optimizing the Serverless Workload at a Large Cloud Provider"
(Shahrad et al., USENIX ATC 2020), section 3, as remembered: they are not checked against its text yet. They were fixed before any
policy was tuned. Its unit is the application, which is
what Azure keeps warm; here it is the function.

What the study does not say had to be chosen. Calls that come more often than every ten seconds are cut to that: no policy ever
lets such a function go, so more of them would make the trace longer and every ratio smaller, and change no comparison.
Coefficients of variation below one are drawn evenly, with gamma distributed intervals; those above one evenly on a logarithmic
scale up to ten, where the study's figure ends, with log-normal ones. One half of the regular functions are timers with the usual
periods.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from typing import Final

from loadtests.simulation.trace import Function, Trace, gathered

DAY_S: Final = 86_400.0
#: Fig. 5(a): share of the applications that are called less often than this (a second). The lowest is one call in the two weeks
#: of the study, the highest its 8 orders of magnitude above one a day.
RATES: Final = ((0.0, 1 / (14 * DAY_S)), (0.45, 1 / 3600), (0.81, 1 / 60), (1.0, 1e8 / DAY_S))
RATE_MOST: Final = 0.1
#: Fig. 6: 20 % of the applications have intervals whose coefficient of variation is 0 or next to it, 40 % one above 1.
REGULAR: Final = 0.2
BURSTY: Final = 0.4
VARIATION_MOST: Final = 10.0
REGULAR_VARIATION: Final = 0.02
TIMER_JITTER_S: Final = 0.5
PERIODS_S: Final = tuple(60.0 * minutes for minutes in (1, 5, 10, 15, 30, 60, 120, 240, 360, 720, 1440))
#: Fig. 7: average execution time in seconds, log-normal.
RUN_LOG_MEAN: Final = -0.38
RUN_LOG_DEVIATION: Final = 2.36
RUN_MOST_S: Final = 900.0  #: Lambda's limit
RUN_SPREAD: Final = 0.5  #: within one function, log-normal
#: Fig. 8: allocated memory in MB, Burr.
BURR_C: Final = 11.652
BURR_K: Final = 0.221
BURR_SCALE_MB: Final = 107.083
MEMORY_MOST_MB: Final = 10_240.0
#: Fig. 4: about half of the load is always there, the rest comes with the day.
DAILY: Final = 1 / 3


def azure_shape(seed: int, functions: int = 400, hours: float = 24.0) -> Trace:
    """So many functions for so long; the same seed gives the same trace."""
    rng = random.Random(f"azure shape {seed}")
    made: list[Function] = []
    calls: list[tuple[float, int, float]] = []
    for number in range(functions):
        used_mb = min(MEMORY_MOST_MB, burr(rng.random()))
        made.append(Function(f"f{number}", max(128, math.ceil(used_mb)), used_mb))
        mean_run_s = rng.lognormvariate(RUN_LOG_MEAN, RUN_LOG_DEVIATION)
        for time_s in arrivals(rng, hours * 3600):
            if time_s >= hours * 3600:  # the day's curve moved it beyond the end
                continue
            run_s = mean_run_s * rng.lognormvariate(-RUN_SPREAD * RUN_SPREAD / 2, RUN_SPREAD)
            calls.append((time_s, number, min(RUN_MOST_S, max(0.001, run_s))))
    return gathered(f"azure shape {seed}", made, calls)


def arrivals(rng: random.Random, duration_s: float) -> Iterator[float]:
    """When one function is called."""
    rate = min(RATE_MOST, rate_at(rng.random()))
    kind = rng.random()
    if kind < REGULAR / 2:
        period_s = min(PERIODS_S, key=lambda period_s: abs(math.log(period_s * rate)))
        began_s = rng.random() * period_s
        for beat in range(int((duration_s - began_s) / period_s) + 1):
            yield began_s + beat * period_s + rng.random() * TIMER_JITTER_S
        return
    if kind < REGULAR:
        yield from renewal(rng, 1 / rate, REGULAR_VARIATION, duration_s, lambda time_s: time_s)
        return
    even = kind >= REGULAR + BURSTY
    variation = 0.1 + 0.9 * rng.random() if even else math.exp(rng.random() * math.log(VARIATION_MOST))
    yield from renewal(rng, 1 / rate, variation, duration_s, daily)


def renewal(
    rng: random.Random, mean_s: float, variation: float, duration_s: float, at: Callable[[float], float]
) -> Iterator[float]:
    """Intervals independent of one another, of this mean and coefficient of variation. They begin long before the trace."""
    if variation > 1:
        deviation = math.sqrt(math.log(1 + variation * variation))
        log_mean = math.log(mean_s) - deviation * deviation / 2

        def interval_s() -> float:
            return rng.lognormvariate(log_mean, deviation)
    else:
        shape = 1 / (variation * variation)

        def interval_s() -> float:
            return rng.gammavariate(shape, mean_s / shape)

    time_s = -rng.random() * 20 * mean_s
    while time_s < duration_s:
        if time_s >= 0:
            yield at(time_s)
        time_s += interval_s()


def daily(time_s: float) -> float:
    """Shifts an even load so that it rises and falls with the day, from 1 - DAILY to 1 + DAILY of its mean."""
    return time_s + DAILY * DAY_S / (2 * math.pi) * math.sin(2 * math.pi * time_s / DAY_S)


def rate_at(share: float) -> float:
    """The rate below which this share of the functions is."""
    for (low, low_rate), (high, high_rate) in itertools.pairwise(RATES):
        if share <= high:
            return float(low_rate * (high_rate / low_rate) ** ((share - low) / (high - low)))
    return RATES[-1][1]


def burr(share: float) -> float:
    """The memory, in MB, that this share of the functions does not exceed."""
    return float(BURR_SCALE_MB * ((1 - share) ** (-1 / BURR_K) - 1) ** (1 / BURR_C))
