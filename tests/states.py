"""Draws the state tables of the code into `sandbox/STATES.md`: `python -m tests.states` writes it, a test compares."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import sandbox
from gateway.scheduler import state as scheduler
from sandbox import lifecycle
from sandbox.runtime_api import extensions, session

PAGE: Final = Path(sandbox.__file__).parent / "STATES.md"
Table = Mapping[Any, Mapping[Any, enum.Enum]]

HEAD: Final = """# States

Drawn from the tables in the code by `python -m tests.states`; `tests/unit/test_states.py` fails where they differ. A row is a
state, a column what happens in it, a cell the state after; where there is none it is refused, and changes nothing.
"""

MACHINES: Final[tuple[tuple[str, str, Table], ...]] = (
    ("A sandbox, as its pool sees it", "`sandbox/lifecycle.py`", lifecycle.NEXT),
    ("The runtime inside, from its calls", "`sandbox/runtime_api/session.py`", session.NEXT),
    ("An extension", "`sandbox/runtime_api/extensions.py`", extensions.NEXT),
    ("A sandbox, as the scheduler sees it", "`gateway/scheduler/state.py`", scheduler.NEXT),
)


def drawn() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(_machine(*machine) for machine in MACHINES)])


def _machine(title: str, where: str, table: Table) -> str:
    kind = type(next(event for row in table.values() for event in row))
    events = [event for event in kind if any(event in row for row in table.values())]
    lines = [f"## {title}", "", where, "", "```mermaid", "stateDiagram-v2"]
    names = {state: f"s{number}" for number, state in enumerate(table)}
    lines += [f"    {names[state]}: {state.value}" for state in table]
    lines.append(f"    [*] --> {names[next(iter(table))]}")
    for state, row in table.items():
        for after in dict.fromkeys(row.values()):
            if after is not state:
                labels = ", ".join(_name(event) for event in events if row.get(event) is after)
                lines.append(f"    {names[state]} --> {names[after]}: {labels}")
    lines += ["```", "", f"| | {' | '.join(_name(event) for event in events)} |", f"|---{'|---' * len(events)}|"]
    for state, row in table.items():
        cells = (row[event].value if event in row else "" for event in events)
        lines.append(f"| **{state.value}** | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _name(event: enum.Enum) -> str:
    """The member's name: a value may be the wire's word for the state that a call aims at."""
    return event.name.lower().replace("_", " ")


if __name__ == "__main__":
    PAGE.write_text(drawn())
