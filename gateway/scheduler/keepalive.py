"""How long an idle sandbox is kept, warm and then frozen. [P]

Both times are the same for all, so whoever became idle first is due first, and a sweep looks at the old end only.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from itertools import islice
from typing import Final

from gateway.scheduler.index import Index
from gateway.scheduler.state import Instance

SWEEP: Final = 16  #: at most so many a sweep: freezing takes about 0.1 ms each, and requests must come in between


class Due(enum.Enum):
    FREEZE = "freeze"
    STOP = "stop"


class KeepAlive:
    """`freeze_after_s` and `ttl_s` both count from the last use."""

    __slots__ = ("_freeze_after_s", "_ttl_s", "_warm_s")

    def __init__(self, freeze_after_s: float, ttl_s: float) -> None:
        self._freeze_after_s = freeze_after_s
        self._ttl_s = ttl_s
        self._warm_s = min(freeze_after_s, ttl_s)

    def idle_until(self, now: float) -> float:
        """When one that becomes idle now has to be looked at."""
        return now + self._warm_s

    def due(self, index: Index, now: float) -> Iterator[tuple[Instance, Due]]:
        """Whose time has come, oldest first, at most `SWEEP` of each kind. Look at it as a whole before changing the index."""
        # Compared as `next_s` computes it, or a rounding could make a sweep due for ever.
        for instance in islice(index.warm, SWEEP):
            if now >= instance.since_s + self._ttl_s:
                yield instance, Due.STOP
            elif now >= instance.since_s + self._freeze_after_s:
                yield instance, Due.FREEZE
            else:
                break
        for instance in islice(index.frozen, SWEEP):
            if now < instance.since_s + self._ttl_s:
                break
            yield instance, Due.STOP

    def next_s(self, index: Index) -> float | None:
        """When the next one is due."""
        warm = next(iter(index.warm), None)
        frozen = next(iter(index.frozen), None)
        times = []
        if warm is not None:
            times.append(warm.since_s + self._warm_s)
        if frozen is not None:
            times.append(frozen.since_s + self._ttl_s)
        return min(times, default=None)
