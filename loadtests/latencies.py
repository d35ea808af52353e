"""Durations in an HDR histogram: microseconds to an hour, three digits kept, so that the tail is as exact as the median."""

from __future__ import annotations

from typing import IO, Final

from hdrh.histogram import HdrHistogram

_LONGEST_US: Final = 3_600_000_000
_DIGITS: Final = 3


class Latencies:
    """Durations that were measured."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, _LONGEST_US, _DIGITS)

    def record(self, duration_s: float) -> None:
        """Longer than an hour counts as an hour, shorter than a microsecond as one."""
        self._histogram.record_value(min(max(1, round(duration_s * 1e6)), _LONGEST_US))

    @property
    def count(self) -> int:
        return int(self._histogram.get_total_count())

    @property
    def max_ms(self) -> float:
        return float(self._histogram.get_max_value()) / 1000 if self.count else 0.0

    def ms(self, share: float) -> float:
        """The duration that `share` (0 to 1) of all do not exceed, in milliseconds; 0 where nothing was recorded."""
        return float(self._histogram.get_value_at_percentile(share * 100)) / 1000 if self.count else 0.0

    def write(self, out: IO[bytes]) -> None:
        """The percentile distribution in milliseconds, in the text form that HdrHistogram's plotters read."""
        self._histogram.output_percentile_distribution(out, 1000.0)
