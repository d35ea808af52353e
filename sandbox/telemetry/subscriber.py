"""One extension that is told: what waits for it, when that is sent, and what becomes of it if it can't take it.

A batch is sent when it is full, by items or bytes, or as old as the subscription says; never more than one at a time. What comes
meanwhile makes the next one. When that is full too the extension has fallen behind: events are dropped and counted, and the count
is told (platform.logsDropped) with the next batch. A listener that is not there, closes the connection or answers with an error
is tried again, ever more slowly, with the same batch. So an extension can hold its two batches here and no more, and nobody ever
waits for it.

No time-out hurries a listener: its environment may be frozen before it answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from sandbox.telemetry.subscription import Category, Subscription

RETRY_LEAST_S: Final = 0.1
RETRY_MOST_S: Final = 5.0

_log = logging.getLogger(__name__)


class Sender(Protocol):
    """The way to a listener. `send` returns when it has taken the batch; raises OSError where it has not."""

    async def send(self, batch: list[bytes]) -> None: ...
    def close(self) -> None: ...


class Subscriber:
    """`told_of_drops` makes the event that tells of so many records and bytes."""

    __slots__ = (
        "_bytes",
        "_dropped",
        "_dropped_bytes",
        "_events",
        "_full",
        "_loop",
        "_max_bytes",
        "_max_items",
        "_sender",
        "_sending",
        "_timer",
        "_told_of_drops",
        "_wanted",
        "name",
        "subscription",
    )

    def __init__(self, name: str, subscription: Subscription, sender: Sender, told_of_drops: Callable[[int, int], bytes]) -> None:
        self.name = name
        self.subscription = subscription
        self._sender = sender
        self._told_of_drops = told_of_drops
        self._loop = asyncio.get_running_loop()
        self._events: list[bytes] = []
        self._bytes = 0
        self._full = False
        self._max_bytes, self._max_items = subscription.max_bytes, subscription.max_items
        self._dropped = self._dropped_bytes = 0
        self._sending = False
        self._wanted = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        state = "sending" if self._sending else "waiting"
        return f"<Subscriber {self.name} {state}, {len(self._events)} events, {self._dropped} dropped>"

    def full(self) -> bool:
        """It would drop what it were given."""
        return self._full

    def put(self, event: bytes) -> None:
        """An event for it; it is looked at as bytes and never copied."""
        if self._full:
            self.drop(1, len(event))
            return
        events = self._events
        events.append(event)
        self._bytes += len(event)
        if self._bytes >= self._max_bytes or len(events) >= self._max_items:
            self._full = True
            self.flush()
        elif self._timer is None and not self._sending:
            self._timer = self._loop.call_later(self.subscription.timeout_s, self.flush)

    def drop(self, records: int, size_bytes: int) -> None:
        """So much will never be told."""
        self._dropped += records
        self._dropped_bytes += size_bytes

    def flush(self) -> None:
        """What there is is sent now, or as soon as the batch before is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._events or self._dropped:
            self._wanted.set()

    async def run(self) -> None:
        """Sends, until it is cancelled."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                batch = self._taken()
                if batch:
                    self._sending = True
                    await self._sent(batch)
                    self._sending = False
                if self.full() or self._dropped:
                    self.flush()
                elif self._events and self._timer is None:
                    self._timer = self._loop.call_later(self.subscription.timeout_s, self.flush)
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._sender.close()

    def _taken(self) -> list[bytes]:
        batch, self._events, self._bytes, self._full = self._events, [], 0, False
        if self._dropped:
            if Category.PLATFORM in self.subscription.types:
                batch.append(self._told_of_drops(self._dropped, self._dropped_bytes))
            self._dropped = self._dropped_bytes = 0
        return batch

    async def _sent(self, batch: list[bytes]) -> None:
        delay_s = RETRY_LEAST_S
        while True:
            try:
                await self._sender.send(batch)
            except OSError as error:
                _log.debug("telemetry for %s: %s", self.name, error)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_MOST_S)
            else:
                return
