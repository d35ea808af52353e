"""The load generator's connections against a server on a real socket that does what servers under load do."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator

import click
import pytest

from gateway.cli.bench.load import Target
from loadtests.connections import Requests, connected
from loadtests.open_loop import generate
from loadtests.timer import KernelTimer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, world!"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nHello,\r\n7\r\n world!\r\n0\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(*answers: bytes) -> AsyncIterator[Requests]:
    """Each request gets the next answer, the last for ever; b"" is a connection that ends."""
    following = itertools.chain(answers, itertools.repeat(answers[-1]))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                if not (answer := next(following)):
                    break
                writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Requests.hello(Target("127.0.0.1", server.sockets[0].getsockname()[1], "/", "h"))
    await server.wait_closed()


async def failures(*answers: bytes) -> dict[str, int]:
    async with serving(*answers) as requests, connected(requests, 2) as sender:
        with KernelTimer() as timer:
            outcome = await generate(sender, timer, 1000, 0.02)
    assert outcome.right + outcome.failures.total() == outcome.requests == outcome.latency.count == 20
    return dict(outcome.failures)


async def test_right_answers_however_they_are_framed() -> None:
    assert await failures(OK, CHUNKED, OK) == {}


async def test_wrong_answers() -> None:
    assert await failures(
        OK.replace(b"200 OK", b"429 Too Many"),
        OK.replace(b"world", b"earth"),
        OK.replace(b"\r\n\r\n", b"\r\nX-Amz-Function-Error: Unhandled\r\n\r\n"),
        OK,
    ) == {"status 429": 1, "wrong answer": 1, "function error": 1}


async def test_lost_connections_are_opened_again() -> None:
    assert await failures(OK, b"", b"", b"", OK) == {"connection lost": 3}


async def test_a_server_that_closes_after_each_answer() -> None:
    assert await failures(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) == {}


async def test_what_is_not_http() -> None:
    assert await failures(b"SSH-2.0-OpenSSH\r\n", OK) == {"not HTTP": 1}


async def test_nobody_listens() -> None:
    async with serving(OK) as requests:
        pass
    with pytest.raises(click.ClickException, match="no connection to 127"):
        async with connected(requests, 1):
            pass


async def test_the_timer_is_never_early() -> None:
    with KernelTimer() as timer:
        for ahead_s in (0.002, 0.0, -1.0):
            when_s = timer.now() + ahead_s
            await timer.until(when_s)
            assert timer.now() >= when_s
