"""Which call of the Runtime API is allowed when: every state with every event, and what a refusal says."""

from __future__ import annotations

import json

import pytest

from sandbox.runtime_api import wire
from sandbox.runtime_api.session import NEXT, REMEMBERED_LATE_IDS, Event, Refused, Session, State

ID, OTHER = b"id-1", b"id-2"


def session(*calls: str) -> Session:
    """A session after `calls`, each the name of a method, with the id that it takes."""
    made = Session()
    for call in calls:
        match call:
            case "invoked":
                made.invoked(ID)
            case "response":
                made.answer_begins(ID, Event.RESPONSE)
            case "error":
                made.answer_begins(ID, Event.ERROR)
            case "answer_cut":
                made.answer_torn(begun=True)
            case _:
                getattr(made, call)()
    return made


PATHS = {
    State.STARTED: (),
    State.INIT_ERROR: ("init_error",),
    State.READY: ("next",),
    State.RUNNING: ("next", "invoked"),
    State.RESPONSE: ("next", "invoked", "response"),
    State.ERROR: ("next", "invoked", "error"),
    State.TORN: ("next", "invoked", "response", "answer_torn"),
    State.CUT: ("next", "invoked", "response", "answer_cut"),
    State.SENT: ("next", "invoked", "response", "answer_ends"),
    State.DISMISSED: ("next", "dismissed"),
}
CALLS = {
    Event.NEXT: "next",
    Event.RESPONSE: "response",
    Event.ERROR: "error",
    Event.INIT_ERROR: "init_error",
    Event.INVOKED: "invoked",
    Event.ANSWERED: "answer_ends",
    Event.TORN: "answer_torn",
    Event.CUT: "answer_cut",
    Event.DISMISSED: "dismissed",
    Event.RESTARTED: "restarted",
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_every_state_with_every_event(state: State, event: Event) -> None:
    made = session(*PATHS[state])
    assert made.state is state
    allowed = NEXT[state].get(event)
    before = (made.state, made.request_id)
    try:
        if event in (Event.RESPONSE, Event.ERROR):
            made.answer_begins(ID, event)
        elif event is Event.INVOKED:
            made.invoked(ID)
        elif event is Event.CUT:
            made.answer_torn(begun=True)
        else:
            getattr(made, CALLS[event])()
    except Refused:
        assert allowed is None or made.request_id != ID, f"{event} while {state}"
        assert (made.state, made.request_id) == before, "a refusal changes nothing"
    else:
        assert made.state is allowed


@pytest.mark.parametrize("state", State)
def test_there_is_a_way_out_of_every_state(state: State) -> None:
    made = session(*PATHS[state])
    made.dismissed()
    made.restarted()
    assert made.state is State.STARTED
    assert made.request_id == b""


@pytest.mark.parametrize("state", [State.READY, State.RUNNING, State.RESPONSE, State.SENT, State.STARTED])
def test_unknown_id_is_400_in_any_state(state: State) -> None:
    for wrong in (OTHER, b""):
        with pytest.raises(Refused) as refused:
            session(*PATHS[state]).answer_begins(wrong, Event.RESPONSE)
        assert refused.value.answer == wire.INVALID_REQUEST_ID


def test_second_answer_is_403_until_next_and_400_after_it() -> None:
    made = session(*PATHS[State.SENT])
    with pytest.raises(Refused) as refused:
        made.answer_begins(ID, Event.ERROR)
    body = json.loads(refused.value.answer.partition(b"\r\n\r\n")[2])
    assert body["errorType"] == "InvalidStateTransition"
    assert "from ResponseSent to InvocationErrorResponse" in body["errorMessage"]
    made.next()
    with pytest.raises(Refused) as refused:
        made.answer_begins(ID, Event.RESPONSE)
    assert refused.value.answer == wire.INVALID_REQUEST_ID


def test_too_late_is_told_apart_from_unknown() -> None:
    made = session("next", "invoked")
    made.dismissed(late=True)
    for attempt in range(2):
        with pytest.raises(Refused) as refused:
            made.answer_begins(ID, Event.RESPONSE)
        assert refused.value.answer == wire.TOO_LATE
        if attempt == 0:
            made.restarted()
    with pytest.raises(Refused) as refused:
        made.answer_begins(OTHER, Event.RESPONSE)
    assert refused.value.answer == wire.INVALID_REQUEST_ID


def test_late_ids_are_forgotten_after_a_while() -> None:
    made = Session()
    for number in range(REMEMBERED_LATE_IDS + 1):
        made.next()
        made.invoked(b"%d" % number)
        made.dismissed(late=True)
        made.restarted()
    with pytest.raises(Refused) as refused:
        made.answer_begins(b"0", Event.RESPONSE)
    assert refused.value.answer == wire.INVALID_REQUEST_ID
    with pytest.raises(Refused) as refused:
        made.answer_begins(b"1", Event.RESPONSE)
    assert refused.value.answer == wire.TOO_LATE


def test_event_that_waits_for_init_is_given_with_its_end() -> None:
    made = session("invoked")
    assert made.next() is State.STARTED
    assert made.state is State.RUNNING


def test_event_that_came_after_the_dismissal_is_for_the_next_runtime() -> None:
    made = session("next", "dismissed")
    made.invoked(ID)
    assert made.next() is State.DISMISSED
    assert made.state is State.DISMISSED, "the old runtime gets nothing"
    made.restarted()
    made.next()
    assert (made.state, made.request_id) == (State.RUNNING, ID)


def test_repr_is_one_line_to_debug_from() -> None:
    assert repr(session("next", "invoked")) == "<Session Running id-1>"
    assert repr(Session()) == "<Session Started ->"
