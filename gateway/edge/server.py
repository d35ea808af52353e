"""The front door: one aiohttp server, low level, that hands each request to its route in the cheapest order.

First what carries load: function URLs, by host (``ID.lambda-url.REGION.anything``) or by path (``/_urls/ID/…``), and Invoke. Then
``/healthz``, ``/metrics`` and what is private to Lambent's own commands (``/_lambent/…``). All else is the Lambda API's.

Whatever happens, a client sees an answer in AWS's form: errors that routes raise are rendered here, unexpected ones become a
ServiceException with a request id and one entry in the gateway's log, and what is not HTTP is refused with a 400. A client that
leaves does not end what runs for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

import orjson
from aiohttp import hdrs, web

from gateway.clock import Clock
from gateway.control.catalog import Catalog
from gateway.edge import body, invoke, invoke_stream, log_route, render
from gateway.edge.connection import Connection, Request, refusal
from gateway.edge.function_url import FunctionUrls, Place
from gateway.edge.inside import Inside, check
from gateway.edge.ports import Handles, Invokes
from gateway.edge.reply import Reply
from gateway.edge.short_way import ShortWay
from gateway.edge.stream import NO_RATE, Sent, StreamLimits
from gateway.edge.web_pages import WebPages
from gateway.errors import ApiError, ResourceNotFoundException, ServiceException, ShuttingDown
from gateway.observe.logs import Logs
from gateway.observe.trace import Ids

#: The largest request that any operation accepts; recorded from AWS.
API_BODY_BYTES: Final = 70_167_211

_URL_LABEL: Final = ".lambda-url."
_URL_PATH: Final = "/_urls/"
_PRIVATE: Final = "/_lambent/"
_HOST: Final = hdrs.HOST
_VERSIONS: Final = ((1, 1), (1, 0))
_JSON: Final = b"Content-Type: application/json\r\n"
#: Longer lines and headers are refused: AWS takes 10,240 bytes of headers in all.
_LINE_BYTES: Final = 16 * 1024
_BACKLOG: Final = 1024  # a burst of first calls
_LINGER_S: Final = 5.0
_CUT_S: Final = 1.0  # to tell clients that what they wait for will not come

_log = logging.getLogger(__name__)

Local = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class EdgeServer:
    """Everything that clients of this gateway talk to.

    `api` answers what is neither a function URL nor Invoke, `local` ``/metrics`` and what is private (``/_lambent/…``) apart from
    logs. A function URL that is called by path shows its function the domain that it would have by host:
    ``ID.lambda-url.REGION.`` and `url_domain`. All else is served by addresses, localhost and `hosts`
    (None: by any name), and not to web pages. `limits` are those of answers that are streamed. `body_grace_s` and `keep_alive_s`
    are how long a body may stand still and a connection be unused.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        invoker: Invokes,
        api: Handles,
        logs: Logs,
        clock: Clock,
        ids: Ids,
        region: str,
        account_id: str,
        url_domain: str = "localhost",
        hosts: Collection[str] | None = None,
        local: Local | None = None,
        limits: StreamLimits = NO_RATE,
        body_grace_s: float = body.GRACE_S,
        keep_alive_s: float = 75.0,
    ) -> None:
        self._urls = FunctionUrls(
            catalog=catalog, invoker=invoker, clock=clock, ids=ids, limits=limits, body_grace_s=body_grace_s
        )
        self._invoke = invoke.Invoke(
            invoker=invoker, clock=clock, ids=ids, region=region, account_id=account_id, body_grace_s=body_grace_s
        )
        self._invoke_stream = invoke_stream.InvokeStream(
            invoker=invoker,
            clock=clock,
            ids=ids,
            region=region,
            account_id=account_id,
            limits=limits,
            body_grace_s=body_grace_s,
        )
        self._pages = WebPages(hosts)
        self._short_way = ShortWay(
            urls=self._urls,
            invoke=self._invoke,
            invoker=invoker,
            ids=ids,
            clock=clock,
            place_of=self._place_of,
            pages=self._pages,
            began=self._began,
            ended=self._ended,
            keep_alive_s=keep_alive_s,
        )
        self._logs = log_route.LogRoute(logs=logs, catalog=catalog, region=region, account_id=account_id)
        self._api = api
        self._local = local
        self._ids = ids
        self._by_path = f"{_URL_LABEL}{region}.{url_domain}"
        self._body_grace_s = body_grace_s
        self._keep_alive_s = keep_alive_s
        self._running = 0
        self._idle: asyncio.Future[None] | None = None  # somebody waits for `_running` to be 0
        self._draining = False
        self._cut = False  # the budget of the drain is used up
        self._detailed = False
        self._server: web.Server | None = None
        self._inside: Inside | None = None
        self._listener: asyncio.Server | None = None
        self._port: int | None = None

    def __repr__(self) -> str:
        state = "draining" if self._draining else "accepting" if self._listener is not None else "not started"
        return f"<EdgeServer {state}, {self._running} running>"

    @property
    def running(self) -> int:
        """Requests that are being answered."""
        return self._running

    @property
    def connections(self) -> int:
        """Clients that are connected."""
        return 0 if self._server is None else len(self._server.connections)

    @property
    def port(self) -> int:
        """The port that it listens on. Raises RuntimeError before `start`."""
        if self._port is None:
            raise RuntimeError("the server was not started")
        return self._port

    async def start(self, *, host: str = "127.0.0.1", port: int = 0, sock: socket.socket | None = None) -> None:
        """Listen on `host` and `port`, or on a socket that is bound already. Raises OSError where that cannot be."""
        loop = asyncio.get_running_loop()
        self._server = server = self._made(self._handle)
        self._detailed = self._short_way.detailed = _log.isEnabledFor(logging.DEBUG)
        options = self._options()

        def connection() -> Connection:
            return Connection(server, self._short_way, loop=loop, **options)

        if sock is not None:
            self._listener = await loop.create_server(connection, sock=sock, backlog=_BACKLOG)
        else:
            self._listener = await loop.create_server(connection, host, port, backlog=_BACKLOG)
        self._port = self._listener.sockets[0].getsockname()[1]

    def serve_inside(self, listener: socket.socket) -> Callable[[], None]:
        """The Lambda API for one sandbox, at its own `listener`; see `Inside.serve`. Also before `start`."""
        if self._inside is None:
            self._inside = Inside(self._made(self._handle_inside), self._options())
        return self._inside.serve(listener)

    @staticmethod
    def _made(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> web.Server:
        return web.Server(handler, request_factory=functools.partial(Request, loop=asyncio.get_running_loop()))

    def _options(self) -> dict[str, Any]:
        """Of every connection."""
        return {
            "access_log": None,
            "logger": _log,
            "keepalive_timeout": self._keep_alive_s,
            "lingering_time": 0,  # aiohttp's goes on after the client has left; see _send_and_linger
            "max_line_size": _LINE_BYTES,
            "max_field_size": _LINE_BYTES,
            "auto_decompress": False,  # the function gets what the client sent
        }

    async def drain(self, budget_s: float) -> None:
        """Accept no more, let what runs finish for `budget_s`, then close every connection. Twice is once.

        What did not finish is answered with an error, 503, if no answer has begun: what a client sees is what happened.
        """
        if self._draining or self._listener is None or self._server is None:
            return
        self._draining = True
        self._listener.close()
        self._logs.stop()
        for connection in self._server.connections:
            if isinstance(connection, Connection):
                connection.finish()
        if self._running and budget_s > 0:
            self._idle = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(budget_s):
                    await self._idle
            except TimeoutError:
                _log.warning("%d requests were cut off: they did not finish within %g s", self._running, budget_s)
        await self._cut_off()
        await self._server.shutdown(0.1)
        if self._inside is not None:  # to the last, for what finishes may call others
            await self._inside.close()

    async def _cut_off(self) -> None:
        """Have what still runs answered at once."""
        self._cut = True
        servers = (self._server, self._inside.server if self._inside is not None else None)
        for connection in [one for server in servers if server is not None for one in server.connections]:
            if isinstance(connection, Connection):
                connection.cut()
        if self._running:
            self._idle = asyncio.get_running_loop().create_future()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CUT_S):
                    await self._idle

    async def close(self) -> None:
        """Close everything at once; also when `drain` was cancelled."""
        await self.drain(0)
        if not self._cut and self._server is not None:
            await self._cut_off()
            await self._server.shutdown(0.1)
        if self._inside is not None:
            await self._inside.close()

    async def _handle_inside(self, request: web.BaseRequest) -> web.StreamResponse:
        """What a function asks at its own listener."""
        try:
            check(request.raw_path, request.headers.get(_HOST, ""))
        except ApiError as error:
            response = render.error(error, self._ids.request_id())
            response.force_close()
            return response
        return await self._handle(request)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        request_id = self._ids.request_id()
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.working = request
        connection.long_way_used = True
        self._began()
        try:
            response = await self._route(request, connection, request_id)
            if isinstance(response, Reply) and response.large:
                if self._draining:
                    response.force_close()
                connection.sending = True
                await response.prepare(request)
                await response.write_eof()  # here, so that a drain waits for it
        except body.BadRequest as error:
            response = refusal(error.message)
        except ApiError as error:
            if error.status >= 500:
                _log.warning("%s %s: %s", request.method, request.raw_path[:200], error.message, extra={"request_id": request_id})
            response = render.error(error, request_id)
        except (body.ClientGone, ConnectionError):
            response = Reply(400, b"", close=True)  # nobody will see it
        except Exception as error:
            _log.error(
                "%s %s failed: %r",
                request.method,
                request.raw_path[:200],
                error,
                exc_info=error,
                extra={"request_id": request_id},
            )
            # What has begun can't become another answer: it breaks off.
            response = Sent(keep_alive=False) if connection.sending else render.error(ServiceException(), request_id)
            response.force_close()
        except asyncio.CancelledError:
            if not self._cut or connection.sending:
                raise
            for task in (request.task, asyncio.current_task()):  # both were told; neither is to end
                if task is not None:
                    task.uncancel()
            response = render.error(ShuttingDown(), request_id)
        finally:
            connection.working = None
            connection.sending = False
            self._ended()
        if self._detailed:
            _log.debug("%s %s: %d", request.method, request.raw_path[:200], response.status, extra={"request_id": request_id})
        if self._draining:
            response.force_close()
        if not request.content.is_eof():
            await _send_and_linger(request, response, min(_LINGER_S, self._body_grace_s))
        return response

    def _began(self) -> None:
        self._running += 1

    def _ended(self) -> None:
        self._running -= 1
        if self._idle is not None and not self._running and not self._idle.done():
            self._idle.set_result(None)

    def _route(self, request: web.BaseRequest, connection: Connection, request_id: str) -> Awaitable[web.StreamResponse]:
        """What will answer the request. Not a coroutine itself: each of them costs on the path that carries load."""
        if request.version not in _VERSIONS:  # the parser takes a request line without one for HTTP/0.9
            raise body.BadRequest("The request is neither HTTP/1.1 nor HTTP/1.0.")
        headers = request.headers
        target = request.raw_path
        host = headers.get(_HOST, "")
        if target[:1] != "/":
            host, target = _origin_form(host, target)
        place = self._place_of(host, target)
        if place is not None:
            return self._urls.handle(request, connection, request_id, place)
        path, _, query = target.partition("?")
        self._pages.check(headers, host)
        invoked = invoke.place_of(request.method, target)
        if invoked is not None:
            return self._invoke.handle(request, connection, request_id, invoked)
        if path.startswith(invoke_stream.PREFIX) and path.endswith(invoke_stream.SUFFIX) and request.method == "POST":
            name = path[len(invoke_stream.PREFIX) : -len(invoke_stream.SUFFIX)]
            if name and "/" not in name:
                return self._invoke_stream.handle(request, connection, request_id, name, query)
        if path == "/healthz":
            return self._health()
        if path.startswith(log_route.PREFIX):
            return self._log(request, connection, path[len(log_route.PREFIX) :], query)
        if path.startswith(_PRIVATE) or path == "/metrics":
            if self._local is None:
                raise ResourceNotFoundException("There is nothing here.")
            return self._local(request)
        return self._operation(request, request_id)

    def _place_of(self, host: str, target: str) -> Place | None:
        """The function URL that `host` or the path of `target` names."""
        path, _, query = target.partition("?")
        if not host.islower():
            host = host.lower()
        label = host.find(_URL_LABEL)
        if label > 0:
            return Place(host[:label], host.partition(":")[0], path, query)
        if path.startswith(_URL_PATH):
            url_id, _, rest = path[len(_URL_PATH) :].partition("/")
            return Place(url_id, url_id + self._by_path, "/" + rest, query)
        return None

    async def _log(self, request: web.BaseRequest, connection: Connection, name: str, query: str) -> web.StreamResponse:
        self._ended()  # who reads a log, maybe for hours, holds up no drain
        try:
            return await self._logs.handle(request, connection, name, query)
        finally:
            self._running += 1

    async def _operation(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        """The Lambda API reads bodies itself; what it must not wait for, and say, for ever is here."""
        if request.content.is_eof():
            return await self._api.handle(request, request_id)
        declared = request.headers.get(hdrs.CONTENT_LENGTH)
        if declared is None or int(declared) <= API_BODY_BYTES:
            body.say_continue(request)
        async with body.in_time(request, self._body_grace_s):
            return await self._api.handle(request, request_id)

    async def _health(self) -> Reply:
        status = "draining" if self._draining else "ok"
        return Reply(503 if self._draining else 200, _JSON, orjson.dumps({"status": status}))


async def _send_and_linger(request: web.BaseRequest, response: web.StreamResponse, linger_s: float) -> None:
    """Answer a request whose body is still coming, then wait a little for the client to read the answer and stop.

    Closing at once would reset the connection, and the client would see that instead of the answer.
    """
    response.force_close()  # the rest of the body would be taken for the next request
    with contextlib.suppress(ConnectionError, TimeoutError, web.RequestPayloadError):
        await response.prepare(request)
        await response.write_eof()
        async with asyncio.timeout(linger_s):
            while await request.content.readany():
                pass


def _origin_form(host: str, target: str) -> tuple[str, str]:
    """Host and path of a target that has another form (RFC 9112, section 3.2): as for a proxy, or ``*``."""
    scheme, separator, rest = target.partition("://")
    if not separator or "/" in scheme or "?" in scheme:
        raise body.BadRequest("The target of the request is neither a path nor a URL.")
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    path = rest[end:]
    return rest[:end].rpartition("@")[2], path if path.startswith("/") else "/" + path
