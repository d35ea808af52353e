"""Provisioned concurrency: versions that keep so many sandboxes ready, whatever else is going on. [P]

A provisioned sandbox belongs to its version for good. It is started before anybody asks for it, counts its whole MemorySize from
then on, frozen or not, and is in no index that eviction or keep-alive looks at. An invocation of its version takes it before any
other; who finds none idle is an invocation on demand like all others. One that dies is replaced.

Its concurrency is set aside as on AWS: an idle one takes a slot of the quota that its function draws on (`Share.keep`), and gives
it to the invocation that it works on. So what is provisioned can always be used, and nothing beyond the limit ever runs.

Starts go one after the other, `PARALLEL` at once, for all versions in turn: they wait for stems behind every start that an
invocation waits for.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Final

from gateway.scheduler.state import Instance

if TYPE_CHECKING:
    from gateway.scheduler.group import Group

PARALLEL: Final = 4  #: provisioned sandboxes that are started at once, of all versions
LOOKED_AT: Final = 8  #: versions that one event looks at
FAILURES: Final = 3  #: starts in a row that fail before the version is said to have failed
BACK_OFF_S: Final = 0.1  #: after the first failure, doubled each time
AGAIN_S: Final = 60.0  #: a version that failed is tried again so often
NO_ROOM_S: Final = 0.05  #: the same where memory lacks only now


class Status(enum.Enum):
    """AWS's words."""

    IN_PROGRESS = "IN_PROGRESS"
    READY = "READY"
    FAILED = "FAILED"


class InitFailed(Exception):
    """The function's Init failed or took too long. The text is AWS's reason."""

    def __init__(self) -> None:
        super().__init__("FUNCTION_ERROR_INIT_FAILURE")


class NoRoom(Exception):
    """The machine does not hold what is provisioned."""


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """How far a version is: `allocated` are ready, `available` of them idle. `reason` says why it FAILED."""

    target: int
    allocated: int
    available: int
    status: Status
    reason: str | None = None


class Provision:
    """What one version keeps ready. Everything in here is of that version, and `provisioned`."""

    __slots__ = ("announced", "claimed", "error", "failures", "group", "idle", "members", "retry_s", "starting", "target")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.target = 0
        self.claimed = 0  #: starts that wait for a stem
        self.starting: dict[Instance, None] = {}
        self.members: dict[Instance, None] = {}  #: those that have been started
        self.idle: dict[Instance, None] = {}  #: of these, promised to nobody; newest last
        self.failures = 0  #: since one succeeded
        self.retry_s = 0.0  #: nothing is started before
        self.error: Exception | None = None  #: why it has failed
        self.announced = Status.IN_PROGRESS  #: what was said last

    def __repr__(self) -> str:
        return f"<Provision {self.group.key[0]}:{self.group.key[1]} {len(self.members)}/{self.target}, {len(self.idle)} idle>"

    @property
    def lacks(self) -> int:
        """How many more are to be started; less than 0 if there are too many."""
        return self.target - len(self.members) - len(self.starting) - self.claimed

    @property
    def status(self) -> Status:
        if len(self.members) >= self.target:
            return Status.READY
        return Status.IN_PROGRESS if self.error is None else Status.FAILED

    @property
    def standing(self) -> Standing:
        status = self.status
        reason = str(self.error) if status is Status.FAILED else None
        return Standing(self.target, len(self.members), len(self.idle), status, reason)

    def succeeded(self) -> None:
        self.failures = 0
        self.retry_s = 0.0
        self.error = None

    def failed(self, now: float, error: Exception, *, final: bool) -> None:
        """A start failed. `final`: there is no use in trying again soon."""
        self.failures += 1
        if final or self.failures >= FAILURES:
            self.error = error
            self.retry_s = now + AGAIN_S
        else:
            self.retry_s = now + BACK_OFF_S * 2.0 ** (self.failures - 1)


class Provisions:
    """All of them. `lacking` are those that have to be looked at, in turn; `idle` are in the order in which they became so.

    `short` is one that was looked at last and has no room for what it lacks.
    """

    __slots__ = ("count", "idle", "lacking", "reserved_bytes", "short", "under_way")

    def __init__(self) -> None:
        self.lacking: OrderedDict[Provision, None] = OrderedDict()
        self.idle: OrderedDict[Instance, None] = OrderedDict()
        self.short: Group | None = None
        self.under_way = 0  #: starts, claimed or STARTING
        self.reserved_bytes = 0  #: what all provisioned sandboxes count, those under way too
        self.count = 0  #: how many they are

    def turn(self) -> list[Provision]:
        """The next to be looked at; they go to the end of the line."""
        found = list(islice(self.lacking, LOOKED_AT))
        for provision in found:
            self.lacking.move_to_end(provision)
        return found

    def take(self, provision: Provision) -> None:
        """One more is under way."""
        self.under_way += 1
        self.count += 1
        self.reserved_bytes += provision.group.memory_bytes

    def give_back(self, provision: Provision) -> None:
        """One is provisioned no more."""
        self.count -= 1
        self.reserved_bytes -= provision.group.memory_bytes
