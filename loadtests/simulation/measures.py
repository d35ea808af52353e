"""What is measured of one run.

An invocation is cold if it was the first of its sandbox and came before that was ready. What it waited, for whatever reason, is
its added latency. Memory is wasted while a sandbox that was given a function holds it and does not work.
"""

from __future__ import annotations

import dataclasses
from array import array
from typing import Any

GIB = 1 << 30


@dataclasses.dataclass(slots=True)
class Measures:
    """Of one policy on one trace; filled while it runs."""

    policy: str
    memory_bytes: int
    invocations: int = 0
    cold: int = 0
    refused: int = 0
    starts: int = 0
    prewarms: int = 0
    evictions: int = 0
    waits_s: array[float] = dataclasses.field(default_factory=lambda: array("d"))  #: only those that are not 0
    wasted_byte_s: float = 0.0
    most_bytes: int = 0
    duration_s: float = 0.0
    took_s: float = 0.0  #: on the wall

    @property
    def missed(self) -> int:
        """Cold starts, and calls that were refused for want of memory: whoever refuses has not done better."""
        return self.cold + self.refused

    @property
    def cold_ratio(self) -> float:
        return self.cold / self.invocations if self.invocations else 0.0

    @property
    def per_s(self) -> float:
        """Invocations for each second on the wall."""
        return self.invocations / self.took_s if self.took_s else 0.0

    @property
    def wasted_gib_h(self) -> float:
        return self.wasted_byte_s / GIB / 3600

    def wait_ms(self, share: float) -> float:
        """What this share of all invocations did not exceed."""
        served = self.invocations - self.refused
        rank = int(share * served) - (served - len(self.waits_s))
        if rank < 0 or not self.waits_s:
            return 0.0
        return sorted(self.waits_s)[min(rank, len(self.waits_s) - 1)] * 1000

    def values(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "policy": self.policy,
            "memory_mb": self.memory_bytes >> 20,
            "invocations": self.invocations,
            "cold": self.cold,
            "cold_ratio": self.cold_ratio,
            "refused": self.refused,
            "starts": self.starts,
            "prewarms": self.prewarms,
            "evictions": self.evictions,
            "added_ms": {"p50": self.wait_ms(0.5), "p99": self.wait_ms(0.99), "p99.9": self.wait_ms(0.999)},
            "wasted_gib_h": self.wasted_gib_h,
            "most_memory_mb": self.most_bytes >> 20,
            "invocations_per_s": self.per_s,
        }
