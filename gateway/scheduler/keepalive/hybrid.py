"""The hybrid histogram policy of "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020), for comparison. [P]

Of each function the idle times are counted in bins of a minute, over four hours. If the histogram says something (there is enough
in it, and its bins' counts vary: coefficient of variation of 2), a sandbox is let go after its use, another is started at the 5th
percentile and kept until the 99th, each with a margin of a tenth. If it does not, the sandbox is simply kept for the four hours.
If most idle times are longer than that, the next one is forecast and a sandbox is there 15 % before and after.

Three things differ from the study. It forecasts by ARIMA, for 0.56 % of its invocations; here it is a moving mean. It knows no
shortage of memory; here, as with a fixed time, the sandbox goes that was used longest ago. And its unit is the application,
which has one histogram; here further sandboxes of a function have theirs, and are kept until the 99th percentile. How many idle
times are enough it does not say.
"""

from __future__ import annotations

import math
from array import array
from typing import Final

from gateway.records import FunctionVersion
from gateway.scheduler.index import Index
from gateway.scheduler.keepalive.base import Prewarm, oldest
from gateway.scheduler.keepalive.learner import Learner
from gateway.scheduler.state import Instance

BIN_S: Final = 60.0
BINS: Final = 240
HEAD: Final = 0.05
TAIL: Final = 0.99
MARGIN: Final = 0.1
VARIATION: Final = 2.0
ENOUGH: Final = 10
FORECAST_MARGIN: Final = 0.15
WEIGHT: Final = 0.3  #: of the newest idle time in the forecast
LEVELS: Final = 64


class IdleTimes:
    """One histogram."""

    __slots__ = ("beyond", "bins", "forecast_s", "free_s", "squares", "total")

    def __init__(self, now: float) -> None:
        self.free_s = now  #: when the last invocation ended
        self.bins: array[int] | None = None
        self.total = 0
        self.squares = 0  #: sum of the squares of the counts
        self.beyond = 0  #: idle times that were too long for a bin
        self.forecast_s = 0.0

    def add(self, idle_s: float) -> None:
        number = int(idle_s / BIN_S)
        if number >= BINS:
            self.forecast_s = idle_s if not self.beyond else self.forecast_s + WEIGHT * (idle_s - self.forecast_s)
            self.beyond += 1
            return
        if self.bins is None:
            self.bins = array("L", [0]) * BINS
        self.squares += 2 * self.bins[number] + 1
        self.bins[number] += 1
        self.total += 1

    def windows(self) -> tuple[float, float]:
        """From when to when a sandbox is to be there, in seconds from the end of the last use; 0: it is not let go."""
        if self.beyond > self.total:
            return self.forecast_s * (1 - FORECAST_MARGIN), self.forecast_s * (1 + FORECAST_MARGIN)
        if self.total < ENOUGH or self.bins is None or self._variation() < VARIATION:
            return 0.0, BINS * BIN_S
        below = 0
        head = -1
        tail = 0
        for number, count in enumerate(self.bins):
            below += count
            if head < 0 and below >= HEAD * self.total:
                head = number
            if below >= TAIL * self.total:
                tail = number + 1
                break
        return head * BIN_S * (1 - MARGIN), tail * BIN_S * (1 + MARGIN)

    def _variation(self) -> float:
        mean = self.total / BINS
        return math.sqrt(max(0.0, self.squares / BINS - mean * mean)) / mean


class Application:
    """One function's histograms: the study's, of when it was idle, and one for each further level of concurrency."""

    __slots__ = ("levels", "version")

    def __init__(self, version: FunctionVersion, now: float) -> None:
        self.version: FunctionVersion | None = version
        self.levels: list[IdleTimes] = []

    def used(self, level: int, now: float) -> None:
        if level > len(self.levels):
            if level <= LEVELS:
                self.levels.append(IdleTimes(now))
            return
        times = self.levels[level - 1]
        if now > times.free_s:
            times.add(now - times.free_s)

    def freed(self, level: int, now: float) -> None:
        if level <= LEVELS:
            self.levels[level - 1].free_s = now


class Hybrid(Learner[Application]):
    """Lets go and starts again by the histograms."""

    __slots__ = ()

    pause_s = 0.0

    def __init__(self) -> None:
        super().__init__(Application)

    def keep_until(self, instance: Instance, now: float) -> float:
        group = instance.group
        use = group.learned()
        assert isinstance(use, Application)
        level = min(LEVELS, group.busy + group.warm + len(group.frozen), len(use.levels))
        if level < 1:  # started, and its caller left
            return instance.since_s + BINS * BIN_S
        times = use.levels[level - 1]
        from_s, until_s = times.windows()
        if level > 1:
            return instance.since_s + until_s
        if now >= times.free_s + from_s or use.version is None:
            return times.free_s + until_s
        self._prewarms.add(Prewarm(use.version, times.free_s + from_s, times.free_s + until_s))
        return now

    def victim(self, index: Index, spared: Instance | None, now: float) -> Instance | None:
        return oldest(index, spared)
