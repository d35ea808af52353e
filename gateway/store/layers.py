"""Layers in SQLite, beside the functions: a version is a row, and the layer's own row counts them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.records import Layer, LayerVersion
from gateway.store import rows
from gateway.store.db import QUERIES, Database


class SqliteLayers:
    """The layers of one gateway, in the database of its functions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> Sequence[Layer]:
        """All layers, in no order. Raises StoreError."""
        return await self._database.run(_load)

    async def save(self, old: Layer | None, new: Layer | None) -> None:
        """As `Store.save`. A layer never goes, only its versions do: `new` is one."""
        assert new is not None
        before = old.versions if old else {}

        def work(connection: sqlite3.Connection) -> None:
            if old is None or old.next_version != new.next_version:
                connection.execute(QUERIES["put_layer"], {"layer": new.name, "next_version": new.next_version})
            for number in before.keys() - new.versions.keys():
                connection.execute(QUERIES["delete_layer_version"], {"layer": new.name, "version": number})
            for number, version in new.versions.items():
                if version != before.get(number):
                    body = rows.to_body(version)
                    connection.execute(QUERIES["put_layer_version"], {"layer": new.name, "version": number, "body": body})

        await self._database.run(work)


def _load(connection: sqlite3.Connection) -> list[Layer]:
    versions: dict[str, dict[int, LayerVersion]] = {}
    for layer, number, body in connection.execute(QUERIES["all_layer_versions"]):
        versions.setdefault(layer, {})[number] = rows.to_layer_version(body)
    return [
        Layer(name=name, versions=versions.get(name, {}), next_version=next_version)
        for name, next_version in connection.execute(QUERIES["all_layers"])
    ]
