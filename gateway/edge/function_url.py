"""Function URLs: who may call, the event, the invocation, the answer.

What depends on the configuration alone (may everybody call it? which alias?) is worked out when a URL is first called after a
change, and kept with the function record that it was worked out from: records are immutable, so the same record means the same
answer.

Recorded from AWS in November 2025: an unknown id is a 403 ``{"Message":null}``; a call that the policy does not allow is a 403
with a link to the documentation, also where the URL's alias is gone; what a function raises, or returns that cannot be made an
answer, is a 502 ``Internal Server Error``; a throttled call is a 429. AuthType AWS_IAM is a 403 for everybody: signatures are
not verified yet, and nothing may fail open.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from gateway.clock import Clock
from gateway.control.catalog import Catalog
from gateway.edge import body, cors, url_event, url_policy, url_response
from gateway.edge.call import Asked, Call
from gateway.edge.connection import Connection
from gateway.edge.ports import Invokes
from gateway.edge.reply import Reply, lines
from gateway.edge.stamp import Second
from gateway.edge.stream import StreamLimits
from gateway.edge.url_stream import UrlStream
from gateway.invocation import Invocation, InvokeResult
from gateway.observe.trace import Ids
from gateway.records import Cors, Function, UrlConfig
from sandbox.outcome import Status

if TYPE_CHECKING:
    from aiohttp import web

BODY_BYTES: Final = 6 * 1024 * 1024

_HELP: Final = "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
_FORBIDDEN: Final = orjson.dumps({"Message": f"Forbidden. For troubleshooting Function URL authorization issues, see: {_HELP}"})
_NO_SUCH_URL: Final = b'{"Message":null}'
_JSON: Final = b"Content-Type: application/json\r\n"
_TEXT: Final = b"Content-Type: text/plain\r\n"
_DENIED: Final = _JSON + b"x-amzn-ErrorType: AccessDeniedException\r\n"
_FAILED: Final = b"Internal Server Error"
_ONLY_JSON: Final = [url_response.JSON_TYPE]
_TARGETS_MAX: Final = 10_000
_ORIGIN: Final = "origin"
_REQUEST_METHOD: Final = "access-control-request-method"
_REQUEST_HEADERS: Final = "access-control-request-headers"
_TRACE: Final = "x-amzn-trace-id"
_SUCCESS: Final = Status.SUCCESS  # Python 3.11 takes 66 ns to read a member off its enum

_log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where a request goes. `path` and `query` are as on the wire, `domain` what the function sees."""

    url_id: str
    domain: str
    path: str
    query: str


@dataclasses.dataclass(slots=True)
class _Target:
    """What a URL leads to, worked out from `function`."""

    function: Function
    name: str
    qualifier: str | None
    allowed: bool
    streams: bool
    cors: Cors | None


class FunctionUrls:
    """The route of function URLs. `catalog` finds them, `invoker` runs what they ask for."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        invoker: Invokes,
        clock: Clock,
        ids: Ids,
        limits: StreamLimits,
        body_grace_s: float = body.GRACE_S,
    ) -> None:
        self._catalog = catalog
        self._invoker = invoker
        self._monotonic = clock.monotonic
        self._wall = clock.wall
        self._ids = ids
        self._limits = limits
        self._body_grace_s = body_grace_s
        self._second = Second()
        self._targets: dict[str, _Target] = {}

    async def handle(self, request: web.BaseRequest, connection: Connection, request_id: str, place: Place) -> web.StreamResponse:
        """Answer a call. Raises ApiError for what the gateway, not the function, has to say; ClientGone."""
        asked = Asked(
            request.method,
            url_event.folded(request.headers.items()),
            "HTTP/1.1" if request.version == (1, 1) else "HTTP/1.0",
            connection.peer,
            connection.port,
            request_id,
        )
        target = self._target(asked, place)
        if isinstance(target, Reply):
            return target
        if (content := body.at_hand(request)) is None:
            content = await body.read(request, BODY_BYTES, "InvokeFunction", self._body_grace_s)
        call = self._call(target, asked, place, content)
        if target.streams:
            return await self._streamed(request, connection, call)
        connection.left = request.task.cancel
        try:
            result = await self._invoker.invoke(call.invocation)
        finally:
            connection.left = None
        return self.answer(call, result)

    def call(self, asked: Asked, place: Place, content: bytes) -> Call | Reply | None:
        """The invocation that a whole request is, or the answer to one that does not get to a function.

        None where the answer is to be streamed. The headers of `asked` become the event's.
        """
        target = self._target(asked, place)
        if isinstance(target, Reply):
            return target
        return None if target.streams else self._call(target, asked, place, content)

    def _target(self, asked: Asked, place: Place) -> _Target | Reply:
        """What the request leads to, or the answer to what does not get to a function."""
        self._second.at(self._wall())
        url_id = place.url_id
        found = self._catalog.url(url_id)
        if found is None:
            return self._reply(403, _DENIED, _NO_SUCH_URL, asked.request_id)
        target = self._targets.get(url_id)
        if target is None or target.function is not found[0]:
            target = self._worked_out(*found)
        if target.cors is not None and asked.method == "OPTIONS" and _REQUEST_METHOD in asked.headers:
            return self._preflight(asked, target.cors)
        if not target.allowed:
            return self._reply(403, _DENIED, _FORBIDDEN, asked.request_id)
        return target

    def _call(self, target: _Target, asked: Asked, place: Place, content: bytes) -> Call:
        method, headers, protocol, peer, port, request_id = asked
        url_id, domain, path, query = place
        wall_s = self._wall()
        trace = self._ids.trace(headers.get(_TRACE), wall_s)
        origin = headers.get(_ORIGIN)
        event = url_event.event(
            url_event.Request(
                url_id,
                domain,
                method,
                path,
                query,
                headers,
                protocol,
                peer,
                port,
                request_id,
                trace,
                self._second.time,
                int(wall_s * 1000),
                content,
            )
        )
        invocation = Invocation(
            request_id=request_id,
            function_name=target.name,
            qualifier=target.qualifier,
            payload=event,
            trace_id=self._ids.segment(trace),
            arrived_s=self._monotonic(),
        )
        return Call(invocation, trace, target.cors, origin)

    def answer(self, call: Call, result: InvokeResult) -> Reply:
        """The answer that the result of a call makes."""
        status, given, content = _answer(result, call.cors, call.origin)
        self._second.at(self._wall())
        ids = f"x-amzn-RequestId: {call.invocation.request_id}\r\nX-Amzn-Trace-Id: {call.trace}\r\n"
        return Reply(status, self._second.date + given + ids.encode(), content)

    async def _streamed(self, request: web.BaseRequest, connection: Connection, call: Call) -> web.StreamResponse:
        """Run it, and send its answer while it comes."""
        invocation = call.invocation
        ids = f"x-amzn-RequestId: {invocation.request_id}\r\nX-Amzn-Trace-Id: {call.trace}\r\n".encode()
        stream = UrlStream(request, connection, self._limits, self._second.date + ids, call.cors, call.origin)
        invocation.stream = stream
        try:
            result = await self._invoker.invoke(invocation)
            if stream.complete(result):
                return await stream.end()
            if stream.open:
                return await stream.broken()
        finally:
            stream.close()
        self._second.at(self._wall())
        return Reply(502, self._second.date + _TEXT + ids, _FAILED)

    def _worked_out(self, function: Function, config: UrlConfig) -> _Target:
        allowed = config.auth_type == "NONE" and url_policy.public(function.policies.get(config.qualifier))
        target = _Target(
            function=function,
            name=function.name,
            qualifier=config.qualifier,
            allowed=allowed,
            streams=config.invoke_mode != "BUFFERED",
            cors=config.cors,
        )
        if len(self._targets) >= _TARGETS_MAX:  # URLs that were removed; the others come back with their next call
            self._targets.clear()
        self._targets[config.url_id] = target
        return target

    def _preflight(self, asked: Asked, rules: Cors) -> Reply:
        headers = asked.headers
        answer = cors.preflight(rules, headers.get(_ORIGIN, ""), headers[_REQUEST_METHOD], headers.get(_REQUEST_HEADERS))
        return self._reply(200, _JSON + lines(answer), b"", asked.request_id)

    def _reply(self, status: int, head: bytes, content: bytes, request_id: str) -> Reply:
        return Reply(status, b"%b%bx-amzn-RequestId: %b\r\n" % (self._second.date, head, request_id.encode()), content)


def _answer(result: InvokeResult, rules: Cors | None, origin: str | None) -> tuple[int, bytes, bytes]:
    """Status, header lines and body for what came of the invocation."""
    if result.status is not _SUCCESS:
        return 502, _TEXT, _FAILED
    try:
        answer = url_response.response(result.payload)
    except url_response.UnusableResponse as error:
        _log.debug("what %s returned cannot be an HTTP answer: %s", result.version.name, error)
        return 502, _TEXT, _FAILED
    headers = answer.headers
    if rules is not None:
        headers = cors.applied(rules, origin, headers)
    return answer.status, _JSON if headers == _ONLY_JSON else lines(headers), answer.body
