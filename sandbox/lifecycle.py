"""The states of one sandbox as its pool sees it, as a table and the function that walks it. [P]

Finer things are not states of the sandbox: what the runtime inside is doing is `runtime_api.session`'s, and whether the
environment must be renewed before it can work again is a flag of `Sandbox`, because that can be so in READY, FROZEN and BUSY.
"""

from __future__ import annotations

import enum
from typing import Final


class State(enum.StrEnum):
    STARTING = "starting"  #: a stem: made, without a function
    INIT = "init"  #: given its function, in its first Init phase
    READY = "ready"  #: can take work
    BUSY = "busy"  #: from the event until the environment is free again, which is later than the answer
    FROZEN = "frozen"  #: can take work, and is thawed for it
    STOPPING = "stopping"  #: told to stop
    DEAD = "dead"  #: stopped, or gone by itself


class Event(enum.StrEnum):
    SPECIALISED = "specialised"  #: it has been given its function
    INITIALISED = "initialised"  #: the Init phase is over, well or not
    INVOKED = "invoked"
    RELEASED = "released"  #: the environment is free again
    FROZEN = "frozen"
    STOPPED = "stopped"  #: its owner wants it to end
    DIED = "died"  #: nothing of it is left, or nothing that could work


NEXT: Final[dict[State, dict[Event, State]]] = {
    State.STARTING: {Event.SPECIALISED: State.INIT, Event.STOPPED: State.STOPPING, Event.DIED: State.DEAD},
    State.INIT: {Event.INITIALISED: State.READY, Event.STOPPED: State.STOPPING, Event.DIED: State.DEAD},
    State.READY: {
        Event.INVOKED: State.BUSY,
        Event.FROZEN: State.FROZEN,
        Event.STOPPED: State.STOPPING,
        Event.DIED: State.DEAD,
    },
    State.BUSY: {Event.RELEASED: State.READY, Event.STOPPED: State.STOPPING, Event.DIED: State.DEAD},
    State.FROZEN: {
        Event.INVOKED: State.BUSY,
        Event.FROZEN: State.FROZEN,
        Event.STOPPED: State.STOPPING,
        Event.DIED: State.DEAD,
    },
    State.STOPPING: {Event.DIED: State.DEAD},
    State.DEAD: {Event.STOPPED: State.DEAD, Event.DIED: State.DEAD},
}
LIVE: Final = frozenset({State.STARTING, State.INIT, State.READY, State.BUSY, State.FROZEN})


class IllegalEvent(Exception):
    """The sandbox cannot see this event in its present state."""


def following(state: State, event: Event) -> State:
    """The state after `event`. Raises IllegalEvent, and then nothing has changed."""
    try:
        return NEXT[state][event]
    except KeyError:
        raise IllegalEvent(f"{event.value} while {state.value}") from None
