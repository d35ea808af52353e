"""Functions in SQLite: a function is saved as the difference between what it was and what it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from gateway.records import Function
from gateway.store import rows
from gateway.store.db import QUERIES, Database
from gateway.store.layers import SqliteLayers

Statement = tuple[str, Mapping[str, Any]]


class SqliteStore:
    """The `Store` of one gateway, in one file. Make it with `open`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.layers = SqliteLayers(database)  #: in the same file

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open or make the database. Raises StoreTooNew and StoreError."""
        return cls(await Database.open(path))

    async def load(self) -> Sequence[Function]:
        return await self._database.run(_load)

    async def save(self, old: Function | None, new: Function | None) -> None:
        statements = list(_difference(old, new))

        def work(connection: sqlite3.Connection) -> None:
            for query, parameters in statements:
                connection.execute(QUERIES[query], parameters)

        await self._database.run(work)

    async def close(self) -> None:
        await self._database.close()


def _difference(old: Function | None, new: Function | None) -> Iterator[Statement]:
    if new is None:
        if old is not None:
            yield "delete_function", {"function": old.name}  # the rest goes with it
        return
    if old is None or _row(old) != _row(new):
        yield "put_function", _row(new)
    yield from _changed("version", new.name, old.versions if old else {}, new.versions, _body)
    yield from _changed("alias", new.name, old.aliases if old else {}, new.aliases, _body)
    yield from _changed("url", new.name, old.urls if old else {}, new.urls, lambda url: {**_body(url), "url_id": url.url_id})
    yield from _changed("policy", new.name, old.policies if old else {}, new.policies, _body)
    yield from _changed("tag", new.name, old.tags if old else {}, new.tags, lambda value: {"body": value})


def _row(function: Function) -> Mapping[str, Any]:
    return {
        "function": function.name,
        "next_version": function.next_version,
        "reserved_concurrency": function.reserved_concurrency,
        "recursive_loop": function.recursive_loop,
    }


def _changed(
    what: str, function: str, old: Mapping[Any, Any], new: Mapping[Any, Any], more: Callable[[Any], Mapping[str, Any]]
) -> Iterator[Statement]:
    for key in old.keys() - new.keys():
        yield f"delete_{what}", {"function": function, "key": key or ""}
    for key, value in new.items():
        if key not in old or (old[key] is not value and old[key] != value):
            yield f"put_{what}", {"function": function, "key": key or "", **more(value)}


def _body(record: Any) -> Mapping[str, Any]:
    return {"body": rows.to_body(record)}


def _load(connection: sqlite3.Connection) -> list[Function]:
    def grouped(query: str) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for function, key, body in connection.execute(QUERIES[query]):
            found.setdefault(function, {})[key] = body
        return found

    versions, aliases, urls = grouped("all_versions"), grouped("all_aliases"), grouped("all_urls")
    policies, tags = grouped("all_policies"), grouped("all_tags")
    return [
        Function(
            name=name,
            versions={key: rows.to_version(body) for key, body in versions.get(name, {}).items()},
            aliases={key: rows.to_alias(body) for key, body in aliases.get(name, {}).items()},
            urls={key or None: rows.to_url(body) for key, body in urls.get(name, {}).items()},
            policies={key or None: rows.to_policy(body) for key, body in policies.get(name, {}).items()},
            tags=tags.get(name, {}),
            next_version=next_version,
            reserved_concurrency=reserved_concurrency,
            recursive_loop=recursive_loop,
        )
        for name, next_version, reserved_concurrency, recursive_loop in connection.execute(QUERIES["all_functions"])
    ]
