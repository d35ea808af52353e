"""One connection of the Runtime API: an `asyncio.Protocol` over httptools, from bytes to requests and back.

What comes in is written by a function, so nothing of it is trusted and everything is bounded: bytes that bring no body,
bodies, bytes that are thrown away, requests of one read. What goes out is small but for the event, which one `transport.write`
takes without waiting: while a frozen reader leaves it in our buffer, it is not read from, so it can't make us hold more.

Our own Python runtime pipelines: its response and its `next` come in one piece. The 202 for the response is then kept back until
the event that answers the `next`, and both go out together: one system call less here, one wake-up less there.
A response that its caller wants while it comes is an `Upload`: it is not collected, and the caller's pace is that of reading.
Order within a connection is that of HTTP; a connection that asks for more before it can have read the answer to its `next` is not
one, and is cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Final, cast

import httptools

from sandbox import failures
from sandbox.runtime_api import extensions, wire
from sandbox.runtime_api.session import Event, Refused, State
from sandbox.runtime_api.upload import Upload
from sandbox.runtime_api.wire import Route

if TYPE_CHECKING:
    from sandbox.runtime_api.server import RuntimeApi

_RUNNING, _RESPONSE = State.RUNNING, Event.RESPONSE  # see session
_OF_EXTENSIONS: Final = frozenset(
    {
        Route.REGISTER,
        Route.EXTENSION_NEXT,
        Route.EXTENSION_INIT_ERROR,
        Route.EXTENSION_EXIT_ERROR,
        Route.TELEMETRY,
        Route.LOGS,
    }
)

MAX_PIPELINED: Final = 32  #: requests that one read may bring; our own clients send two
MAX_BODILESS_BYTES: Final = 17 << 16  #: of one request: AWS's client sends an error's cause as a header of up to 1 MiB
MAX_BODILESS_WORK: Final = 256 << 20  #: bytes that the parser may copy for them: it appends each piece to what it has
MAX_DISCARDED_BYTES: Final = 1 << 30  #: of a body that nobody wants
LARGE_BYTES: Final = 64 << 10  #: of an event: to join it with what goes out before would be a copy for each connection


class _Over(Exception):
    """Raised to the parser: nothing more that this connection brings counts."""


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
        "_left",
        "_out",
        "_parser",
        "_partial",
        "_refusal",
        "_route",
        "_size",
        "_transport",
        "_upload",
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
        self._upload: Upload | None = None  # takes the body instead of _body
        self._left = 0  # requests that this feed may still bring
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
        if self._known and not self._partial and not self._waiting and self._api.session.state is _RUNNING:
            answer = wire.answer_and_next(data, self._api.session.request_id)
            if answer is not None:
                self._answer_and_next(self._api, answer)
                return
        size = self._size
        self._left = MAX_PIPELINED
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
        if self._upload is not None:
            self._upload.flush()
        if self._out and not self._waiting:
            out, self._out = self._out, b""
            self._transport.write(out)
        if self._close and not self._waiting:
            self._transport.close()

    def eof_received(self) -> None:
        # Now, and not with `connection_lost`, which comes a turn later: what another connection brings in this turn was sent
        # after this end, say the same answer again.
        self._lost()

    def look_for_end(self) -> None:
        """Notice now if it has ended in the middle of an answer: the loop says so a turn after the last bytes."""
        if self._taking_answer and _at_end(self._transport.get_extra_info("socket").fileno()):
            self._lost()

    def _answer_and_next(self, api: RuntimeApi, answer: bytes) -> None:
        """What the parser's callbacks would do with a response and the `next` behind it."""
        self._feeding = True
        try:
            self._out += wire.ACCEPTED
            api.session.answer_begins(api.session.request_id, _RESPONSE)
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
            self._tear(api)
            api.closed(self)

    def pause_writing(self) -> None:
        # It does not read what we answered, so it gets no further answers to ask for.
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if not self._transport.is_closing() and not self.held:
            self._transport.resume_reading()

    # What the server says.

    @property
    def held(self) -> bool:
        """Whether nothing is read because the caller can take no more of the answer for now."""
        return self._upload is not None and self._upload.held

    def drop(self) -> None:
        """The answer that comes here does not count any more."""
        if self._upload is not None:
            self._upload.drop()

    def send_event(self, event: bytes) -> None:
        """Answer the `next` of this connection. Never waits, however large the event and however slow the reader."""
        self._waiting = False
        if self._feeding:
            self._left = 0  # what comes behind in the same read was sent before this could be read
            if self._out and len(event) > LARGE_BYTES:
                self._transport.write(self._out)
                self._out = b""
            self._out += event
            return
        out, self._out = self._out, b""
        self._transport.write(out + event if out else event)
        if self._close:
            self._transport.close()

    def cut(self) -> None:
        """End it now. Nothing that it brought and was not told counts, and it tells nothing more."""
        self._api = None
        self._out = b""
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
            raise _Over
        if self._waiting or not self._left:
            self.cut()
            api.closed(self)
            raise _Over
        self._left -= 1
        self._route, detail = wire.route(self._parser.get_method(), self._url)
        self._url = b""
        try:
            if self._route is Route.RESPONSE:
                api.answer_begins(self, detail, Event.RESPONSE)
            elif self._route is Route.ERROR:
                api.answer_begins(self, detail, Event.ERROR)
            elif self._route is Route.INIT_ERROR:
                api.session.init_error()
            elif self._route is Route.FIXED:
                self._refusal = detail
        except Refused as refused:
            self._refusal = refused.answer
        if self._headers:
            self._check_headers(api)
        if api.stream is not None and self._route is Route.RESPONSE and not self._refusal:
            self._upload = Upload(api.stream, self._transport)
            api.stream.begin(self._headers.get(wire.CONTENT_TYPE, b"").decode("latin-1"), self._upload)

    def _check_headers(self, api: RuntimeApi) -> None:
        """What the head alone decides: a body that is too large, a mode that is none, who waits for `100 Continue`."""
        headers = self._headers
        if not self._refusal:
            length = headers.get(wire.CONTENT_LENGTH)
            if length is not None and len(length) > 4 and int(length) > self._limit_bytes(api):
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
        elif self._upload is not None:
            self._bodiless_bytes = self._bodiless_work = 0  # the parser keeps nothing of the chunks before
            if self._size > self._upload.stream.limit_bytes:
                self._too_large(api)
            else:
                self._upload.add(body)
        elif self._size > wire.MAX_CALL_BYTES and self._size > self._limit_bytes(api):
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
        if self._upload is not None:
            self._upload_ends(api)
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
        elif route in _OF_EXTENSIONS:
            self._extension_calls(api, route, headers, bytes(body))
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

    def _extension_calls(self, api: RuntimeApi, route: Route | None, headers: dict[bytes, bytes], body: bytes) -> None:
        try:
            if route is Route.EXTENSION_NEXT:
                self._waiting = True
                api.extension_next(self, headers)
            elif route is Route.REGISTER:
                self._put(api.register(self, headers, body))
            elif route is Route.EXTENSION_INIT_ERROR:
                self._put(api.extension_error(self, headers, extensions.Event.INIT_FAILED))
            elif route is Route.TELEMETRY or route is Route.LOGS:
                self._put(api.subscribe(self, headers, body, logs=route is Route.LOGS))
            else:
                self._put(api.extension_error(self, headers, extensions.Event.EXIT_ANNOUNCED))
        except Refused as refused:
            self._waiting = False
            self._put(refused.answer)

    def _too_large(self, api: RuntimeApi) -> None:
        """More body than is allowed: of an answer, that is the outcome. The rest is read and dropped: the client hears of it."""
        limit_bytes = self._limit_bytes(api)
        self._refusal = wire.too_large(limit_bytes)
        self._body = b""
        if self._upload is not None:
            self._upload_ends(api)
        if api.session.state is State.DISMISSED:
            return
        if self._route is Route.INIT_ERROR:
            api.owner.on_init_error(failures.too_large(limit_bytes), "application/json", failures.TOO_LARGE_TYPE)
        elif self._route is Route.RESPONSE or self._route is Route.ERROR:
            api.answered(failures.too_large(limit_bytes), "application/json", failures.TOO_LARGE_TYPE)

    def _limit_bytes(self, api: RuntimeApi) -> int:
        if self._route is Route.RESPONSE:
            return wire.MAX_PAYLOAD_BYTES if api.stream is None else api.stream.limit_bytes
        return wire.MAX_PAYLOAD_BYTES if self._route is Route.ERROR or self._route is Route.INIT_ERROR else wire.MAX_CALL_BYTES

    def _tear(self, api: RuntimeApi) -> None:
        """No more comes here: if an answer was being read, that is not all of it."""
        begun = self._upload is not None
        if begun:
            self._upload_ends(api)
        if self._taking_answer:
            api.torn(begun=begun)

    def _upload_ends(self, api: RuntimeApi) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.end()
            api.streamed_bytes = upload.size

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
            self._tear(api)
            api.closed(self)

    def _misread(self, error: Exception) -> None:
        """The bytes were not HTTP; or our own callback failed, which is a bug and said so."""
        if isinstance(error.__context__, _Over):
            return
        if isinstance(error, httptools.HttpParserCallbackError) and error.__context__ is not None:
            context = {"message": "A call of the Runtime API failed", "exception": error.__context__, "protocol": self}
            asyncio.get_running_loop().call_exception_handler(context)
        if self._api is not None:
            self._answer_last(wire.BAD_REQUEST)


def _at_end(descriptor: int) -> bool:
    """Whether everything was read from this socket, and nothing more can come."""
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        try:
            return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
