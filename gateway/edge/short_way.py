"""The short way of a request: from its bytes to the function and back, without a task or a future.

aiohttp takes four turns of the event loop and a task for each request, which is more than all that the gateway itself does for
it. Nearly every call of a function URL, and every Invoke that an AWS client sends, is complete when its first bytes are there,
and needs none of that: it is parsed and its event handed to a sandbox in one step, and its answer is written at the end of the
turn of the loop in which the runtime's answer arrives.

What is not such a plain, whole request goes aiohttp's way, and so does all that comes later on its connection: two
parsers that take turns on one stream would have to agree on every byte of it. So this one only ever sees whole requests, and
a request that it does not know how to read is one that aiohttp answers or refuses.

HTTP answers in order. What a client sends before it has its answer is kept until then, up to a bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import httptools

from gateway.clock import Clock
from gateway.edge import render, reply
from gateway.edge.call import Asked, Call
from gateway.edge.function_url import FunctionUrls, Place
from gateway.edge.invoke import Invoke, place_of
from gateway.edge.ports import Invokes, Leaves
from gateway.edge.reply import Reply
from gateway.edge.stamp import Second
from gateway.edge.url_event import joined
from gateway.edge.web_pages import WebPages
from gateway.errors import ApiError, ServiceException, ShuttingDown
from gateway.invocation import InvokeResult
from gateway.observe.trace import Ids

if TYPE_CHECKING:
    from gateway.edge.connection import Connection

#: A request that is longer goes aiohttp's way, where its head and its body have their own limits.
REQUEST_BYTES: Final = 16 * 1024
HEADERS: Final = 100
#: Of requests that wait for the answers before theirs; then the client is read no further.
WAITING_BYTES: Final = 64 * 1024
#: A body that comes after its head is waited for so long here; then aiohttp goes on.
REST_S: Final = 0.25

_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})
#: Whoever sends one of these wants more than an answer.
_LONG_WAY: Final = frozenset({"expect", "te", "trailer", "transfer-encoding", "upgrade"})
#: Which of two counts, and for whom, is how requests are smuggled.
_ONCE: Final = frozenset({"content-length", "host"})

_log = logging.getLogger(__name__)


class ShortWay:
    """What all connections of a server share. `place_of` finds the function URL of a host and a target, if they name one;
    `began` and `ended` count the requests that are being answered."""

    def __init__(
        self,
        *,
        urls: FunctionUrls,
        invoke: Invoke,
        invoker: Invokes,
        ids: Ids,
        clock: Clock,
        place_of: Callable[[str, str], Place | None],
        pages: WebPages,
        began: Callable[[], None],
        ended: Callable[[], None],
        keep_alive_s: float,
    ) -> None:
        self.urls = urls
        self.invoke = invoke
        self.invoker = invoker
        self.ids = ids
        self.place_of = place_of
        self.pages = pages
        self.began = began
        self.ended = ended
        self.keep_alive_s = keep_alive_s
        self.rest_s = min(REST_S, keep_alive_s / 2)
        self.detailed = False  #: each request is worth a line in the log
        self._wall = clock.wall
        self._second = Second()
        self._loop: asyncio.AbstractEventLoop
        self._answers: list[tuple[Exchange, Reply]] = []

    def open(self, connection: Connection) -> Exchange:
        """The short way of one connection."""
        self._loop = asyncio.get_running_loop()
        return Exchange(self, connection)

    def send_soon(self, exchange: Exchange, answer: Reply) -> None:
        """Send it at the end of this turn of the loop, with all others of the turn: a client that gets them one by one is woken,
        and sleeps again, for each."""
        if not self._answers:
            self._loop.call_soon(self._send_all)
        self._answers.append((exchange, answer))

    def _send_all(self) -> None:
        answers, self._answers = self._answers, []
        for exchange, answer in answers:
            exchange.send(answer)

    def refusal(self, error: ApiError, request_id: str) -> Reply:
        """An error as an answer, and where it is no fault of the client's, as an entry in the log."""
        if error.status >= 500 and not isinstance(error, ShuttingDown):
            _log.warning("an invocation was not run: %s", error.message, extra={"request_id": request_id})
        return self.rendered(error, request_id)

    def rendered(self, error: ApiError, request_id: str) -> Reply:
        """An error as an answer. Under overload most answers are, and what they cost the functions do not get."""
        self._second.at(self._wall())
        headers = {"Content-Type": render.CONTENT_TYPE, **render.error_headers(error, request_id)}
        return Reply(error.status, self._second.date + reply.lines(headers.items()), render.error_body(error))


class Exchange:
    """One connection on the short way, one request after the other. `running` is from its beginning until it is sent."""

    __slots__ = (
        "_began",
        "_body",
        "_call",
        "_complete",
        "_connection",
        "_headed",
        "_headers",
        "_last",
        "_lines",
        "_loop",
        "_odd",
        "_parser",
        "_part",
        "_paused",
        "_replied",
        "_request_id",
        "_rest",
        "_route",
        "_started",
        "_timer",
        "_unsent",
        "_url",
        "_used_s",
        "_waiting",
        "_way",
        "running",
    )

    def __init__(self, way: ShortWay, connection: Connection) -> None:
        self._way = way
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        self.running = False  # a request has begun, and its answer is not sent
        self._replied = False  # ... nor given to the transport
        self._request_id = ""
        self._route: FunctionUrls | Invoke = way.urls
        self._call: Call | None = None
        self._started: Leaves | None = None
        self._waiting = b""
        self._paused = False  # more waits than may
        self._last = False  # the connection is to be closed after the answer
        self._unsent: asyncio.TimerHandle | None = None  # ends the client's patience with reading
        self._part = b""  # of a request that is not whole
        self._rest: asyncio.TimerHandle | None = None  # ends the wait for the rest of it
        self._timer: asyncio.TimerHandle | None = None
        self._used_s = 0.0
        self._clear()

    def take(self, data: bytes) -> bytes:
        """Deal with these bytes. What it gives back, and all that follows, is aiohttp's."""
        if self.running or self._waiting:
            self._waiting += data
            if len(self._waiting) > WAITING_BYTES and not self._paused and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()
            return b""
        whole = data
        if self._part:
            whole = self._part + data
        elif self._began:
            self._clear()
        if len(whole) > REQUEST_BYTES:
            return self._left(whole)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return self._left(whole)
        if self._began == 1 and self._complete == 0 and self._rest_follows():
            self._part = whole
            if self._rest is None:  # not anew with each piece: who sends a byte at a time would never come to aiohttp's limits
                self._rest = self._loop.call_later(self._way.rest_s, self._connection.go_the_long_way)
            return b""
        if self._part:
            self._left(b"")
        return b"" if self._complete == 1 and self._began == 1 and self._taken() else whole

    def untaken(self) -> bytes:
        """What came of a request that is not whole, and is not waited for any more."""
        return self._left(self._part)

    def _left(self, data: bytes) -> bytes:
        """Nothing is waited for any more. The same `data`, so that a caller can leave it to aiohttp."""
        self._part = b""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        return data

    def _rest_follows(self) -> bool:
        """Whether the head is there, and a body that is small comes in another piece, as many clients send it."""
        headers = self._headers
        length = headers.get("content-length", "")
        return self._headed and _LONG_WAY.isdisjoint(headers) and length.isdecimal() and int(length) < REQUEST_BYTES

    def _taken(self) -> bool:
        """Whether this is a request for here. Then it is begun."""
        headers, parser = self._headers, self._parser
        if self._odd or not _LONG_WAY.isdisjoint(headers):
            return False
        method = parser.get_method()
        if method not in _METHODS or parser.get_http_version() != "1.1":
            return False
        if "connection" in headers and headers["connection"].lower() != "keep-alive":
            return False
        if "host" not in headers or self._lines > HEADERS or not self._url.startswith("/"):
            return False
        return self._go(method.decode(), headers)

    def _go(self, method: str, headers: dict[str, str]) -> bool:
        way, connection = self._way, self._connection
        url = way.place_of(headers["host"], self._url)
        name = None
        if url is None:
            name = place_of(method, self._url)
            host = headers["host"]
            if name is None or "origin" in headers or (host not in way.pages.known and not way.pages.admits(host)):
                return False
        self._request_id = request_id = way.ids.request_id()
        asked = Asked(method, headers, "HTTP/1.1", connection.peer, connection.port, request_id)
        try:
            if url is not None:
                self._route = way.urls
                call = way.urls.call(asked, url, self._body)
                if call is None:
                    return False
            else:
                assert name is not None
                self._route = way.invoke
                call = way.invoke.call(asked, name, self._body)
            self._begin()
            if not isinstance(call, Reply):
                self._call = call
                started = way.invoker.start(call.invocation, self._answered)
                if not self._replied:  # it may be answered already
                    self._started = started
                return True
            answer = call
        except Exception as error:
            answer = self._refused(error)
        if not self.running:
            self._begin()
        self._send(answer)
        return True

    def finish(self) -> None:
        """Close the connection after the answer."""
        self._last = True

    def cut(self) -> None:
        """Answer now that the gateway stops, if no answer has begun."""
        if not self._replied:
            started = self._started
            self._last = True
            self._send(self._way.refusal(ShuttingDown(), self._request_id))
            if started is not None:
                started.leave()

    def sent(self) -> None:
        """The client has read most of what it was sent."""
        if self._unsent is not None:
            self._unsent.cancel()
            self._unsent = None
            self._loop.call_soon(self._over)  # the transport is in the middle of a write, and may be closed next

    def lost(self) -> None:
        """The client has left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting = self._left(b"")
        if self._unsent is not None:
            self._unsent.cancel()
            self._unsent = None
        started, self._started = self._started, None
        self._over()
        if started is not None:
            started.leave()

    # An answer.

    def _begin(self) -> None:
        self.running = True
        self._replied = False
        self._way.began()
        if self._timer is None:  # from now on it is ours to end the connection when nobody uses it
            self._connection.keep_alive(False)
            self._timer = self._loop.call_later(self._way.keep_alive_s, self._unused)

    def _answered(self, result: InvokeResult | ApiError) -> None:
        if not self.running:  # the client has left
            return
        if isinstance(result, ApiError):
            answer = self._refused(result)
        else:
            assert self._call is not None
            try:
                answer = self._route.answer(self._call, result)
            except Exception as error:
                answer = self._refused(error)
        self._replied = True
        self._way.send_soon(self, answer)

    def _refused(self, error: Exception) -> Reply:
        """The answer where there is no result. Whatever happens here, the client gets one."""
        if isinstance(error, ApiError):
            try:
                return self._way.refusal(error, self._request_id)
            except Exception as another:
                error = another
        return self._failed(error)

    def _failed(self, error: Exception) -> Reply:
        """It is our fault. What came of the invocation, if it was begun, nobody hears."""
        _log.error("a request failed: %r", error, exc_info=error, extra={"request_id": self._request_id})
        self._last = True
        return self._way.rendered(ServiceException(), self._request_id)

    def send(self, answer: Reply) -> None:
        """Give the answer to the transport; nothing if the client has left."""
        if self.running:
            self._send(answer)

    def _send(self, answer: Reply) -> None:
        self._call = self._started = None
        self._replied = True
        connection = self._connection
        transport = self._transport
        if transport is None:
            self._over()
            return
        if self._way.detailed:
            _log.debug("%s: %d", self._url[:200], answer.status, extra={"request_id": self._request_id})
        answer.write_to(transport, self._parser.get_method().decode(), reply.CLOSE if self._last else b"")
        if connection.writing_paused:
            self._unsent = self._loop.call_later(reply.patience_s(answer.size_bytes), transport.abort)
        else:
            self._over()

    @property
    def _transport(self) -> asyncio.Transport | None:
        transport = self._connection.transport
        return None if transport is None or transport.is_closing() else transport

    def _over(self) -> None:
        if not self.running:
            return
        self.running = False
        self._used_s = self._loop.time()
        self._way.ended()
        if self._last:
            self._connection.force_close()
        elif self._waiting:
            self._loop.call_soon(self._again)  # not in this step, which is a sandbox's

    def _again(self) -> None:
        data, self._waiting = self._waiting, b""
        transport = self._transport
        if not data or transport is None:
            return
        if self._paused:
            self._paused = False
            transport.resume_reading()
        self._connection.data_received(data)

    def _unused(self) -> None:
        """End the connection if nobody has used it for as long as it may be kept."""
        self._timer = None
        if self._connection.transport is None or self._connection.long_way_used:
            return
        now_s = self._loop.time()
        left_s = (
            self._way.keep_alive_s if self.running or self._rest is not None else self._used_s + self._way.keep_alive_s - now_s
        )
        if left_s <= 0:
            self._connection.force_close()
        else:
            self._timer = self._loop.call_later(left_s, self._unused)

    # What the parser says.

    def _clear(self) -> None:
        self._began = self._complete = self._lines = 0
        self._odd = self._headed = False
        self._url = ""
        self._headers: dict[str, str] = {}
        self._body = b""

    def on_message_begin(self) -> None:
        self._began += 1

    def on_url(self, url: bytes) -> None:
        self._url += url.decode("utf-8", "surrogateescape")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        key = name.decode("utf-8", "surrogateescape").lower()
        text = value.decode("utf-8", "surrogateescape").strip(" \t")
        headers = self._headers
        if key in headers:
            self._odd |= key in _ONCE
            text = joined(key, headers[key], text)
        headers[key] = text

    def on_headers_complete(self) -> None:
        self._headed = True

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._complete += 1
