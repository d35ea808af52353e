"""What survives a restart.

The rest of the gateway sees `Store`: functions go in and out whole, as records. Behind it is SQLite; PostgreSQL will be another
class with the same methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.records import Function


class Store(Protocol):
    """Keeps functions. What `save` has returned from is still there after a `kill -9` or a power cut."""

    async def load(self) -> Sequence[Function]:
        """All functions, in no order."""
        ...

    async def save(self, old: Function | None, new: Function | None) -> None:
        """Put `new` in the place of `old`, all of it or nothing; None for old creates, None for new deletes.

        Two changes of one function must not be under way at once. Raises StoreError, and then nothing has changed.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun. May be called twice."""
        ...
