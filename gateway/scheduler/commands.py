"""What the scheduler wants done. The pool performs commands in the order in which they were decided. [P]"""

from __future__ import annotations

import dataclasses
import enum
from typing import Final

from gateway.records import FunctionVersion
from gateway.scheduler.state import Instance
from gateway.scheduler.waiting import Ticket


class Why(enum.Enum):
    """Why an invocation does not get a sandbox."""

    ACCOUNT = "the account's concurrency is used up"
    RESERVED = "the function's reserved concurrency is used up"
    RATE = "so many invocations a second are more than the account's concurrency stands for"
    RESERVED_RATE = "so many invocations a second are more than the function's reserved concurrency stands for"
    SCALING = "the function's sandboxes were started as quickly as may be"
    FULL = "too many wait already"
    LATE = "its deadline passed while every sandbox was busy"
    LATE_START = "its deadline passed before a sandbox had started"
    TOO_LARGE = "the function needs more memory than there is"
    FAILED = "its sandbox could not be started"
    CLOSING = "the gateway is going down"


#: Those that a caller may try again, as AWS answers them: 429.
THROTTLES: Final = frozenset({Why.ACCOUNT, Why.RESERVED, Why.RATE, Why.RESERVED_RATE, Why.SCALING, Why.FULL, Why.LATE})
RETRY_S: Final = 1.0  #: after what time a caller may try again where nobody knows better


@dataclasses.dataclass(slots=True)
class Make:
    """Make a stem. Report `made` or `make_failed`."""

    instance: Instance


@dataclasses.dataclass(slots=True)
class Specialise:
    """Give this stem its group's function and run Init. Report `started` or `start_failed`."""

    instance: Instance


@dataclasses.dataclass(slots=True)
class Run:
    """Hand this invocation's event to this sandbox. Report `settled` and `idled`, or `missed` if the sandbox is dead."""

    ticket: Ticket
    instance: Instance


@dataclasses.dataclass(slots=True)
class Freeze:
    """Freeze, then report what it uses with `measured`."""

    instance: Instance


@dataclasses.dataclass(slots=True)
class Stop:
    """Stop, and report `stopped` when nothing is left."""

    instance: Instance


@dataclasses.dataclass(slots=True)
class Hurry:
    """This one, which was told to stop, takes its time, and somebody waits for its memory: no more of it."""

    instance: Instance


@dataclasses.dataclass(slots=True)
class Refuse:
    """Tell this invocation that it gets no sandbox.

    `error` is what the last start failed with, if that is why. `retry_s` is when it is worth trying again; None is never, as
    far as is known.
    """

    ticket: Ticket
    why: Why
    error: Exception | None = None
    retry_s: float | None = RETRY_S


@dataclasses.dataclass(slots=True)
class Announce:
    """This version's provisioned concurrency is ready, or has failed; `Core.standing` says which."""

    version: FunctionVersion


Command = Make | Specialise | Run | Freeze | Stop | Hurry | Refuse | Announce
