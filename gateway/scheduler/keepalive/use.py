"""What `worth` knows of one function: its gaps level by level, and its beat. [P]

It outlives the function's sandboxes, since those who have none are the ones for whom it matters; a function that was called once
has neither histogram nor beat.
"""

from __future__ import annotations

from typing import Final

from gateway.records import FunctionVersion
from gateway.scheduler.keepalive.gaps import LEAST_S, Gaps, age_density
from gateway.scheduler.keepalive.rhythm import Rhythm

LEVELS: Final = 64  #: sandboxes of one function that are told apart; of those beyond only their age is known
TAIL: Final = 0.99
PATIENCE: Final = 4.0  #: how many times the tail is waited for
KNOWN: Final = 8  #: gaps from which on a tail is believed
UNKNOWN_S: Final = 86_400.0


class Use:
    """`version` is called last, None once it is gone; `free_s[n - 2]` when level n was left last, or first reached.

    `freed_s` is that of the first level, which most functions never leave: without the list there is one thing less to touch.
    """

    __slots__ = ("called_s", "free_s", "freed_s", "gaps", "rhythm", "version")

    def __init__(self, version: FunctionVersion, now: float) -> None:
        self.version: FunctionVersion | None = version
        self.freed_s: float | None = None
        self.free_s: list[float] = []
        self.gaps: list[Gaps | None] = []
        self.rhythm: Rhythm | None = None
        self.called_s = now  #: the last call after a pause

    def __repr__(self) -> str:
        return f"<Use {self.gaps!r} {self.rhythm!r}>"

    def used(self, level: int, now: float) -> None:
        if level == 1:
            free_s = self.freed_s
            if free_s is None:
                self.freed_s = self.called_s = now
                self.gaps.append(None)
                return
        elif level <= len(self.gaps):
            free_s = self.free_s[level - 2]
        else:
            if level <= LEVELS:
                self.free_s.append(now)
                self.gaps.append(None)
            return
        if now - free_s >= LEAST_S:
            self._learn(level, now - free_s, now)

    def freed(self, level: int, now: float) -> None:
        if level == 1:
            self.freed_s = now
        elif level <= LEVELS:
            self.free_s[level - 2] = now

    def density(self, level: int, since_s: float, now: float) -> float:
        """Uses a second of the deepest of so many sandboxes, which was used last at `since_s`; see `Gaps.density`."""
        number = min(level, len(self.gaps)) - 1
        if level > LEVELS or number < 0 or self.freed_s is None:  # or it was started, and its caller left
            return age_density(now - since_s)
        idle_s = max(0.0, now - (self.free_s[number - 1] if number else self.freed_s))
        gaps = self.gaps[number]
        return age_density(idle_s) if gaps is None else gaps.density(idle_s)

    def tail_s(self, level: int) -> float:
        """How long the deepest of so many sandboxes may be idle, and yet be used again."""
        gaps = self.gaps[min(level, len(self.gaps)) - 1] if self.gaps else None
        return UNKNOWN_S if gaps is None or gaps.total < KNOWN else PATIENCE * gaps.tail_s(TAIL)

    def _learn(self, level: int, gap_s: float, now: float) -> None:
        gaps = self.gaps[level - 1]
        if gaps is None:
            gaps = self.gaps[level - 1] = Gaps()
        gaps.add(gap_s)
        if level > 1:
            return
        if self.rhythm is None:
            self.rhythm = Rhythm(self.called_s, now)
        else:
            self.rhythm.called(self.called_s, now)
        self.called_s = now
