"""The Runtime API's server: one `asyncio.Protocol` over httptools for every socket of a sandbox, listening or connected already.

What comes in is written by a function, so nothing of it is trusted and everything is bounded: connections, bytes that bring no
body, bodies, bytes that are thrown away. What goes out is small but for the event, which one `transport.write` takes without
waiting: while a frozen reader leaves it in our buffer, reading from that reader stops, so it can't make us hold more than that.

Our own Python runtime pipelines: its response and its `next` come in one piece. The 202 for the response is then kept back until
the event that answers the `next`, and both go out together: one system call less here, one wake-up less there.
Order within a connection is that of HTTP; a connection that asks for more while its `next` is unanswered is not one, and is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Final, Protocol, cast

import httptools

from sandbox import failures
from sandbox.runtime_api import wire
from sandbox.runtime_api.session import Event, Refused, Session, State
from sandbox.runtime_api.wire import Route

MAX_CONNECTIONS: Final = 32  #: of one sandbox: a runtime, ten extensions, and room
MAX_BODILESS_BYTES: Final = (1 << 20) + (
    1 << 16
)  #: of one request: AWS's client sends an error's cause as a header of up to 1 MiB
MAX_BODILESS_WORK: Final = 256 << 20  #: bytes that the parser may copy for them: it appends each piece to what it has
MAX_DISCARDED_BYTES: Final = 1 << 30  #: of a body that nobody wants


class Owner(Protocol):
    """Who is told what the runtime did. Called in the event loop, in the order of the bytes; may call back into the server."""

    def on_next(self, before: State) -> None:
        """The runtime asked for `next`, coming from the state `before`."""

    def on_answer(self, payload: bytes, content_type: str, error_type: str | None) -> None:
        """The answer to the event is there, whole; it is an error where `error_type` is not None."""

    def on_torn(self) -> None:
        """The connection broke in the middle of the answer; it may come again."""

    def on_init_error(self, payload: bytes, content_type: str, error_type: str) -> None: ...

    def on_disconnected(self) -> None:
        """The last connection is closed: nothing that the runtime had sent is still to come."""


class RuntimeApi:
    """All connections of one sandbox, and the event that waits for its runtime."""

    __slots__ = ("_connections", "_event", "_holder", "_servers", "accepting", "owner", "session")

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.session = Session()
        self.accepting = False  #: whether new connections are welcome: not while no runtime runs that we know of
        self._connections: set[Connection] = set()
        self._holder: Connection | None = None  # the connection whose `next` is unanswered
        self._event = b""  # the answer to `next` that the runtime works on, for when it asks again
        self._servers: list[asyncio.Server] = []

    async def serve(self, listener: socket.socket) -> None:
        """Accept at `listener`, which stays its owner's: a duplicate is what the loop gets and closes."""
        server = await asyncio.get_running_loop().create_server(lambda: Connection(self), sock=_own(listener))
        self._servers.append(server)

    async def attach(self, connection: socket.socket) -> None:
        """Speak on a socket that the runtime is connected to already; it stays its owner's."""
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(self, connection), _own(connection))

    def invoke(self, request_id: str, event: bytes) -> None:
        """Give the runtime an event (an answer to `next`, whole) as soon as it asks for one, mostly at once."""
        self._event = event
        self.session.invoked(request_id.encode())
        holder = self._holder
        if holder is not None and self.session.state is State.RUNNING:
            self._holder = None
            holder.send_event(event)

    @property
    def connected(self) -> bool:
        return bool(self._connections)

    def dismiss(self, late: bool = False) -> None:
        """The runtime will be killed and replaced: nothing that it still says counts, and nobody new is listened to.

        Its connections stay until `replaced`: a runtime that sees them break would write its last words into the function's log.
        """
        self.accepting = False
        self._holder = None
        self._event = b""
        self.session.dismissed(late)

    def replaced(self) -> None:
        """The old runtime is dead."""
        self._cut_all()
        self.session.restarted()

    def _cut_all(self) -> None:
        for connection in self._connections:
            connection.cut()
        self._connections.clear()

    def close(self) -> None:
        """For good; idempotent."""
        self.dismiss()
        self._cut_all()
        for server in self._servers:
            server.close()
        self._servers.clear()

    def admit(self, connection: Connection, known: bool) -> bool:
        if not known and (not self.accepting or len(self._connections) >= MAX_CONNECTIONS):
            return False
        self._connections.add(connection)
        return True

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._holder is connection:
            self._holder = None
        if not self._connections:
            self.owner.on_disconnected()

    def next(self, connection: Connection) -> None:
        """`connection` asks for an event. Raises Refused."""
        before = self.session.next()
        if self.session.state is State.RUNNING:
            connection.send_event(self._event)
            self.owner.on_next(before)
            return
        if before is State.DISMISSED:
            return
        earlier, self._holder = self._holder, connection
        if earlier is not None and earlier is not connection:
            earlier.cut()  # its client gave it up, or asks twice; it would wait for ever
        if before is not State.READY:
            self._event = b""
        self.owner.on_next(before)

    @property
    def taking_answer(self) -> bool:
        """Whether an answer is being read that still counts: not when the runtime was dismissed meanwhile."""
        return self.session.state is State.RESPONSE or self.session.state is State.ERROR

    def torn(self) -> None:
        if self.taking_answer:
            self.session.answer_torn()
            self.owner.on_torn()

    def answered(self, payload: bytes, content_type: str, error_type: str | None) -> None:
        self.session.answer_ends()
        self.owner.on_answer(payload, content_type, error_type)


def _own(sock: socket.socket) -> socket.socket:
    """The same socket for the loop, which closes what it is given; and would block as a whole on one that blocks."""
    own = sock.dup()
    own.setblocking(False)
    return own


class Connection(asyncio.Protocol):
    """One connection of the runtime: bytes to requests, requests to calls of `RuntimeApi`."""

    __slots__ = (
        "_api",
        "_bodiless_bytes",
        "_bodiless_work",
        "_body",
        "_close",
        "_feeding",
        "_headers",
        "_known",
        "_out",
        "_parser",
        "_partial",
        "_refusal",
        "_route",
        "_size",
        "_transport",
        "_url",
        "_waiting",
    )

    def __init__(self, api: RuntimeApi, known: socket.socket | None = None) -> None:
        self._api: RuntimeApi | None = api  # None once it is cut: then nothing that it brings counts
        self._known = known  # the handle's socket, of which this connection has a duplicate
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._out = b""  # answers of this feed, or kept back for the event
        self._feeding = False
        self._waiting = False  # its `next` is unanswered
        self._close = False  # after what is in _out
        self._url = b""
        self._partial = False  # a request has begun and not ended
        self._route: Route | None = None  # of the request whose head is read
        self._refusal = b""  # the answer to this request, when that is clear before its end
        self._headers: dict[bytes, bytes] = {}
        self._body: bytes | bytearray = b""
        self._size = 0
        self._bodiless_bytes = 0
        self._bodiless_work = 0

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._api is None or not self._api.admit(self, self._known is not None):
            self.cut()

    def data_received(self, data: bytes) -> None:
        if self._api is None:
            return
        if self._known and not self._partial and not self._waiting:
            answer = wire.answer_and_next(data, self._api.session.request_id)
            if answer is not None:
                self._answer_and_next(self._api, answer)
                return
        size = self._size
        self._feeding = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._misread(error)
        finally:
            self._feeding = False
        if self._partial and self._size == size:
            # A head, trailers or chunk sizes that come in crumbs are paid for by their bytes and by the copies of them.
            self._bodiless_bytes += len(data)
            self._bodiless_work += self._bodiless_bytes
            if self._bodiless_bytes > MAX_BODILESS_BYTES or self._bodiless_work > MAX_BODILESS_WORK:
                self._answer_last(wire.HEADERS_TOO_LARGE)
        if self._out and not self._waiting:
            out, self._out = self._out, b""
            self._transport.write(out)
        if self._close and not self._waiting:
            self._transport.close()

    def eof_received(self) -> None:
        # Now, and not with `connection_lost`, which comes a turn later: what another connection brings in this turn was sent
        # after this end, say the same answer again.
        self._lost()

    def _answer_and_next(self, api: RuntimeApi, answer: bytes) -> None:
        """What the parser's callbacks would do with a response and the `next` behind it."""
        self._feeding = True
        try:
            self._out += wire.ACCEPTED
            api.session.answer_begins(api.session.request_id, Event.RESPONSE)
            api.answered(answer, "application/json", None)
            self._waiting = True
            api.next(self)
        except Refused as refused:
            self._waiting = False
            self._out += refused.answer
        finally:
            self._feeding = False
        if self._out and not self._waiting:
            out, self._out = self._out, b""
            self._transport.write(out)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._known is not None:  # its owner's descriptor would keep the connection open, with nobody who reads
            with contextlib.suppress(OSError):
                self._known.shutdown(socket.SHUT_RDWR)
        self._lost()

    def _lost(self) -> None:
        api, self._api = self._api, None
        if api is not None:
            if self._taking_answer:
                api.torn()
            api.closed(self)

    def pause_writing(self) -> None:
        # It does not read what we answered, so it gets no further answers to ask for.
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # What the server says.

    def send_event(self, event: bytes) -> None:
        """Answer the `next` of this connection. Never waits, however large the event and however slow the reader."""
        self._waiting = False
        if self._feeding:
            self._out += event
            return
        out, self._out = self._out, b""
        self._transport.write(out + event if out else event)
        if self._close:
            self._transport.close()

    def cut(self) -> None:
        """End it now. Nothing that it brought and was not told counts, and it tells nothing more."""
        self._api = None
        self._transport.abort()

    # What the parser says.

    def on_url(self, url: bytes) -> None:
        self._partial = True
        self._url = self._url + url if self._url else url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in wire.WANTED_HEADERS:
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        api = self._api
        if api is None:
            return
        if self._waiting:
            self.cut()
            api.closed(self)
            return
        self._route, detail = wire.route(self._parser.get_method(), self._url)
        self._url = b""
        try:
            if self._route is Route.RESPONSE:
                api.session.answer_begins(detail, Event.RESPONSE)
            elif self._route is Route.ERROR:
                api.session.answer_begins(detail, Event.ERROR)
            elif self._route is Route.INIT_ERROR:
                api.session.init_error()
            elif self._route is Route.FIXED:
                self._refusal = detail
        except Refused as refused:
            self._refusal = refused.answer
        if self._headers:
            self._check_headers(api)

    def _check_headers(self, api: RuntimeApi) -> None:
        """What the head alone decides: a body that is too large, a mode that is none, who waits for `100 Continue`."""
        headers = self._headers
        if not self._refusal:
            length = headers.get(wire.CONTENT_LENGTH)
            if length is not None and len(length) > 6 and int(length) > wire.MAX_PAYLOAD_BYTES:
                self._too_large(api)
            elif self._route is Route.RESPONSE and headers.get(wire.RESPONSE_MODE, b"streaming") != b"streaming":
                self._refusal = wire.INVALID_RESPONSE_MODE
                api.answered(failures.INVALID_MODE, "application/json", failures.INVALID_MODE_TYPE)
        if wire.EXPECT in headers and headers[wire.EXPECT].lower() == b"100-continue":
            if self._refusal:
                self._answer_last(self._refusal)  # whether its body follows can't be known: this ends the connection
            else:
                self._transport.write(wire.CONTINUE)

    def on_body(self, body: bytes) -> None:
        api = self._api
        if api is None:
            return
        self._size += len(body)
        if self._refusal:
            if self._size > MAX_DISCARDED_BYTES:
                self._answer_last(self._refusal)
        elif self._size > wire.MAX_PAYLOAD_BYTES:
            self._too_large(api)
        elif not self._body:
            self._body = body
        else:
            if type(self._body) is bytes:
                self._body = bytearray(self._body)  # a list of crumbs would cost far more than they hold
            self._body += body

    def on_message_complete(self) -> None:
        api = self._api
        if api is None or self._close:
            return
        route, refusal, headers, body = self._route, self._refusal, self._headers, self._body
        self._route, self._refusal, self._body = None, b"", b""
        self._partial = False
        self._size = self._bodiless_bytes = self._bodiless_work = 0
        if headers:
            self._headers = {}
        if not self._parser.should_keep_alive():
            self._close = True
        if refusal:
            self._put(refusal)
        elif route is Route.NEXT:
            self._waiting = True
            try:
                api.next(self)
            except Refused as refused:
                self._waiting = False
                self._put(refused.answer)
        elif api.taking_answer if route is not Route.INIT_ERROR else api.session.state is State.INIT_ERROR:
            self._put(wire.ACCEPTED)
            self._answered(api, route, headers, bytes(body))
        else:
            self._put(wire.TOO_LATE)  # it was dismissed while its answer came

    # The rest of a request.

    def _answered(self, api: RuntimeApi, route: Route | None, headers: dict[bytes, bytes], body: bytes) -> None:
        content_type = headers.get(wire.CONTENT_TYPE, b"application/json").decode("latin-1")
        error_type: str | None = None
        if route is not Route.RESPONSE:
            error_type = wire.error_type(headers.get(wire.ERROR_TYPE))
            if content_type == wire.ERROR_CAUSE_TYPE:
                body, content_type = wire.without_cause(body)
        elif wire.ERROR_TYPE in headers:  # a trailer: the function failed after its response had begun
            error_type = wire.error_type(headers[wire.ERROR_TYPE])
            body, content_type = wire.trailer_body(headers.get(wire.ERROR_BODY, b"")), "application/json"
        if route is Route.INIT_ERROR:
            api.owner.on_init_error(body, content_type, error_type or "")
        else:
            api.answered(body, content_type, error_type)

    def _too_large(self, api: RuntimeApi) -> None:
        """More body than is allowed: that is the outcome. The rest is read and dropped, so that the client hears of it."""
        self._refusal = wire.TOO_LARGE
        self._body = b""
        if api.session.state is State.DISMISSED:
            return
        if self._route is Route.INIT_ERROR:
            api.owner.on_init_error(failures.TOO_LARGE, "application/json", failures.TOO_LARGE_TYPE)
        else:
            api.answered(failures.TOO_LARGE, "application/json", failures.TOO_LARGE_TYPE)

    @property
    def _taking_answer(self) -> bool:
        return not self._refusal and (self._route is Route.RESPONSE or self._route is Route.ERROR)

    def _put(self, answer: bytes) -> None:
        self._out += wire.closing(answer) if self._close else answer

    def _answer_last(self, answer: bytes) -> None:
        """Say `answer` and no more; what is read after it does not count."""
        api, self._api = self._api, None
        self._out += wire.closing(answer)
        self._close = True
        self._waiting = False
        if api is not None:
            if self._taking_answer:
                api.torn()
            api.closed(self)

    def _misread(self, error: Exception) -> None:
        """The bytes were not HTTP; or our own callback failed, which is a bug and said so."""
        if isinstance(error, httptools.HttpParserCallbackError) and error.__context__ is not None:
            context = {"message": "A call of the Runtime API failed", "exception": error.__context__, "protocol": self}
            asyncio.get_running_loop().call_exception_handler(context)
        if self._api is not None:
            self._answer_last(wire.BAD_REQUEST)
