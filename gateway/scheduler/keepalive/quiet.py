"""A policy that starts nothing by itself and learns nothing: what the simple ones have in common. [P]"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gateway.scheduler.index import Index
from gateway.scheduler.keepalive.base import Name, Pattern, Prewarm, oldest
from gateway.scheduler.state import Instance

if TYPE_CHECKING:
    from gateway.scheduler.group import Group


class Quiet:
    """Keeps everything until its memory is needed, and then lets go what was used longest ago."""

    __slots__ = ()

    pause_s = math.inf

    def known(self, group: Group, now: float) -> Pattern | None:
        return None

    def retired(self, name: Name) -> None: ...

    def keep_until(self, instance: Instance, now: float) -> float:
        return math.inf

    def victim(self, index: Index, spared: Instance | None, now: float) -> Instance | None:
        return oldest(index, spared)

    def due(self, now: float) -> Iterator[Prewarm]:
        return iter(())

    def postpone(self, prewarm: Prewarm, due_s: float) -> None: ...

    def next_s(self) -> float:
        return math.inf
