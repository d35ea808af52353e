"""Invocations that wait: their tickets, and the time at which each has waited long enough. [P]

A ticket waits at one of two places. HELD: it has no concurrency slot yet, and some invocation under the same limit has already
answered, so that a slot is about to come free. QUEUED: it has its slot and waits for a sandbox of its group. Both queues are
ordered dictionaries: first in, first out, and whoever leaves takes no longer than whoever is served.

Whether the waiters of a group are worth a start is thought about again while they wait, often at first and then ever more rarely
(`Rechecks`): a decision comes late by a small part of what somebody has waited already, and a machine that is full for minutes
is not woken a hundred times a second to find that it still is.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.scheduler.admission import Quota
    from gateway.scheduler.group import Group


RECHECK_S: Final = 0.01  #: how soon it is asked again whether waiters are worth a start
RECHECK_SHARE: Final = 0.02  #: and how late that may be, as a part of what the first of them has waited
RECHECK_MOST_S: Final = 1.0


class Place(enum.Enum):
    """Where a ticket is. It moves down this list only, but for a sandbox that turned out dead: PLACED back to QUEUED."""

    NEW = "new"
    HELD = "held"
    QUEUED = "queued"
    PLACED = "placed"  #: a sandbox was given to it
    OUT = "out"  #: refused, or its caller left


_NEW = Place.NEW  # Python 3.11 takes 66 ns to read a member off its enum


class Ticket:
    """One invocation as the scheduler sees it; the pool's subclass knows what to run.

    `deadline_s` is the caller's: by then it wants a sandbox or to be told that there is none.
    """

    __slots__ = ("attempts", "deadline_s", "due_s", "group", "place", "queued_s", "quota")

    group: Group
    quota: Quota  #: whose slot it waits for while HELD

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.place = _NEW
        self.attempts = 0  #: sandboxes that were dead when its event was to be handed over
        self.due_s = deadline_s  #: when its present wait ends
        self.queued_s = 0.0

    def __repr__(self) -> str:
        return f"<Ticket {self.place.value} until {self.due_s:.3f}>"


Line = OrderedDict[Ticket, None]  #: tickets in order of arrival


class _Nobody(Line):
    """The line of all groups for which nobody waits, as of nearly all: no invocation need look whether its own is empty."""

    def __setitem__(self, ticket: Ticket, value: None) -> None:
        raise TypeError("who waits needs a line of its own")


NOBODY: Final = _Nobody()


class Deadlines:
    """Who has waited long enough, found without asking everybody.

    A heap whose entries are not taken out when a ticket moves on: they are skipped when they come up, and swept when they are
    most of it, which makes each ticket's share of the sweeping constant.
    """

    __slots__ = ("_heap", "_sequence", "_sweep_at")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Ticket]] = []
        self._sequence = itertools.count()
        self._sweep_at = 64

    def add(self, ticket: Ticket, due_s: float) -> None:
        ticket.due_s = due_s
        heapq.heappush(self._heap, (due_s, next(self._sequence), ticket))
        if len(self._heap) > self._sweep_at:
            self._heap = [entry for entry in self._heap if _stands(entry)]
            heapq.heapify(self._heap)
            self._sweep_at = max(64, 2 * len(self._heap))

    def next_s(self) -> float | None:
        """The earliest time at which somebody may have waited long enough."""
        while self._heap and not _stands(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self, now: float) -> Ticket | None:
        """Someone whose time has come, or None."""
        due_s = self.next_s()
        return heapq.heappop(self._heap)[2] if due_s is not None and due_s <= now else None


def _stands(entry: tuple[float, int, Ticket]) -> bool:
    due_s, _, ticket = entry
    return ticket.due_s == due_s and (ticket.place is Place.QUEUED or ticket.place is Place.HELD)


def again_s(waited_s: float, now: float) -> float:
    """When to think again about who has waited so long. Times are rounded up, so that one tick does for many."""
    after_s = min(RECHECK_MOST_S, max(RECHECK_S, RECHECK_SHARE * waited_s))
    step_s = RECHECK_S if after_s < 10 * RECHECK_S else 5 * RECHECK_S
    return math.ceil((now + after_s) / step_s) * step_s


class Rechecks:
    """Groups with waiters, and when to think about them again."""

    __slots__ = ("_due_s", "_heap", "_sequence")

    def __init__(self) -> None:
        self._due_s: dict[Group, float] = {}
        self._heap: list[tuple[float, int, Group]] = []
        self._sequence = itertools.count()

    def __repr__(self) -> str:
        return f"<Rechecks of {len(self._due_s)} groups, the next at {self.next_s():.3f}>"

    def __len__(self) -> int:
        return len(self._due_s)

    def __iter__(self) -> Iterator[Group]:
        return iter(self._due_s)

    def __contains__(self, group: Group) -> bool:
        return group in self._due_s

    def add(self, group: Group, due_s: float) -> None:
        """Not later than this; what was said before stands if it is sooner."""
        if due_s < self._due_s.get(group, math.inf):
            self._due_s[group] = due_s
            heapq.heappush(self._heap, (due_s, next(self._sequence), group))

    def next_s(self) -> float:
        """When the next is due; `inf` if nobody waits."""
        while self._heap and self._due_s.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def pop(self, now: float) -> Group | None:
        """A group whose time has come, not listed any more, or None."""
        if self.next_s() > now:
            return None
        group = heapq.heappop(self._heap)[2]
        del self._due_s[group]
        return group
