"""Invariant: whatever bytes a runtime sends, in whatever pieces, the server answers HTTP or cuts, never fails, and serves on.

And: an event has at most one outcome, and a well-made answer has the same outcome in whatever pieces it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
import uvloop
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sandbox.runtime_api import wire
from sandbox.runtime_api.extensions import Extension
from sandbox.runtime_api.server import RuntimeApi
from sandbox.runtime_api.session import State
from tests.sandboxes import work
from tests.streams import Taker

ID = "00000000-0000-4000-8000-000000000001"
EVENT = wire.event(work(b"{}", request_id=ID), 1)
NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n"
RESPONSE = f"POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nHost: x\r\n".encode()
uvloop.new_event_loop().close()  # libuv's first loop makes a pipe for signals that stays for the life of the process

REQUESTS = st.sampled_from(
    [
        NEXT,
        RESPONSE + b"Content-Length: 4\r\n\r\nnull",
        RESPONSE + b"Transfer-Encoding: chunked\r\n\r\n2\r\nnu\r\n2\r\nll\r\n0\r\n\r\n",
        RESPONSE + b"Transfer-Encoding: chunked\r\n\r\n1;x=y\r\n1\r\n0\r\nLambda-Runtime-Function-Error-Type: Runtime.X\r\n\r\n",
        RESPONSE + b"Content-Length: 6291557\r\n\r\n",
        RESPONSE + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\nnull",
        RESPONSE + b"Lambda-Runtime-Function-Response-Mode: other\r\nContent-Length: 0\r\n\r\n",
        RESPONSE.replace(b"/response", b"/error")
        + b"Content-Type: application/vnd.aws.lambda.error.cause+json\r\nContent-Length: 2\r\n\r\n{]",
        RESPONSE.replace(ID.encode(), b"other") + b"Content-Length: 2\r\n\r\n{}",
        RESPONSE.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n",
        b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /2018-06-01/ping HTTP/1.1\r\nConnection: close\r\n\r\n",
        (
            b"POST /2020-01-01/extension/register HTTP/1.1\r\nLambda-Extension-Name: a\r\nContent-Length: 21\r\n\r\n"
            b'{"events":["INVOKE"]}'
        ),
        b"GET /2020-01-01/extension/event/next HTTP/1.1\r\nLambda-Extension-Identifier: x\r\n\r\n",
        b"PUT /2022-07-01/telemetry HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"\r\n\r\n",
    ]
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Requests one after the other; half of the time with some bytes changed, or cut off."""
    data = bytearray(b"".join(draw(st.lists(REQUESTS, min_size=1, max_size=4))))
    if draw(st.booleans()):
        for _ in range(draw(st.integers(0, 4))):
            position = draw(st.integers(0, len(data) - 1))
            data[position : position + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
            data = data or bytearray(b"x")
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


class Owner:
    """Gives out an event whenever it may, and counts what comes of it; with `streamed` it takes answers while they come."""

    def __init__(self, streamed: bool = False) -> None:
        self.api = RuntimeApi(self)
        self.streamed = streamed
        self.given = 0
        self.outcomes: list[tuple[bytes, str, str | None]] = []
        self.answered = 0

    def on_next(self, before: State) -> None:
        if self.api.session.state is State.READY and self.given < 3:
            self.given += 1
            self.api.invoke(ID, EVENT, Taker(1000) if self.streamed else None)

    def on_answer(self, payload: bytes, content_type: str, error_type: str | None) -> None:
        self.answered += 1
        self.outcomes.append((payload, content_type, error_type))
        assert self.answered <= self.given, "at most one outcome an event"

    def on_answer_begins(self) -> None: ...

    def on_torn(self) -> None:
        assert self.api.session.state in ((State.TORN, State.CUT) if self.streamed else (State.TORN,))

    def on_init_error(self, payload: bytes, content_type: str, error_type: str) -> None:
        assert self.api.session.state is State.INIT_ERROR
        self.outcomes.append((payload, content_type, error_type))

    def on_disconnected(self) -> None:
        assert not self.api.connected

    def on_extension(self, extension: Extension) -> None:
        assert self.api.extensions is not None
        assert self.api.extensions[extension.name] is extension


async def feed(data: bytes, step: int, end: bool, streamed: bool) -> tuple[bytes, Owner]:
    """What the server says to `data` in pieces of `step` bytes, and then, on another connection, to a ping."""
    owner = Owner(streamed)
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        await owner.api.attach(ours)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for start in range(0, len(data), step):
                await loop.sock_sendall(theirs, data[start : start + step])
                await asyncio.sleep(0)
        if end:
            theirs.shutdown(socket.SHUT_WR)
        said = b""
        for _ in range(6):  # it may take some turns of the loop
            await asyncio.sleep(0)
            with contextlib.suppress(BlockingIOError, ConnectionResetError):
                said += theirs.recv(1 << 20)
        serving, pinging = socket.socketpair()
        with serving, pinging:
            pinging.setblocking(False)
            await owner.api.attach(serving)
            await loop.sock_sendall(pinging, b"GET /2018-06-01/ping HTTP/1.1\r\n\r\n")
            assert (await loop.sock_recv(pinging, 4096)).endswith(b"pong")
            owner.api.close()
            await asyncio.sleep(0)
    assert not complaints, complaints
    assert not said or said.startswith(b"HTTP/1.1 "), said
    return said, owner


def run(data: bytes, step: int, end: bool = False, streamed: bool = False) -> tuple[bytes, Owner]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(feed(data, step, end, streamed))


@pytest.mark.slow
@settings(max_examples=150)
@given(data=streams(), step=st.sampled_from([1 << 16, 7, 1]), end=st.booleans(), streamed=st.booleans())
@example(data=NEXT + RESPONSE + b"Content-Length: 4\r\n\r\nnu", step=1, end=True, streamed=False)
@example(data=NEXT + RESPONSE + b"Content-Length: 4\r\n\r\nnu", step=1, end=True, streamed=True)
@example(data=NEXT + NEXT, step=1 << 16, end=False, streamed=False)
def test_any_bytes(data: bytes, step: int, end: bool, streamed: bool) -> None:
    run(data, step, end, streamed)


@settings(max_examples=60)
@given(data=st.binary(min_size=1, max_size=300), step=st.sampled_from([1 << 16, 1]))
def test_garbage(data: bytes, step: int) -> None:
    _, owner = run(data, step, end=True)
    assert owner.outcomes == []


@settings(max_examples=60)
@given(body=st.binary(max_size=200), step=st.integers(1, 400), chunked=st.booleans())
def test_an_answer_in_any_pieces_is_the_same_answer(body: bytes, step: int, chunked: bool) -> None:
    if chunked and body:
        framed = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    else:
        framed = b"Content-Length: %d\r\n\r\n" % len(body) + body
    said, owner = run_cycle(RESPONSE + framed + NEXT, step)
    assert owner.outcomes == [(body, "application/json", None)]
    assert said == EVENT + wire.ACCEPTED + EVENT


def run_cycle(answer: bytes, step: int) -> tuple[bytes, Owner]:
    """Ask for an event first, as a runtime does, then answer it in pieces."""

    async def cycle() -> tuple[bytes, Owner]:
        owner = Owner()
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            await owner.api.attach(ours)
            await loop.sock_sendall(theirs, NEXT)
            said = b""
            while len(said) < len(EVENT):
                said += await loop.sock_recv(theirs, 1 << 16)
            for start in range(0, len(answer), step):
                await loop.sock_sendall(theirs, answer[start : start + step])
                await asyncio.sleep(0)
            while len(said) < 2 * len(EVENT) + len(wire.ACCEPTED):
                said += await loop.sock_recv(theirs, 1 << 16)
            owner.api.close()
            await asyncio.sleep(0)
        return said, owner

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(cycle())
