"""The open-loop generator: requests come at a constant rate, whatever becomes of those before them.

A client that waits for its answer before it asks again asks less of a slow server, and so never sees how long others would have
waited (coordinated omission). Here the times of all requests are fixed beforehand, and each latency counts from that intended
time: whatever makes a request late, also that no connection was free, is in its latency. What the generator itself was late is
measured too, as `lag`, so that nobody blames the gateway for it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Protocol

from loadtests.latencies import Latencies
from loadtests.timer import Timer

NO_ANSWER: Final = "no answer in time"
_LEAD_S: Final = 0.01  #: from the call to the first request
_AT_ONCE: Final = 32  #: requests that are sent without a look at what came in, when the generator is behind


class Sender(Protocol):
    """Where requests go. `freed` is called whenever a connection became free, after `answered` of the request that had it."""

    freed: Callable[[], None]

    def send(self, answered: Callable[[str | None], None]) -> bool:
        """Begin a request, or return False where no connection is free. `answered` gets None for a right answer, else why not."""
        ...


@dataclasses.dataclass(slots=True)
class Outcome:
    """What one run found. `took_s` is from the first intended time to the last answer; `busy` the share of a core that the
    generator used: near 1 it was the limit itself."""

    rate_per_s: float
    requests: int
    right: int = 0
    failures: Counter[str] = dataclasses.field(default_factory=Counter)
    latency: Latencies = dataclasses.field(default_factory=Latencies)
    lag: Latencies = dataclasses.field(default_factory=Latencies)
    took_s: float = 0.0
    busy: float = 0.0

    @property
    def failed_share(self) -> float:
        return 1 - self.right / self.requests

    @property
    def right_per_s(self) -> float:
        return self.right / self.took_s if self.took_s else 0.0


async def generate(sender: Sender, timer: Timer, rate_per_s: float, seconds: float, *, grace_s: float = 5.0) -> Outcome:
    """Send `rate_per_s` requests a second for `seconds`, then wait `grace_s` for what is still under way.

    What has no answer then is a failure, and its latency so far is recorded: less than the truth, but not left out.
    """
    outcome = Outcome(rate_per_s, max(1, round(rate_per_s * seconds)))
    run = _Run(sender, timer, outcome)
    sender.freed = run.pump
    start_s = timer.now() + _LEAD_S
    used_s = time.process_time()
    for index in range(outcome.requests):
        intended_s = start_s + index / rate_per_s
        if timer.now() < intended_s:
            await timer.until(intended_s)
        elif index % _AT_ONCE == 0:
            await asyncio.sleep(0)
        run.arrive(intended_s)
    await run.end(grace_s)
    outcome.took_s = timer.now() - start_s
    outcome.busy = (time.process_time() - used_s) / outcome.took_s
    return outcome


class _Run:
    def __init__(self, sender: Sender, timer: Timer, outcome: Outcome) -> None:
        self._sender = sender
        self._timer = timer
        self._outcome = outcome
        self._waiting: deque[int] = deque()  # what has no connection yet, by number
        self._open: dict[int, float] = {}  # intended time of what has no answer yet, waiting or sent
        self._arrived = 0
        self._empty = asyncio.Event()
        self._over = False

    def arrive(self, intended_s: float) -> None:
        self._outcome.lag.record(self._timer.now() - intended_s)
        self._arrived += 1
        self._open[self._arrived] = intended_s
        self._waiting.append(self._arrived)
        self.pump()

    def pump(self) -> None:
        """Send what waits, the eldest first, as long as there are connections."""
        while self._waiting and not self._over:
            if not self._sender.send(functools.partial(self._answered, self._waiting[0])):
                return
            self._waiting.popleft()

    def _answered(self, number: int, reason: str | None) -> None:
        if self._over:
            return
        self._outcome.latency.record(self._timer.now() - self._open.pop(number))
        if reason is None:
            self._outcome.right += 1
        else:
            self._outcome.failures[reason] += 1
        if not self._open:
            self._empty.set()

    async def end(self, grace_s: float) -> None:
        if self._open:
            self._empty.clear()
            try:
                async with asyncio.timeout(grace_s):
                    await self._empty.wait()
            except TimeoutError:
                self._outcome.failures[NO_ANSWER] += len(self._open)
        self._over = True
        for intended_s in self._open.values():
            self._outcome.latency.record(self._timer.now() - intended_s)
