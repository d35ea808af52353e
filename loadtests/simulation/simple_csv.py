"""Simple traces: a line `function,time_ms` for each invocation, with `run_ms` and `memory_mb` after it if they are known.

Lines may be in any order: what gateways log is often sorted by when an invocation ended, and clocks jump. The trace begins with
its earliest line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from loadtests.simulation.csv_files import rows
from loadtests.simulation.trace import Function, Trace, TraceError, gathered, number

RUN_MS: Final = "100"
MEMORY_MB: Final = 128
NAME_MOST: Final = 256


def simple_csv(path: Path) -> Trace:
    """The trace in a file. Raises TraceError."""
    functions: dict[str, int] = {}
    made: list[Function] = []
    header = _header(path)

    def calls() -> Iterator[tuple[float, int, float]]:
        for line, fields in rows(path, header, header=header != ("function", "time_ms")):
            name = fields[0].strip()
            if not name or len(name) > NAME_MOST:
                raise TraceError(f"{path}, line {line}: function is {name[:40]!r}")
            values = dict(zip(header, fields, strict=True))
            time_ms = number(values["time_ms"], path, line, "time_ms", least=None)
            run_ms = number(values.get("run_ms", RUN_MS), path, line, "run_ms")
            if name not in functions:
                functions[name] = len(made)
                memory_mb = number(values.get("memory_mb", str(MEMORY_MB)), path, line, "memory_mb", least=1)
                made.append(Function(name, max(MEMORY_MB, int(memory_mb)), memory_mb))
            yield time_ms / 1000, functions[name], run_ms / 1000

    return gathered(path.name, made, calls())


def _header(path: Path) -> tuple[str, ...]:
    """Which columns the file has: what its first line names, else the first two."""
    known = ("function", "time_ms", "run_ms", "memory_mb")
    try:
        with path.open(encoding="utf-8") as file:
            names = [name.strip().lstrip("\ufeff") for name in file.readline().split(",")]
    except (OSError, UnicodeDecodeError):
        names = []  # `rows` says what is wrong
    return tuple(name for name in known if name in names) if set(known[:2]) <= set(names) else known[:2]
