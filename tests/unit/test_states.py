"""The page of states says what the code does. (Each pair of state and event is tried where the machine's own tests are.)"""

from __future__ import annotations

import enum

import pytest

from tests.states import MACHINES, PAGE, Table, drawn


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == drawn(), "python -m tests.states"


@pytest.mark.parametrize("table", [table for _, _, table in MACHINES], ids=[where for _, where, _ in MACHINES])
def test_every_state_is_there_and_can_be_reached(table: Table) -> None:
    first: enum.Enum = next(iter(table))
    assert set(table) == set(type(first).__members__.values())
    reached = {first}
    while more := {after for state in reached for after in table[state].values()} - reached:
        reached |= more
    assert reached == set(table)
