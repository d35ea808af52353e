"""A trace: which function was called when, and for how long it ran."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

MOST: Final = 20_000_000  #: invocations that are held in memory, at 20 bytes each


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
    """A trace of calls in any order. Raises TraceError if there are none, or more than `MOST`."""
    kept: list[tuple[float, int, float]] = []
    for call in calls:
        kept.append(call)
        if len(kept) > MOST:
            raise TraceError(f"{name}: more than {MOST:,} invocations; take part of it with --functions or --hours")
    if not kept:
        raise TraceError(f"{name}: there is no invocation in it")
    kept.sort()
    return Trace(
        name,
        functions,
        array("d", (time_s - kept[0][0] for time_s, _, _ in kept)),
        array("I", (number for _, number, _ in kept)),
        array("d", (run_s for _, _, run_s in kept)),
    )


def number(text: str, path: Path, line: int, what: str, *, least: float | None = 0.0) -> float:
    """A field that has to be a finite number. Raises TraceError with the place."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise TraceError(f"{path}, line {line}: {what} is {text[:40]!r}, which is not a number")
    if least is not None and value < least:
        raise TraceError(f"{path}, line {line}: {what} is {text[:40]}, which is less than {least:g}")
    return value
