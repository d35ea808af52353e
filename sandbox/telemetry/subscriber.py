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

    @property
    def separator(self) -> str:
        """What stands between two events, also between those that are one item of a batch."""

    async def send(self, batch: list[bytes]) -> None: ...
    def close(self) -> None: ...


class Subscriber:
    """`told_of_drops` makes the event that tells of so many records and bytes.

    `collect` is called before a batch goes: who notes events to make them later does it then, and tells of them by `expect`.
    """

    __slots__ = (
        "_batch",
        "_bytes",
        "_collect",
        "_dropped",
        "_dropped_bytes",
        "_events",
        "_expected",
        "_full",
        "_items",
        "_loop",
        "_max_bytes",
        "_max_items",
        "_sender",
        "_sending",
        "_timer",
        "_told_of_drops",
        "_urgent",
        "_wanted",
        "name",
        "separator",
        "subscription",
    )

    def __init__(
        self,
        name: str,
        subscription: Subscription,
        sender: Sender,
        told_of_drops: Callable[[int, int], bytes],
        collect: Callable[[], None],
    ) -> None:
        self.name = name
        self.subscription = subscription
        self.separator = sender.separator
        self._sender = sender
        self._told_of_drops = told_of_drops
        self._collect = collect
        self._loop = asyncio.get_running_loop()
        self._events: list[bytes] = []
        self._items = self._bytes = 0
        self._full = False
        self._max_bytes, self._max_items = subscription.max_bytes, subscription.max_items
        self._dropped = self._dropped_bytes = 0
        self._batch: list[bytes] = []  # that is under way
        self._sending = False
        self._urgent = False  # the next one goes as soon as that has gone
        self._expected = False
        self._wanted = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        state = "sending" if self._sending else "waiting"
        return f"<Subscriber {self.name} {state}, {self._items} events, {self._dropped} dropped>"

    def full(self) -> bool:
        """It would drop what it were given."""
        return self._full

    def expect(self) -> None:
        """There will be an event for it: the time after which a batch goes begins."""
        if self._timer is None:
            if self._sending:
                self._expected = True
            else:
                self._timer = self._loop.call_later(self.subscription.timeout_s, self.flush)

    def put(self, event: bytes, count: int = 1) -> None:
        """An event for it, or `count` with separators between them; it is looked at as bytes and never copied."""
        if not self._full and self._items + count > self._max_items:
            self._full = True
            self._next()
        if self._full:
            self.drop(count, len(event))
            return
        self._events.append(event)
        self._items += count
        self._bytes += len(event)
        if self._bytes >= self._max_bytes or self._items >= self._max_items:
            self._full = True
            self._next()
        elif self._timer is None:
            self.expect()

    def drop(self, records: int, size_bytes: int) -> None:
        """So much will never be told."""
        self._dropped += records
        self._dropped_bytes += size_bytes

    def flush(self) -> None:
        """What there is is sent now, or as soon as the batch before is."""
        self._disarm()
        self._expected = False
        self._collect()
        if self._events or self._dropped:
            self._next()

    def _next(self) -> None:
        """The batch that fills up is the next to go: at once if none is under way, so that there is room for another."""
        if self._sending:
            self._urgent = True
            return
        self._disarm()
        batch, self._events, self._items, self._bytes, self._full = self._events, [], 0, 0, False
        if self._dropped:
            told = self._told_of_drops(self._dropped, self._dropped_bytes)
            if Category.PLATFORM in self.subscription.types:
                batch.append(told)
            self._dropped = self._dropped_bytes = 0
        if batch:
            self._batch = batch
            self._sending = True
            self._wanted.set()

    async def run(self) -> None:
        """Sends, until it is cancelled."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                await self._sent(self._batch)
                self._batch = []
                self._sending = False
                if self._urgent or self._dropped:
                    self._urgent = False
                    self.flush()
                elif self._events or self._expected:
                    self.expect()
        finally:
            self._disarm()
            self._sender.close()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

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
