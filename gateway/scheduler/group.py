"""All sandboxes and waiters of one generation of one version of one function: they are interchangeable. [P]"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Final

from gateway.records import FunctionVersion
from gateway.scheduler.admission import Share
from gateway.scheduler.keepalive.base import Pattern
from gateway.scheduler.keepalive.overrides import Keep
from gateway.scheduler.provision import Provision
from gateway.scheduler.scaling import Mean, Patience
from gateway.scheduler.state import Instance
from gateway.scheduler.waiting import NOBODY, Line
from gateway.tally import Tally

MIB = 1 << 20
NEVER_S: Final = -math.inf

Key = tuple[str, str, int]  #: function name, version, generation


class Touched:
    """What each invocation touches of a group. Slots of a base class come first: so it is 128 bytes in a row, not all 256."""

    __slots__ = (
        "begun_sum_s", "busy", "finishing", "free_s", "memory_bytes", "newest", "owner", "pattern", "plain", "provision", "quota",
        "run_s", "waiting", "warm",
    )  # fmt: skip


class Group(Touched):
    """What one key has. Counters instead of sets wherever nobody asks which ones they are."""

    __slots__ = (
        "cold_s", "coming", "failures", "forgotten", "frozen", "held", "keep", "key", "patience", "retired", "share", "stem",
        "tally", "version",
    )  # fmt: skip

    def __init__(self, key: Key, version: FunctionVersion, share: Share, tally: Tally) -> None:
        self.key = key
        self.version = version
        self.memory_bytes = _bytes(version.memory_mb)
        self.owner: object = None  #: the scheduler that it belongs to
        self.stem = version.stem
        self.share = share
        self.quota = share.quota  #: that its slots are of; `share.quota`, one step nearer
        self.tally = tally
        self.warm = 0  #: idle and not frozen; see `idle`
        self.newest: Instance | None = None  #: of these, the one that was used last; on it hangs the next
        self.frozen: dict[Instance, None] = {}  #: newest last
        self.waiting: Line = NOBODY
        self.held = 0  #: its tickets that wait for a concurrency slot
        self.coming = 0  #: asked for and not ready: waiting for a stem, or STARTING
        self.busy = 0  #: RESERVED
        self.begun_sum_s = 0.0  #: sum over the busy ones of when they were picked
        self.free_s = NEVER_S  #: when the last of the busy ones had answered
        self.finishing = 0
        self.failures = 0  #: starts that failed since one succeeded
        self.retired = False  #: no arrival finds it any more; it serves who waits already
        self.forgotten = False  #: the last of it went, and its part in its share with it
        self.provision: Provision | None = None  #: what it keeps ready, beside `warm` and `frozen`
        self.plain = True  #: neither retired nor provisioned, as nearly all are
        self.run_s: float | None = None  #: how long an invocation keeps a sandbox, a moving mean
        self.cold_s = Mean()  #: how long a start takes
        self.patience = Patience()
        self.keep: Keep | None = None  #: what its function's tags say about idle sandboxes
        self.pattern: Pattern | None = None  #: what the keep-alive policy learns, if it does; see `learned`

    def __repr__(self) -> str:
        name, version, generation = self.key
        return (
            f"<Group {name}:{version}/{generation} {len(self.waiting)} waiting, {self.coming} coming, {self.busy} busy, "
            f"{self.finishing} finishing, {self.warm} warm, {len(self.frozen)} frozen{', retired' if self.retired else ''}>"
        )

    @property
    def empty(self) -> bool:
        """Nothing of it is left, so it can be forgotten."""
        return not (
            self.waiting or self.warm or self.frozen or self.held or self.coming or self.busy or self.finishing or self.provision
        )

    @property
    def idle(self) -> Iterator[Instance]:
        """Its warm ones, newest first. Look at them as a whole before changing the index."""
        instance = self.newest
        while instance is not None:
            yield instance
            instance = instance.older

    def learned(self) -> Pattern | None:
        """What the keep-alive policy has learned, up to date. That all have answered it is told here, not each time they have."""
        if self.pattern is not None and self.free_s != NEVER_S:
            self.pattern.freed(1, self.free_s)
        return self.pattern

    def mean_elapsed_s(self, now: float) -> float:
        """How long the busy ones have been busy on average."""
        return now - self.begun_sum_s / self.busy if self.busy else 0.0


@functools.cache
def _bytes(memory_mb: int) -> int:
    """One number for all functions of a size: each invocation touches it, and would one of its own."""
    return memory_mb * MIB
