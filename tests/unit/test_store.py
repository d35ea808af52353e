"""The store: what it says is done is on disk, a batch is as good as one by one, and no database of tomorrow is touched."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.records import (
    LATEST,
    Alias,
    Cors,
    Function,
    FunctionVersion,
    LoggingConfig,
    Policy,
    Provisioned,
    Statement,
    UrlConfig,
)
from gateway.store import db
from gateway.store.db import Database, StoreError, StoreTooNew, load_queries
from gateway.store.functions import SqliteStore
from sandbox.spec import Architecture


def version(name: str, number: str = LATEST, **more: object) -> FunctionVersion:
    found = FunctionVersion(
        account_id="123456789012",
        region="us-east-1",
        name=name,
        version=number,
        generation=7,
        runtime="python3.12",
        handler="a.b",
        role="arn:aws:iam::123456789012:role/r",
        architecture=Architecture.ARM64,
        code_sha256="c2hh",
        code_size_bytes=5,
        code_key="abc",
        logging=LoggingConfig(log_group=f"/aws/lambda/{name}"),
        last_modified="2026-11-21T10:00:00.000+0000",
        revision_id="1",
    )
    return dataclasses.replace(found, **more)  # type: ignore[arg-type]


def function(name: str = "f") -> Function:
    """A function with everything that one can have, no default left."""
    full = version(
        name,
        memory_mb=256,
        timeout_s=9,
        tmp_mb=1024,
        description="tägs ✓",
        environment={"KEY": "value\n\0"},
        logging=LoggingConfig(log_format="JSON", log_group="g", application_level="DEBUG", system_level="WARN"),
        tracing_mode="Active",
        dead_letter_arn="arn:aws:sqs:us-east-1:1:q",
        kms_key_arn="arn:aws:kms:us-east-1:1:key/k",
        snap_start="PublishedVersions",
        state="Pending",
        state_reason="because",
        state_reason_code="Creating",
        last_update_status="InProgress",
        last_update_reason="so",
        last_update_reason_code="Creating",
    )
    cors = Cors(
        allow_credentials=True,
        allow_headers=("a",),
        allow_methods=("GET", "PUT"),
        allow_origins=("*",),
        expose_headers=("b",),
        max_age_s=0,
    )
    url = UrlConfig(
        url_id=f"{name}-url",
        function_name=name,
        qualifier=None,
        auth_type="NONE",
        invoke_mode="BUFFERED",
        cors=cors,
        creation_time="c",
        last_modified_time="m",
    )
    statement = Statement(
        sid="s",
        effect="Allow",
        principal={"Service": "s3.amazonaws.com"},
        action="lambda:InvokeFunction",
        resource="r",
        condition={"ArnLike": {"AWS:SourceArn": "a"}},
    )
    anybody = dataclasses.replace(statement, principal="*", condition=None)
    return Function(
        name=name,
        versions={LATEST: full, "1": version(name, "1", provisioned=Provisioned(executions=2, last_modified="m"))},
        aliases={
            "live": Alias(name="live", version="1", description="d", weights={"2": 0.25}, revision_id="a"),
            "moving": Alias(
                name="moving",
                version="2",
                revision_id="b",
                provisioned=Provisioned(executions=3, last_modified="2019-12-31T20:28:49+0000"),
                former=Alias(name="moving", version="1", weights={"2": 0.5}, revision_id="c"),
            ),
        },
        urls={None: url, "live": dataclasses.replace(url, url_id=f"{name}-live", qualifier="live", cors=None)},
        policies={
            None: Policy(statements=(statement, anybody), revision_id="p"),
            "1": Policy(statements=(anybody,), revision_id="q"),
        },
        tags={"a": "1", "b": ""},
        next_version=2,
        reserved_concurrency=0,
        recursive_loop="Allow",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lambent.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    found = await SqliteStore.open(path)
    yield found
    await found.close()


def content(path: Path) -> bytes:
    return path.read_bytes()


def answering(number: int) -> Callable[[sqlite3.Connection], int]:
    return lambda connection: number


async def reloaded(path: Path) -> dict[str, Function]:
    """What another process would find."""
    other = await SqliteStore.open(path)
    try:
        return {one.name: one for one in await other.load()}
    finally:
        await other.close()


async def test_records_come_back_as_they_went(store: SqliteStore, path: Path) -> None:
    await store.save(None, function())
    await store.save(
        None, dataclasses.replace(function("bare"), aliases={}, urls={}, policies={}, tags={}, reserved_concurrency=None)
    )
    assert (await reloaded(path))["f"] == function()
    assert {one.name: one for one in await store.load()} == await reloaded(path)


async def test_every_difference_is_saved(store: SqliteStore, path: Path) -> None:
    old = function()
    await store.save(None, old)
    url = dataclasses.replace(old.urls[None], auth_type="AWS_IAM", url_id="other")
    changes: list[dict[str, object]] = [
        {"versions": {**old.versions, "2": version("f", "2")}},
        {"versions": {LATEST: dataclasses.replace(old.latest, timeout_s=10)}},
        {"aliases": {"live": dataclasses.replace(old.aliases["live"], weights={}), "beta": old.aliases["live"]}},
        {"aliases": {}},
        {"urls": {None: url}},
        {"urls": {}},
        {"policies": {"1": Policy(statements=(), revision_id="x")}},
        {"tags": {"b": "2", "c": "3"}},
        {"next_version": 3, "reserved_concurrency": None},
        {"recursive_loop": "Terminate"},
    ]
    for change in changes:
        new = dataclasses.replace(old, **change)  # type: ignore[arg-type]
        await store.save(old, new)
        assert (await reloaded(path))["f"] == new
        old = new
    await store.save(old, None)
    assert await reloaded(path) == {}
    with sqlite3.connect(path) as connection:
        for table in ("functions", "versions", "aliases", "urls", "policies", "tags"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    connection.close()


async def test_a_function_made_anew_has_nothing_of_the_old_one(store: SqliteStore, path: Path) -> None:
    await store.save(None, function())
    await store.save(function(), None)
    new = Function(name="f", versions={LATEST: version("f")})
    await store.save(None, new)
    assert await reloaded(path) == {"f": new}


async def test_a_record_of_an_older_version_takes_defaults(store: SqliteStore, path: Path) -> None:
    """A member that was not written then."""
    await store.save(None, function())
    await store.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE versions SET body = json_remove(body, '$.tmp_mb', '$.snap_start') WHERE version = '1'")
    connection.commit()
    connection.close()
    found = (await reloaded(path))["f"].versions["1"]
    assert (found.tmp_mb, found.snap_start) == (512, "None")


async def test_a_newer_database_is_left_alone(path: Path) -> None:
    await (await Database.open(path)).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    before = content(path)
    with pytest.raises(StoreTooNew, match=r"has schema 9999, and this version of Lambent knows schemas up to \d+ only"):
        await Database.open(path)
    assert content(path) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"this is text, and much more of it than a header has " * 100),
        lambda path: path.mkdir(),
        lambda path: path.parent.rmdir(),
    ],
)
async def test_files_that_cannot_be_used(path: Path, damage: Callable[[Path], None]) -> None:
    damage(path)
    with pytest.raises(StoreError, match="cannot use the database"):
        await Database.open(path)


async def test_only_the_owner_can_read_it(store: SqliteStore, path: Path) -> None:
    await store.save(None, function())
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_many_changes_are_one_commit(path: Path) -> None:
    """Those that come while the disk is busy are written together, and each gets its own answer."""
    database = await Database.open(path)
    commits = 0
    begin, finish = threading.Event(), threading.Event()

    def first(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(count)
        begin.set()
        finish.wait(10)

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    busy = asyncio.gather(database.run(first))
    await asyncio.to_thread(begin.wait)
    waiting = asyncio.gather(*(database.run(answering(number)) for number in range(100)))
    await asyncio.sleep(0)
    finish.set()
    await busy
    assert await waiting == list(range(100))
    assert commits == 2
    await database.close()


async def test_one_that_fails_takes_nothing_else_with_it(store: SqliteStore, path: Path) -> None:
    taken = dataclasses.replace(function("second"), urls=function("f").urls)
    results = await asyncio.gather(
        store.save(None, function("f")),
        store.save(None, taken),  # a URL's id is there once
        store.save(None, function("third")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), StoreError, type(None)]
    assert set(await reloaded(path)) == {"f", "third"}


async def test_a_commit_that_fails_is_nobodys_success(path: Path) -> None:
    """Another process holds the database: everyone in the batch is told, and it works again afterwards."""
    database = await Database.open(path)
    await database.run(lambda connection: connection.execute("PRAGMA busy_timeout = 1"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    results = await asyncio.gather(*(database.run(lambda _: 1) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, StoreError) and "locked" in str(result) for result in results)
    other.execute("ROLLBACK")
    other.close()
    assert await database.run(lambda _: 1) == 1
    await database.close()


async def test_closing_finishes_what_was_asked(path: Path) -> None:
    database = await Database.open(path)
    asked = asyncio.gather(*(database.run(answering(number)) for number in range(20)))
    await asyncio.sleep(0)
    await database.close()
    await database.close()
    assert await asked == list(range(20))
    with pytest.raises(StoreError, match="closed"):
        await database.run(lambda _: 1)


async def test_a_caller_that_is_cancelled_does_not_undo(path: Path) -> None:
    database = await Database.open(path)
    asked = asyncio.gather(
        database.run(lambda connection: connection.execute("INSERT INTO functions VALUES ('x', 1, 1, 'Terminate')"))
    )
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert await database.run(lambda connection: connection.execute("SELECT count(*) FROM functions").fetchone()) == (1,)
    await database.close()


def test_queries_have_names() -> None:
    assert load_queries("-- name: one\nSELECT 1;\n\n-- name: two_2\n-- why\nSELECT\n  2;\n") == {
        "one": "SELECT 1;",
        "two_2": "-- why\nSELECT\n  2;",
    }
    assert len(db.QUERIES) == (Path(db.__file__).parent / "queries.sql").read_text().count("-- name: ")
