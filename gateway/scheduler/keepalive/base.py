"""What a keep-alive policy is to the scheduler. [P]"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from gateway.records import FunctionVersion
from gateway.scheduler.index import Index
from gateway.scheduler.state import Instance

if TYPE_CHECKING:
    from gateway.scheduler.group import Group

Name = tuple[str, str]  #: function and version, of whatever generation


class Pattern(Protocol):
    """What a policy learns of one function's use. Of the first level, where most functions stay, it is told when a pause of at
    least `KeepAlive.pause_s` is over, and when one begins as soon as anybody asks (`Group.learned`): most invocations need not
    look at it.

    `level` is how many sandboxes of the group work at once, the one in question among them. As the newest idle sandbox is always
    taken first, the deepest of n is used whenever level n is reached, and idle for as long as it is not.
    """

    def used(self, level: int, now: float) -> None:
        """A sandbox was given work."""

    def freed(self, level: int, now: float) -> None:
        """It has answered."""


class Prewarm:
    """A wish to have a sandbox of a function ready: to be fulfilled from `due_s`, pointless after `until_s`.

    `wanted_s` is what `due_s` was before it was postponed.
    """

    __slots__ = ("due_s", "until_s", "version", "wanted_s")

    def __init__(self, version: FunctionVersion, due_s: float, until_s: float) -> None:
        self.version = version
        self.due_s = self.wanted_s = due_s
        self.until_s = until_s

    def __repr__(self) -> str:
        return f"<Prewarm {self.version.name}:{self.version.version} {self.due_s:.1f} to {self.until_s:.1f}>"


class KeepAlive(Protocol):
    """A keep-alive policy. It is only ever asked: what it answers is done by the scheduler, in the same step.

    `pause_s` is the shortest pause between two invocations, one after the other, of which it learns anything.
    """

    pause_s: float

    def known(self, group: Group, now: float) -> Pattern | None:
        """A group was made; what is to learn from it, or None."""

    def retired(self, name: Name) -> None:
        """Its version was changed or deleted: no sandbox of it is to be started any more."""

    def keep_until(self, instance: Instance, now: float) -> float:
        """A sandbox is about to be frozen: until when it is kept. Not later than `now`: it is stopped instead. May be `inf`."""

    def victim(self, index: Index, spared: Instance | None, now: float) -> Instance | None:
        """Which frozen sandbox goes first, but for `spared`; None if there is no other. It is in the index still."""

    def due(self, now: float) -> Iterator[Prewarm]:
        """Whom to start a sandbox for now. Each is told once."""

    def postpone(self, prewarm: Prewarm, due_s: float) -> None:
        """There was no room yet: tell it again."""

    def next_s(self) -> float:
        """When `due` has something to tell; `inf` for nothing."""


class Prewarms:
    """Wishes by time, at most one a function: a later one replaces it."""

    __slots__ = ("_heap", "_order", "_valid")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Prewarm]] = []
        self._order = itertools.count()
        self._valid: dict[Name, Prewarm] = {}

    def __len__(self) -> int:
        return len(self._valid)

    def add(self, prewarm: Prewarm) -> None:
        self._valid[prewarm.version.name, prewarm.version.version] = prewarm
        heapq.heappush(self._heap, (prewarm.due_s, next(self._order), prewarm))
        if len(self._heap) > 64 + 2 * len(self._valid):  # what was replaced is swept out when it is most of it
            self._heap = [entry for entry in self._heap if self._stands(entry[2])]
            heapq.heapify(self._heap)

    def drop(self, name: Name) -> None:
        self._valid.pop(name, None)

    def due(self, now: float) -> Iterator[Prewarm]:
        while self._heap and self._heap[0][0] <= now:
            prewarm = heapq.heappop(self._heap)[2]
            if self._stands(prewarm):
                del self._valid[prewarm.version.name, prewarm.version.version]
                if now <= prewarm.until_s:
                    yield prewarm

    def next_s(self) -> float:
        while self._heap and not self._stands(self._heap[0][2]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")

    def _stands(self, prewarm: Prewarm) -> bool:
        return self._valid.get((prewarm.version.name, prewarm.version.version)) is prewarm


def oldest(index: Index, spared: Instance | None) -> Instance | None:
    """The frozen sandbox that was used longest ago, but for `spared`."""
    for instance in index.frozen:
        if instance is not spared:
            return instance
    return None
