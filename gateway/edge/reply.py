"""An answer that is bytes already: status line and headers rendered once, written together with the body in one go.

aiohttp's `web.Response` builds a multidict, fills in defaults and serialises it; for the two routes that carry the load that is
a third of everything the gateway does for a request (measured with wrk on the build machine: 47,000 answers a second with
`web.Response`, 69,000 with this). So a `Reply` takes part in aiohttp's protocol, `prepare` and `write_eof`, and does the little
that is left by itself: keep-alive, HEAD, answers that have no body, back pressure.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

_REASONS: Final = {status.value: status.phrase for status in http.HTTPStatus}
STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {_REASONS.get(status, 'Unassigned')}\r\n".encode() for status in range(200, 600)
}
#: Larger bodies are not copied behind the head but written after it.
_COPY_BYTES: Final = 64 * 1024
#: A client that takes an answer more slowly than this, after a while of grace, is cut off.
_SEND_GRACE_S: Final = 60.0
_SEND_BYTES_PER_S: Final = 50_000
CLOSE: Final = b"Connection: close\r\n"
_KEEP: Final = b"Connection: keep-alive\r\n"

Headers = Iterable[tuple[str, str]]


class Reply(web.StreamResponse):
    """One answer. `head` is header lines with their line ends, without Content-Length and Connection."""

    def __init__(self, status: int, head: bytes, body: bytes = b"", *, close: bool = False) -> None:
        # Not StreamResponse's own: what it sets up is what this class does without.
        self._status = status
        self._head = head
        self._content = body
        self._keep_alive = False if close else None
        self._request: web.BaseRequest | None = None
        self._sent = False

    def __repr__(self) -> str:
        return f"<Reply {self._status} {len(self._content)} bytes>"

    @property
    def size_bytes(self) -> int:
        return len(self._content)

    @property
    def large(self) -> bool:
        """Whether sending it may take a while: it is more than a socket takes at once."""
        return len(self._content) > _COPY_BYTES

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        self._request = request
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Send it. Raises ConnectionError where the client has left, or does not read."""
        request = self._request
        if request is None or self._sent:
            return
        self._request = None
        self._sent = True
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        keep = self._keep_alive is not False and request.keep_alive
        self._keep_alive = keep
        # HTTP/1.1 keeps a connection unless told otherwise, 1.0 the other way round.
        connection = b"" if keep and request.version >= (1, 1) else _KEEP if keep else CLOSE
        self.write_to(transport, request.method, connection)
        if request.protocol.writing_paused:
            await drained(request, transport, len(self._content))

    def write_to(self, transport: asyncio.Transport, method: str, connection: bytes) -> None:
        """Give the whole answer to `transport`, which keeps what the client does not take yet. `connection` is a header line."""
        status, body = self._status, self._content
        if status == 204 or status == 304:
            length, body = b"", b""
        else:
            length = b"Content-Length: %d\r\n" % len(body)
            if method == "HEAD":
                body = b""
        head = b"%b%b%b%b\r\n" % (STATUS_LINES[status], self._head, length, connection)
        if len(body) <= _COPY_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)


def patience_s(size_bytes: int) -> float:
    """How long a client may take to read an answer. Then it is cut off: it would hold the answer's memory for ever."""
    return _SEND_GRACE_S + size_bytes / _SEND_BYTES_PER_S


async def drained(request: web.BaseRequest, transport: asyncio.Transport, size_bytes: int) -> None:
    """Wait until most is sent."""
    try:
        async with asyncio.timeout(patience_s(size_bytes)):
            await request.writer.drain()
    except TimeoutError:
        transport.abort()
        raise ConnectionResetError("the client does not read") from None


def lines(headers: Headers) -> bytes:
    """Header lines of `headers`, whose names and values were checked for control characters."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("utf-8", "replace")


def as_text(given: str) -> str:
    """What was read off the wire, with a question mark for each byte that is no UTF-8 (a lone surrogate in `given`)."""
    return given.encode("utf-8", "replace").decode()
