"""The Azure Functions Trace 2019: for each day a file of counts by minute, one of durations and one of memory.

Published with "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020), described in AzureFunctionsDataset2019.md of
github.com/Azure/AzurePublicDataset. Given is the file of counts; the other two are found beside it by their names, and what they
do not know is guessed: half a second, 170 MB, both near the medians of the study.

Within its minute an invocation comes at any time, a timer's always at the same second. How long it runs is drawn from the
percentiles of its function, straight lines between them. Memory is known by application, and counts for each of its functions.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loadtests.simulation.csv_files import rows
from loadtests.simulation.trace import MOST, Function, Trace, TraceError, gathered, number

COUNTS: Final = "invocations_per_function_md.anon."
DURATIONS: Final = "function_durations_percentiles.anon."
MEMORY: Final = "app_memory_percentiles.anon."
MINUTES: Final = 1440
SHARES: Final = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)
PERCENTILES: Final = tuple(f"percentile_Average_{share * 100:.0f}" for share in SHARES)
RUN_MS: Final = 500.0
MEMORY_MB: Final = 170.0
MEMORY_MOST_MB: Final = 10_240.0
RUN_MOST_S: Final = 900.0

Key = tuple[str, str, str]


def azure_2019(path: Path, functions: int | None = None, hours: float | None = None, seed: int = 0) -> Trace:
    """The first so many functions of a day, for its first so many hours. Raises TraceError."""
    if not path.name.startswith(COUNTS):
        raise TraceError(f"{path}: the name of a file of counts begins with {COUNTS}")
    day = path.name.removeprefix(COUNTS)
    durations = dict(_durations(path.with_name(DURATIONS + day)))
    memory = dict(_memory(path.with_name(MEMORY + day)))
    minutes = MINUTES if hours is None else min(MINUTES, int(hours * 60))
    columns = ("HashOwner", "HashApp", "HashFunction", "Trigger", *(str(minute + 1) for minute in range(minutes)))
    made: list[Function] = []

    def calls() -> Iterator[tuple[float, int, float]]:
        rng = random.Random(seed)
        for line, (owner, app, name, trigger, *counts) in rows(path, columns):
            if functions is not None and len(made) >= functions:
                return
            used_mb = min(MEMORY_MOST_MB, max(1.0, memory.get((owner, app), MEMORY_MB)))
            runs = durations.get((owner, app, name))
            second = rng.random() * 60
            for minute, text in enumerate(counts):
                if text == "0":
                    continue
                count = number(text, path, line, f"minute {minute + 1}")
                if count != int(count):
                    raise TraceError(f"{path}, line {line}: minute {minute + 1} is {text[:40]}, which is not a whole number")
                if count > MOST:
                    raise TraceError(f"{path}, line {line}: minute {minute + 1} is {text[:40]}, which is more than {MOST:,}")
                for _ in range(int(count)):
                    at_s = second if trigger == "timer" else rng.random() * 60
                    yield minute * 60 + at_s, len(made), _drawn(runs, rng.random())
            made.append(Function(f"{name[:24]}-{len(made)}", max(128, int(used_mb)), used_mb))

    return gathered(path.name, made, calls())


def _drawn(runs_ms: list[float] | None, share: float) -> float:
    """A duration in seconds."""
    if runs_ms is None:
        return RUN_MS / 1000
    at = min(len(SHARES) - 1, bisect_right(SHARES, share))
    low, high = SHARES[at - 1], SHARES[at]
    run_ms = runs_ms[at - 1] + (runs_ms[at] - runs_ms[at - 1]) * (share - low) / (high - low)
    return min(RUN_MOST_S, max(0.001, run_ms / 1000))


def _durations(path: Path) -> Iterator[tuple[Key, list[float]]]:
    if not path.exists():
        return
    for line, (owner, app, name, *texts) in rows(path, ("HashOwner", "HashApp", "HashFunction", *PERCENTILES)):
        runs = [number(text, path, line, what, least=None) for text, what in zip(texts, PERCENTILES, strict=True)]
        yield (owner, app, name), [max(0.0, run_ms) for run_ms in runs]  # -1 and the like are in it where nothing was recorded


def _memory(path: Path) -> Iterator[tuple[tuple[str, str], float]]:
    if not path.exists():  # the last two days have none
        return
    for line, (owner, app, text) in rows(path, ("HashOwner", "HashApp", "AverageAllocatedMb")):
        yield (owner, app), number(text, path, line, "AverageAllocatedMb")
