"""Which calls of function URLs go the short way, that it answers as the long one does, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import boto3
import orjson
import pytest
from aiohttp import web

from gateway.edge import render, reply, short_way
from gateway.errors import TooManyRequestsException
from gateway.invocation import Invocation
from gateway.records import Cors
from tests.wire.edge import HOST, URL_ID, Answer, Client, Edge, function, serving

PLAIN = f"GET /a HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with serving(tmp_path, function()) as edge:
        yield edge


@pytest.fixture
def long_way(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What aiohttp got to see."""
    seen: list[bytes] = []
    original = web.RequestHandler.data_received

    def data_received(self: web.RequestHandler, data: bytes) -> None:
        seen.append(data)
        original(self, data)

    monkeypatch.setattr(web.RequestHandler, "data_received", data_received)
    return seen


async def until(holds: Callable[[], object]) -> None:
    while not holds():  # noqa: ASYNC110 (there is no event for it)
        await asyncio.sleep(0.001)


async def first(edge: Edge, sent: bytes) -> Answer:
    async with contextlib.aclosing(await edge.connect()) as client:
        client.writer.write(sent)
        return await client.answer()


@pytest.mark.parametrize(
    "sent",
    [
        PLAIN,
        f"GET /_urls/{URL_ID}/a HTTP/1.1\r\nhost: localhost\r\n\r\n".encode(),
        f"GET /a?b=c HTTP/1.1\r\nHost: {HOST}\r\nConnection: Keep-Alive\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n".encode(),
        f"POST /a HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello".encode(),
    ],
)
async def test_a_whole_request_goes_the_short_way(edge: Edge, long_way: list[bytes], sent: bytes) -> None:
    answer = await first(edge, sent)
    assert answer.status == 200
    assert orjson.loads(answer.body)["rawPath"] == "/a"
    assert not long_way


@pytest.mark.parametrize(
    "sent",
    [
        f"GET /a HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode(),
        f"GET /a HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode(),
        f"GET http://{HOST}/a HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode(),
        f"GET /a HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\n\r\n".encode(),
        f"POST /a HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".encode(),
        f"POST /a HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx".encode(),
        f"POST /a HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 20000\r\n\r\n".encode() + b"x" * 20_000,
        PLAIN * 2,
    ],
)
async def test_what_is_unusual_goes_the_long_way(edge: Edge, long_way: list[bytes], sent: bytes) -> None:
    async with contextlib.aclosing(await edge.connect()) as client:
        client.writer.write(sent)
        answer = await client.answer()
        while answer.status == 100:
            answer = await client.answer()
        assert answer.status == 200
        assert orjson.loads(answer.body)["rawPath"] == "/a"
    assert long_way


@pytest.mark.parametrize(
    "lines",
    [
        "",
        f"Host: {HOST}\r\nHost: {HOST}\r\n",
        f"Host: {HOST}\r\nContent-Length: 0\r\nContent-Length: 0\r\n",
        f"Host: {HOST}\r\n" + "X: y\r\n" * 200,
    ],
)
async def test_what_aiohttp_refuses_is_refused(edge: Edge, long_way: list[bytes], lines: str) -> None:
    answer = await edge.send(f"GET /_urls/{URL_ID}/ HTTP/1.1\r\n{lines}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert long_way
    assert not edge.invoker.invocations


POST = f"POST /a HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n".encode()


async def test_a_body_may_come_after_its_head(edge: Edge, long_way: list[bytes]) -> None:
    async with contextlib.aclosing(await edge.connect()) as client:
        for _ in range(3):
            for piece in (POST, b"he", b"llo"):
                client.writer.write(piece)
                await client.writer.drain()
                await asyncio.sleep(0.01)
            assert orjson.loads((await client.answer()).body)["body"] == "hello"
    assert not long_way


async def test_a_body_that_does_not_come_is_awaited_the_long_way(
    tmp_path: Path, long_way: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_way, "REST_S", 0.01)
    async with serving(tmp_path, function()) as edge, contextlib.aclosing(await edge.connect()) as client:
        client.writer.write(POST + b"he")
        await until(lambda: long_way)
        client.writer.write(b"llo")
        assert orjson.loads((await client.answer()).body)["body"] == "hello"
    assert b"".join(long_way) == POST + b"hello"


async def test_a_body_that_comes_byte_by_byte_goes_the_long_way(
    tmp_path: Path, long_way: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a sender that is too slow is cut off: the wait for the rest begins with the head, not with each byte."""
    monkeypatch.setattr(short_way, "REST_S", 0.05)
    head = POST.replace(b"Content-Length: 5", b"Content-Length: 4000")
    async with serving(tmp_path, function()) as edge, contextlib.aclosing(await edge.connect()) as client:
        client.writer.write(head)
        for _ in range(3999):
            client.writer.write(b"x")
            await client.writer.drain()
            await asyncio.sleep(0.001)
            if long_way:
                break
    assert long_way
    assert long_way[0].startswith(head)


async def test_half_a_head_goes_the_long_way_for_good(edge: Edge, long_way: list[bytes]) -> None:
    async with contextlib.aclosing(await edge.connect()) as client:
        client.writer.write(PLAIN)
        assert (await client.answer()).status == 200
        assert not long_way
        client.writer.write(PLAIN[:20])
        await client.writer.drain()
        await until(lambda: long_way)
        client.writer.write(PLAIN[20:])
        assert (await client.answer()).status == 200
        client.writer.write(PLAIN)
        assert (await client.answer()).status == 200
    assert b"".join(long_way) == PLAIN * 2


async def test_a_body_and_the_next_request_in_one_piece(edge: Edge, long_way: list[bytes]) -> None:
    async with contextlib.aclosing(await edge.connect()) as client:
        client.writer.write(POST)
        await client.writer.drain()
        await asyncio.sleep(0.01)
        client.writer.write(b"hello" + PLAIN)
        assert orjson.loads((await client.answer()).body)["body"] == "hello"
        assert "body" not in orjson.loads((await client.answer()).body)
    assert b"".join(long_way) == POST + b"hello" + PLAIN


async def test_requests_that_wait_are_answered_in_order_and_bounded(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(short_way, "WAITING_BYTES", 100)
    go = asyncio.Event()

    async def slow(invocation: Invocation) -> bytes:
        await go.wait()
        return orjson.dumps(orjson.loads(invocation.payload)["rawPath"])

    edge.invoker.handler = slow
    async with contextlib.aclosing(await edge.connect()) as client:
        client.write("GET", "/0")
        await until(lambda: edge.invoker.invocations)
        for n in range(1, 20):
            client.write("GET", f"/{n}")
            await client.writer.drain()
            await asyncio.sleep(0)
        assert len(edge.invoker.invocations) == 1
        go.set()
        assert [(await client.answer()).body for _ in range(20)] == [f"/{n}".encode() for n in range(20)]
    assert edge.server.running == 0


async def test_a_client_that_leaves_gives_up_its_place(edge: Edge) -> None:
    async def forever(_: Invocation) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    edge.invoker.handler = forever
    async with contextlib.aclosing(await edge.connect()) as client:
        client.writer.write(PLAIN)
        await until(lambda: edge.invoker.invocations)
        assert edge.server.running == 1
    await edge.invoker.left.wait()
    assert edge.server.running == 0


INVOKE = "POST /2015-03-31/functions/echo/invocations{} HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 2\r\n\r\n[]"


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", "", 200),
        ("?Qualifier=$LATEST", "X-Amz-Log-Type: Tail\r\n", 200),
        ("", "X-Amz-Invocation-Type: DryRun\r\n", 204),
        ("?Qualifier=nope", "", 404),
        ("?Qualifier=!", "", 400),
        ("", "X-Amz-Client-Context: !\r\n", 400),
    ],
)
async def test_invoke_goes_the_short_way(edge: Edge, long_way: list[bytes], query: str, headers: str, status: int) -> None:
    short = await first(edge, INVOKE.format(query, headers).encode())
    assert short.status == status
    assert not long_way
    long = await first(edge, INVOKE.format(query, headers + "TE: trailers\r\n").encode())
    assert (long.status, long.body) == (short.status, short.body)
    assert {name for name, _ in long.headers} == {name for name, _ in short.headers}
    assert long_way


@pytest.mark.parametrize("way", [b"", b"TE: trailers\r\n"])
@pytest.mark.parametrize(
    ("name", "status"),
    [(b"X-Amz-Invocation-Type", 400), (b"X-Amz-Log-Type", 400), (b"X-Amz-Client-Context", 400), (b"X-Amzn-Trace-Id", 200)],
)
async def test_bytes_that_are_no_text_are_answered(
    edge: Edge, way: bytes, name: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """One byte of Latin-1, as an old client sends it: the messages that quote it have a question mark there."""
    sent = INVOKE.format("", "").encode().replace(b"Content-Length", way + name + b": gr\xfc\xdfe\r\nContent-Length")
    answer = await first(edge, sent)
    assert answer.status == status
    assert status == 200 or isinstance(orjson.loads(answer.body), dict)
    assert b"-type" not in name.lower() or b"gr??e" in answer.body
    assert not caplog.records


async def test_what_cannot_be_said_is_answered_all_the_same(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> dict[str, str]:
        monkeypatch.undo()
        raise ValueError("no such header")

    monkeypatch.setattr(render, "error_headers", broken)
    answer = await first(edge, INVOKE.format("?Qualifier=nope", "").encode())
    assert (answer.status, answer["Connection"]) == (500, "close")
    assert "no such header" in caplog.text


async def test_a_web_page_of_another_origin_invokes_nothing(edge: Edge) -> None:
    answer = await first(edge, INVOKE.format("", "Origin: https://evil.example\r\n").encode())
    assert (answer.status, edge.invoker.invocations) == (403, [])


async def test_boto3_goes_the_short_way(edge: Edge, long_way: list[bytes]) -> None:
    client = boto3.client(
        "lambda",
        endpoint_url=f"http://127.0.0.1:{edge.server.port}",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    answer = await asyncio.to_thread(client.invoke, FunctionName="echo", Payload=b'{"a": 1}')
    assert await asyncio.to_thread(answer["Payload"].read) == b'{"a": 1}'
    client.close()
    assert not long_way


async def test_an_error_of_the_gateway(edge: Edge, long_way: list[bytes]) -> None:
    async def throttled(_: Invocation) -> bytes:
        raise TooManyRequestsException("ReservedFunctionConcurrentInvocationLimitExceeded")

    edge.invoker.handler = throttled
    answer = await first(edge, PLAIN)
    assert (answer.status, answer["x-amzn-ErrorType"]) == (429, "TooManyRequestsException")
    assert answer["Date"].endswith("GMT")
    assert not long_way


async def test_answers_of_both_ways_are_alike(tmp_path: Path, long_way: list[bytes]) -> None:
    cors = Cors(allow_origins=("https://a.example",), allow_methods=("GET",), max_age_s=10)
    ask = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    async with serving(tmp_path, function(cors=cors)) as edge:

        async def answers(client: Client, **more: str) -> list[tuple[int, list[str], bytes]]:
            found = []
            for method, path, headers in (("OPTIONS", "/", ask), ("GET", "/", ask), ("HEAD", "/", {}), ("GET", "/", {})):
                edge.invoker.handler = answer
                client.write(method, path, {**headers, **more})
                got = await client.answer(method)
                found.append((got.status, sorted(name for name, _ in got.headers), got.body))
            return found

        async def answer(_: Invocation) -> bytes:
            return b'{"statusCode": 201, "headers": {"X-A": "b"}, "body": "hello"}'

        async with contextlib.aclosing(await edge.connect()) as client:
            short = await answers(client)
        assert not long_way
        async with contextlib.aclosing(await edge.connect()) as client:
            assert await answers(client, TE="trailers") == short
        assert len(long_way) == 4
        assert [status for status, _, _ in short] == [200, 201, 201, 201]


async def test_a_connection_that_nobody_uses_is_closed(tmp_path: Path) -> None:
    async with serving(tmp_path, function(), keep_alive_s=0.05) as edge:
        async with contextlib.aclosing(await edge.connect()) as client:
            client.writer.write(PLAIN)
            assert (await client.answer()).status == 200
            assert await client.reader.read() == b""
        async with contextlib.aclosing(await edge.connect()) as client:  # half a request later is no use of it
            client.writer.write(PLAIN)
            assert (await client.answer()).status == 200
            client.writer.write(PLAIN[:20])
            assert await client.reader.read() == b""


async def test_an_invocation_may_take_longer_than_a_connection_is_kept(tmp_path: Path) -> None:
    async with serving(tmp_path, function(), keep_alive_s=0.02) as edge:

        async def slow(invocation: Invocation) -> bytes:
            await asyncio.sleep(0.1)
            return b"1"

        edge.invoker.handler = slow
        assert (await first(edge, PLAIN)).body == b"1"


async def test_drain_answers_and_closes(edge: Edge, long_way: list[bytes]) -> None:
    go = asyncio.Event()

    async def slow(_: Invocation) -> bytes:
        await go.wait()
        return b"1"

    edge.invoker.handler = slow
    async with contextlib.aclosing(await edge.connect()) as client, contextlib.aclosing(await edge.connect()) as idle:
        client.writer.write(PLAIN)
        await until(lambda: edge.invoker.invocations)
        draining = asyncio.create_task(edge.server.drain(10))
        assert await idle.reader.read() == b""
        go.set()
        answer = await client.answer()
        assert (answer.status, answer["Connection"]) == (200, "close")
        assert await client.reader.read() == b""
        await draining
    assert not long_way


async def test_a_client_that_does_not_read_is_cut_off(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "_SEND_GRACE_S", 0.01)
    monkeypatch.setattr(reply, "_SEND_BYTES_PER_S", 1e12)

    async def large(_: Invocation) -> bytes:
        return b'"' + b"x" * 30_000_000 + b'"'

    edge.invoker.handler = large
    async with contextlib.aclosing(await edge.connect()) as client:
        client.writer.write(PLAIN)
        await client.reader.readuntil(b"\r\n\r\n")
        await until(lambda: not edge.server.running)
