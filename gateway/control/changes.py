"""How a function or a layer changes: one change at a time, on disk before it is seen, seen everywhere at once.

A use case is a pure function from the record as it is to the record as it shall be. Here it is run under the lock of that one
name (changes of other functions do not wait), then the store commits, then the catalog swaps the record and tells its
subscribers: in that order, so that nobody ever sees a function that a restart would forget.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Generic, Protocol, TypeVar

from gateway.records import Function
from sandbox.tasks import Tasks

T = TypeVar("T")
R = TypeVar("R")
C = TypeVar("C", contravariant=True)

#: From what a function is (None: there is none) to what it shall be (None: gone) and the use case's own answer.
Edit = Callable[[Function | None], tuple[Function | None, T]]


class Saves(Protocol[C]):
    """What is used of a store; see `Store.save`."""

    async def save(self, old: C | None, new: C | None) -> None: ...


class Shows(Protocol[R]):
    """What is used of a catalog; see `Catalog`."""

    def get(self, name: str, /) -> R | None: ...
    def replace(self, name: str, new: R | None) -> None: ...


class ChangesOf(Generic[R]):
    """Changes functions, or layers, in a store and a catalog."""

    def __init__(self, *, store: Saves[R], catalog: Shows[R]) -> None:
        self._store = store
        self._catalog = catalog
        self._turns: dict[str, _Turn] = {}
        self._tasks = Tasks(lambda error: None)  # whoever asked for the change waits for it, and is told

    async def change(self, name: str, edit: Callable[[R | None], tuple[R | None, T]]) -> T:
        """Run `edit` on the record and make what it returns true. What `edit` raises changes nothing.

        Raises StoreError when it could not be committed; then nothing has changed either. Cancelling does not stop a
        change that has begun: it is finished first.
        """
        async with self._turn(name):
            old = self._catalog.get(name)
            new, answer = edit(old)
            if new is not old:
                await _to_the_end(self._tasks.start(self._commit(name, old, new), f"change of {name}"))
            return answer

    async def _commit(self, name: str, old: R | None, new: R | None) -> None:
        await self._store.save(old, new)
        self._catalog.replace(name, new)

    @contextlib.asynccontextmanager
    async def _turn(self, name: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(name, _Turn())
        turn.wanted += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.wanted -= 1
            if not turn.wanted:
                del self._turns[name]


Changes = ChangesOf[Function]


class _Turn:
    __slots__ = ("lock", "wanted")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.wanted = 0  # how many hold it or wait for it


async def _to_the_end(task: asyncio.Task[None]) -> None:
    """Wait for it even when the waiter is cancelled: half of a change must not be left for the next one to find."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:
            break
    task.result()
    if cancelled is not None:
        raise cancelled
