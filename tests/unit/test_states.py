"""The page of states says what the code does, and the code does what its tables say: each state, with each event."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from typing import Any, Final

import pytest

from gateway.scheduler import state as scheduler
from sandbox import lifecycle
from sandbox.runtime_api import extensions, session
from sandbox.spec import Architecture, StemKey
from tests.states import MACHINES, PAGE, Table, drawn

NAMES = [where for _, where, _ in MACHINES]


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == drawn(), "python -m tests.states"


@pytest.mark.parametrize("table", [table for _, _, table in MACHINES], ids=NAMES)
def test_every_state_is_there_and_can_be_reached(table: Table) -> None:
    first: enum.Enum = next(iter(table))
    assert set(table) == set(type(first).__members__.values())
    reached = {first}
    while more := {after for state in reached for after in table[state].values()} - reached:
        reached |= more
    assert reached == set(table)


# How each machine is brought into a state and shown an event: the state after, whether it was refused or not.


def _sandbox(state: lifecycle.State, event: lifecycle.Event) -> lifecycle.State:
    try:
        return lifecycle.following(state, event)
    except lifecycle.IllegalEvent:
        return state


_CALLS: Final[dict[session.Event, Callable[[session.Session], object]]] = {
    session.Event.NEXT: lambda made: made.next(),
    session.Event.RESPONSE: lambda made: made.answer_begins(b"id", session.Event.RESPONSE),
    session.Event.ERROR: lambda made: made.answer_begins(b"id", session.Event.ERROR),
    session.Event.INIT_ERROR: lambda made: made.init_error(),
    session.Event.INVOKED: lambda made: made.invoked(b"id"),
    session.Event.ANSWERED: lambda made: made.answer_ends(),
    session.Event.TORN: lambda made: made.answer_torn(),
    session.Event.CUT: lambda made: made.answer_torn(begun=True),
    session.Event.DISMISSED: lambda made: made.dismissed(),
    session.Event.RESTARTED: lambda made: made.restarted(),
}


def _runtime(state: session.State, event: session.Event) -> session.State:
    made = session.Session()
    made.state = state
    # In STARTED an event in hand would be given with `next`, which is a second step.
    made.request_id = b"" if event is session.Event.NEXT else b"id"
    try:
        _CALLS[event](made)
    except session.Refused:
        assert made.request_id == (b"" if event is session.Event.NEXT else b"id"), "a refusal changes nothing"
    return made.state


def _extension(state: extensions.State, event: extensions.Event) -> extensions.State:
    made = extensions.Extension("name", external=True)
    made.state = state
    with contextlib.suppress(session.Refused):
        made.see(event)
    return made.state


def _instance(state: scheduler.State, event: scheduler.Event) -> scheduler.State:
    made = scheduler.Instance(1, StemKey("python3.11", Architecture.X86_64), 1)
    made.state = state
    with contextlib.suppress(scheduler.IllegalEvent):
        made.see(event)
    return made.state


WALKS: Final[list[tuple[type[enum.Enum], Callable[[Any, Any], enum.Enum]]]] = [
    (lifecycle.Event, _sandbox),
    (session.Event, _runtime),
    (extensions.Event, _extension),
    (scheduler.Event, _instance),
]


@pytest.mark.parametrize(
    ("table", "events", "walk"),
    [(table, *walk) for (_, _, table), walk in zip(MACHINES, WALKS, strict=True)],
    ids=NAMES,
)
def test_every_pair_of_state_and_event(table: Table, events: type[enum.Enum], walk: Callable[[Any, Any], enum.Enum]) -> None:
    """What is in the table happens; what is not is refused, or passed over, and changes nothing."""
    pairs = {(state, event) for state in table for event in events}
    assert {(state, event) for state, row in table.items() for event in row} <= pairs
    wrong = {
        (state, event): after for state, event in pairs if (after := walk(state, event)) is not table[state].get(event, state)
    }
    assert wrong == {}
