"""SQLite with one writer: a thread that owns the connection and commits many changes at once.

An fsync costs milliseconds, whether it is for one change or for fifty. So the thread takes all that has been asked for meanwhile,
runs each piece in a savepoint of its own (one that fails takes nothing else with it), commits once, and then tells everyone.
Nobody is told before the commit: what `run` returned is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import re
import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

_BATCH_MAX: Final = 256
_HERE: Final = Path(__file__).parent
_QUERY: Final = re.compile(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", re.MULTILINE | re.DOTALL)
_MIGRATION: Final = re.compile(r"(\d{4})_\w+\.sql")


class StoreError(Exception):
    """The database could not do what it was asked; nothing was changed. Ours."""


class StoreTooNew(StoreError):
    """The database was written by a newer version of Lambent."""


def load_queries(text: str) -> Mapping[str, str]:
    """The statements of a .sql file by the name that stands above each, as ``-- name: put_function``."""
    return {name: statement.strip() for name, statement in _QUERY.findall(text)}


QUERIES: Final = load_queries((_HERE / "queries.sql").read_text())


class Database:
    """One SQLite file and the thread that alone talks to it. Make it with `open`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._waiting: queue.SimpleQueue[tuple[Work, asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, path: Path) -> Database:
        """Open or make the file and bring its tables up to date.

        Raises StoreTooNew for tables of a newer version, StoreError for a file that cannot be used.
        """
        return cls(await asyncio.to_thread(_connect, path))

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Have `work(connection)` done in the thread and committed. Raises StoreError when it or the commit failed.

        Cancelling the caller does not undo it.
        """
        if self._closed:
            raise StoreError("the database is closed")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.put((work, future))
        return await future

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        more = True
        while more:
            batch = [self._waiting.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < _BATCH_MAX:
                    batch.append(self._waiting.get_nowait())
            more = None not in batch
            self._commit([one for one in batch if one is not None])
        self._connection.close()

    def _commit(self, batch: list[tuple[Work, asyncio.Future[Any]]]) -> None:
        if not batch:
            return
        settled: list[tuple[asyncio.Future[Any], Any, Exception | None]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for work, future in batch:
                self._connection.execute("SAVEPOINT work")
                try:
                    result = work(self._connection)
                except Exception as error:
                    self._connection.execute("ROLLBACK TO work")
                    settled.append((future, None, error))
                else:
                    settled.append((future, result, None))
                self._connection.execute("RELEASE work")
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:  # no space, a broken disk: none of it happened
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            settled = [(future, None, error) for _, future in batch]
        for future, result, failure in settled:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                future.get_loop().call_soon_threadsafe(_settle, future, result, failure)


def _settle(future: asyncio.Future[Any], result: Any, failure: Exception | None) -> None:
    if future.cancelled():
        return
    if failure is None:
        future.set_result(result)
    else:
        error = failure if isinstance(failure, StoreError) else StoreError(f"the database failed: {failure}")
        error.__cause__ = failure if error is not failure else None
        future.set_exception(error)


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.touch(mode=0o600)  # environments of functions are in it; SQLite gives its other files the same mode
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # what was answered survives a power cut too
            connection.execute("PRAGMA foreign_keys = ON")
            _migrate(connection, path)
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"cannot use the database {path}: {error}") from error
    return connection


def schemas() -> list[tuple[int, Path]]:
    """Every schema that this version knows, oldest first: its number and the file that makes it of the one before."""
    return sorted(
        (int(match[1]), file) for file in (_HERE / "migrations").iterdir() if (match := _MIGRATION.fullmatch(file.name))
    )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Runs the migrations that this file has not seen; `user_version` is the number of the last one that it has."""
    steps = schemas()
    (seen,) = connection.execute("PRAGMA user_version").fetchone()
    newest = steps[-1][0]
    if seen > newest:
        raise StoreTooNew(
            f"The database {path} has schema {seen}, and this version of Lambent knows schemas up to {newest} only: "
            "it was written by a newer version. Run that one, or give this one another data directory."
        )
    for number, file in steps:
        if number > seen:
            connection.executescript(f"BEGIN IMMEDIATE;\n{file.read_text()}\nPRAGMA user_version = {number};\nCOMMIT;")
