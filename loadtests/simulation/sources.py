"""What `--trace` names: a kind that is made, or a file in one of the formats that are known."""

from __future__ import annotations

from pathlib import Path

from loadtests.simulation.azure_2019 import COUNTS, azure_2019
from loadtests.simulation.azure_2021 import COLUMNS, azure_2021
from loadtests.simulation.simple_csv import simple_csv
from loadtests.simulation.synthetic import KINDS, synthetic
from loadtests.simulation.trace import Trace, TraceError

FUNCTIONS = 400
HOURS = 24.0


def traces(source: str, seeds: range, functions: int | None, hours: float | None) -> list[Trace]:
    """One trace for each seed of a kind that is made, the one that is in a file. Raises TraceError."""
    if source in KINDS:
        return [synthetic(source, seed, functions or FUNCTIONS, hours or HOURS) for seed in seeds]
    path = Path(source)
    if not path.is_file():
        raise TraceError(f"{source}: neither a file nor one of {', '.join(KINDS)}")
    if path.name.startswith(COUNTS):
        return [azure_2019(path, functions, hours, seeds.start)]
    if _first_line(path).split(",")[:2] == list(COLUMNS[:2]):
        return [azure_2021(path, functions, hours)]
    return [simple_csv(path)]


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline(4096).strip().lstrip("\ufeff")
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from error
