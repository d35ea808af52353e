"""What the scheduler wants done. The pool performs commands in the order in which they were decided. [P]"""

from __future__ import annotations

import dataclasses
import enum
from typing import Final

from gateway.scheduler.state import Instance
from gateway.scheduler.waiting import Ticket


class Why(enum.Enum):
    """Why an invocation does not get a sandbox."""

    ACCOUNT = "the account's concurrency is used up"
    RESERVED = "the function's reserved concurrency is used up"
    FULL = "too many wait already"
    LATE = "its deadline passed while every sandbox was busy"
    LATE_START = "its deadline passed before a sandbox had started"
    TOO_LARGE = "the function needs more memory than there is"
    FAILED = "its sandbox could not be started"
    CLOSING = "the gateway is going down"


#: Those that a caller may try again, as AWS answers them: 429.
THROTTLES: Final = frozenset({Why.ACCOUNT, Why.RESERVED, Why.FULL, Why.LATE})


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
class Refuse:
    """Tell this invocation that it gets no sandbox. `error` is what the last start failed with, if that is why."""

    ticket: Ticket
    why: Why
    error: Exception | None = None


Command = Make | Specialise | Run | Freeze | Stop | Refuse
