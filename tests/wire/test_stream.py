"""Answers that are sent while the function gives them: InvokeWithResponseStream and function URLs, over real connections.

The events are read by botocore's decoder. Not recorded from AWS: what a URL's client sees of a function that fails midway.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer

from gateway.edge.stream import BURST_BYTES, MB, StreamLimits
from gateway.invocation import Invocation, InvokeResult, ResponseStream
from gateway.records import Cors
from sandbox.outcome import Status
from tests.wire.edge import HOST, Answer, Client, Edge, function, result, serving

PATH = "/2021-11-15/functions/echo/response-streaming-invocations"
API = {"Host": "127.0.0.1"}  #: or the function URL's is meant
PRELUDE = "application/vnd.awslambda.http-integration-response"
NULS = bytes(8)
DOCUMENT = b'{"errorType":"Late"}'


class Flow:
    """What a sandbox would pause."""

    def __init__(self) -> None:
        self.held = False
        self.holds = 0
        self.free = asyncio.Event()
        self.free.set()

    def pause(self) -> None:
        self.held = True
        self.holds += 1
        self.free.clear()

    def resume(self) -> None:
        self.held = False
        self.free.set()


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with serving(tmp_path, function(invoke_mode="RESPONSE_STREAM")) as edge:
        yield edge


def gives(
    edge: Edge, *pieces: bytes, content_type: str = "text/plain", ends: InvokeResult | None = None, flow: Flow | None = None
) -> asyncio.Event:
    """The function streams these; before each but the first it waits for the event, which it clears."""
    going_on = asyncio.Event()

    async def handler(invocation: Invocation) -> InvokeResult:
        stream = invocation.stream
        assert stream is not None
        stream.begin(content_type, flow or Flow())
        for number, piece in enumerate(pieces):
            if number:
                await going_on.wait()
                going_on.clear()
            stream.chunk(piece)
        if len(pieces) > 1:
            await going_on.wait()
        return ends or result(b"")

    edge.invoker.handler = handler
    return going_on


def returns(edge: Edge, ends: InvokeResult) -> None:
    async def handler(_: Invocation) -> InvokeResult:
        return ends

    edge.invoker.handler = handler


def events(body: bytes) -> list[tuple[str, bytes]]:
    buffer: Any = EventStreamBuffer()
    buffer.add_data(body)
    return [(message.headers[":event-type"], message.payload) for message in buffer]


async def chunk(client: Client) -> bytes:
    """The next chunk of a chunked body."""
    size = int(await client.reader.readline(), 16)
    data = await client.reader.readexactly(size)
    await client.reader.readexactly(2)
    return data


async def head(client: Client) -> str:
    return (await client.reader.readuntil(b"\r\n\r\n")).decode()


async def until(condition: Callable[[], object]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0.001)


async def call(edge: Edge, body: bytes = b"{}", **headers: str) -> Answer:
    return await edge.request("POST", PATH, API | {name.replace("_", "-"): value for name, value in headers.items()}, body)


# The operation.


async def test_events_come_while_the_function_runs(edge: Edge) -> None:
    going_on = gives(edge, b"one", b"two")
    client = await edge.connect()
    client.write("POST", PATH, {**API, "X-Amz-Log-Type": "None"}, b'{"a":1}')
    lines = await head(client)
    assert lines.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Type: application/vnd.amazon.eventstream\r\n" in lines
    assert "X-Amz-Executed-Version: $LATEST\r\n" in lines
    assert "x-amzn-RequestId: " in lines
    assert events(await chunk(client)) == [("PayloadChunk", b"one")]
    going_on.set()
    assert events(await chunk(client)) == [("PayloadChunk", b"two")]
    going_on.set()
    assert events(await chunk(client)) == [("InvokeComplete", b"{}")]
    assert await client.reader.readexactly(5) == b"0\r\n\r\n"
    gives(edge, b"again")
    answer = await client.request("POST", PATH, API, b"{}")
    assert events(answer.body)[0] == ("PayloadChunk", b"again"), "the connection is kept"
    await client.aclose()


async def test_a_function_that_answers_as_a_whole(edge: Edge) -> None:
    returns(edge, result(b'{"b":2}', log_tail=b"log"))
    answer = await call(edge, X_Amz_Log_Type="Tail")
    assert edge.invoker.invocations[0].want_log_tail
    [first, last] = events(answer.body)
    assert first == ("PayloadChunk", b'{"b":2}')
    assert last == (
        "InvokeComplete",
        json.dumps({"LogResult": base64.b64encode(b"log").decode()}, separators=(",", ":")).encode(),
    )


async def test_errors_are_told_by_the_last_event(edge: Edge) -> None:
    for pieces in ((), (b"half",)):
        if pieces:
            gives(edge, *pieces, ends=result(DOCUMENT, Status.ERROR))
        else:
            returns(edge, result(DOCUMENT, Status.ERROR))
        answer = await call(edge)
        assert answer.status == 200
        *chunks, (kind, last) = events(answer.body)
        assert chunks == [("PayloadChunk", piece) for piece in pieces]
        assert kind == "InvokeComplete"
        assert json.loads(last) == {"ErrorCode": "Unhandled", "ErrorDetails": DOCUMENT.decode()}


async def test_requests_that_do_not_get_to_the_function(edge: Edge) -> None:
    assert (await edge.request("POST", PATH.replace("echo", "nobody"), API)).status == 404
    assert (await call(edge, X_Amz_Invocation_Type="DryRun")).status == 204
    answer = await call(edge, X_Amz_Invocation_Type="Event")
    assert (answer.status, answer["x-amzn-ErrorType"]) == (400, "ValidationException")
    assert b"[DryRun, RequestResponse]" in answer.body
    answer = await call(edge, b"{")
    assert (answer.status, answer["x-amzn-ErrorType"]) == (400, "InvalidRequestContentException")
    answer = await call(edge, X_Amz_Client_Context="e30=", X_Amz_Log_Type="None")
    assert edge.invoker.invocations[-1].client_context == "{}"
    assert len(edge.invoker.invocations) == 1


# Pace.


async def endless(stream: ResponseStream, flow: Flow, until_bytes: int) -> int:
    """Give pieces as a sandbox would: none while the flow is held."""
    given = 0
    while given < until_bytes:
        await flow.free.wait()
        stream.chunk(bytes(100_000))
        given += 100_000
        await asyncio.sleep(0)
    return given


async def test_a_client_that_does_not_read_stops_the_flow(edge: Edge) -> None:
    flow, given = Flow(), 0

    async def handler(invocation: Invocation) -> bytes:
        nonlocal given
        assert invocation.stream is not None
        invocation.stream.begin("", flow)
        given = await endless(invocation.stream, flow, 8 * MB)
        return b""

    edge.invoker.handler = handler
    client = await edge.connect()
    client.write("GET", "/")
    await until(lambda: flow.held)
    await asyncio.sleep(0.05)
    assert flow.held
    assert given == 0
    answer = await client.answer()
    assert len(answer.body) == given == 8 * MB
    await client.aclose()


async def test_a_client_that_leaves_lets_the_flow_go_on(edge: Edge) -> None:
    flow = Flow()
    streams: list[ResponseStream] = []

    async def handler(invocation: Invocation) -> bytes:
        assert invocation.stream is not None
        streams.append(invocation.stream)
        invocation.stream.begin("", flow)
        await endless(invocation.stream, flow, 400 * MB)
        return b""

    edge.invoker.handler = handler
    client = await edge.connect()
    client.write("GET", "/")
    await until(lambda: flow.held)
    client.writer.transport.abort()
    await edge.invoker.left.wait()
    await until(lambda: not flow.held)
    holds = flow.holds
    assert await endless(streams[0], flow, 10 * MB) == 10 * MB, "the function goes on, for nobody"
    assert flow.holds == holds


async def test_a_rate_counts_after_the_first_megabytes(tmp_path: Path) -> None:
    flow = Flow()
    times: list[float] = []
    loop = asyncio.get_running_loop()

    async def handler(invocation: Invocation) -> bytes:
        assert invocation.stream is not None
        invocation.stream.begin("", flow)
        times.append(loop.time())
        await endless(invocation.stream, flow, BURST_BYTES)
        assert not flow.held or flow.holds, "the burst is bounded by the client alone"
        times.append(loop.time())
        await endless(invocation.stream, flow, 2 * MB)
        await flow.free.wait()
        times.append(loop.time())
        return b""

    async with serving(tmp_path, function(invoke_mode="RESPONSE_STREAM"), limits=StreamLimits(200 * MB, 10 * MB)) as edge:
        edge.invoker.handler = handler
        answer = await edge.request("GET", "/")
    assert len(answer.body) == BURST_BYTES + 2 * MB
    assert times[2] - times[1] >= 0.19


async def test_the_limit_of_length_is_the_settings(tmp_path: Path) -> None:
    limits: list[int] = []

    async def handler(invocation: Invocation) -> bytes:
        assert invocation.stream is not None
        limits.append(invocation.stream.limit_bytes)
        return b"1"

    async with serving(tmp_path, function(invoke_mode="RESPONSE_STREAM"), limits=StreamLimits(5 * MB)) as edge:
        edge.invoker.handler = handler
        await edge.request("GET", "/")
        await call(edge)
    assert limits == [5 * MB, 5 * MB]


# Function URLs.


async def test_body_and_content_type_are_the_functions(edge: Edge) -> None:
    going_on = gives(edge, b"one", b"two", content_type="text/event-stream")
    client = await edge.connect()
    client.write("GET", "/")
    lines = await head(client)
    assert lines.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Type: text/event-stream\r\n" in lines
    assert await chunk(client) == b"one"
    going_on.set()
    assert await chunk(client) == b"two"
    going_on.set()
    assert await client.reader.readexactly(5) == b"0\r\n\r\n"
    gives(edge, b"again")
    assert (await client.request("GET", "/")).body == b"again", "the connection is kept"
    await client.aclose()


@pytest.mark.parametrize("content_type", ["", "a\r\nX: y"])
async def test_no_content_type_of_the_functions(edge: Edge, content_type: str) -> None:
    gives(edge, b"x", content_type=content_type)
    answer = await edge.request("GET", "/")
    assert (answer["Content-Type"], answer.body) == ("application/octet-stream", b"x")
    assert answer.get("X") == []


PRELUDED = (
    json.dumps(
        {"statusCode": 201, "headers": {"X-A": "1", "Content-Type": "text/html", "Content-Length": "7"}, "cookies": ["a=b"]}
    ).encode()
    + NULS
    + b"\0body"
    + NULS
)


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
async def test_prelude(edge: Edge, step: int) -> None:
    async def handler(invocation: Invocation) -> bytes:
        assert invocation.stream is not None
        invocation.stream.begin(PRELUDE, Flow())
        for start in range(0, len(PRELUDED), step):
            invocation.stream.chunk(PRELUDED[start : start + step])
        return b""

    edge.invoker.handler = handler
    answer = await edge.request("GET", "/")
    assert (answer.status, answer["X-A"], answer["Content-Type"], answer["Set-Cookie"]) == (201, "1", "text/html", "a=b")
    assert answer.body == b"\0body" + NULS
    assert answer.get("Content-Length") == []


async def test_the_head_is_sent_with_the_end_of_the_prelude(edge: Edge) -> None:
    going_on = gives(edge, b'{"statusCode":202}' + NULS, b"late", content_type=PRELUDE)
    client = await edge.connect()
    client.write("GET", "/")
    assert (await head(client)).startswith("HTTP/1.1 202 Accepted\r\n")
    going_on.set()
    assert await chunk(client) == b"late"
    going_on.set()
    await client.aclose()


@pytest.mark.parametrize(
    ("given", "status", "body"),
    [
        (b'{"statusCode":404}' + NULS, 404, b""),
        (b'{"statusCode":404}', 404, b""),
        (b"{}" + NULS + b"x", 200, b"x"),
        (b"", 200, b""),
        (b"no JSON" + NULS + b"x", 502, b"Internal Server Error"),
        (b'{"statusCode":"many"}' + NULS, 502, b"Internal Server Error"),
        (b"[]" + NULS, 502, b"Internal Server Error"),
        (b'{"cookies":"a"}' + NULS, 502, b"Internal Server Error"),
        (b'{"statusCo', 502, b"Internal Server Error"),
        (b"x" * 70_000, 502, b"Internal Server Error"),
    ],
)
async def test_odd_preludes(edge: Edge, given: bytes, status: int, body: bytes) -> None:
    gives(edge, *((given,) if given else ()), content_type=PRELUDE)
    answer = await edge.request("GET", "/")
    assert (answer.status, answer.body) == (status, body)


async def test_a_whole_answer_is_not_interpreted(edge: Edge) -> None:
    returns(edge, result(b'{"statusCode":404,"body":"x"}'))
    answer = await edge.request("GET", "/")
    assert (answer.status, answer["Content-Type"], answer.body) == (200, "application/json", b'{"statusCode":404,"body":"x"}')


async def test_failure_before_the_first_byte_is_a_502(edge: Edge) -> None:
    gives(edge, ends=result(DOCUMENT, Status.TIMEOUT))
    answer = await edge.request("GET", "/")
    assert (answer.status, answer.body, answer["Content-Type"]) == (502, b"Internal Server Error", "text/plain")


async def test_failure_later_breaks_the_answer_off(edge: Edge) -> None:
    gives(edge, b"half", ends=result(DOCUMENT, Status.ERROR))
    said = await edge.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    assert said.endswith(b"\r\n\r\n4\r\nhalf\r\n"), "there is no last chunk, and the connection is closed"


async def test_a_fault_of_ours_breaks_the_answer_off_too(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(invocation: Invocation) -> bytes:
        assert invocation.stream is not None
        invocation.stream.begin("", Flow())
        invocation.stream.chunk(b"half")
        raise ZeroDivisionError

    edge.invoker.handler = handler
    said = await edge.send(f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    assert said.endswith(b"\r\n\r\n4\r\nhalf\r\n")
    assert "ZeroDivisionError" in caplog.text


async def test_bodies_that_are_none(edge: Edge) -> None:
    gives(edge, b'{"statusCode":204}' + NULS + b"x", content_type=PRELUDE)
    client = await edge.connect()
    answer = await client.request("GET", "/")
    assert (answer.status, answer.get("Transfer-Encoding")) == (204, [])
    gives(edge, b"x")
    answer = await client.request("HEAD", "/")
    assert (answer.status, answer["Content-Type"], answer.get("Transfer-Encoding")) == (200, "text/plain", [])
    assert (await client.request("GET", "/")).body == b"x"
    await client.aclose()


async def test_http_1_0_has_no_chunks(edge: Edge) -> None:
    gives(edge, b"one")
    said = await edge.send(f"GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
    assert said.endswith(b"Connection: close\r\n\r\none")
    assert b"Transfer-Encoding" not in said


async def test_rules_for_other_origins(tmp_path: Path) -> None:
    rules = Cors(
        allow_credentials=False, allow_headers=(), allow_methods=(), allow_origins=("*",), expose_headers=(), max_age_s=None
    )
    async with serving(tmp_path, function(invoke_mode="RESPONSE_STREAM", cors=rules)) as edge:
        gives(edge, b"x")
        answer = await edge.request("GET", "/", {"Origin": "https://example.com"})
        assert answer["Access-Control-Allow-Origin"] == "*"


async def test_buffered_urls_collect(tmp_path: Path) -> None:
    async with serving(tmp_path, function()) as edge:
        await edge.request("GET", "/")
        assert edge.invoker.invocations[0].stream is None
