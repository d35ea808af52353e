"""How many sandboxes the waiters of one group are worth. [P]

A start helps nobody before it is ready, a cold start from now. Until then, and after, the sandboxes that there are (busy, or on
their way) work the queue off: with `p` waiting, `k` of them and `run_s` an invocation that takes p·run_s/k. Only if that is
longer than a cold start does one more sandbox serve anybody sooner, and so a burst of N short invocations starts about
N·run_s/cold_s of them instead of N, while N long ones start N.

That rule alone would let one sandbox serve a steady stream of short invocations that all wait a little, for ever. So waiting is
also added up: when a group's invocations have waited as long in all as a cold start takes, without a pause between them, one
more sandbox is worth it, whatever the single wait was. It costs at most what was already lost (the ski-rental argument).

What is not known is guessed low and corrected by looking: while nothing has finished yet, the invocations that run have taken at
least as long as they have run so far. So a burst for a function that was never seen starts a few at once, a quarter of it in all,
and the rest about one cold start later if the first ones still run.
"""

from __future__ import annotations

from typing import Final

WEIGHT: Final = 0.2  #: of the newest observation in a moving mean
COLD_GUESS_S: Final = 0.1  #: a cold start before any was seen
UNDOUBTED: Final = 4  #: starts for a function of unknown duration that are not thought about
RUN_GUESS: Final = 0.25  #: its duration beyond those, in cold starts
FORGIVEN_AFTER_S: Final = 1.0  #: without anybody waiting, what was waited before counts no more


class Mean:
    """A moving mean that begins with the first observation; `value` is None before it."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float | None = None

    def add(self, observation: float) -> None:
        value = self.value
        self.value = observation if value is None else value + WEIGHT * (observation - value)


class Patience:
    """What the invocations of a group have waited in all for sandboxes that were busy: since a start, or since nobody waited."""

    __slots__ = ("_grown_s", "_last_s", "waited_s")

    def __init__(self) -> None:
        self.waited_s = 0.0
        self._grown_s = 0.0  # when a start was last over: waiting for that is no reason for another
        self._last_s = 0.0  # when somebody last had waited

    def add(self, since_s: float, now: float) -> None:
        """Somebody who waited since then waits no longer."""
        if now - self._last_s > FORGIVEN_AFTER_S:
            self.waited_s = 0.0
        self._last_s = now
        self.waited_s += now - max(since_s, self._grown_s)

    def start_began(self) -> None:
        self.waited_s = 0.0

    def start_ended(self, now: float) -> None:
        self._grown_s = now


def worth_starting(
    *, waiting: int, coming: int, busy: int, run_s: float | None, elapsed_s: float, waited_s: float, cold_s: float
) -> bool:
    """Whether one more start serves the waiters sooner than what there is.

    `waiting` does not count those who will be served by a sandbox that is just finishing. `elapsed_s` is how long the busy
    ones have been busy on average, `waited_s` how long invocations have waited for them in all (see `Patience`).
    """
    if coming >= waiting:
        return False
    serving = coming + busy
    if not serving or waited_s > cold_s:
        return True
    if run_s is None:
        run_s = cold_s if serving < UNDOUBTED else RUN_GUESS * cold_s
    return waiting * max(run_s, elapsed_s) > serving * cold_s
