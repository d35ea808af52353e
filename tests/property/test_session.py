"""Whatever a runtime says and whatever happens to it, the session and the answers it gives stay consistent.

Invariants: an event has at most one answer; only the id in hand is ever taken; a refusal changes nothing; the runtime
is never refused `next` for good; an event that was not answered is given again or waits.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sandbox.runtime_api import wire
from sandbox.runtime_api.session import NEXT, Event, Refused, Session, State

KNOWN_ANSWERS = {wire.INVALID_REQUEST_ID, wire.TOO_LATE}


class RuntimeAndPool(RuleBasedStateMachine):
    """Both sides of a session: a runtime that may do anything, and a pool that keeps its rules."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session()
        self.ids = itertools.count()
        self.in_hand: bytes | None = None  # given to the session, not settled
        self.late: list[bytes] = []
        self.answered: list[bytes] = []

    def call(self, what: Event, request_id: bytes = b"") -> bool:
        """A call of the runtime; whether it was allowed. Checks that a refusal is known and changes nothing."""
        before = (self.session.state, self.session.request_id)
        try:
            match what:
                case Event.NEXT:
                    self.session.next()
                case Event.INIT_ERROR:
                    self.session.init_error()
                case _:
                    self.session.answer_begins(request_id, what)
        except Refused as refused:
            answer = refused.answer
        else:
            return True
        assert (self.session.state, self.session.request_id) == before
        assert answer in KNOWN_ANSWERS or answer.startswith(b"HTTP/1.1 403 ")
        return False

    @rule()
    def next(self) -> None:
        before = self.session.state
        allowed = self.call(Event.NEXT)
        assert allowed == (Event.NEXT in NEXT[before])
        if before in (State.TORN, State.CUT):
            self.in_hand = None  # it gave its answer up: the sandbox settles it as truncated
        if allowed and self.in_hand is not None and before is not State.DISMISSED:
            assert self.session.state is State.RUNNING, "an event in hand is given to whoever asks"

    @rule(what=st.sampled_from([Event.RESPONSE, Event.ERROR]), other=st.booleans())
    def answer_begins(self, what: Event, other: bool) -> None:
        request_id = b"unknown" if other or self.in_hand is None else self.in_hand
        allowed = self.call(what, request_id)
        assert not (allowed and request_id not in (self.in_hand, b"")), "only the id in hand"
        if other:
            assert not allowed

    @rule(data=st.data())
    def answer_for_what_is_over(self, data: st.DataObject) -> None:
        if self.late or self.answered:
            assert not self.call(Event.RESPONSE, data.draw(st.sampled_from(self.late + self.answered)))

    @precondition(lambda self: self.session.state in (State.RESPONSE, State.ERROR))
    @rule()
    def answer_ends(self) -> None:
        self.session.answer_ends()
        assert self.in_hand is not None
        assert self.in_hand not in self.answered, "one answer to an event"
        self.answered.append(self.in_hand)
        self.in_hand = None

    @precondition(lambda self: self.session.state in (State.RESPONSE, State.ERROR))
    @rule(data=st.data())
    def answer_torn(self, data: st.DataObject) -> None:
        self.session.answer_torn(begun=self.session.state is State.RESPONSE and data.draw(st.booleans()))

    @rule()
    def init_error(self) -> None:
        if self.call(Event.INIT_ERROR):
            self.in_hand = None  # it is the answer to whatever waited

    @precondition(lambda self: self.in_hand is None and self.session.state in (State.STARTED, State.READY, State.DISMISSED))
    @rule()
    def invoke(self) -> None:
        self.in_hand = b"%d" % next(self.ids)
        self.session.invoked(self.in_hand)

    @rule(late=st.booleans())
    def dismiss(self, late: bool) -> None:
        if late and self.in_hand is not None:
            self.late = [*self.late, self.in_hand][-8:]
        self.session.dismissed(late and self.in_hand is not None)
        self.in_hand = None

    @precondition(lambda self: self.session.state is State.DISMISSED)
    @rule()
    def restart(self) -> None:
        self.session.restarted()

    @invariant()
    def id_in_hand_is_the_sessions(self) -> None:
        if self.in_hand is not None:
            assert self.session.request_id == self.in_hand
        elif self.session.state in (State.READY, State.STARTED):
            assert self.session.request_id == b""

    @invariant()
    def running_means_that_there_is_something_to_do(self) -> None:
        if self.session.state in (State.RUNNING, State.RESPONSE, State.ERROR, State.TORN, State.CUT):
            assert self.in_hand is not None


TestSession = pytest.mark.slow(RuntimeAndPool.TestCase)
TestSession.settings = settings(max_examples=150, stateful_step_count=40)
