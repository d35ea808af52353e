"""Finds out that a function is called at regular times, and when the next is. [P]

The first interval is the guess. Each call that comes a whole number of periods after the last beat confirms it and corrects it a
little; each that does not speaks against it, and when too many do the guess begins anew. By chance a call falls within the
tolerance one time in five and within the narrow one a time in fifty, so a random function hardly ever gets to `SURE`, a clock
does with its third interval, and a clock that somebody also calls by hand now and then stays one. How many calls come beside the
beats is learned as well, because for those no sandbox is started in time.
"""

from __future__ import annotations

from typing import Final

TOLERANCE: Final = 0.1  #: of the period, either way
NARROW: Final = 0.01
SURE: Final = 3
MOST: Final = 6  #: so that a function that changes its habits is found out after a few calls
WEIGHT: Final = 0.25  #: of the newest interval
STRAY: Final = 0.5  #: of the calls, before any was seen
STRAY_WEIGHT: Final = 0.125  #: of the newest call
SLACK_S: Final = 1.0  #: clocks and queues are not exact


class Rhythm:
    """One function's beat. `error_s` is how far calls were off it, `stray` the share of those that were off by more than the
    margin: for them no sandbox is started in time. Both are moving means.
    """

    __slots__ = ("beat_s", "error_s", "period_s", "score", "stray")

    def __init__(self, first_s: float, second_s: float) -> None:
        self.score = 0
        self.beat_s = 0.0
        self.period_s = 0.0
        self.error_s = 0.0
        self.stray = STRAY
        self._begin(first_s, second_s)

    def __repr__(self) -> str:
        return f"<Rhythm every {self.period_s:.1f} s, off by {self.error_s:.2f} s, score {self.score}>"

    @property
    def sure(self) -> bool:
        """Whether to believe it."""
        return self.score >= SURE

    @property
    def next_s(self) -> float:
        """When the next call is expected."""
        return self.beat_s + self.period_s

    @property
    def margin_s(self) -> float:
        """How much earlier or later that may be."""
        return SLACK_S + 3 * self.error_s

    def called(self, last_s: float, now: float) -> None:
        """A call, and when the one before it was."""
        since_s = now - self.beat_s
        beats = max(1, round(since_s / self.period_s))
        error_s = abs(since_s - beats * self.period_s)
        self.stray += STRAY_WEIGHT * ((error_s > self.margin_s) - self.stray)
        if error_s <= TOLERANCE * self.period_s:
            confirmed = 2 if error_s <= max(SLACK_S / 2, NARROW * self.period_s) else 1
            self.score = min(MOST, self.score + confirmed - (beats - 1))
            self.error_s += WEIGHT * (error_s - self.error_s)
            self.period_s += WEIGHT * (since_s / beats - self.period_s)
            self.beat_s = now
        else:
            self.score -= 1
        if self.score < 0:
            self.score = 0
            self._begin(last_s, now)

    def _begin(self, first_s: float, second_s: float) -> None:
        self.beat_s = second_s
        self.period_s = max(SLACK_S, second_s - first_s)
        self.error_s = 0.0
        self.stray = STRAY
