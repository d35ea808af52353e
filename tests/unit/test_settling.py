"""From Pending to Active: soon, whatever `prepare` does, once, and after a restart too."""

from __future__ import annotations

import asyncio
import dataclasses

import looptime
import pytest

from gateway.control import settling
from gateway.control.catalog import Catalog
from gateway.control.changes import Changes
from gateway.control.settling import Settling, in_progress, pending, settled, updating
from gateway.records import LATEST, Function, FunctionVersion
from tests.unit.test_changes import Recorded
from tests.unit.test_store import version

pytestmark = pytest.mark.looptime

NEW = Function(name="f", versions={LATEST: pending(version("f"))})


@pytest.fixture
def store() -> Recorded:
    return Recorded()


@pytest.fixture
async def changes(store: Recorded) -> Changes:
    assert isinstance(asyncio.get_running_loop(), looptime.LoopTimeEventLoop)
    catalog = Catalog()
    found = Changes(store=store, catalog=catalog)
    await found.change("f", lambda _: (NEW, None))
    return found


def latest(store: Recorded) -> FunctionVersion:
    function = store.saved["f"]
    assert function is not None
    return function.latest


async def ready(found: FunctionVersion) -> None:
    """A `prepare` with nothing to do."""


async def settle(settling: Settling) -> None:
    """Let it run until nothing is left to do."""
    settling.begin(NEW.latest)
    await settling._tasks.join()


async def test_active_once_it_is_prepared(changes: Changes, store: Recorded) -> None:
    prepared: list[FunctionVersion] = []

    async def prepare(found: FunctionVersion) -> None:
        assert in_progress(latest(store))
        prepared.append(found)

    await settle(Settling(changes=changes, prepare=prepare))
    assert prepared == [NEW.latest]
    assert (latest(store).state, latest(store).last_update_status) == ("Active", "Successful")
    assert latest(store).revision_id != NEW.latest.revision_id
    assert latest(store).generation == NEW.latest.generation


async def test_active_at_once_when_there_is_nothing_to_prepare(changes: Changes) -> None:
    found = Settling(changes=changes)
    committed = found.committed(NEW).latest
    assert (committed.state, committed.last_update_status) == ("Active", "Successful")
    assert committed.revision_id != NEW.latest.revision_id, "the revision that the answer shows is an old one, as on AWS"
    found.begin(NEW.latest)
    assert not len(found._tasks)
    assert Settling(changes=changes, prepare=ready).committed(NEW) is NEW


async def test_active_although_it_cannot_be_prepared(changes: Changes, store: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    async def prepare(found: FunctionVersion) -> None:
        raise RuntimeError("no sandbox today")

    await settle(Settling(changes=changes, prepare=prepare))
    assert latest(store).state == "Active"
    assert "no sandbox today" in caplog.text


async def test_active_although_it_takes_for_ever(changes: Changes, store: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    async def prepare(found: FunctionVersion) -> None:
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    begun = loop.time()
    await settle(Settling(changes=changes, prepare=prepare))
    assert latest(store).state == "Active"
    assert settling.PREPARE_MAX_S <= loop.time() - begun <= settling.PREPARE_MAX_S + 2


async def test_tried_again_while_the_disk_is_full(changes: Changes, store: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    store.failing = True
    asyncio.get_running_loop().call_later(12, lambda: setattr(store, "failing", False))
    await settle(Settling(changes=changes, prepare=ready))
    assert latest(store).state == "Active"
    assert store.events.count("begin f") == 5


async def test_another_function_of_that_name_is_not_settled(changes: Changes, store: Recorded) -> None:
    other = Function(name="f", versions={LATEST: pending(version("f", revision_id="another"))})
    await changes.change("f", lambda _: (None, None))
    await settle(Settling(changes=changes, prepare=ready))
    await changes.change("f", lambda _: (other, None))
    await settle(Settling(changes=changes, prepare=ready))
    assert latest(store) == other.latest


async def test_what_a_killed_gateway_left_in_progress(changes: Changes, store: Recorded) -> None:
    await Settling(changes=changes).recover([NEW])
    assert latest(store).state == "Active"
    events = list(store.events)
    await Settling(changes=changes).recover([Function(name="f", versions={LATEST: latest(store)})])
    assert store.events == events, "what is settled is left alone"


async def test_closing_leaves_it_to_the_next_start(changes: Changes, store: Recorded) -> None:
    async def prepare(found: FunctionVersion) -> None:
        await asyncio.Event().wait()

    found = Settling(changes=changes, prepare=prepare)
    found.begin(NEW.latest)
    await asyncio.sleep(0)
    await found.close()
    assert latest(store).state == "Pending"
    assert not len(found._tasks)


def test_only_what_is_in_progress_is_touched() -> None:
    done = version("f", "1")
    function = Function(name="f", versions={LATEST: updating(version("f")), "1": done, "2": pending(version("f", "2"))})
    found = settled(function)
    assert found.versions["1"] is done
    assert not any(in_progress(one) for one in found.versions.values())
    for number in (LATEST, "2"):
        expected = dataclasses.replace(version("f", number), revision_id=found.versions[number].revision_id)
        assert found.versions[number] == expected
