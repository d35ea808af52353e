"""What every sandbox takes one of and what takes a while to make, made ahead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Generic, TypeVar

from sandbox.tasks import Tasks

log = logging.getLogger("lambent.spawner")

QUIET_S = 0.2
T = TypeVar("T")


class Spares(Generic[T]):
    """Up to `wanted` of what `make` gives (in a thread of `executor`, the loop's own for None), `drop` being its end.

    Made one by one, and only when none was taken for a while: in a burst the processors have better things to do.
    """

    def __init__(
        self, what: str, make: Callable[[], T], drop: Callable[[T], None], *, wanted: int, executor: Executor | None = None
    ) -> None:
        self._what = what
        self._make = make
        self._drop = drop
        self._wanted = wanted
        self._executor = executor
        self._there: list[T] = []
        self._making: set[asyncio.Future[T]] = set()
        self._taken_at_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(lambda error: log.error("a task failed: %r", error))
        self._closing = False

    async def begin(self) -> None:
        """Make the first. Raises OSError where this host cannot have any."""
        self._there.append(await self._one())
        self._refill()

    async def take(self) -> T:
        """A spare one, or one made now when a burst has used them up; the executor bounds how many are made at once.

        Raises OSError. What it gives is the caller's.
        """
        one = self._there.pop() if self._there else await self._one()
        self._taken_at_s = self._loop.time()
        self._refill()
        return one

    async def _one(self) -> T:
        """Whoever waits may be cancelled; what comes then is a spare."""
        making = self._loop.run_in_executor(self._executor, self._make)
        self._making.add(making)
        making.add_done_callback(self._making.discard)
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(self._unclaimed)
            raise

    def _unclaimed(self, made: asyncio.Future[T]) -> None:
        if made.cancelled() or made.exception() is not None:
            return
        if self._closing:
            self._drop(made.result())
        else:
            self._there.append(made.result())

    def _refill(self) -> None:
        if not self._tasks and not self._closing:
            self._tasks.start(self._fill(), f"spare {self._what}s")

    async def _fill(self) -> None:
        while len(self._there) < self._wanted and not self._closing:
            rest_s = self._taken_at_s + QUIET_S - self._loop.time()
            if rest_s > 0:
                await asyncio.sleep(rest_s)
                continue
            try:
                self._there.append(await self._one())
            except OSError as error:
                log.error("no spare %s could be made: %s", self._what, error)
                return

    async def close(self) -> None:
        """Drop all; what is being made is waited for."""
        self._closing = True
        await self._tasks.join()
        if self._making:
            await asyncio.wait(self._making)
            await asyncio.sleep(0)  # for those that were not claimed to come here
        while self._there:
            self._drop(self._there.pop())
