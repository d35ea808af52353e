"""Changes of functions: committed, then seen, then told; one at a time for a name; whole or not at all, cancelled or not."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

import pytest

from gateway.control.catalog import Catalog
from gateway.control.changes import Changes, Edit
from gateway.records import Function
from gateway.store.db import StoreError
from tests.unit.test_store import function


class Recorded:
    """A store that notes what happens and waits to be let go on."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.saved: dict[str, Function | None] = {}
        self.failing = False
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def load(self) -> Sequence[Function]:
        return []

    async def save(self, old: Function | None, new: Function | None) -> None:
        name = (new or old or function("?")).name
        self.events.append(f"begin {name}")
        await self.go_on.wait()
        if self.failing:
            raise StoreError("the disk is full")
        assert old == self.saved.get(name), "no other change of this name came between"
        self.saved[name] = new
        self.events.append(f"commit {name}")

    async def close(self) -> None:
        pass


@pytest.fixture
def store() -> Recorded:
    return Recorded()


@pytest.fixture
def catalog(store: Recorded) -> Catalog:
    found = Catalog()
    found.subscribe(lambda old, new: store.events.append(f"told {(new or old or function('?')).name}"))
    return found


@pytest.fixture
def changes(store: Recorded, catalog: Catalog) -> Changes:
    return Changes(store=store, catalog=catalog)


def create(name: str = "f") -> Edit[str]:
    def edit(old: Function | None) -> tuple[Function, str]:
        return function(name), "made"

    return edit


def count(old: Function | None) -> tuple[Function, int]:
    assert old is not None
    return dataclasses.replace(old, next_version=old.next_version + 1), old.next_version


async def test_the_order(changes: Changes, catalog: Catalog, store: Recorded) -> None:
    assert await changes.change("f", create()) == "made"
    assert store.events == ["begin f", "commit f", "told f"]
    assert catalog.get("f") is store.saved["f"]


async def test_nothing_is_seen_before_the_commit(changes: Changes, catalog: Catalog, store: Recorded) -> None:
    store.go_on.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(changes.change("f", create()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert catalog.get("f") is None
        store.go_on.set()
    assert catalog.get("f") is not None


async def test_a_change_that_is_refused_or_fails_changes_nothing(changes: Changes, catalog: Catalog, store: Recorded) -> None:
    def refuse(old: Function | None) -> tuple[Function | None, None]:
        raise KeyError("no")

    with pytest.raises(KeyError):
        await changes.change("f", refuse)
    assert store.events == []
    store.failing = True
    with pytest.raises(StoreError, match="full"):
        await changes.change("f", create())
    assert catalog.get("f") is None
    store.failing = False
    await changes.change("f", create())
    same = catalog.get("f")
    await changes.change("f", lambda old: (old, None))
    assert (catalog.get("f"), store.events.count("commit f")) == (same, 1)


async def test_one_name_at_a_time_and_others_meanwhile(changes: Changes, store: Recorded) -> None:
    await changes.change("f", create())
    store.go_on.clear()
    async with asyncio.TaskGroup() as group:
        counts = [group.create_task(changes.change("f", count)) for _ in range(5)]
        group.create_task(changes.change("other", create("other")))
        for _ in range(10):
            await asyncio.sleep(0)
        assert store.events[3:] == ["begin f", "begin other"]
        store.go_on.set()
    assert [task.result() for task in counts] == [2, 3, 4, 5, 6]
    assert not changes._turns, "nothing is kept for names that nobody changes"


@pytest.mark.parametrize("steps", range(12))
async def test_cancelled_at_every_step(changes: Changes, catalog: Catalog, store: Recorded, steps: int) -> None:
    """After it is over store and catalog agree, and the next change finds the name free."""
    await changes.change("f", create())
    task = asyncio.get_running_loop().create_task(changes.change("f", count))
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert catalog.get("f") == store.saved["f"]
    before = catalog.get("f")
    assert before is not None
    assert await changes.change("f", count) == before.next_version


async def test_cancelled_twice_while_the_disk_is_slow(changes: Changes, catalog: Catalog, store: Recorded) -> None:
    store.go_on.clear()
    task = asyncio.get_running_loop().create_task(changes.change("f", create()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    assert not task.done()
    store.go_on.set()
    await asyncio.wait([task])
    assert task.cancelled()
    assert catalog.get("f") is not None


class TestCatalog:
    def test_urls_follow_their_function(self) -> None:
        catalog = Catalog([function("f")])
        found = catalog.url("f-url")
        assert found == (catalog.get("f"), function("f").urls[None])
        new = dataclasses.replace(function("f"), urls={})
        catalog.replace("f", new)
        assert catalog.url("f-url") is None
        assert catalog.get("f") is new
        catalog.replace("f", function("f"))
        catalog.replace("f", None)
        assert (catalog.get("f"), catalog.url("f-url"), len(catalog)) == (None, None, 0)

    def test_subscribers_hear_of_what_is_there_and_of_what_changes(self) -> None:
        old, new = function("f"), function("f")
        catalog = Catalog([old])
        heard: list[tuple[Function | None, Function | None]] = []

        def broken(old: Function | None, new: Function | None) -> None:
            raise RuntimeError("a listener that fails")

        catalog.subscribe(broken)
        catalog.subscribe(lambda old, new: heard.append((old, new)))
        catalog.replace("f", new)
        catalog.replace("f", None)
        assert heard == [(None, old), (old, new), (new, None)]

    def test_functions_in_order(self) -> None:
        catalog = Catalog([function("b"), function("a")])
        assert [one.name for one in catalog.functions()] == ["a", "b"]
        catalog.replace("aa", function("aa"))
        catalog.replace("b", None)
        assert [one.name for one in catalog.functions()] == ["a", "aa"]
