"""Kept connections that send one prepared request at a time, with as little work a request as Python can do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, cast

import click
import httptools

from gateway.cli.bench.load import Target
from loadtests.functions import Function, body_of, event
from loadtests.sigv4 import Signer

BODY: Final = "hello"
_AGAIN_AFTER_S: Final = 0.05


class Requests:
    """What to send, and whether an answer's body is right."""

    def __init__(self, target: Target, prepare: Callable[[], bytes], right: Callable[[bytes], bool]) -> None:
        self.target = target
        self.prepare = prepare
        self.right = right

    @classmethod
    def hello(cls, target: Target) -> Requests:
        """GET of a page that says hello."""
        return cls(target, lambda: target.request, lambda body: body == b"Hello, world!")

    @classmethod
    def url(cls, function: Function) -> Requests:
        """A function's URL."""
        head = f"POST {function.url.path} HTTP/1.1\r\nHost: {function.url.host_header}\r\nContent-Type: text/plain\r\n"
        request = f"{head}Content-Length: {len(BODY)}\r\n\r\n{BODY}".encode()
        return cls(function.url, lambda: request, lambda body: function.kind.right(BODY, body.decode(errors="replace")))

    @classmethod
    def api(cls, function: Function, signer: Signer) -> Requests:
        """Invoke, signed anew every second, which is as long as a signature stays the same."""
        payload = event(BODY)
        host = f"{function.url.host}:{function.url.port}"
        second, request = 0, b""

        def prepare() -> bytes:
            nonlocal second, request
            if (now := int(time.time())) != second:
                second = now
                headers = signer.headers("POST", host, function.invocations, payload, now)
                lines = [f"POST {function.invocations} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(payload)}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                request = "\r\n".join([*lines, "", ""]).encode() + payload
            return request

        def right(body: bytes) -> bool:
            try:
                return function.kind.right(BODY, body_of(body))
            except click.ClickException:
                return False

        return cls(function.url, prepare, right)


class Connections:
    """A Sender over connections to one address; what is lost is opened again by `keep`."""

    def __init__(self, requests: Requests) -> None:
        self.requests = requests
        self.freed: Callable[[], None] = _nobody_waits
        self.free: list[_Connection] = []  # the last one that was used is used next
        self.lost: asyncio.Queue[None] = asyncio.Queue()
        self.all: set[_Connection] = set()

    def send(self, answered: Callable[[str | None], None]) -> bool:
        if not self.free:
            return False
        self.free.pop().send(self.requests.prepare(), answered)
        return True

    async def open(self) -> None:
        """One more. Raises OSError where nobody listens."""
        target = self.requests.target
        await asyncio.get_running_loop().create_connection(lambda: _Connection(self), target.host, target.port)
        self.freed()

    async def keep(self) -> None:
        """Open another for each that is lost, for ever."""
        while True:
            await self.lost.get()
            try:
                await self.open()
            except OSError:
                self.lost.put_nowait(None)
                await asyncio.sleep(_AGAIN_AFTER_S)


@contextlib.asynccontextmanager
async def connected(requests: Requests, count: int) -> AsyncIterator[Connections]:
    """`count` connections, kept for as long as the context lasts. Raises click.ClickException where nobody listens."""
    connections = Connections(requests)
    keeper = asyncio.create_task(connections.keep(), name="connections")
    try:
        for _ in range(count):
            try:
                await connections.open()
            except OSError as error:
                target = requests.target
                raise click.ClickException(f"no connection to {target.host}:{target.port}: {error.strerror or error}") from error
        yield connections
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper
        for connection in connections.all:
            connection.abandon()
        await asyncio.sleep(0)  # which closes them


class _Connection(asyncio.Protocol):
    def __init__(self, owner: Connections) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._answered: Callable[[str | None], None] | None = None
        self._body = b""
        self._error = False

    def send(self, request: bytes, answered: Callable[[str | None], None]) -> None:
        self._answered = answered
        self._transport.write(request)

    def abandon(self) -> None:
        self._answered = None
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        self._owner.all.add(self)
        self._owner.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.all.discard(self)
        if self in self._owner.free:
            self._owner.free.remove(self)
        self._owner.lost.put_nowait(None)
        self._settle("connection lost")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._settle("not HTTP")
            self._transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-amz-function-error":
            self._error = True

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        status: int = self._parser.get_status_code()
        error, body, self._error, self._body = self._error, self._body, False, b""
        if status != 200:
            reason: str | None = f"status {status}"
        elif error:
            reason = "function error"
        else:
            reason = None if self._owner.requests.right(body) else "wrong answer"
        if self._parser.should_keep_alive():
            self._owner.free.append(self)
            self._settle(reason)
            self._owner.freed()
        else:
            self._settle(reason)
            self._transport.close()

    def _settle(self, reason: str | None) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(reason)


def _nobody_waits() -> None:
    """Before the first run there is none that a free connection would interest."""
