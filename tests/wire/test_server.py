"""The front door with clients that do not behave, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import orjson
import pytest
from aiohttp import web

from gateway.edge import reply
from gateway.errors import ServiceException
from gateway.invocation import Invocation
from tests.wire.edge import HOST, URL_ID, Edge, function, serving

SIX_MB = 6 * 1024 * 1024
PATH = "/2015-03-31/functions/echo/invocations"
API = {"Host": "127.0.0.1:9000"}


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with serving(tmp_path, function()) as edge:
        yield edge


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Edge]:
    async with serving(tmp_path, function(), body_grace_s=0.05, keep_alive_s=0.05) as edge:
        yield edge


def head(answer: bytes) -> str:
    return answer.partition(b"\r\n")[0].decode()


@pytest.mark.parametrize(
    "sent",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET /\r\nHost: a\r\n\r\n",  # 0.9
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:40]),
)
async def test_what_is_not_http_is_refused_and_the_server_lives(
    edge: Edge, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        answer = await edge.send(sent)
    assert head(answer).split(" ")[1] == "400"
    content = answer.partition(b"\r\n\r\n")[2]
    assert orjson.loads(content)["message"]
    assert b"Traceback" not in answer
    assert not caplog.records
    assert (await edge.request("GET", "/")).status == 200


async def test_http_1_0(edge: Edge) -> None:
    answer = await edge.send(b"GET /_urls/%b/x HTTP/1.0\r\n\r\n" % URL_ID.encode())
    assert head(answer) == "HTTP/1.1 200 OK"
    assert b"Connection: close\r\n" in answer
    event = orjson.loads(answer.partition(b"\r\n\r\n")[2])
    assert event["requestContext"]["http"]["protocol"] == "HTTP/1.0"


async def test_http_1_0_keeps_the_connection_when_asked(edge: Edge) -> None:
    request = b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    answers = await edge.send(request, request.replace(b"keep-alive", b"close"))
    assert answers.count(b"200 OK") == 2
    assert b"Connection: keep-alive" in answers


async def test_target_as_for_a_proxy(edge: Edge) -> None:
    answer = await edge.send(f"GET http://{HOST}/a?b=1 HTTP/1.1\r\nHost: else\r\nConnection: close\r\n\r\n".encode())
    assert orjson.loads(answer.partition(b"\r\n\r\n")[2])["rawPath"] == "/a"


async def test_pipelined_requests_are_answered_in_order(edge: Edge) -> None:
    async with contextlib.aclosing(await edge.connect()) as client:
        for n in range(40):
            client.write("GET", f"/{n}")
        for n in range(40):
            assert orjson.loads((await client.answer()).body)["rawPath"] == f"/{n}"


async def test_declared_length_is_refused_before_anything_is_read(edge: Edge) -> None:
    for target, headers in (("/", {}), (PATH, API)):
        async with contextlib.aclosing(await edge.connect()) as client:
            client.write("POST", target, {"Content-Length": str(SIX_MB + 1), "Expect": "100-continue", **headers})
            answer = await client.answer()
            assert (answer.status, answer["x-amzn-ErrorType"]) == (413, "RequestEntityTooLargeException")
            assert (
                orjson.loads(answer.body)["message"]
                == "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
            )
            assert answer["Connection"] == "close"
    assert not edge.invoker.invocations


async def test_length_is_counted_while_reading(edge: Edge) -> None:
    async with contextlib.aclosing(await edge.connect()) as client:
        client.write("POST", "/", {"Transfer-Encoding": "chunked"})
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"

        async def upload() -> None:
            with contextlib.suppress(ConnectionError):
                for _ in range(20):
                    client.writer.write(chunk)
                    await client.writer.drain()

        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(upload())
            assert (await client.answer()).status == 413
            client.writer.transport.abort()
            sending.cancel()


async def test_six_megabytes_pass(edge: Edge) -> None:
    body = b'"' + b"x" * (SIX_MB - 2) + b'"'
    answer = await edge.request("POST", PATH, API, body)
    assert (answer.status, answer.body) == (200, body)


async def test_continue_is_said_once_the_request_is_welcome(edge: Edge) -> None:
    for target, headers in (("/", {"Content-Type": "text/plain"}), (PATH, API), ("/2015-03-31/functions", API)):
        async with contextlib.aclosing(await edge.connect()) as client:
            client.write("POST", target, {"Content-Length": "2", "Expect": "100-continue", **headers})
            assert (await client.answer()).status == 100
            client.writer.write(b"{}")
            assert (await client.answer()).status == 200


@pytest.mark.parametrize("target", ["/", PATH, "/2015-03-31/functions"])
async def test_half_a_body_is_not_waited_for(impatient: Edge, target: str) -> None:
    async with contextlib.aclosing(await impatient.connect()) as client:
        client.write("POST", target, {"Content-Length": "100", **({} if target == "/" else API)})
        client.writer.write(b'{"half":')
        answer = await client.answer()
        assert (answer.status, answer["Connection"]) == (408, "close")
    assert not impatient.invoker.invocations


async def test_half_a_head_is_not_waited_for(impatient: Edge) -> None:
    assert await impatient.send(b"GET / HTTP/1.1\r\nHos") == b""


async def test_broken_chunks(edge: Edge) -> None:
    answer = await edge.send(b"POST / HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % HOST.encode(), b"zz\r\n")
    assert head(answer).split(" ")[1] == "400"


@pytest.mark.parametrize("sent", [b"", b"GET", b"POST / HTTP/1.1\r\nHost: %b\r\nContent-Length: 9\r\n\r\nab" % HOST.encode()])
async def test_client_leaves_in_the_middle(edge: Edge, sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    client = await edge.connect()
    client.writer.write(sent)
    await client.writer.drain()
    client.writer.transport.abort()
    await client.aclose()
    assert (await edge.request("GET", "/")).status == 200
    assert not caplog.records


@pytest.mark.parametrize(("target", "headers"), [("/", {}), (PATH, API)])
async def test_client_that_leaves_gives_up_its_place(
    edge: Edge, target: str, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """What that means for an invocation that runs already, which is nothing, is the invoker's business."""
    begun = asyncio.Event()

    async def waiting(_: Invocation) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    edge.invoker.handler = waiting
    client = await edge.connect()
    client.write("POST", target, headers)
    await begun.wait()
    client.writer.transport.abort()
    await client.aclose()
    await edge.invoker.left.wait()
    edge.invoker.handler = edge.invoker.echo
    assert (await edge.request("GET", "/")).status == 200
    assert repr(edge.server) == "<EdgeServer accepting, 0 running>"
    assert not caplog.records


async def test_client_that_closes_its_half_is_taken_as_gone(edge: Edge) -> None:
    async with contextlib.aclosing(await edge.connect()) as client:
        client.write("GET", "/")
        answer = await client.answer()
        client.writer.write_eof()
        assert await client.reader.read() == b""
    assert answer.status == 200


async def test_large_answer_to_a_slow_reader(edge: Edge) -> None:
    async def large(_: Invocation) -> bytes:
        return b'"' + b"x" * 5_000_000 + b'"'

    edge.invoker.handler = large
    async with contextlib.aclosing(await edge.connect()) as client:
        client.write("GET", "/1")
        client.write("GET", "/2")
        for _ in range(2):
            assert len((await client.answer()).body) == 5_000_000


async def test_client_that_never_reads_is_cut_off(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "_SEND_GRACE_S", 0.05)
    monkeypatch.setattr(reply, "_SEND_BYTES_PER_S", 1_000_000_000)

    async def large(_: Invocation) -> bytes:
        return b'"' + b"x" * 30_000_000 + b'"'

    edge.invoker.handler = large
    async with contextlib.aclosing(await edge.connect()) as client:
        client.write("GET", "/")
        await client.reader.readuntil(b"\r\n\r\n")
        transport = cast("asyncio.Transport", client.writer.transport)
        transport.pause_reading()
        handling = [task for task in asyncio.all_tasks() if "RequestHandler" in repr(task)]
        assert handling
        await asyncio.wait(handling)
    edge.invoker.handler = edge.invoker.echo
    assert (await edge.request("GET", "/")).status == 200


async def test_unexpected_error_is_a_service_exception_with_one_entry_in_the_log(
    edge: Edge, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(edge.invoker, "start", broken)
    monkeypatch.setattr(edge.invoker, "invoke", broken)
    for target, headers in (("/", {}), (PATH, API)):
        caplog.clear()
        answer = await edge.request("POST", target, headers)
        assert (answer.status, answer["x-amzn-ErrorType"]) == (500, "ServiceException")
        assert orjson.loads(answer.body) == {"Type": "Service", "Message": ServiceException().message}
        assert b"secret" not in answer.body
        [record] = caplog.records
        assert record.levelno == logging.ERROR
        assert record.__dict__["request_id"] == answer["x-amzn-RequestId"]


async def test_errors_of_the_api_handler_too(
    edge: Edge, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: web.BaseRequest) -> web.StreamResponse:
        raise ZeroDivisionError

    monkeypatch.setattr(edge.api, "handle", broken)
    assert (await edge.request("GET", "/", API)).status == 500
    assert len(caplog.records) == 1


async def test_health(edge: Edge) -> None:
    answer = await edge.request("GET", "/healthz", API)
    assert (answer.status, answer.body) == (200, b'{"status":"ok"}')


async def test_private_routes(edge: Edge, tmp_path: Path) -> None:
    assert (await edge.request("GET", "/_lambent/status", API)).status == 404

    async def local(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=request.raw_path)

    async with serving(tmp_path, local=local) as other:
        assert (await other.request("GET", "/_lambent/status?x", API)).body == b"/_lambent/status?x"


async def test_web_pages_may_call_function_urls_only(edge: Edge) -> None:
    for method, target in (
        ("POST", PATH),
        ("POST", "/2015-03-31/functions"),
        ("GET", "/_lambent/logs/echo"),
        ("GET", "/healthz"),
    ):
        for origin in ("https://evil.example", "null", "http://localhost:9000", "http://127.0.0.1:9000", "gr\xfc\xdfe"):
            answer = await edge.request(method, target, {**API, "Origin": origin})
            assert (answer.status, answer["x-amzn-ErrorType"]) == (403, "AccessDeniedException")
    for target in ("/2015-03-31/functions", "/_lambent/logs/echo", "/healthz"):
        # What a function's page asks here, where function URLs are called by path; links and the address line may lead here.
        for site, status in (("same-origin", 403), ("none", 200), ("cross-site", 200)):
            assert (await edge.request("GET", target, {**API, "Sec-Fetch-Site": site})).status == status
    assert (await edge.request("POST", "/", {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"})).status == 200


async def test_names_that_a_web_page_can_rebind_are_served_function_urls_only(tmp_path: Path) -> None:
    good = ("127.0.0.1:9000", "127.8.8.8", "[::1]:9000", "10.0.0.1:80", "localhost:9000", "LOCALHOST", "a.b.localhost.:9000",
            "lambda.example.com", "Lambda.Example.com:443")  # fmt: skip
    bad = (
        "evil.example:9000",
        "x.lambda.example.com",
        "localhost.evil.example",
        "127.0.0.1.evil.example:9000",
        "a@localhost",
        "[::1",
    )
    async with serving(tmp_path, function(), hosts=frozenset({"lambda.example.com"})) as edge:
        for target, method in (
            (PATH, "POST"),
            ("/2015-03-31/functions", "GET"),
            ("/_lambent/logs/echo", "GET"),
            ("/healthz", "GET"),
        ):
            for host in good * 2:
                assert (await edge.request(method, target, {"Host": host})).status == 200, host
            for host in bad * 2:
                answer = await edge.request(method, target, {"Host": host})
                assert (answer.status, answer["x-amzn-ErrorType"]) == (403, "AccessDeniedException"), host
                assert b"--url-base" in answer.body
        assert len(edge.invoker.invocations) == len(good) * 2
        for host in ("evil.example", f"{URL_ID}.lambda-url.us-east-1.evil.example"):
            assert (await edge.request("GET", f"/_urls/{URL_ID}/", {"Host": host})).status == 200
        async with contextlib.aclosing(await edge.connect()) as client:
            client.writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert (await client.answer()).status == 200, "no browser sends that"


async def test_drain_lets_what_runs_finish(edge: Edge) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Invocation) -> bytes:
        begun.set()
        await go_on.wait()
        return b"1"

    edge.invoker.handler = slow
    idle, busy = await edge.connect(), await edge.connect()
    await idle.request("GET", "/healthz", API)
    busy.write("GET", "/")
    await begun.wait()
    async with asyncio.TaskGroup() as tasks:
        draining = tasks.create_task(edge.server.drain(10))
        assert await idle.reader.read() == b""
        with pytest.raises(OSError, match="Connect"):
            await edge.connect()
        assert not draining.done()
        go_on.set()
        answer = await busy.answer()
        assert (answer.status, answer.body, answer["Connection"]) == (200, b"1", "close")
        assert await busy.reader.read() == b""
    await idle.aclose()
    await busy.aclose()
    await edge.server.drain(10)


async def test_drain_waits_for_a_slow_reader_of_a_large_answer(edge: Edge) -> None:
    async def large(_: Invocation) -> bytes:
        return b'"' + b"x" * 20_000_000 + b'"'

    edge.invoker.handler = large
    async with contextlib.aclosing(await edge.connect()) as client, asyncio.TaskGroup() as tasks:
        client.write("GET", "/")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: 20000000" in head
        draining = tasks.create_task(edge.server.drain(10))
        assert len(await client.reader.readexactly(10_000_000)) == 10_000_000
        assert not draining.done()
        assert len(await client.reader.read()) == 10_000_000


async def test_drain_has_a_budget(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    begun = asyncio.Event()

    async def forever(_: Invocation) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    edge.invoker.handler = forever
    async with contextlib.aclosing(await edge.connect()) as client:
        client.write("GET", "/")
        await begun.wait()
        await edge.server.drain(0.01)
        answer = await client.answer()
        assert (answer.status, answer["x-amzn-ErrorType"], answer["Connection"]) == (503, "ServiceException", "close")
        assert b"cut off" in answer.body
        assert await client.reader.read() == b""
    assert "1 requests were cut off" in caplog.text


async def test_a_drain_that_is_cut_short_answers_too(edge: Edge) -> None:
    begun = asyncio.Event()

    async def forever(_: Invocation) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    edge.invoker.handler = forever
    async with contextlib.aclosing(await edge.connect()) as client:
        client.write("POST", "/2015-03-31/functions/echo/invocations", API)
        await begun.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await edge.server.drain(60)
        await edge.server.close()
        answer = await client.answer()
        assert (answer.status, answer["x-amzn-ErrorType"]) == (503, "ServiceException")


async def test_what_is_being_sent_when_the_budget_ends_gets_no_second_answer(edge: Edge) -> None:
    async def large(_: Invocation) -> bytes:
        return b'"' + b"x" * 20_000_000 + b'"'

    edge.invoker.handler = large
    async with contextlib.aclosing(await edge.connect()) as client:
        client.write("GET", "/")
        await client.reader.readuntil(b"\r\n\r\n")
        await edge.server.drain(0.01)
        assert b"HTTP/1.1" not in await client.reader.read()


async def test_one_id_leads_from_the_answer_to_the_log(
    edge: Edge, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise KeyError("a fault of ours")

    def not_run(*_: object) -> bytes:
        raise ServiceException("The invocation was not run: no sandbox.")

    for handler in (broken, not_run):
        monkeypatch.setattr(edge.invoker, "start", handler)
        caplog.clear()
        answer = await edge.request("GET", "/")
        assert answer.status == 500
        [record] = [record for record in caplog.records if record.name == "gateway.edge.short_way"]
        assert record.__dict__["request_id"] == answer["x-amzn-RequestId"]


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("GET", "/", {}), ("GET", "/2015-03-31/functions", API), ("GET", "/nothing", {"Host": "x", "Origin": "http://y"}),
        ("GET", "/_lambent/logs/nobody", API), ("GET", "/_lambent/logs/echo", API), ("GET", "/healthz", API),
        ("GET", "/_lambent/nothing", API), ("GET", "/_urls/nobody/", API),
    ],
)  # fmt: skip
async def test_no_answer_names_the_library(edge: Edge, method: str, target: str, headers: dict[str, str]) -> None:
    answer = await edge.request(method, target, headers)
    assert answer.get("Server") == []
    assert b"Server:" not in await edge.send(b"GARBAGE\r\n\r\n")
