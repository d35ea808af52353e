"""The life of one sandbox as the scheduler sees it: a table, and the record that walks it. [P]

Everything that may happen to a sandbox, and when, is in `NEXT`; what is not there is an error and changes nothing. A sandbox
begins as a stem that belongs to no function, is given one, and from then on only ever serves that version of it.

Three things are not in the table on purpose. Init that fails is no event: a sandbox whose function could not be initialised still
takes work (AWS repeats Init inside the invocation). A sandbox that is reset after a time-out stays what it is. And there is no
way back to STEM: what has seen a function's code never serves another one.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Final

from sandbox.spec import StemKey

if TYPE_CHECKING:
    from gateway.scheduler.group import Group


class State(enum.Enum):
    """Where a sandbox is."""

    MAKING = "making"  #: a stem was asked for; its memory is already counted
    STEM = "stem"  #: made, and belongs to no function yet
    STARTING = "starting"  #: was given its function; Init runs
    IDLE = "idle"  #: warm and promised to nobody
    FROZEN = "frozen"  #: idle without CPU; promised to nobody
    RESERVED = "reserved"  #: promised to one invocation, begun or not
    FINISHING = "finishing"  #: has answered, but not asked for the next event yet
    STOPPING = "stopping"  #: told to stop; its memory is not free yet
    GONE = "gone"

    __hash__ = object.__hash__  # members are singletons; enum's own hashes the name in Python, twice a transition


class Event(enum.Enum):
    """What happens to it, in the past tense."""

    MADE = "made"
    CLAIMED = "claimed"
    READY = "ready"
    PICKED = "picked"
    SETTLED = "settled"
    RELEASED = "released"
    COOLED = "cooled"
    RETIRED = "retired"  #: we let it go
    DIED = "died"  #: it went away by itself, or is stopped under its work when the gateway closes
    EXITED = "exited"  #: nothing of it is left

    __hash__ = object.__hash__


NEXT: Final = {
    State.MAKING: {Event.MADE: State.STEM, Event.EXITED: State.GONE},
    State.STEM: {Event.CLAIMED: State.STARTING, Event.RETIRED: State.STOPPING, Event.DIED: State.STOPPING},
    State.STARTING: {Event.READY: State.IDLE, Event.DIED: State.STOPPING},
    State.IDLE: {
        Event.PICKED: State.RESERVED,
        Event.COOLED: State.FROZEN,
        Event.RETIRED: State.STOPPING,
        Event.DIED: State.STOPPING,
    },
    State.FROZEN: {Event.PICKED: State.RESERVED, Event.RETIRED: State.STOPPING, Event.DIED: State.STOPPING},
    State.RESERVED: {Event.SETTLED: State.FINISHING, Event.DIED: State.STOPPING},
    State.FINISHING: {Event.RELEASED: State.IDLE, Event.DIED: State.STOPPING},
    State.STOPPING: {Event.EXITED: State.GONE},
    State.GONE: {},
}


class IllegalEvent(Exception):
    """The sandbox cannot see this event in its present state."""


def following(state: State, event: Event) -> State:
    """The state after `event`. Raises IllegalEvent."""
    try:
        return NEXT[state][event]
    except KeyError:
        raise IllegalEvent(f"{event.value} while {state.value}") from None


class Touched:
    """What each invocation touches of a sandbox: slots of a base class come first, so it is one line of the processor's cache."""

    __slots__ = ("group", "memory_bytes", "newer", "older", "since_s", "state")


class Instance(Touched):
    """What the scheduler knows of one sandbox.

    `memory_bytes` is what it counts now. `since_s` is when it was asked for (STARTING), picked (RESERVED, FINISHING) or last used
    (IDLE, FROZEN). `group` and `claimed_s`, when it was given its function, are not set before CLAIMED. `kept_s` and `listed_s`
    are `Cooling`'s: until when it is kept once it is frozen, and when that is looked at. `provisioned` is whether its version
    keeps it for good; see `provision`. `older` and `newer` are the index's: the warm ones of its group beside it.
    """

    __slots__ = ("claimed_s", "kept_s", "listed_s", "number", "provisioned", "stem")

    group: Group
    claimed_s: float

    def __init__(self, number: int, stem: StemKey, memory_bytes: int) -> None:
        self.number = number
        self.stem = stem
        self.memory_bytes = memory_bytes
        self.state = State.MAKING
        self.since_s = 0.0
        self.kept_s = math.inf
        self.listed_s = math.inf
        self.provisioned = False
        self.older: Instance | None = None
        self.newer: Instance | None = None

    def see(self, event: Event) -> None:
        """Move to the state after `event`. Raises IllegalEvent, and then nothing has changed."""
        self.state = following(self.state, event)

    def __repr__(self) -> str:
        owner = f"{self.group.key[0]}:{self.group.key[1]}" if hasattr(self, "group") else self.stem.runtime
        return f"<Instance {self.number} {owner} {self.state.value} {self.memory_bytes >> 20} MB>"
