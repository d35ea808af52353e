"""The search for the knee: the highest rate at which answers still come in time.

Doubles the rate until a step does not keep up, then narrows the gap. A step that failed is run once more before it counts, since
one stall of a busy machine looks the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Awaitable, Callable, Sequence

from loadtests.open_loop import Outcome


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """What it is to keep up. Latency from the intended time: a rate that is a little too high lets it grow without end."""

    p99_ms: float = 50.0
    failed_share: float = 0.001

    def kept_by(self, outcome: Outcome) -> bool:
        return outcome.failed_share <= self.failed_share and outcome.latency.ms(0.99) <= self.p99_ms

    def missed_by_generator(self, outcome: Outcome) -> bool:
        """Whether the generator alone was so late that its lag explains a good part of the miss."""
        return outcome.lag.ms(0.99) > self.p99_ms / 2


class Search:
    """Which rate to try next: `rate_per_s`, None when it is over. `knee_per_s` is the highest that was kept up with, if any."""

    def __init__(self, first_per_s: float, most_per_s: float, within: float = 0.1) -> None:
        self.rate_per_s: float | None = min(first_per_s, most_per_s)
        self.knee_per_s: float | None = None
        self.missed_per_s: float | None = None
        self._most_per_s = most_per_s
        self._within = within

    def tell(self, kept_up: bool) -> None:
        """What came of `rate_per_s`."""
        assert self.rate_per_s is not None
        if kept_up:
            self.knee_per_s = self.rate_per_s
        else:
            self.missed_per_s = self.rate_per_s
        self.rate_per_s = self._next()

    def _next(self) -> float | None:
        if self.knee_per_s is None:
            return None
        if self.missed_per_s is None:
            return min(2 * self.knee_per_s, self._most_per_s) if self.knee_per_s < self._most_per_s else None
        if self.missed_per_s <= self.knee_per_s * (1 + self._within):
            return None
        return math.sqrt(self.knee_per_s * self.missed_per_s)


async def sweep(
    step: Callable[[float], Awaitable[Outcome]], search: Search, bar: Bar, told: Callable[[Outcome, bool], None]
) -> Outcome | None:
    """Run `step` at the rates of `search` to its end; `told` hears of each. The outcome at the knee, None where there is none."""
    best: Outcome | None = None
    while (rate_per_s := search.rate_per_s) is not None:
        outcome = await step(rate_per_s)
        kept = bar.kept_by(outcome)
        told(outcome, kept)
        if not kept:
            outcome = await step(rate_per_s)
            kept = bar.kept_by(outcome)
            told(outcome, kept)
        if kept:
            best = outcome
        search.tell(kept)
    return best


def conclusion(search: Search, bar: Bar, steps: Sequence[Outcome]) -> str:
    """The result as a sentence or two."""
    missed = [outcome for outcome in steps if outcome.rate_per_s == search.missed_per_s and not bar.kept_by(outcome)]
    if search.knee_per_s is None:
        text = f"Not even {search.missed_per_s:,.0f}/s kept up (p99 within {bar.p99_ms:g} ms, {1 - bar.failed_share:.1%} right)."
    elif search.missed_per_s is None:
        return f"It kept up with {search.knee_per_s:,.0f}/s, where the search ended."
    else:
        text = f"The knee is at {search.knee_per_s:,.0f}/s; {search.missed_per_s:,.0f}/s did not keep up."
    if any(bar.missed_by_generator(outcome) for outcome in missed):
        text += " The generator itself was late there: the limit may be its own."
    return text
