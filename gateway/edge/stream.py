"""An answer that is sent while the function gives it.

A `Streamed` is what the sandbox layer hands pieces to: they are written to the client in the same step, so nothing waits for a
task to wake. If the client takes less than the function gives, reading from the function is paused when the socket's buffer and
ours (64 KiB) are full, and the function waits in its own write: a stream of any length holds a few hundred kilobytes.

A client that leaves does not end the function, as AWS documents it: from then on what it gives is read and dropped.

Nothing is sent before the first byte is there, so a function that fails before it still gets the answer of a failure. After it
only the end can tell: the last event of an event stream, and for plain HTTP a connection that breaks off.

On AWS the first 6 MB of a stream go as fast as they can and the rest at 2 MB a second. That is a bill's limit and not a
function's, so here it is a setting that is off; the longest answer is AWS's, and a setting too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.edge.connection import Connection
from gateway.edge.reply import STATUS_LINES, Reply, drained
from gateway.records import FunctionVersion
from sandbox.outcome import Flow

if TYPE_CHECKING:
    from aiohttp import web

MB: Final = 1_000_000
BURST_BYTES: Final = 6 * MB  #: of a stream are sent without regard to the rate
_LAST: Final = b"0\r\n\r\n"


class StreamLimits(NamedTuple):
    """How long a streamed answer may be and, after its first 6 MB, how fast; None is as fast as the client takes it."""

    size_bytes: int = 200 * MB
    bytes_per_s: float | None = None


NO_RATE: Final = StreamLimits()


class Streamed:
    """One streamed answer. Subclasses say what its head is (`_head`) and what its pieces are sent as (`_encoded`).

    It is the `ResponseStream` of an invocation; whoever runs that then calls `end` or `broken`, once.
    """

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_connection",
        "_flow",
        "_full",
        "_gone",
        "_limits",
        "_loop",
        "_open",
        "_paced",
        "_request",
        "_sent_bytes",
        "_since_s",
        "_version",
    )

    def __init__(self, request: web.BaseRequest, connection: Connection, limits: StreamLimits) -> None:
        self._request = request
        self._connection = connection
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._version: FunctionVersion | None = None
        self._flow: Flow | None = None
        self._open = False  # the head is sent
        self._chunked = request.version >= (1, 1)
        self._bodiless = request.method == "HEAD"
        self._gone = False  # nobody is there who could be sent anything
        self._full = False  # the client takes no more for now
        self._paced: asyncio.TimerHandle | None = None  # the rate allows no more for now
        self._sent_bytes = 0
        self._since_s = 0.0  # when the rate began to count
        connection.left = self._left
        connection.throttled = self._throttled

    # What the invoker and the sandbox say.

    @property
    def limit_bytes(self) -> int:
        return self._limits.size_bytes

    def runs(self, version: FunctionVersion) -> None:
        self._version = version

    def begin(self, content_type: str, flow: Flow | None) -> None:
        self._flow = flow

    def chunk(self, data: bytes) -> None:
        if self._gone:
            return
        encoded = self._encoded(data)
        if encoded is None:
            return
        self.write(encoded)
        if self._limits.bytes_per_s is not None:
            self._pace(len(data), self._limits.bytes_per_s)

    # What subclasses are for.

    def _head(self) -> tuple[int, bytes]:
        """Status and header lines, without those about length and connection."""
        raise NotImplementedError

    def _encoded(self, data: bytes) -> bytes | None:
        """What is sent for a piece of the answer; None if that is not clear yet."""
        raise NotImplementedError

    # Sending.

    @property
    def open(self) -> bool:
        """Whether an answer is under way: then it can't be another one any more."""
        return self._open

    def write(self, data: bytes) -> None:
        """Send bytes of the body, after the head if they are the first."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            self._gone = True
            self._go_on()
            return
        parts = []
        if not self._open:
            self._open = self._connection.sending = True
            parts.append(self._opening())
        if data and not self._bodiless:
            parts += (b"%x\r\n" % len(data), data, b"\r\n") if self._chunked else (data,)
        if parts:
            transport.write(b"".join(parts))

    def _opening(self) -> bytes:
        status, head = self._head()
        if status in (204, 304):
            self._bodiless = True
        framing = b"Transfer-Encoding: chunked\r\n" if self._chunked and not self._bodiless else b""
        close = b"" if self._keeps_alive else b"Connection: close\r\n"
        return b"%b%b%b%b\r\n" % (STATUS_LINES[status], head, framing, close)

    @property
    def _keeps_alive(self) -> bool:
        return self._chunked and self._request.keep_alive

    async def end(self) -> Reply:
        """All of the answer is there: finish it, and wait until most is with the client. Raises ConnectionError without one."""
        if not self._open:
            self._open = self._connection.sending = True
            self._raw(self._opening())
        if self._chunked and not self._bodiless:
            self._raw(_LAST)
        await self._drained()
        return Sent(keep_alive=self._keeps_alive)

    async def broken(self) -> Reply:
        """What is sent is not all, and the client must notice: the connection ends where the next piece would be."""
        await self._drained()
        return Sent(keep_alive=False)

    def close(self) -> None:
        """Whatever became of it, it is over."""
        self._connection.left = None
        self._connection.throttled = None
        if self._paced is not None:
            self._paced.cancel()
            self._paced = None
        self._gone = True
        self._go_on()

    def _raw(self, data: bytes) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        transport.write(data)

    async def _drained(self) -> None:
        transport = self._request.transport
        if transport is None or self._gone:
            raise ConnectionResetError("the client has left")
        if self._connection.writing_paused:
            await drained(self._request, transport, transport.get_write_buffer_size())

    # Not too much at once.

    def _throttled(self, full: bool) -> None:
        self._full = full
        if self._flow is None:
            return
        if full:
            self._flow.pause()
        else:
            self._go_on()

    def _pace(self, size: int, bytes_per_s: float) -> None:
        now_s = self._loop.time()
        if self._sent_bytes <= BURST_BYTES:
            self._since_s = now_s
        self._sent_bytes += size
        ahead_s = (self._sent_bytes - BURST_BYTES) / bytes_per_s - (now_s - self._since_s)
        if ahead_s > 0 and self._paced is None and self._flow is not None:
            self._flow.pause()
            self._paced = self._loop.call_later(ahead_s, self._paced_over)

    def _paced_over(self) -> None:
        self._paced = None
        self._go_on()

    def _go_on(self) -> None:
        if self._flow is not None and (self._gone or (not self._full and self._paced is None)):
            self._flow.resume()

    def _left(self) -> None:
        """There is no client any more. The function goes on, and what it gives is dropped."""
        if not self._gone:
            self._gone = True
            self._go_on()
            task = self._request.task
            if task is not None:
                task.cancel()


class Sent(Reply):
    """An answer that is with the client already."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__(200, b"", close=not keep_alive)
        self._keep_alive = keep_alive
        self._sent = True
