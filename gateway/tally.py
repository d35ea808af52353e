"""What is counted for `/metrics`: plain integers and lists of them, added to where the things happen. [P]

Counting must cost the path that carries load next to nothing, so there is no lock, no label and no look-up here: a function's
`Tally` is found once, when the scheduler makes the function's group, and hangs on it from then on. Names, help texts and labels
are added when somebody asks (`gateway.observe.metrics`).

Only so many functions have a tally of their own: the first ones that were called. All others are counted together in `rest`, so
that a million functions are no million time series. A function that is deleted gives its place free, and its counts go.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Final

REST: Final = "(rest)"  #: the label of all functions without a tally of their own; no function can be named so

#: Upper bounds of the buckets, inclusive, in seconds; beyond the last there is one more.
DURATION_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0)
COLD_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
WAIT_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Of durations is kept more than /metrics tells, for percentiles that are true to a tenth: between two of its bounds, and on from
#: them to AWS's longest time-out, each is at most 1.2 of the one before.
DURATION_FINE_S: Final = tuple(
    round(lower * (upper / lower) ** (step / steps), 9) if step < steps else upper
    for lower, upper in itertools.pairwise((0.0001, *DURATION_S, 900.0))
    for steps in [math.ceil(math.log(upper / lower, 1.2))]
    for step in range(1, steps + 1)
)
LAG_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Histogram:
    """How often a value fell into which bucket, and the sum of all values."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def __repr__(self) -> str:
        return f"<Histogram {self.count} values, {self.total:.6g} in all>"

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def copy(self) -> Histogram:
        other = Histogram(self.bounds)
        other.counts[:] = self.counts
        other.total = self.total
        return other


class Kinds(dict[str, int]):
    """Counts by kind; only kinds that happened are there."""

    def add(self, kind: str) -> None:
        self[kind] = self.get(kind, 0) + 1

    def copy(self) -> Kinds:
        return Kinds(self)


class Tally:
    """What happened to the invocations of one function, all its versions together. `duration_s.count` is how many were run."""

    __slots__ = (
        "cold_starts", "duration_s", "errors", "extensions", "extensions_s", "failed_starts", "not_run", "provisioned",
        "throttles", "waited", "waited_s",
    )  # fmt: skip

    def __init__(self) -> None:
        self.duration_s = Histogram(DURATION_FINE_S)  #: from the event's hand-over to the answer, whatever the answer was
        self.errors = Kinds()  #: by `sandbox.outcome.Status`
        self.throttles = Kinds()  #: answered 429, by what was used up
        self.not_run = Kinds()  #: could not be run, by why
        self.cold_starts = 0  #: sandboxes that were given the function and could take work, without provisioned ones
        self.failed_starts = 0
        self.provisioned = Kinds()  #: of versions that have it: ``used`` and, when all of it was busy, ``spilled``
        self.waited = 0  #: invocations that waited for a sandbox and got one
        self.waited_s = 0.0  #: so long in all
        self.extensions = 0  #: invocations that extensions still worked on when the answer was there
        self.extensions_s = 0.0  #: so long in all: AWS's PostRuntimeExtensionsDuration

    def copy(self) -> Tally:
        other = Tally()
        other.duration_s = self.duration_s.copy()
        other.errors = self.errors.copy()
        other.throttles = self.throttles.copy()
        other.not_run = self.not_run.copy()
        other.provisioned = self.provisioned.copy()
        other.cold_starts, other.failed_starts = self.cold_starts, self.failed_starts
        other.waited, other.waited_s = self.waited, self.waited_s
        other.extensions, other.extensions_s = self.extensions, self.extensions_s
        return other


class Totals:
    """What is counted for all functions together."""

    __slots__ = ("evictions", "freezes", "init_s", "lost", "make_s", "prewarms", "stem_failures", "stem_s", "thaws", "wait_s")

    def __init__(self) -> None:
        self.make_s = Histogram(COLD_S)  #: making a stem, mostly before anybody needs it
        self.stem_s = Histogram(COLD_S)  #: of a cold start: waiting for a stem
        self.init_s = Histogram(COLD_S)  #: of a cold start: giving the stem its code, and Init
        self.wait_s = Histogram(WAIT_S)  #: for a sandbox, of those who had to wait and got one
        self.stem_failures = Kinds()  #: by runtime
        self.evictions = Kinds()  #: by the state that the sandbox was in
        self.freezes = 0
        self.prewarms = 0  #: sandboxes that were started before anybody asked
        self.thaws = 0
        self.lost = 0  #: sandboxes that went away by themselves

    def copy(self) -> Totals:
        other = Totals()
        other.make_s, other.stem_s = self.make_s.copy(), self.stem_s.copy()
        other.init_s, other.wait_s = self.init_s.copy(), self.wait_s.copy()
        other.stem_failures, other.evictions = self.stem_failures.copy(), self.evictions.copy()
        other.freezes, other.thaws, other.lost, other.prewarms = self.freezes, self.thaws, self.lost, self.prewarms
        return other


class Tallies:
    """All counts of one gateway. `most` functions have their own."""

    __slots__ = ("_functions", "_most", "_rest", "totals")

    def __init__(self, most: int = 100) -> None:
        self._most = most
        self._functions: dict[str, Tally] = {}
        self._rest: Tally | None = None  # nobody was counted there yet
        self.totals = Totals()

    def __repr__(self) -> str:
        return f"<Tallies of {len(self._functions)}/{self._most} functions{', and the rest' if self._rest else ''}>"

    def of(self, name: str) -> Tally:
        """Where to count for a function: its own tally if there is a place for one, else the one for the rest."""
        tally = self._functions.get(name)
        if tally is not None:
            return tally
        if len(self._functions) < self._most:
            tally = self._functions[name] = Tally()
            return tally
        if self._rest is None:
            self._rest = Tally()
        return self._rest

    def forget(self, name: str) -> None:
        """The function was deleted.

        Its counts are not added to the rest's: whoever computes a rate would take them for things that happened now.
        """
        self._functions.pop(name, None)

    @property
    def own(self) -> Mapping[str, Tally]:
        """The functions that have a tally of their own, and it."""
        return self._functions

    def items(self) -> Iterator[tuple[str, Tally]]:
        """Label and tally of each function, the rest last."""
        yield from self._functions.items()
        if self._rest is not None:
            yield REST, self._rest
