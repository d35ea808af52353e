"""A trace: which function was called when, and for how long it ran."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

MOST: Final = 20_000_000  #: invocations that are held in memory, at 20 bytes each; for a moment at five times as much
DAY_S: Final = 86_400.0
LONGEST_S: Final = 3660 * DAY_S


class TraceError(Exception):
    """A trace cannot be read; the message names the file and the line, or says what is too much."""


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """What is constant of one function. `used_mb` is what a frozen sandbox of it holds, `memory_mb` what it may use."""

    name: str
    memory_mb: int
    used_mb: float


@dataclasses.dataclass(slots=True)
class Trace:
    """Invocations in order of time: the three arrays belong together. Times are in seconds from the first."""

    name: str
    functions: list[Function]
    time_s: array[float]
    function: array[int]
    run_s: array[float]

    def __len__(self) -> int:
        return len(self.time_s)

    def __iter__(self) -> Iterator[tuple[float, int, float]]:
        return zip(self.time_s, self.function, self.run_s, strict=True)

    @property
    def duration_s(self) -> float:
        return self.time_s[-1] if self.time_s else 0.0


def gathered(name: str, functions: list[Function], calls: Iterable[tuple[float, int, float]]) -> Trace:
    """A trace of calls in any order.

    Raises TraceError if there are none, more than `MOST`, or if the first and the last are further apart than `LONGEST_S`: then
    somebody's clock jumped, and all that is between would be waited for.
    """
    times_s, numbers, runs_s = array("d"), array("I"), array("d")
    for time_s, number, run_s in calls:
        times_s.append(time_s)
        numbers.append(number)
        runs_s.append(run_s)
        if len(times_s) > MOST:
            raise TraceError(f"{name}: more than {MOST:,} invocations; take part of it with --functions or --hours")
    if not times_s:
        raise TraceError(f"{name}: there is no invocation in it")
    order = sorted(range(len(times_s)), key=times_s.__getitem__)
    first_s, last_s = times_s[order[0]], times_s[order[-1]]
    if last_s - first_s > LONGEST_S:
        who = functions[numbers[order[0]]].name, functions[numbers[order[-1]]].name
        raise TraceError(
            f"{name}: {(last_s - first_s) / DAY_S:,.0f} days from the first call, of {who[0]}, to the last, of {who[1]}; "
            f"a trace may take {LONGEST_S / DAY_S:,.0f}. Did a clock jump?"
        )
    return Trace(
        name,
        functions,
        array("d", (times_s[at] - first_s for at in order)),
        array("I", (numbers[at] for at in order)),
        array("d", (runs_s[at] for at in order)),
    )


def number(text: str, path: Path, line: int, what: str, *, least: float | None = 0.0) -> float:
    """A field that has to be a finite number. Raises TraceError with the place."""
    try:
        value = float("" if "_" in text else text)  # Python's own notation is none of a trace's
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise TraceError(f"{path}, line {line}: {what} is {text[:40]!r}, which is not a number")
    if least is not None and value < least:
        raise TraceError(f"{path}, line {line}: {what} is {text[:40]}, which is less than {least:g}")
    return value
