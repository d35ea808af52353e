"""``GET /metrics`` through the real front door, over a pool of fake sandboxes; and how long it takes with many of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from prometheus_client.openmetrics import parser
from prometheus_client.parser import text_string_to_metric_families

from gateway.clock import SystemClock
from gateway.control.catalog import Catalog
from gateway.edge.reply import Reply
from gateway.invocation import Invocation
from gateway.invoke.invoker import Invoker
from gateway.metrics import Metrics
from gateway.observe.lag import Lag
from gateway.pool.pool import Pool
from gateway.scheduler.policy import Policy
from gateway.status import Status
from gateway.tally import Tallies
from sandbox.native.plain import PlainDriver
from sandbox.testing import Behaviour, FakeHost, Run
from tests.sim.records import function as some_function
from tests.sim.records import version
from tests.sim.world import Book
from tests.wire.edge import Edge, function, serving

if TYPE_CHECKING:
    from aiohttp import web

API = {"Host": "127.0.0.1:9000"}
SANDBOXES = 1000
DESCRIPTORS = 10  #: of the gateway, each sandbox
MOST_MS = 20.0
TOP_EVERY_S = 2.0
PROMETHEUS = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3"
openmetrics: Any = parser.text_string_to_metric_families  # has no types


class Counted:
    """A pool of fake sandboxes and the metrics of it."""

    def __init__(self, names: list[str]) -> None:
        clock = SystemClock()
        self.host = FakeHost(Behaviour(create_s=0, init_s=0, stop_s=0, run=lambda work: Run(run_s=0)))
        tallies = Tallies()
        self.pool = Pool(
            open_sandbox=self.host.open, code_path=str, logs=Book(), clock=clock, tallies=tallies,
            policy=Policy(memory_bytes=1 << 50, max_sandboxes=10_000, concurrency=10_000, stems_min=0, stems_max=0),
        )  # fmt: skip
        catalog = Catalog(some_function(version(name)) for name in names)
        catalog.subscribe(self.pool.function_changed)
        self.invoker = Invoker(
            catalog=catalog, pool=self.pool, clock=clock, random=lambda: 0.0, region="eu-west-1", account_id="123456789012",
            queue_wait_s=30,
        )  # fmt: skip
        lag = Lag(clock)
        self.status = Status(
            version="1", endpoint="http://h", driver=PlainDriver(), pool=self.pool, tallies=tallies, owner="o", clock=clock,
            lag=lag,
        )  # fmt: skip
        self.metrics = Metrics(version="1", driver="fake", pool=self.pool, tallies=tallies, lag=lag)
        self._clock = clock

    async def invoke(self, name: str) -> None:
        await self.invoker.invoke(
            Invocation(
                request_id="r1", function_name=name, qualifier=None, payload=b"{}", trace_id="Root=1",
                arrived_s=self._clock.monotonic(),
            )
        )  # fmt: skip

    async def local(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/_lambent/top":
            return Reply(200, b"Content-Type: application/json\r\n", orjson.dumps(self.status.top()))
        return await self.metrics.answer(request)


@contextlib.asynccontextmanager
async def counted(tmp_path: Path, names: list[str], **options: Any) -> AsyncIterator[tuple[Counted, Edge]]:
    of = Counted(names)
    try:
        async with serving(tmp_path, function(), local=of.local, **options) as edge:
            yield of, edge
    finally:
        await of.pool.close(5)


async def test_a_scrape(tmp_path: Path) -> None:
    async with counted(tmp_path, ["counted"]) as (of, edge):
        await of.invoke("counted")
        answer = await edge.request("GET", "/metrics", API)
        assert answer.status == 200
        assert answer["Content-Type"].startswith("text/plain; version=")
        families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
        [sample] = families["lambent_invocations"].samples
        assert (sample.labels, sample.value) == ({"function": "counted"}, 1)
        assert families["process_resident_memory_bytes"].samples[0].value > 1 << 20

        accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3"  # what Prometheus sends
        answer = await edge.request("GET", "/metrics?name=x", {**API, "Accept": accept})
        assert answer["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        assert "lambent_invocations" in {family.name for family in openmetrics(answer.body.decode())}

        head = await edge.request("HEAD", "/metrics", API)
        assert (head.status, head.body) == (200, b"")


async def test_strange_accept_headers_get_the_plain_format(tmp_path: Path) -> None:
    async with counted(tmp_path, []) as (_, edge):
        for accept in ("image/png", ",;=,;q=", "application/openmetrics-text;version=99", "x" * 5000):
            answer = await edge.request("GET", "/metrics", {**API, "Accept": accept})
            assert answer.status == 200
            assert b"lambent_running 0.0" in answer.body


async def test_a_function_url_keeps_the_path_for_its_function(tmp_path: Path) -> None:
    async with counted(tmp_path, []) as (_, edge):
        assert (await edge.request("GET", "/metrics")).status == 200
        [invocation] = edge.invoker.invocations
        assert b'"rawPath":"/metrics"' in invocation.payload


async def test_web_pages_of_others_do_not_read_it(tmp_path: Path) -> None:
    async with counted(tmp_path, []) as (_, edge):
        for said in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-origin"}):
            assert (await edge.request("GET", "/metrics", {**API, **said})).status == 403


async def test_what_top_is_told(tmp_path: Path) -> None:
    async with counted(tmp_path, ["counted"]) as (of, edge):
        await of.invoke("counted")
        await of.invoke("counted")
        now = orjson.loads((await edge.request("GET", "/_lambent/top", API)).body)
        [row] = now["functions"]
        assert (row["name"], row["invocations"], row["cold_starts"], row["errors"]) == ("counted", 2, 1, 0)
        assert row["sandboxes"] in ({"warm": 1}, {"frozen": 1})
        assert (row["running"], row["waiting"]) == (0, 0)
        assert row["memory_bytes"] > 0
        assert sum(count for _, count in row["durations"]) == 2
        assert now["bounds_s"] == sorted(now["bounds_s"])
        assert (now["running"], now["waiting"]) == (0, 0)


async def test_a_dashboard_that_never_reads_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks again and again; what it does not read is not kept for it for ever, and others are served meanwhile."""
    monkeypatch.setattr("gateway.edge.reply._SEND_GRACE_S", 0.05)
    names = [f"function-{number}" for number in range(100)]
    async with counted(tmp_path, names) as (of, edge):
        await asyncio.gather(*(of.invoke(name) for name in names))
        size = len((await edge.request("GET", "/metrics", API)).body)
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.server.port, limit=1024)
        transport = writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()
        asked = 4 * 1024 * 1024 * 4 // size
        with contextlib.suppress(ConnectionError):
            for _ in range(asked):  # far more than the sockets between the two take
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9000\r\n\r\n")
                await writer.drain()
        assert (await edge.request("GET", "/metrics", API)).status == 200
        async with asyncio.timeout(15):
            while edge.server.connections > 1:  # noqa: ASYNC110  aiohttp has no event for it
                await asyncio.sleep(0.01)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert reader is not None


@pytest.fixture
def descriptors() -> Iterator[None]:
    """So many as a gateway with all those sandboxes has: they are counted for every scrape."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = SANDBOXES * DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 1000), max(hard, wanted + 1000)))
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(wanted)]
    yield
    for one in opened:
        os.close(one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.bench
async def test_what_top_costs_with_many_sandboxes(tmp_path: Path) -> None:
    """Of the gateway's processor, when it asks every two seconds; the client of this test is in the same process."""
    names = [f"function-{number}" for number in range(SANDBOXES)]
    async with counted(tmp_path, names) as (of, edge):
        await asyncio.gather(*(of.invoke(name) for name in names))
        async with contextlib.aclosing(await edge.connect()) as client:
            began_s = time.process_time()
            for _ in range(20):
                answer = await client.request("GET", "/_lambent/top", API)
            took_s = (time.process_time() - began_s) / 20
        share = took_s / TOP_EVERY_S
        print(f"{SANDBOXES} sandboxes: {took_s * 1000:.1f} ms a look, {len(answer.body) / 1024:.0f} KB, {share:.2%} of a core")
        assert share <= 0.01


@pytest.mark.bench
@pytest.mark.usefixtures("descriptors")
async def test_speed_with_many_sandboxes(tmp_path: Path) -> None:
    """Of as many functions, so that all places are taken; as a client sees it, and as the event loop does."""
    names = [f"function-{number}" for number in range(SANDBOXES)]
    async with counted(tmp_path, names) as (of, edge):
        await asyncio.gather(*(of.invoke(name) for name in names))
        assert sum(of.pool.snapshot()["sandboxes"].values()) == SANDBOXES
        took_ms, held_ms = [], []
        async with contextlib.aclosing(await edge.connect()) as client:
            for _ in range(20):
                began_s = time.perf_counter()
                answer = await client.request("GET", "/metrics", {**API, "Accept": PROMETHEUS})
                took_ms.append((time.perf_counter() - began_s) * 1000)
                assert answer.status == 200
                began_s = time.perf_counter()
                of.metrics.picture()
                held_ms.append((time.perf_counter() - began_s) * 1000)
        lines = answer.body.count(b"\n")
        median_ms = statistics.median(took_ms)
        print(f"{SANDBOXES} sandboxes: {median_ms:.1f} ms, {lines} lines; the loop is held {statistics.median(held_ms):.1f} ms")
        assert median_ms <= MOST_MS
