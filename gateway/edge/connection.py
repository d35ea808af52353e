"""A client's connection: aiohttp's, with three things of ours.

A request that can go the short way does, as long as all did that came before it on the connection.

What is not HTTP gets an error in AWS's form and no entry in the log, for the internet sends a lot of it. And whoever works for a
client that may leave can ask to be told: an invocation that still waits for a sandbox gives up its place (clients that time
out and try again would else queue up behind themselves), and a log that is followed is followed no more. Who sends more than fits
into the buffers can ask to be told when to wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import hdrs, web

from gateway.edge.reply import Reply, as_text

if TYPE_CHECKING:
    from gateway.edge.short_way import Exchange, ShortWay

_BAD_REQUEST: Final = b"Content-Type: application/json\r\nx-amzn-ErrorType: BadRequestException\r\n"
_SERVICE: Final = b"Content-Type: application/json\r\nx-amzn-ErrorType: ServiceException\r\n"
_INTERNAL: Final = b'{"Type":"Service","Message":"The service encountered an internal error."}'

_log = logging.getLogger(__name__)


class Request(web.BaseRequest):
    """aiohttp's, whose answers do not tell which library wrote them: AWS's have no ``Server`` either."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.popall(hdrs.SERVER, None)


class Connection(web.RequestHandler):
    """`options` are aiohttp's. `left` is called when the client has left, `throttled` when what was written is more than the
    client takes for now (True) and when it is not any more (False); only the request at hand may set them.

    `working` is kept by the server: the request that is being worked on, and `sending`, whether a large answer to it has
    begun; both of requests that aiohttp has got to see, and `long_way_used` says whether there was one, so that aiohttp ends the
    connection in time. `peer` is the client's address, `port` the server's.
    """

    __slots__ = ("_exchange", "_short_way", "left", "long_way_used", "peer", "port", "sending", "throttled", "working")

    def __init__(self, manager: web.Server, short_way: ShortWay | None = None, **options: Any) -> None:
        super().__init__(manager, **options)
        self._short_way: Exchange | None = short_way.open(self) if short_way is not None else None
        self._exchange = self._short_way  # also when it is not taken any more
        self.long_way_used = False
        self.working: web.BaseRequest | None = None
        self.sending = False
        self.left: Callable[[], object] | None = None
        self.throttled: Callable[[bool], object] | None = None
        self.peer = ""
        self.port = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer, local = self.peername, self.sockname
        if isinstance(peer, tuple):
            self.peer = peer[0]
        if isinstance(local, tuple):
            self.port = str(local[1])

    def data_received(self, data: bytes) -> None:
        if self._short_way is not None:
            data = self._short_way.take(data)
            if not data:
                return
            self._short_way = None
        super().data_received(data)

    def go_the_long_way(self) -> None:
        """Let aiohttp go on with a request that does not become whole."""
        if self._short_way is not None:
            data = self._short_way.untaken()
            self._short_way = None
            super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._exchange is not None:
            self._exchange.lost()
        if self.left is not None:
            self.left()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.throttled is not None:
            self.throttled(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.throttled is not None:
            self.throttled(False)
        if self._short_way is not None:
            self._short_way.sent()

    def finish(self) -> None:
        """Close the connection: now where nothing is asked on it, else after the answer."""
        if self._short_way is not None and self._short_way.running:
            self._short_way.finish()
        elif self.working is not None:
            self.close()
        else:
            self.force_close()  # what is in the socket's buffer is still sent

    def cut(self) -> None:
        """Have what still runs answered at once, if no answer has begun."""
        request = self.working
        if self._short_way is not None and self._short_way.running:
            self._short_way.cut()
        elif request is not None and not self.sending and not request.writer.output_size:
            request.task.cancel()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        if status >= 500:
            _log.error("a request failed: %r", exc, exc_info=exc)
            return Reply(status, _SERVICE, _INTERNAL, close=True)
        _log.debug("not HTTP: %s", message)
        return refusal((message or "Bad Request").partition("\n")[0].rstrip(":"), status)


def refusal(message: str, status: int = 400) -> Reply:
    """The answer to what is not HTTP. Ends the connection: who knows what comes next on it."""
    return Reply(status, _BAD_REQUEST, orjson.dumps({"message": as_text(message)}), close=True)
