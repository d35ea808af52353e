"""Percentiles of durations that were counted in buckets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def percentile_s(bounds_s: Sequence[float], counts: Mapping[int, int], share: float) -> float | None:
    """The duration that `share` of all were not longer than, None where there are none.

    `counts` are by number of the bound that they are at most; one beyond the last is for all that is longer, of which nothing but
    that is known. Within a bucket they are taken to be spread evenly.
    """
    total = sum(counts.values())
    if not total:
        return None
    left = share * total
    for at in sorted(counts):
        if counts[at] >= left:
            if at >= len(bounds_s):
                break
            lower = bounds_s[at - 1] if at else 0.0
            return lower + (bounds_s[at] - lower) * left / counts[at]
        left -= counts[at]
    return bounds_s[-1]
