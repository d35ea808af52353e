"""Who has to go when memory or places run out. [P]

Frozen sandboxes first, in the order of the keep-alive policy, then warm ones (which are left only where places are short and
memory is not), the one that was used longest ago first, then stems, the oldest first, and at last what a function's `min_warm`
keeps. Never one that works, starts or is promised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gateway.scheduler.index import Index
from gateway.scheduler.keepalive import KeepAlive
from gateway.scheduler.state import Instance


def victims(
    index: Index, stems: Mapping[Instance, None], policy: KeepAlive, spared: Instance | None, now: float
) -> Iterator[Instance]:
    """Whom to stop, in this order, but for `spared`. Each has to be taken out of its index before the next is asked for."""
    while (frozen := policy.victim(index, spared, now)) is not None:
        yield frozen
    for queue in (index.warm, stems, index.pinned):
        while queue:
            oldest = iter(queue)
            victim = next(oldest)
            if victim is spared:
                if len(queue) == 1:
                    break
                victim = next(oldest)
            yield victim
