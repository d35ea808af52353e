"""How long sandboxes of one function were idle before they were used again: a histogram, and what it says of the next time. [P]

Bins grow by a fifth, from one second to three days; shorter times are no question of keeping, longer ones count as the longest.
A count is one byte: when one is full all are halved, so that what was long ago fades and a histogram never takes more than its
72 bytes.

What it is asked is the hit density (Beckmann, Chen and Cidon, "LHD", NSDI 2018): of a sandbox that has been idle for t, how
many uses a second it gives if it is kept for the best further while. An exponential distribution has the same density at any
age, one with a mode gains worth as the mode comes nearer, and a bursty one loses it quickly. To what was seen one use is added
that may come any time, half of it within as long again as it has been idle: so a function that was called once is worth what
its age says, as in LRU, and one that was called often what it showed.
"""

from __future__ import annotations

import math
from typing import Final

STEPS: Final = 4  #: bins for a doubling
BINS: Final = 72
LEAST_S: Final = 1.0  #: shorter gaps are not counted
EDGES: Final = tuple(2 ** (number / STEPS) for number in range(BINS + 1))
MIDDLES: Final = tuple(2 ** ((number + 0.5) / STEPS) for number in range(BINS))
FULL: Final = 255
PRIOR: Final = 1.0  #: uses that are taken to have been seen
AGE_LEAST_S: Final = 300.0  #: who was used just now is not worth any sum for that alone


def bin_of(gap_s: float) -> int:
    """Which bin a gap is counted in."""
    return 0 if gap_s < LEAST_S else min(BINS - 1, int(STEPS * math.log2(gap_s)))


class Gaps:
    """One histogram."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = bytearray(BINS)
        self.total = 0

    def __repr__(self) -> str:
        seen = ", ".join(f"{MIDDLES[number]:.0f} s: {count}" for number, count in enumerate(self.counts) if count)
        return f"<Gaps {seen}>"

    def add(self, gap_s: float) -> None:
        number = bin_of(gap_s)
        counts = self.counts
        if counts[number] == FULL:
            self.counts = counts = bytearray(count >> 1 for count in counts)
            self.total = sum(counts)
        counts[number] += 1
        self.total += 1

    def tail_s(self, share: float) -> float:
        """The upper edge of the bin below which this share of the gaps is; 0 if there are none."""
        above = 0
        beyond = (1 - share) * self.total
        for number in range(len(self.counts.rstrip(b"\0")) - 1, -1, -1):
            above += self.counts[number]
            if above > beyond:
                return EDGES[number + 1]
        return 0.0

    def density(self, idle_s: float) -> float:
        """Uses a second, if what has been idle for `idle_s` is kept for the best further while."""
        first = bin_of(idle_s)
        counts = self.counts
        age_s = max(idle_s, AGE_LEAST_S)
        hits = PRIOR * 0.5
        best = 0.0
        later = sum(counts[first:])
        if later:
            spent_s = PRIOR * 0.7 * age_s
            left: float = later
            for number in range(first, len(counts.rstrip(b"\0"))):
                count: float = counts[number]
                if not count:
                    continue
                rest_s = EDGES[number + 1] - idle_s
                if number == first:  # part of this bin is over
                    left -= count
                    count *= min(1.0, rest_s / (EDGES[number + 1] - EDGES[number]))
                    left += count
                    spent_s += count * rest_s / 2
                else:
                    spent_s += count * (MIDDLES[number] - idle_s)
                hits += count
                left -= count
                best = max(best, hits / (spent_s + left * rest_s))
        return max(best, 0.7 / age_s / (1 + later / PRIOR))


def age_density(idle_s: float) -> float:
    """The same of something that was never used again."""
    return 0.7 / max(idle_s, AGE_LEAST_S)
