"""The Lambda API at a sandbox's own listener: what it serves, to how many, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from gateway.edge import inside
from gateway.edge.inside import CONNECTIONS
from gateway.invocation import Invocation
from tests.wire.edge import URL_ID, Client, Edge, function, serving

INVOKE = "/2015-03-31/functions/echo/invocations"
HERE = {"Host": "127.0.0.1:9002"}


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with serving(tmp_path, function()) as edge:
        yield edge


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


@contextlib.asynccontextmanager
async def caller(listener: socket.socket) -> AsyncIterator[Client]:
    async with contextlib.aclosing(Client(*await asyncio.open_connection(*listener.getsockname()))) as client:
        yield client


async def test_functions_are_invoked_and_managed(edge: Edge, listener: socket.socket) -> None:
    end = edge.server.serve_inside(listener)
    async with caller(listener) as client:
        assert (await client.request("POST", INVOKE, HERE, b'{"a":1}')).body == b'{"a":1}'
        assert (await client.request("GET", "/2015-03-31/functions/", HERE)).body == b"0 bytes"
    assert edge.api.asked == [("GET", "/2015-03-31/functions/")]
    end()


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/_lambent/logs/echo", "127.0.0.1"),
        ("/metrics", "127.0.0.1"),
        ("/_urls/" + URL_ID + "/", "127.0.0.1"),
        ("/", URL_ID + ".Lambda-Url.us-east-1.localhost"),
        ("http://127.0.0.1/_lambent/logs/echo", "127.0.0.1"),
    ],
)
async def test_nothing_else_is_served(target: str, host: str, edge: Edge, listener: socket.socket) -> None:
    end = edge.server.serve_inside(listener)
    async with caller(listener) as client:
        answer = await client.request("GET", target, {"Host": host})
    assert (answer.status, answer["x-amzn-ErrorType"]) == (404, "ResourceNotFoundException")
    assert edge.invoker.invocations == []
    end()


async def test_one_sandbox_has_so_many_connections(edge: Edge, listener: socket.socket) -> None:
    """One more waits in the sandbox's own backlog until another ends; the next sandbox is not concerned."""
    end = edge.server.serve_inside(listener)
    async with contextlib.AsyncExitStack() as opened:
        clients = [await opened.enter_async_context(caller(listener)) for _ in range(CONNECTIONS)]
        for client in clients:
            assert (await client.request("POST", INVOKE, HERE, b"1")).status == 200
        late = await opened.enter_async_context(caller(listener))
        late.write("POST", INVOKE, HERE, b"2")
        answer = asyncio.get_running_loop().create_task(late.answer())
        with socket.create_server(("127.0.0.1", 0)) as other:
            other.setblocking(False)
            end_other = edge.server.serve_inside(other)
            async with caller(other) as client:
                assert (await client.request("POST", INVOKE, HERE, b"3")).status == 200
            end_other()
        assert not answer.done()
        await clients[0].aclose()
        assert (await answer).body == b"2"
    end()


async def test_after_the_end_nobody_is_let_in(edge: Edge, listener: socket.socket) -> None:
    edge.server.serve_inside(listener)()
    async with caller(listener) as client:
        client.write("POST", INVOKE, HERE, b"1")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.answer()
    assert edge.invoker.invocations == []


async def test_a_drain_waits_for_what_functions_ask_of_each_other(edge: Edge, listener: socket.socket) -> None:
    begun, both, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(invocation: Invocation) -> bytes:
        (both if begun.is_set() else begun).set()
        await go_on.wait()
        return b"done"

    edge.invoker.handler = slow
    edge.server.serve_inside(listener)
    async with caller(listener) as client:
        client.write("POST", INVOKE, HERE, b"1")
        await begun.wait()
        draining = asyncio.get_running_loop().create_task(edge.server.drain(10))
        await asyncio.sleep(0)
        async with caller(listener) as another:  # what still runs may call others
            another.write("POST", INVOKE, HERE, b"2")
            await both.wait()
            go_on.set()
            assert (await another.answer()).body == (await client.answer()).body == b"done"
        await draining


class Full:
    """A listener whose process has no descriptor free the first time."""

    def __init__(self, listener: socket.socket) -> None:
        self.fileno: Callable[[], int] = listener.fileno
        self.tries = 0
        self._listener = listener

    def accept(self) -> tuple[socket.socket, object]:
        self.tries += 1
        if self.tries == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return self._listener.accept()


async def test_without_a_free_descriptor_it_tries_again(
    edge: Edge, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "AGAIN_S", 0.01)
    full = Full(listener)
    end = edge.server.serve_inside(full)  # type: ignore[arg-type]
    async with caller(listener) as client:
        assert (await client.request("POST", INVOKE, HERE, b"1")).status == 200
    assert full.tries == 2
    end()
