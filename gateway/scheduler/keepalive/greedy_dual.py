"""Greedy-Dual keep-alive, as FaasCache has it (Fuerst and Sharma, ASPLOS 2021). [P]

A sandbox's priority is clock + frequency x cost / size, set when it was last used: how often its function was called while any
sandbox of it was there, what a cold start takes, and the memory it holds. The lowest goes first, and the clock becomes what that
one had: so all others age against what comes new. Nothing goes before its memory is needed.
"""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Final

from gateway.scheduler.index import Index
from gateway.scheduler.keepalive.base import Pattern
from gateway.scheduler.keepalive.quiet import Quiet
from gateway.scheduler.scaling import COLD_GUESS_S
from gateway.scheduler.state import Instance, State

if TYPE_CHECKING:
    from gateway.scheduler.group import Group

MIB: Final = 1 << 20


class Frequency:
    """How often a function was called. It begins anew when the last sandbox has gone, as its group does."""

    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0

    def used(self, level: int, now: float) -> None:
        self.calls += 1

    def freed(self, level: int, now: float) -> None: ...


class GreedyDual(Quiet):
    """A heap of those that were frozen; an entry whose sandbox was used since is skipped when it comes up."""

    __slots__ = ("_clock", "_heap", "_order", "_sweep_at")

    pause_s = 0.0

    def __init__(self) -> None:
        self._clock = 0.0
        self._heap: list[tuple[float, int, Instance, float]] = []
        self._order = itertools.count()
        self._sweep_at = 64

    def known(self, group: Group, now: float) -> Pattern | None:
        return Frequency()

    def keep_until(self, instance: Instance, now: float) -> float:
        group = instance.group
        assert isinstance(group.pattern, Frequency)
        cost_s = COLD_GUESS_S if group.cold_s.value is None else group.cold_s.value
        priority = self._clock + group.pattern.calls * cost_s / (instance.memory_bytes / MIB)
        heapq.heappush(self._heap, (priority, next(self._order), instance, instance.since_s))
        if len(self._heap) > self._sweep_at:
            self._heap = [entry for entry in self._heap if entry[2] is instance or _frozen(entry)]
            heapq.heapify(self._heap)
            self._sweep_at = 64 + 2 * len(self._heap)
        return super().keep_until(instance, now)

    def victim(self, index: Index, spared: Instance | None, now: float) -> Instance | None:
        held = None
        found = None
        while self._heap:
            entry = self._heap[0]
            if not _frozen(entry) or entry[2] not in index.frozen:
                heapq.heappop(self._heap)
            elif entry[2] is spared:
                held = heapq.heappop(self._heap)
            else:
                self._clock = entry[0]
                found = entry[2]
                break
        if held is not None:
            heapq.heappush(self._heap, held)
        return found


def _frozen(entry: tuple[float, int, Instance, float]) -> bool:
    _, _, instance, since_s = entry
    return instance.state is State.FROZEN and instance.since_s == since_s
