"""Lines of CSV files, with a place for everything that is wrong."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from loadtests.simulation.trace import TraceError


def rows(path: Path, columns: Sequence[str], *, header: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Line number and the fields named by `columns` of each line, in this order; empty lines are skipped.

    Without a `header` the columns are the first ones, and a first line that names them is skipped. Raises TraceError for a file
    that can't be read, a column that is missing, a line that is too short.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            places = list(range(len(columns)))
            first = True
            for fields in reader:
                if not fields:
                    continue
                if first:
                    first = False
                    names = [field.strip().lstrip("\ufeff") for field in fields]
                    if header:
                        places = _places(path, names, columns)
                        continue
                    if names[: len(columns)] == list(columns):
                        continue
                if len(fields) <= max(places):
                    raise TraceError(f"{path}, line {reader.line_num}: {len(fields)} fields where {max(places) + 1} are needed")
                yield reader.line_num, [fields[place] for place in places]
            if first:
                raise TraceError(f"{path}: the file is empty")
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: this is no text in UTF-8") from error
    except csv.Error as error:
        raise TraceError(f"{path}, line {reader.line_num}: {error}") from error


def _places(path: Path, names: list[str], columns: Sequence[str]) -> list[int]:
    missing = [column for column in columns if column not in names]
    if missing:
        raise TraceError(f"{path}, line 1: there is no column {missing[0]}; it has {', '.join(names[:8])}")
    return [names.index(column) for column in columns]
