"""Bytes to a listener inside the environment: JSON arrays by HTTP, lines of JSON by TCP, over sockets of the sandbox's network.

A connection is kept and used again. What a listener answers is read and forgotten but for its status; how it answers is a
function's code, so whatever it says can only fail the batch that it was about.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import httptools

from sandbox.errors import SandboxError
from sandbox.telemetry.subscription import Subscription

Dial = Callable[[], Awaitable[socket.socket]]

_Kind = TypeVar("_Kind", bound="_Connection")
_HERE: Final = "127.0.0.1"  # as the sandbox sees itself


class Rejected(OSError):
    """The listener answered with an error, or with what is no answer."""


class HttpSender:
    """A POST, or PUT, for each batch. `dial` gives an unconnected socket of the sandbox's network."""

    separator: Final = ","

    def __init__(self, subscription: Subscription, dial: Dial) -> None:
        assert subscription.path is not None
        self._port = subscription.port
        self._dial = dial
        self._head = (
            f"{subscription.method} {subscription.path} HTTP/1.1\r\nHost: sandbox.localdomain:{subscription.port}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._exchange: _Exchange | None = None

    async def send(self, batch: list[bytes]) -> None:
        body = b"[%b]" % b",".join(batch)
        request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        exchange, self._exchange = self._exchange, None
        status = None
        if exchange is not None and exchange.usable:
            with contextlib.suppress(ConnectionError):  # else it had grown too old for the listener
                status = await exchange.ask(request)
        if exchange is None or status is None:
            exchange = await connected(_Exchange, self._dial, self._port)
            status = await exchange.ask(request)
        if exchange.usable:
            self._exchange = exchange
        else:
            exchange.abort()
        if not 200 <= status < 300:
            raise Rejected(f"the listener answered {status}")

    def close(self) -> None:
        if self._exchange is not None:
            self._exchange.abort()


class TcpSender:
    """A line for each event."""

    separator: Final = "\n"

    def __init__(self, subscription: Subscription, dial: Dial) -> None:
        self._port = subscription.port
        self._dial = dial
        self._lines: _Lines | None = None

    async def send(self, batch: list[bytes]) -> None:
        if self._lines is None or not self._lines.usable:
            self._lines = await connected(_Lines, self._dial, self._port)
        await self._lines.write(b"\n".join(batch) + b"\n")

    def close(self) -> None:
        if self._lines is not None:
            self._lines.abort()


class _Connection(asyncio.Protocol):
    """What both have: a transport, and one future that whoever waits is told by."""

    def __init__(self) -> None:
        self.usable = True
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._fail(ConnectionResetError("the listener closed the connection"))

    def abort(self) -> None:
        self.usable = False
        self._transport.abort()

    async def _told(self) -> int:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def _tell(self, value: int) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(value)

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)


class _Exchange(_Connection):
    """HTTP: one request, then its answer."""

    def __init__(self) -> None:
        super().__init__()
        self._parser: Any = httptools.HttpResponseParser(self)
        self._answering = False

    async def ask(self, request: bytes) -> int:
        """The status of the answer. Raises OSError; then, or cancelled, the connection is of no more use."""
        self._transport.write(request)
        try:
            return await self._told()
        except BaseException:
            self.abort()
            raise

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.abort()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(Rejected("the listener's answer is not HTTP"))
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answering:  # an answer without a length ends with its connection
            self._tell(self._parser.get_status_code())
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        self._answering = True

    def on_message_complete(self) -> None:
        self._answering = False
        status = self._parser.get_status_code()
        if status >= 200:  # else it is to be continued
            self.usable = self.usable and self._parser.should_keep_alive()
            self._tell(status)


class _Lines(_Connection):
    """TCP: a batch is taken when most of it is in the kernel's hands. What a listener says is not listened to."""

    def __init__(self) -> None:
        super().__init__()
        self._paused = False

    async def write(self, data: bytes) -> None:
        """Raises OSError."""
        self._transport.write(data)
        if self._paused:
            await self._told()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._tell(0)


async def connected(kind: type[_Kind], dial: Dial, port: int) -> _Kind:
    """A connection to the listener at `port`. Raises OSError."""
    loop = asyncio.get_running_loop()
    try:
        sock = await dial()
    except SandboxError as error:  # the sandbox is going, or the spawner is
        raise Rejected(f"no way to the listener: {error}") from error
    try:
        await loop.sock_connect(sock, (_HERE, port))
        _, protocol = await loop.create_connection(kind, sock=sock)
    except BaseException:
        with contextlib.suppress(OSError):
            sock.close()
        raise
    return protocol
