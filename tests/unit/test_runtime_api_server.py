"""The Runtime API's server on real sockets: what a well-made client gets, what an ill-made one gets, and what neither can do.

Each test runs on asyncio's loop and on uvloop, which serves in production.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import re
import socket
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
import uvloop

from sandbox.runtime_api import connection, server, wire
from sandbox.runtime_api.extensions import Extension, Extensions
from sandbox.runtime_api.server import RuntimeApi
from sandbox.runtime_api.session import State
from tests.sandboxes import SPEC, work
from tests.streams import Taker

ID = "00000000-0000-4000-8000-000000000001"
EVENT = wire.event(work(b'{"n": 1}', request_id=ID), 1_795_253_823_000)
NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"status":"OK"}'
MIB = 1 << 20
uvloop.new_event_loop().close()  # libuv's first loop makes a pipe for signals that stays for the life of the process


def post(path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in headers)
    return f"POST /2018-06-01{path} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def response(body: bytes = b"null", *headers: str, request_id: str = ID) -> bytes:
    return post(f"/runtime/invocation/{request_id}/response", body, *headers)


class Recorder:
    """An owner that only notes; with `again` it hands out that many further events as soon as `next` comes."""

    def __init__(self) -> None:
        self.api = RuntimeApi(self)
        self.news: list[Any] = []
        self.again = 0

    def on_next(self, before: State) -> None:
        self.news.append(("next", before))
        if self.again and self.api.session.state is State.READY:
            self.again -= 1
            self.api.invoke(ID, EVENT)

    def on_answer(self, payload: bytes, content_type: str, error_type: str | None) -> None:
        self.news.append(("answer", payload, content_type, error_type))

    def on_answer_begins(self) -> None: ...

    def on_torn(self) -> None:
        self.news.append("torn")

    def on_init_error(self, payload: bytes, content_type: str, error_type: str) -> None:
        self.news.append(("init error", payload, content_type, error_type))

    def on_disconnected(self) -> None:
        self.news.append("disconnected")

    def on_extension(self, extension: Extension) -> None:
        self.news.append((extension.name, extension.state))

    def answers(self) -> list[bytes]:
        return [item[1] for item in self.news if item[0] == "answer"]


class Client:
    """A raw client: sends bytes, reads answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes, step: int = 0) -> None:
        for start in range(0, len(data), step or len(data)):
            self.writer.write(data[start : start + (step or len(data))])
            await self.writer.drain()
            if step:
                await asyncio.sleep(0)

    async def answer(self) -> tuple[int, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        body = await self.reader.readexactly(int(length[1])) if length else b""
        return int(head.split()[1]), body

    async def closed(self) -> bytes:
        """Whatever else comes until the server closes."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[Recorder, Callable[[], Awaitable[Client]]]]:
    """A server on a TCP listener that takes connections, and how to make one."""
    owner = Recorder()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        await owner.api.serve(listener)
        owner.api.accepting = True
        clients: list[Client] = []

        async def connect() -> Client:
            clients.append(Client(*await asyncio.open_connection(*listener.getsockname(), limit=16 * MIB)))
            return clients[-1]

        try:
            yield owner, connect
        finally:
            owner.api.close()
            for client in clients:
                await client.close()


async def settle(turns: int = 20) -> None:
    """Let the loop do what is there to do."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Turn the loop until `condition` holds; a test that waits in vain meets pytest's time-out."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.001)


def on_both_loops(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine test on asyncio's loop and on uvloop; neither may complain."""

    def both(new_loop: Callable[[], asyncio.AbstractEventLoop], **arguments: Any) -> None:
        complaints: list[dict[str, Any]] = []

        async def watched() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            await test(**arguments)
            await settle()

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(watched())
        assert not complaints

    own = inspect.signature(test).parameters.values()
    new_loop = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    vars(both).update(vars(test), __signature__=inspect.Signature([*own, new_loop]), __doc__=test.__doc__)
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    marked: Callable[..., None] = pytest.mark.parametrize("new_loop", loops, ids=["asyncio", "uvloop"])(both)
    return marked


@on_both_loops
async def test_the_cycle() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        await client.send(NEXT)
        await until(lambda: owner.news)
        owner.api.invoke(ID, EVENT)
        assert await client.answer() == (200, b'{"n": 1}')
        await client.send(response(b'"done"', "Content-Type: application/json"))
        assert await client.answer() == (202, b'{"status":"OK"}')
        assert owner.news == [("next", State.STARTED), ("answer", b'"done"', "application/json", None)]
        await client.send(NEXT)
        await until(lambda: len(owner.news) == 3)
        assert owner.news[-1] == ("next", State.SENT)


@on_both_loops
async def test_pipelined_response_and_next_are_answered_in_order_and_in_one_piece() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        owner.again = 1
        await client.send(NEXT)
        await client.answer()
        await client.send(response(b"1") + NEXT)
        await until(lambda: len(owner.news) == 3)
        await settle()
        with pytest.raises(TimeoutError):  # the acknowledgement waits for the event
            await asyncio.wait_for(asyncio.shield(client.reader.read(1)), 0.01)
        owner.api.invoke(ID, EVENT)
        await settle()
    # `read(1)` above took the first byte when it came
    assert (OK + EVENT)[1:] == await client.closed()


@on_both_loops
async def test_event_that_is_there_already_goes_out_with_the_acknowledgement() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        owner.again = 3
        await client.send(NEXT + b"")
        assert (await client.answer())[0] == 200
        for _ in range(2):
            await client.send(response(b"1") + NEXT)
            assert await client.reader.readexactly(len(OK + EVENT)) == OK + EVENT
        assert owner.answers() == [b"1", b"1"]


@on_both_loops
async def test_connected_socket_is_served_and_stays_its_owners() -> None:
    owner = Recorder()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        await owner.api.attach(ours)
        client = Client(*await asyncio.open_connection(sock=theirs.dup()))
        await client.send(NEXT)
        await until(lambda: owner.news)
        owner.api.invoke(ID, EVENT)
        assert (await client.answer())[0] == 200
        owner.api.close()
        assert await client.closed() == b""
        await client.close()
        assert ours.fileno() >= 0


@pytest.mark.parametrize("size", [0, 1, 7, 64, 100_000, wire.MAX_PAYLOAD_BYTES])
@on_both_loops
async def test_bodies_up_to_the_limit(size: int) -> None:
    async with serving() as (owner, connect):
        client = await connect()
        owner.again = 1
        await client.send(NEXT)
        await client.answer()
        body = b"x" * size
        await client.send(response(body))
        assert (await client.answer())[0] == 202
        assert owner.answers() == [body]


@pytest.mark.parametrize("chunked", [False, True])
@on_both_loops
async def test_body_over_the_limit_is_413_and_the_outcome_and_the_connection_lives(chunked: bool) -> None:
    async with serving() as (owner, connect):
        client = await connect()
        owner.again = 2
        await client.send(NEXT)
        await client.answer()
        body = b"x" * (wire.MAX_PAYLOAD_BYTES + 1)
        if chunked:
            head = f"POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            await client.send(head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
        else:
            await client.send(response(body))
        status, answer = await client.answer()
        assert status == 413
        assert json.loads(answer)["errorType"] == "RequestEntityTooLarge"
        _, payload, _, error_type = owner.news[-1]
        assert error_type == "Function.ResponseSizeTooLarge"
        assert json.loads(payload)["errorMessage"].startswith("Response payload size exceeded")
        await client.send(NEXT)
        assert (await client.answer())[0] == 200


@on_both_loops
async def test_outcome_of_a_body_that_is_too_large_does_not_wait_for_its_end() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        owner.again = 1
        await client.send(NEXT)
        await client.answer()
        await client.send(
            f"POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n".encode()
        )
        await until(lambda: len(owner.news) == 2)
        assert owner.news[-1][3] == "Function.ResponseSizeTooLarge"


@pytest.mark.parametrize("step", [1, 2, 7])
@on_both_loops
async def test_bytes_in_crumbs(step: int) -> None:
    async with serving() as (owner, connect):
        client = await connect()
        owner.again = 2
        await client.send(NEXT, step)
        assert await client.answer() == (200, b'{"n": 1}')
        await client.send(response(b'"abcdefgh"', "Content-Type: text/plain") + NEXT, step)
        assert (await client.answer())[0] == 202
        assert (await client.answer())[0] == 200
        assert owner.news[1] == ("answer", b'"abcdefgh"', "text/plain", None)


@on_both_loops
async def test_chunked_body_and_its_trailers() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        owner.again = 2
        await client.send(NEXT)
        await client.answer()
        head = f"POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n".encode()
        await client.send(head + b"\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" + NEXT, step=3)
        assert (await client.answer())[0] == 202
        assert owner.answers() == [b"abcde"]
        assert (await client.answer())[0] == 200
        trailers = b"Lambda-Runtime-Function-Error-Type: Runtime.Late\r\nLambda-Runtime-Function-Error-Body: eyJhIjoxfQ==\r\n"
        mode = b"Lambda-Runtime-Function-Response-Mode: streaming\r\n"
        await client.send(head + mode + b"\r\n3\r\nabc\r\n0\r\n" + trailers + b"\r\n")
        assert (await client.answer())[0] == 202
        assert owner.news[-1] == ("answer", b'{"a":1}', "application/json", "Runtime.Late")


@on_both_loops
async def test_error_and_init_error() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        await client.send(post("/runtime/init/error", b'{"errorType":"E"}', "Lambda-Runtime-Function-Error-Type: Runtime.Bad"))
        assert await client.answer() == (202, b'{"status":"OK"}')
        assert owner.news == [("init error", b'{"errorType":"E"}', "application/json", "Runtime.Bad")]
        await client.send(post("/runtime/init/error", b"{}"))
        assert (await client.answer())[0] == 403
        owner.api.dismiss()
        owner.api.replaced()
        owner.api.accepting = True
        client = await connect()
        owner.again = 1
        await client.send(NEXT)
        await client.answer()
        cause = b'{"errorMessage":"m","errorType":"E","stackTrace":[],"errorCause":{}}'
        await client.send(
            post(
                f"/runtime/invocation/{ID}/error",
                cause,
                "Content-Type: application/vnd.aws.lambda.error.cause+json",
                "Lambda-Runtime-Function-XRay-Error-Cause: " + "x" * 1_000_000,
            )
        )
        assert (await client.answer())[0] == 202
        without = b'{"errorMessage":"m","errorType":"E","stackTrace":[]}'
        assert owner.news[-1] == ("answer", without, "application/json", "Runtime.Unknown")


@on_both_loops
async def test_answers_that_nobody_asked_for_change_nothing() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        await client.send(response(b"early"))
        assert (await client.answer())[0] == 400
        owner.again = 1
        await client.send(NEXT)
        await client.answer()
        other = "ffffffff-0000-4000-8000-000000000001"
        await client.send(response(b"wrong", request_id=other))
        status, body = await client.answer()
        assert (status, json.loads(body)["errorType"]) == (400, "InvalidRequestID")
        await client.send(response(b"right"))
        assert (await client.answer())[0] == 202
        await client.send(response(b"again"))
        status, body = await client.answer()
        assert (status, json.loads(body)["errorType"]) == (403, "InvalidStateTransition")
        assert owner.answers() == [b"right"]


@on_both_loops
async def test_unknown_response_mode_is_refused_and_is_the_outcome() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        owner.again = 1
        await client.send(NEXT)
        await client.answer()
        await client.send(response(b"x", "Lambda-Runtime-Function-Response-Mode: buffered"))
        status, body = await client.answer()
        assert (status, json.loads(body)["errorType"]) == (400, "InvalidFunctionResponseMode")
        assert owner.news[-1][3] == "Runtime.InvalidResponseModeHeader"


@on_both_loops
async def test_next_while_running_gives_the_same_event_again() -> None:
    async with serving() as (owner, connect):
        first = await connect()
        owner.again = 1
        await first.send(NEXT)
        await first.answer()
        await first.close()
        second = await connect()
        await second.send(NEXT)
        assert await second.answer() == (200, b'{"n": 1}')
        await second.send(response(b"1"))
        assert (await second.answer())[0] == 202


@on_both_loops
async def test_event_waits_for_a_runtime_that_is_between_connections() -> None:
    async with serving() as (owner, connect):
        first = await connect()
        await first.send(NEXT)
        await until(lambda: owner.news)
        await first.close()
        await until(lambda: "disconnected" in owner.news)
        owner.api.invoke(ID, EVENT)
        second = await connect()
        await second.send(NEXT)
        assert (await second.answer())[0] == 200


@on_both_loops
async def test_second_next_takes_the_place_of_the_first() -> None:
    async with serving() as (owner, connect):
        first, second = await connect(), await connect()
        await first.send(NEXT)
        await until(lambda: len(owner.news) == 1)
        await second.send(NEXT)
        await until(lambda: len(owner.news) == 2)
        assert await first.closed() == b""
        owner.api.invoke(ID, EVENT)
        assert (await second.answer())[0] == 200


@on_both_loops
async def test_whoever_asks_on_while_its_next_is_unanswered_is_cut() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        await client.send(NEXT + NEXT)
        assert await client.closed() == b""
        await until(lambda: "disconnected" in owner.news)
        assert owner.api.session.state is State.READY
        owner.api.invoke(ID, EVENT)
        again = await connect()
        await again.send(NEXT)
        assert (await again.answer())[0] == 200
        # The same event again for each `next`: what is behind one was sent before that could be read.
        await again.send(NEXT * 3)
        assert await again.closed() == b""
        last = await connect()
        await last.send(NEXT)
        assert (await last.answer())[0] == 200


@on_both_loops
async def test_one_read_brings_a_few_requests_or_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    routed: list[bytes] = []
    route = wire.route

    def counted(method: bytes, url: bytes) -> tuple[wire.Route, bytes]:
        routed.append(url)
        return route(method, url)

    monkeypatch.setattr(wire, "route", counted)
    ping = b"GET /2018-06-01/ping HTTP/1.1\r\n\r\n"
    async with serving() as (owner, connect):
        client = await connect()
        for _ in range(2):
            await client.send(ping * connection.MAX_PIPELINED)
            for _ in range(connection.MAX_PIPELINED):
                assert await client.answer() == (200, b"pong")
        routed.clear()
        with contextlib.suppress(ConnectionError):
            await client.send(ping * 10_000)
        assert b"pong" not in await client.closed()
        await until(lambda: "disconnected" in owner.news)
        assert len(routed) <= connection.MAX_PIPELINED


def test_the_same_large_event_on_many_connections_is_held_once() -> None:
    """Where a reader does not read; uvloop holds what it is given, asyncio's own loop copies it."""

    async def held() -> int:
        async with serving() as (owner, connect):
            clients = [await connect() for _ in range(8)]
            for client in clients:
                cast("asyncio.Transport", client.writer.transport).pause_reading()
            await clients[0].send(NEXT)
            await until(lambda: owner.news)
            owner.api.invoke(ID, wire.event(work(b"x" * (6 * MIB), request_id=ID), 1))
            before, _ = tracemalloc.get_traced_memory()
            for client in clients[1:]:
                await client.send(b"GET /2018-06-01/ping HTTP/1.1\r\n\r\n" + NEXT)
            await until(lambda: len(owner.news) == len(clients))
            return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(held()) < 6 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/2018-06-01/runtime/invocation/next"),
        ("POST", "/2020-01-01/extension/register"),
        ("GET", "/2020-01-01/extension/event/next"),
        ("POST", "/2020-01-01/extension/exit/error"),
        ("PUT", "/2022-07-01/telemetry"),
        ("PUT", "/2020-08-15/logs"),
    ],
)
@on_both_loops
async def test_a_body_that_is_no_answer_is_a_small_one(method: str, path: str, chunked: bool) -> None:
    async with serving() as (owner, connect):
        client = await connect()
        head = f"{method} {path} HTTP/1.1\r\nLambda-Extension-Name: a\r\n".encode()
        for size, too_large in ((wire.MAX_CALL_BYTES, False), (wire.MAX_CALL_BYTES + 1, True)):
            if not too_large and path.endswith("invocation/next"):
                continue  # it would wait for its event
            framed = b"Content-Length: %d\r\n\r\n" % size + b"x" * size
            if chunked:
                framed = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"
            await client.send(head + framed)
            status, answer = await client.answer()
            assert (status == 413) is too_large
        assert json.loads(answer)["errorType"] == "RequestEntityTooLarge"
        assert owner.news == []
        await client.send(b"GET /2018-06-01/ping HTTP/1.1\r\n\r\n")
        assert await client.answer() == (200, b"pong")


@on_both_loops
async def test_what_a_call_that_is_no_answer_brings_is_not_held() -> None:
    """However many connections bring it: a body without an end is dropped from where it is too large."""
    async with serving() as (_, connect):
        clients = [await connect() for _ in range(8)]
        head = b"PUT /2022-07-01/telemetry HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        tracemalloc.start()
        try:
            for client in clients:
                await client.send(head + b"%x\r\n" % (2 * MIB) + b"x" * MIB)
            await settle(100)
            assert tracemalloc.get_traced_memory()[0] < 4 * MIB
        finally:
            tracemalloc.stop()


@on_both_loops
async def test_response_that_breaks_off_may_come_again() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        owner.again = 1
        await client.send(NEXT)
        await client.answer()
        await client.send(response(b"x" * 1000)[:-1])
        await settle()
        await client.close()
        await until(lambda: "torn" in owner.news)
        again = await connect()
        await again.send(response(b"whole"))
        assert (await again.answer())[0] == 202
        assert owner.answers() == [b"whole"]


@on_both_loops
@pytest.mark.parametrize("known", [False, True], ids=["by the parser", "by its shape"])
async def test_response_that_breaks_off_and_comes_again_in_the_same_turn_of_the_loop(known: bool) -> None:
    """The kernel's order counts, not the loop's, which sees the end of a connection a turn after its last bytes."""
    async with serving() as (owner, connect):
        here, there = socket.socketpair()
        with here, there:
            await owner.api.attach(there)
            here.setblocking(False)
            client = Client(*await asyncio.open_connection(sock=here.dup())) if known else await connect()
            broken = await connect()
            owner.again = 1
            await client.send(NEXT)
            await client.answer()
            with socket.socket(fileno=os.dup(broken.writer.get_extra_info("socket").fileno())) as raw:
                # no await from here: the loop finds all of it at once
                raw.send(response(b"x" * 1000)[:-1])
                raw.shutdown(socket.SHUT_WR)
                client.writer.write(response(b'"whole"', "Content-Type: application/json") + NEXT)
            await until(lambda: len(owner.news) > 2)
            owner.api.invoke(ID, EVENT)
            assert [(await client.answer())[0] for _ in range(2)] == [202, 200]
            assert owner.answers() == [b'"whole"']
            await client.close()


@on_both_loops
async def test_another_response_while_one_is_being_read_is_refused() -> None:
    """Also by its shape; and nobody is told that it was taken."""
    async with serving() as (owner, connect):
        client, other = await connect(), await connect()
        owner.again = 1
        await client.send(NEXT)
        await client.answer()
        await client.send(response(b"x" * 1000)[:-1])
        await settle()
        await other.send(response(b"other"))
        assert (await other.answer())[0] == 403
        await client.send(b"x")
        assert (await client.answer())[0] == 202
        assert owner.answers() == [b"x" * 1000]


@on_both_loops
async def test_garbage_in_the_middle_of_a_response_tears_it() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        owner.again = 1
        await client.send(NEXT)
        await client.answer()
        head = f"POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        await client.send(head + b"3\r\nabc\r\nno size\r\n")
        assert (await client.closed()).startswith(b"HTTP/1.1 400")
        assert "torn" in owner.news
        assert not owner.answers()


@on_both_loops
async def test_expect_100_continue() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        owner.again = 1
        await client.send(NEXT)
        await client.answer()
        whole = response(b'"body"', "Expect: 100-continue")
        await client.send(whole[:-6])
        assert await client.answer() == (100, b"")
        await client.send(whole[-6:])
        assert (await client.answer())[0] == 202
        refused = await connect()
        await refused.send(response(b"x", "Expect: 100-continue")[:-1])
        assert (await refused.answer())[0] == 403
        assert await refused.closed() == b"", "whether its body follows can't be known"


@on_both_loops
async def test_http_1_0_and_connection_close() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        await client.send(NEXT.replace(b"HTTP/1.1", b"HTTP/1.0"))
        await until(lambda: owner.news)
        owner.api.invoke(ID, EVENT)
        assert (await client.answer())[0] == 200
        assert await client.closed() == b""
        client = await connect()
        await client.send(response(b"1", "Connection: close"))
        assert b"HTTP/1.1 202 Accepted\r\nConnection: close\r\n" in await client.closed()
        assert owner.answers() == [b"1"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x00",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
    ],
)
@on_both_loops
async def test_what_is_not_http_is_400_and_cut(garbage: bytes) -> None:
    async with serving() as (owner, connect):
        client = await connect()
        await client.send(garbage)
        assert b"HTTP/1.1 400 Bad Request" in await client.closed()
        await until(lambda: "disconnected" in owner.news)
        assert owner.api.session.state is State.STARTED


@on_both_loops
async def test_head_without_end_is_431_and_cut() -> None:
    async with serving() as (owner, connect):
        for head in (b"GET /" + b"a" * (2 * MIB), b"GET / HTTP/1.1\r\nX: " + b"a" * (2 * MIB)):
            client = await connect()
            with contextlib.suppress(ConnectionError):
                await client.send(head)
            assert (await client.closed())[:12] in (b"HTTP/1.1 431", b"")
        await until(lambda: owner.news.count("disconnected") == 2)


@on_both_loops
async def test_trailers_without_end_are_431_and_tear_the_response() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        owner.again = 1
        await client.send(NEXT)
        await client.answer()
        head = f"POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        with contextlib.suppress(ConnectionError):
            await client.send(head + b"1\r\nx\r\n0\r\nX-Trailer: " + b"a" * (2 * MIB))
        await until(lambda: "torn" in owner.news)


@on_both_loops
async def test_more_connections_than_allowed_are_cut() -> None:
    async with serving() as (owner, connect):
        kept = [await connect() for _ in range(server.MAX_CONNECTIONS)]
        await settle()
        one_more = await connect()
        assert await one_more.closed() == b""
        await kept[0].close()
        await settle(200)
        another = await connect()
        await another.send(b"GET /2018-06-01/ping HTTP/1.1\r\n\r\n")
        assert await another.answer() == (200, b"pong")
        assert owner.news == []


@on_both_loops
async def test_large_event_to_a_reader_that_does_not_read_neither_blocks_nor_lets_it_ask_for_more() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        transport = cast("asyncio.Transport", client.writer.transport)
        transport.pause_reading()
        await client.send(NEXT)
        await until(lambda: owner.news)
        event = wire.event(work(b"x" * (6 * MIB), request_id=ID), 1)
        owner.api.invoke(ID, event)
        await settle()
        ping = b"GET /2018-06-01/ping HTTP/1.1\r\n\r\n"
        client.writer.write(ping * connection.MAX_PIPELINED)
        await settle()
        transport.resume_reading()
        status, body = await client.answer()
        assert (status, len(body)) == (200, 6 * MIB)
        assert await client.answer() == (200, b"pong")


@on_both_loops
async def test_dismissed_runtime_hears_nothing_but_that_its_answer_is_late() -> None:
    async with serving() as (owner, connect):
        client, late = await connect(), await connect()
        owner.again = 1
        await client.send(NEXT)
        await client.answer()
        owner.api.dismiss(late=True)
        await late.send(response(b"late"))
        assert (await late.answer())[0] == 410
        await client.send(response(b"late") + NEXT)
        await settle()
        new = await connect()
        assert await new.closed() == b"", "nobody new is listened to"
        owner.api.invoke(ID, EVENT)
        owner.api.replaced()
        assert await client.closed() == b"", "nothing until it is dead"
        owner.api.accepting = True
        successor = await connect()
        await successor.send(NEXT)
        assert (await successor.answer())[0] == 200, "the event waited for the new one"
        assert not owner.answers()


@pytest.mark.parametrize("external", [False, True])
@on_both_loops
async def test_an_answer_on_a_connection_that_was_an_extensions_is_one_like_any_other(external: bool) -> None:
    async with serving() as (owner, connect):
        owner.api.function = SPEC
        owner.api.extensions = Extensions(SPEC, ["a"] if external else [])
        client = await connect()
        register = b"POST /2020-01-01/extension/register HTTP/1.1\r\nLambda-Extension-Name: a\r\nContent-Length: 2\r\n\r\n{}"
        await client.send(register)
        assert (await client.answer())[0] == 200
        assert owner.api.connected is not external, "a runtime that has ended is not waited for because of another process"
        taker = Taker(full_at=3)
        await client.send(NEXT)
        await until(lambda: len(owner.news) == 2)
        owner.api.session.released()
        owner.api.invoke(ID, EVENT, taker)
        assert (await client.answer())[0] == 200
        head = f"POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        await client.send(head + b"3\r\none\r\n")
        await until(lambda: taker.data)
        assert owner.api.held
        taker.resume()
        await until(lambda: not owner.api.held)
        owner.api.dismiss()
        await client.send(b"3\r\ntwo\r\n")
        await settle(50)
        assert taker.data == b"one", "nothing after the outcome"


@on_both_loops
async def test_half_a_request_and_gone() -> None:
    async with serving() as (owner, connect):
        for part in (b"GET /2018", NEXT[:-2], post("/runtime/init/error", b"x" * 100)[:-50]):
            client = await connect()
            await client.send(part)
            await client.close()
        await until(lambda: "disconnected" in owner.news and not owner.api.connected)
        assert not owner.answers()


@on_both_loops
async def test_restore_and_things_that_are_off() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        for request, status in (
            (b"GET /2018-06-01/runtime/restore/next HTTP/1.1\r\n\r\n", 200),
            (b"POST /2020-01-01/extension/register HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 403),
            (b"PUT /2022-07-01/telemetry HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 202),
            (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
            (b"DELETE /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n", 405),
        ):
            await client.send(request)
            assert (await client.answer())[0] == status
        await client.send(NEXT)
        await until(lambda: owner.news)
