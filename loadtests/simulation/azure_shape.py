"""A trace with the published shape of Azure Functions' load.

The figures are those of "Serverless in the Wild: Characterizing and Optimizing the Serverless Workload at a Large Cloud Provider"
(Shahrad et al., USENIX ATC 2020; arXiv 2003.03423), section 3: two weeks of July 2019. They were checked against what others
quote of its text: content/2020/04/serverless-in-the-wild of github.com/mikhailshilkov/mikhailio-hugo has most of section 3 word
for word, but for the paragraph on Fig. 6, and the articles made of it (mikhail.io, May and June 2020) read the figures. Each
constant says where it is from; "chosen" and "not verified" say where the study does not say, or could not be asked. They were
fixed before any policy was tuned on this trace, and a test holds the trace to them.

Its unit is the application, which is what Azure keeps warm and measures the memory of; here it is the function. The study gives
each distribution by itself, so rate, kind, run time and memory are drawn independently of one another.

Calls that come more often than every ten seconds are cut to that: no policy ever lets such a function go, so more of them would
make the trace longer and every ratio smaller, and change no comparison. So shares of cold starts are not Azure's; what they are
for one policy compared with another is what this trace is for.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from typing import Final

from loadtests.simulation.trace import Function, Trace, gathered

DAY_S: Final = 86_400.0
#: 3.3, Fig. 5(a): share of the applications that are called less often than this (a second): 45 % at most once an hour, 81 % at
#: most once a minute; the article of May reads from it that 3 % are called more than once a second. The lowest is one call in
#: the two weeks, the highest 8 orders of magnitude above. Chosen: straight lines between them on a logarithmic scale.
RATES: Final = ((0.0, 1 / (14 * DAY_S)), (0.45, 1 / 3600), (0.81, 1 / 60), (0.97, 1.0), (1.0, 1e8 / (14 * DAY_S)))
RATE_MOST: Final = 0.1
#: 3.2, Fig. 3: 13 % of the applications have only timers, 15.8 % timers and other triggers.
ONLY_TIMERS: Final = 0.13
ALSO_TIMERS: Final = 0.158
#: 3.2, Fig. 1: 54 % of the applications have one function. Chosen: so that share of those with only timers has one timer, the
#: others two; those with other triggers as well have one, and what they are called for is split at random.
ONE_TIMER: Final = 0.54
#: Chosen: the usual periods, the nearest one to the rate that was drawn. 3.2: 95 % of timers fire at most once a minute.
PERIODS_S: Final = tuple(60.0 * minutes for minutes in (1, 5, 10, 15, 30, 60, 120, 240, 360, 720, 1440, 10_080))
TIMER_JITTER_S: Final = 0.5  #: chosen
#: 3.3, Fig. 6: a part of the applications without timers is called regularly all the same. Not verified: how many, a tenth. With
#: it a fifth of all have a coefficient of variation near 0.
REGULAR: Final = 0.1
REGULAR_VARIATION: Final = 0.02  #: chosen
#: 3.6: 40 % of all applications have intervals with a coefficient of variation above 1. This is the share of the rest that makes
#: it 40 % of all.
BURSTY: Final = 0.62
#: Where Fig. 6 ends. Chosen: evenly on a logarithmic scale from 1 to there, log-normal intervals; the others evenly from
#: `VARIATION_LEAST` to 1, gamma distributed ones.
VARIATION_MOST: Final = 10.0
VARIATION_LEAST: Final = 0.1
#: 3.4, Fig. 7: a function's average execution time in seconds, log-normal (maximum likelihood).
RUN_LOG_MEAN: Final = -0.38
RUN_LOG_DEVIATION: Final = 2.36
RUN_MOST_S: Final = 900.0  #: Lambda's limit
RUN_SPREAD: Final = 0.5  #: chosen: within one function, log-normal
#: 3.5, Fig. 8: an application's average allocated memory in MB, Burr.
BURR_C: Final = 11.652
BURR_K: Final = 0.221
BURR_SCALE_MB: Final = 107.083
MEMORY_MOST_MB: Final = 10_240.0
#: 3.3, Fig. 4: half of the peak is always there, the rest comes with the day: from 2/3 to 4/3 of the mean. Chosen: a sine; timers
#: and what is regular have no day.
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
    """When one function is called, in any order."""
    rate = min(RATE_MOST, rate_at(rng.random()))
    kind = rng.random()
    if kind < ONLY_TIMERS:
        share = 1.0 if rng.random() < ONE_TIMER else rng.random()
        yield from timer(rng, rate * share, duration_s)
        if share < 1:
            yield from timer(rng, rate * (1 - share), duration_s)
    elif kind < ONLY_TIMERS + ALSO_TIMERS:
        share = rng.random()
        yield from timer(rng, rate * share, duration_s)
        yield from irregular(rng, rate * (1 - share), duration_s)
    elif rng.random() < REGULAR:
        yield from renewal(rng, 1 / rate, REGULAR_VARIATION, duration_s, lambda time_s: time_s)
    else:
        yield from irregular(rng, rate, duration_s)


def timer(rng: random.Random, rate: float, duration_s: float) -> Iterator[float]:
    """A clock with one of the usual periods."""
    period_s = min(PERIODS_S, key=lambda period_s: abs(math.log(period_s * max(rate, 1e-9))))
    began_s = rng.random() * period_s
    for beat in range(int((duration_s - began_s) / period_s) + 1):
        yield began_s + beat * period_s + rng.random() * TIMER_JITTER_S


def irregular(rng: random.Random, rate: float, duration_s: float) -> Iterator[float]:
    """People and other services: some in bursts, some more evenly than by chance."""
    if rng.random() < BURSTY:
        variation = math.exp(rng.random() * math.log(VARIATION_MOST))
    else:
        variation = VARIATION_LEAST + (1 - VARIATION_LEAST) * rng.random()
    yield from renewal(rng, 1 / max(rate, 1e-9), variation, duration_s, daily)


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
