"""Packages on disk: there whole or not at all, once for all who have the same, gone when nobody needs them, never sooner."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import looptime
import pytest

from gateway.control import code
from gateway.control.archive import BadArchive
from gateway.control.code import CodeLinks, CodeStore
from gateway.errors import CodeStorageExceededException, InvalidParameterValueException, RequestEntityTooLargeException
from gateway.records import LATEST, Function
from tests.unit.test_archive import zipped
from tests.unit.test_store import function, version

ARCHIVE = zipped(("index.py", "x = 1"))
KEY = hashlib.sha256(ARCHIVE).hexdigest()


def content(path: str | Path) -> bytes:
    return Path(path).read_bytes()


def using(key: str, name: str = "f") -> Function:
    return Function(name=name, versions={LATEST: version(name, code_key=key)})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CodeStore]:
    found = await CodeStore.open(tmp_path / "code", [])
    yield found
    await found.close()


async def test_a_package(store: CodeStore) -> None:
    async with store.add(ARCHIVE) as package:
        assert package.key == KEY
        assert package.sha256 == base64.b64encode(hashlib.sha256(ARCHIVE).digest()).decode()
        assert package.size_bytes == len(ARCHIVE)
        assert content(store.path(KEY) + "/index.py") == b"x = 1"
        assert content(store.package(KEY)) == ARCHIVE


async def test_the_same_package_many_times_at_once(store: CodeStore, tmp_path: Path) -> None:
    async def add() -> str:
        async with store.add(ARCHIVE) as package:
            return package.key

    assert set(await asyncio.gather(*(add() for _ in range(8)))) == {KEY}
    assert os.listdir(tmp_path / "code") == [KEY]


@pytest.mark.parametrize("archive", [b"junk", zipped(("../a", "x")), zipped(), zipped(("a", "x"), ("b", os.urandom(9)))[:-30]])
async def test_what_cannot_be_unpacked_leaves_nothing(store: CodeStore, tmp_path: Path, archive: bytes) -> None:
    with pytest.raises(InvalidParameterValueException):
        async with store.add(archive):
            pass
    assert os.listdir(tmp_path / "code") == []


async def test_a_full_disk_leaves_nothing(store: CodeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(code, "_to_disk", full)
    with pytest.raises(CodeStorageExceededException, match="no space is left"):
        async with store.add(ARCHIVE):
            pass
    assert os.listdir(tmp_path / "code") == []


async def test_texts(store: CodeStore) -> None:
    """The first and the last are recorded; the reason is ours."""
    for archive, text in (
        (b"junk", "Could not unzip uploaded file. Please check your file, then try to upload again."),
        (
            zipped(("/a", "x")),
            "Could not unzip uploaded file. Please check your file, then try to upload again. (the name '/a' is absolute)",
        ),
        (bytes(code.ZIPPED_MAX_BYTES + 1), "Zipped size must be smaller than 52428800 bytes"),
    ):
        with pytest.raises((InvalidParameterValueException, RequestEntityTooLargeException)) as caught:
            async with store.add(archive):
                pass
        assert caught.value.message == text
    assert isinstance(caught.value, RequestEntityTooLargeException)


async def test_what_a_restart_finds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "code"
    store = await CodeStore.open(directory, [])
    other = zipped(("other", ""))
    for archive in (ARCHIVE, other):
        async with store.add(archive):
            pass
    await store.close()
    (directory / "new-half-unpacked").mkdir()
    (directory / "gone-half-removed").mkdir()
    store = await CodeStore.open(directory, [using(KEY), using("missing", "lost")])
    assert os.listdir(directory) == [KEY]
    assert "the code of function lost is missing" in caplog.text
    await store.close()


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[CodeStore]:
    """A store whose hours pass at once."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, looptime.LoopTimeEventLoop)
    found = await CodeStore.open(tmp_path / "code", [])
    yield found
    await found.close()


class TestCollection:
    pytestmark = pytest.mark.looptime

    async def add(self, store: CodeStore) -> None:
        async with store.add(ARCHIVE):
            store.changed(None, using(KEY))

    async def removed(self, store: CodeStore) -> bool:
        """Whether it is gone, once the thread that removes it is done."""
        return await store._in_thread(lambda: not os.path.exists(store.path(KEY)))

    async def test_what_nobody_needs_goes_after_an_hour(self, patient: CodeStore, tmp_path: Path) -> None:
        await self.add(patient)
        patient.changed(using(KEY), using("next"))
        await asyncio.sleep(code.COLLECT_AFTER_S - 1)
        assert not await self.removed(patient), "sandboxes of the old generation may still run"
        await asyncio.sleep(2)
        assert await self.removed(patient)
        await asyncio.sleep(0)
        await patient.close()
        assert os.listdir(tmp_path / "code") == []

    async def test_what_somebody_needs_stays(self, patient: CodeStore) -> None:
        await self.add(patient)
        patient.changed(None, using(KEY, "second"))
        patient.changed(using(KEY), None)
        await asyncio.sleep(code.COLLECT_AFTER_S * 3)
        assert not await self.removed(patient)
        patient.changed(using(KEY, "second"), None)
        await asyncio.sleep(code.COLLECT_AFTER_S - 1)
        patient.changed(None, using(KEY, "third"))  # in the last moment
        await asyncio.sleep(code.COLLECT_AFTER_S * 3)
        assert not await self.removed(patient)

    async def test_a_version_needs_it_too(self, patient: CodeStore) -> None:
        await self.add(patient)
        latest = using(KEY)
        published = dataclasses.replace(latest, versions={**latest.versions, "1": version("f", "1", code_key=KEY)})
        patient.changed(latest, published)
        recoded = dataclasses.replace(published, versions={**published.versions, LATEST: version("f", code_key="next")})
        patient.changed(published, recoded)
        await asyncio.sleep(code.COLLECT_AFTER_S * 3)
        assert not await self.removed(patient)

    async def test_a_package_that_comes_again_while_it_goes(self, patient: CodeStore) -> None:
        await self.add(patient)
        patient.changed(using(KEY), None)
        async with patient.add(ARCHIVE):
            await asyncio.sleep(code.COLLECT_AFTER_S * 3)
            assert not await self.removed(patient), "who adds it keeps it until the function is committed"
        with contextlib.suppress(BadArchive):
            await asyncio.sleep(code.COLLECT_AFTER_S + 1)
        assert await self.removed(patient)
        await self.add(patient)
        assert not await self.removed(patient)


class FixedClock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


async def test_links(store: CodeStore) -> None:
    clock = FixedClock()
    links = CodeLinks(store=store, clock=clock)
    path, _, query = links.make(KEY).partition("?")
    assert path == f"/_code/{KEY}"
    assert links.follow(KEY, query) == store.package(KEY)
    for key, wrong in (
        (KEY + "0", query),
        (KEY, ""),
        (KEY, query.replace("Expires=1", "Expires=2")),
        (KEY, query[:-1]),
        ("../../x", query),
    ):
        assert links.follow(key, wrong) is None
    assert CodeLinks(store=store, clock=clock).follow(KEY, query) is None, "the secret is each process's own"
    clock.now += code.LINK_LIFETIME_S + 1
    assert links.follow(KEY, query) is None


async def test_changes_of_a_full_function_are_counted(store: CodeStore) -> None:
    store.changed(None, function())
    store.changed(function(), None)
    assert not store._needed
