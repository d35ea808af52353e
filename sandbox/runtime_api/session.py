"""Which call of the Runtime API is allowed when: the states of one runtime, as a table and the little that walks it. [P]

The states and their names are AWS's (runtime interface emulator, internal/lambda/core/states.go), because a refusal names
them to the runtime; TORN and DISMISSED are ours. Order of checks is AWS's too: first the request id (400), then the state
(403). A call that is not in the table is refused and changes nothing.

`next` is allowed while an event is being worked on, and is answered with the same event again: that is how a runtime gets
over a connection that broke before it had read all of it.
"""

from __future__ import annotations

import collections
import enum
from typing import Final

from sandbox.runtime_api import wire


class State(enum.StrEnum):
    """Where the runtime is, from what it said last."""

    STARTED = "Started"  #: initialising; an event may wait for it already
    INIT_ERROR = "InitError"
    READY = "Ready"  #: asked for `next`
    RUNNING = "Running"  #: has an event, or will as soon as it asks for it again
    RESPONSE = "InvocationResponse"  #: its response is being read
    ERROR = "InvocationErrorResponse"  #: its error is being read
    TORN = "Torn"  #: the connection broke in the middle of its answer, which may come again
    CUT = "Cut"  #: the same, but what there was of the answer is with the caller already, so it can't come again
    SENT = "ResponseSent"  #: answered, has not asked for `next` yet
    DISMISSED = "Dismissed"  #: about to be killed and replaced; an event may wait for its successor already


class Event(enum.StrEnum):
    """What moves it. The values of the runtime's calls are the states they aim at, as the refusals name them."""

    NEXT = "Ready"
    RESPONSE = "InvocationResponse"
    ERROR = "InvocationErrorResponse"
    INIT_ERROR = "InitError"
    INVOKED = "Running"
    ANSWERED = "ResponseSent"
    TORN = "Torn"
    CUT = "Cut"
    DISMISSED = "Dismissed"
    RESTARTED = "Started"


NEXT: Final[dict[State, dict[Event, State]]] = {
    State.STARTED: {
        Event.NEXT: State.READY,
        Event.INIT_ERROR: State.INIT_ERROR,
        Event.INVOKED: State.STARTED,
        Event.DISMISSED: State.DISMISSED,
    },
    State.INIT_ERROR: {Event.DISMISSED: State.DISMISSED},
    State.READY: {Event.NEXT: State.READY, Event.INVOKED: State.RUNNING, Event.DISMISSED: State.DISMISSED},
    State.RUNNING: {
        Event.NEXT: State.RUNNING,
        Event.RESPONSE: State.RESPONSE,
        Event.ERROR: State.ERROR,
        Event.DISMISSED: State.DISMISSED,
    },
    State.RESPONSE: {
        Event.ANSWERED: State.SENT,
        Event.TORN: State.TORN,
        Event.CUT: State.CUT,
        Event.DISMISSED: State.DISMISSED,
    },
    State.ERROR: {Event.ANSWERED: State.SENT, Event.TORN: State.TORN, Event.DISMISSED: State.DISMISSED},
    State.TORN: {
        Event.RESPONSE: State.RESPONSE,
        Event.ERROR: State.ERROR,
        Event.NEXT: State.READY,
        Event.DISMISSED: State.DISMISSED,
    },
    State.CUT: {Event.NEXT: State.READY, Event.DISMISSED: State.DISMISSED},
    State.SENT: {Event.NEXT: State.READY, Event.DISMISSED: State.DISMISSED},
    State.DISMISSED: {
        Event.NEXT: State.DISMISSED,  # is left waiting: an error would only be its last words in the function's log
        Event.INVOKED: State.DISMISSED,
        Event.DISMISSED: State.DISMISSED,
        Event.RESTARTED: State.STARTED,
    },
}
REMEMBERED_LATE_IDS: Final = 16

# Reading a member off its enum costs 66 ns in Python 3.11, a module's name 2 ns, and an invocation reads some forty of them.
_NEXT, _INVOKED, _ANSWERED = Event.NEXT, Event.INVOKED, Event.ANSWERED
_STATE_STARTED, _STATE_SENT = State.STARTED, State.SENT
_BROKEN: Final = (State.TORN, State.CUT)


class Refused(Exception):
    """The runtime's call is not allowed now; `answer` is what it is told, whole."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(answer)
        self.answer = answer


class Session:
    """The Runtime API's view of one environment: its state, the id it works on, and the ids that it was too late for."""

    __slots__ = ("_late", "holding", "request_id", "state")

    def __init__(self) -> None:
        self.state = State.STARTED
        self.holding = False  #: extensions still initialise: an event that waits for Init goes on waiting
        self.request_id = b""  #: empty between invocations
        self._late: collections.deque[bytes] = collections.deque(maxlen=REMEMBERED_LATE_IDS)

    def __repr__(self) -> str:
        return f"<Session {self.state.value} {self.request_id.decode('latin-1') or '-'}>"

    def next(self) -> State:
        """The runtime asks for work. Returns the state before; afterwards RUNNING means that it is to be given the event now."""
        before = self.state
        self._move(_NEXT)
        if before is _STATE_SENT or before in _BROKEN:
            self.request_id = b""
        elif before is _STATE_STARTED and self.request_id and not self.holding:
            self._move(_INVOKED)  # the event was waiting for this init to end
        return before

    def released(self) -> bool:
        """Init is over for the extensions too. Whether the runtime is to be given an event now that waited for it."""
        self.holding = False
        if self.request_id and self.state is State.READY:
            self._move(_INVOKED)
            return True
        return False

    def invoked(self, request_id: bytes) -> None:
        """There is an event; the runtime gets it now (RUNNING) or when it first asks (STARTED)."""
        self._move(_INVOKED)
        self.request_id = request_id

    def answer_begins(self, request_id: bytes, what: Event) -> None:
        """The head of a response (RESPONSE) or error (ERROR) has been read. Raises Refused."""
        if request_id != self.request_id or not request_id:
            raise Refused(wire.TOO_LATE if request_id in self._late else wire.INVALID_REQUEST_ID)
        self._move(what)

    def answer_ends(self) -> None:
        """All of the answer is there, or more of it than is allowed."""
        self._move(_ANSWERED)

    def answer_torn(self, begun: bool = False) -> None:
        """The connection broke before all of the answer was there; it may begin again, unless the caller has it in part."""
        self._move(Event.CUT if begun else Event.TORN)

    def init_error(self) -> None:
        """The runtime says that it cannot initialise. Raises Refused."""
        self._move(Event.INIT_ERROR)

    def dismissed(self, late: bool = False) -> None:
        """The runtime is to be replaced, and what it had in hand is settled; with `late` because its deadline has come."""
        if late:
            self._late.append(self.request_id)
        self.request_id = b""
        self.holding = False
        self._move(Event.DISMISSED)

    def restarted(self) -> None:
        """The old runtime is dead. An event that came since it was dismissed is for the new one."""
        self._move(Event.RESTARTED)

    def _move(self, event: Event) -> None:
        try:
            self.state = NEXT[self.state][event]
        except KeyError:
            raise Refused(wire.invalid_transition(self.state.value, event.value)) from None
