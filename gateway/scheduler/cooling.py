"""When an idle sandbox is looked at: to be frozen a while after its last use, and to be let go when its policy says so. [P]

The first time is the same for all, so whoever became idle first is due first, and a sweep looks at the old end only. The second
is asked for when a sandbox is frozen and stands in a heap, each sandbox once: one that was used meanwhile, and frozen again, is
put back with its new time when the old one comes up. So using a sandbox costs nothing here.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from gateway.scheduler.index import Index
from gateway.scheduler.keepalive import KeepAlive
from gateway.scheduler.state import Instance

if TYPE_CHECKING:
    from gateway.scheduler.group import Group

SWEEP: Final = 16  #: at most so many a sweep: freezing takes about 0.1 ms each, and requests must come in between


class Due(enum.Enum):
    FREEZE = "freeze"
    STOP = "stop"


class Cooling:
    """`freeze_after_s` counts from the last use; where `keep_alive_s` is shorter, that."""

    __slots__ = ("_heap", "_index", "_order", "_policy", "_warm_s")

    def __init__(self, index: Index, policy: KeepAlive, freeze_after_s: float, keep_alive_s: float) -> None:
        self._index = index
        self._warm_s = min(freeze_after_s, keep_alive_s)
        self._policy = policy
        self._heap: list[tuple[float, int, Instance]] = []
        self._order = itertools.count()

    def idle_until(self, now: float) -> float:
        """When one that becomes idle now has to be looked at."""
        return now + self._warm_s

    def due(self, now: float) -> Iterator[tuple[Instance, Due]]:
        """Whose time has come, oldest first, at most `SWEEP` of each kind. Look at it as a whole before changing the index."""
        index = self._index
        for _ in range(SWEEP):
            if not self._heap or self._heap[0][0] > now:
                break
            due_s, _, instance = heapq.heappop(self._heap)
            if due_s != instance.listed_s:
                continue
            instance.listed_s = math.inf
            if instance not in index.frozen:
                continue
            if instance.kept_s <= now:
                if index.pins(instance.group):
                    index.pin(instance)
                else:
                    yield instance, Due.STOP
            else:
                self._list(instance)
        # After the others, whose entries may be of those that are frozen again now. Compared as `next_s` computes it, or a
        # rounding could make a sweep due for ever.
        promised: Counter[Group] = Counter()  # pins, to those that are to be frozen with this sweep
        for instance in islice(index.warm, SWEEP):
            if now < instance.since_s + self._warm_s:
                break
            kept_s = self.keep(instance, now, promised[instance.group])
            promised[instance.group] += kept_s == math.inf
            yield instance, Due.FREEZE if kept_s > now else Due.STOP

    def keep(self, instance: Instance, now: float, promised: int = 0) -> float:
        """One is about to be frozen: until when it is kept. So many of its group's pins are promised to others."""
        instance.kept_s = self._policy.keep_until(instance, now)
        keep = instance.group.keep
        if keep is not None:
            group = instance.group
            if keep.max_warm is not None and len(group.frozen) >= keep.max_warm:
                instance.kept_s = now
            elif self._index.pins(group, promised):
                instance.kept_s = math.inf
            elif keep.idle_ttl_s is not None:
                instance.kept_s = instance.since_s + keep.idle_ttl_s
        self._list(instance)
        return instance.kept_s

    def again(self, group: Group, now: float) -> None:
        """A group's own rules changed: its frozen sandboxes are looked at anew. What is too many goes with the next sweep."""
        frozen = list(group.frozen)
        self._index.unpin(group)
        group.frozen.clear()
        for instance in frozen:
            self.keep(instance, now)
            if self._index.pins(group):
                self._index.pin(instance)
            group.frozen[instance] = None

    def next_s(self) -> float:
        """When the next one is due."""
        warm = next(iter(self._index.warm), None)
        due_s = self._heap[0][0] if self._heap else math.inf
        return due_s if warm is None else min(due_s, warm.since_s + self._warm_s)

    def _list(self, instance: Instance) -> None:
        if instance.kept_s < instance.listed_s:
            instance.listed_s = instance.kept_s
            heapq.heappush(self._heap, (instance.kept_s, next(self._order), instance))
            if len(self._heap) > 64 + 2 * len(self._index.frozen):  # most of them were used since, or are gone
                self._sweep(instance)

    def _sweep(self, newest: Instance) -> None:
        """Drop the entries of those that are not frozen, but for the newest, which is about to be."""
        stand = []
        for entry in self._heap:
            due_s, _, instance = entry
            if due_s != instance.listed_s:
                continue
            if instance is newest or instance in self._index.frozen:
                stand.append(entry)
            else:
                instance.listed_s = math.inf
        heapq.heapify(stand)
        self._heap = stand
