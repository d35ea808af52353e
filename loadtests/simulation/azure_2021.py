"""The Azure Functions Invocation Trace 2021: a line for each invocation, `app,func,end_timestamp,duration`, in seconds.

Published with "Faster and Cheaper Serverless Computing on Harvested Resources" (Zhang et al., SOSP 2021), described in
AzureFunctionsInvocationTrace2021.md of github.com/Azure/AzurePublicDataset. An invocation began its duration before its end.
Memory is not in it: every function has `MEMORY_MB`, half of the applications of the 2019 trace allocated no more than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loadtests.simulation.csv_files import rows
from loadtests.simulation.trace import Function, Trace, gathered, number

COLUMNS: Final = ("app", "func", "end_timestamp", "duration")
MEMORY_MB: Final = 170


def azure_2021(path: Path, functions: int | None = None, hours: float | None = None) -> Trace:
    """The first so many functions, of the first so many hours. Raises TraceError."""
    numbers: dict[tuple[str, str], int] = {}
    made: list[Function] = []

    def calls() -> Iterator[tuple[float, int, float]]:
        for line, (app, func, end, duration) in rows(path, COLUMNS):
            run_s = number(duration, path, line, "duration")
            began_s = number(end, path, line, "end_timestamp") - run_s
            key = app, func
            if key not in numbers:
                if functions is not None and len(made) >= functions:
                    continue
                numbers[key] = len(made)
                made.append(Function(f"{app[:12]}-{func[:12]}-{len(made)}", MEMORY_MB, float(MEMORY_MB)))
            if hours is None or began_s <= hours * 3600:
                yield began_s, numbers[key], run_s

    return gathered(path.name, made, calls())
