"""The operation InvokeWithResponseStream: an Invoke whose answer is an event stream, sent while the function gives it.

Pieces of the answer are PayloadChunk events, as they come; the last event is InvokeComplete. It is there that a failed function
shows, since the status is 200 by then: ``ErrorCode`` is ``Unhandled``, as clients in the wild test for, and ``ErrorDetails`` the
error document. A function that answers as a whole gives one chunk. Not checked against AWS: whether the document of an error that
came before the first byte is a PayloadChunk too; here it is not, for a chunk is the function's answer.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, unquote

from gateway import arn
from gateway.clock import Clock
from gateway.edge import body, eventstream, invoke, lineage
from gateway.edge.connection import Connection
from gateway.edge.ports import Invokes
from gateway.edge.reply import Reply
from gateway.edge.stamp import Second
from gateway.edge.stream import Streamed, StreamLimits
from gateway.invocation import Invocation, InvokeResult
from gateway.observe.trace import Ids
from sandbox.outcome import Status

if TYPE_CHECKING:
    from aiohttp import web

PREFIX: Final = "/2021-11-15/functions/"
SUFFIX: Final = "/response-streaming-invocations"

_OPERATION: Final = "InvokeWithResponseStream"
_KINDS: Final = (None, "RequestResponse", "DryRun")


class InvokeStream:
    """Answers ``POST /2021-11-15/functions/{name}/response-streaming-invocations``."""

    def __init__(
        self,
        *,
        invoker: Invokes,
        clock: Clock,
        ids: Ids,
        region: str,
        account_id: str,
        limits: StreamLimits,
        body_grace_s: float = body.GRACE_S,
    ) -> None:
        self._invoker = invoker
        self._clock = clock
        self._ids = ids
        self._region = region
        self._account_id = account_id
        self._limits = limits
        self._body_grace_s = body_grace_s
        self._second = Second()

    async def handle(
        self, request: web.BaseRequest, connection: Connection, request_id: str, name: str, query: str
    ) -> web.StreamResponse:
        """Answer a request whose path names the function `name` (as on the wire). Raises ApiError, and ClientGone."""
        arrived_s = self._clock.monotonic()
        if (content := body.at_hand(request)) is None:
            content = await body.read(request, invoke.BODY_BYTES, _OPERATION, self._body_grace_s)
        headers = request.headers
        qualifier = parse_qs(query, keep_blank_values=True).get("Qualifier", [None])[-1] if query else None
        name = unquote(name)
        kind, log = headers.get(invoke.TYPE), headers.get(invoke.LOG)
        invoke.check(_OPERATION, _KINDS, kind, log, qualifier, name)
        ref = arn.parse(name, qualifier, region=self._region, account_id=self._account_id)
        self._second.at(self._clock.wall())
        if kind == "DryRun":
            self._invoker.resolve(ref.name, ref.qualifier)
            return Reply(204, b"%bx-amzn-RequestId: %b\r\n" % (self._second.date, request_id.encode()))
        context, identity = headers.get(invoke.CLIENT_CONTEXT), headers.get(invoke.COGNITO_IDENTITY)
        given = headers.get(invoke.TRACE)
        trace = self._ids.trace(given, self._clock.wall())
        trace_id = self._ids.segment(trace)
        if given is not None:
            trace_id = lineage.continued(trace_id, ref.name, self._invoker)
        event = invoke.event(content)
        client_context = invoke.client_context(context) if context else None
        cognito_identity = invoke.cognito_identity(identity) if identity else None
        head = f"x-amzn-RequestId: {request_id}\r\nX-Amzn-Trace-Id: {trace}\r\n".encode()
        stream = _Events(request, connection, self._limits, self._second.date + head)
        invocation = Invocation(
            request_id=request_id,
            function_name=ref.name,
            qualifier=ref.qualifier,
            payload=event,
            trace_id=trace_id,
            client_context=client_context,
            cognito_identity=cognito_identity,
            want_log_tail=log == "Tail",
            arrived_s=arrived_s,
            stream=stream,
        )
        try:
            result = await self._invoker.invoke(invocation)
            stream.complete(result)
            return await stream.end()
        finally:
            stream.close()


class _Events(Streamed):
    """The event stream of one invocation."""

    __slots__ = ("_lines",)

    def __init__(self, request: web.BaseRequest, connection: Connection, limits: StreamLimits, lines: bytes) -> None:
        super().__init__(request, connection, limits)
        self._lines = lines

    def complete(self, result: InvokeResult) -> None:
        """Send the last event, and before it what came as a whole."""
        error = details = None
        last = b""
        if result.status is not Status.SUCCESS:
            error, details = "Unhandled", result.payload.decode("utf-8", "replace") or None
        elif result.payload:
            last = eventstream.payload_chunk(result.payload)
        log = base64.b64encode(result.log_tail).decode() if result.log_tail is not None else None
        self.write(last + eventstream.invoke_complete(error, details, log))

    def _head(self) -> tuple[int, bytes]:
        assert self._version is not None
        executed = f"X-Amz-Executed-Version: {self._version.version}\r\nContent-Type: {eventstream.CONTENT_TYPE}\r\n"
        return 200, self._lines + executed.encode()

    def _encoded(self, data: bytes) -> bytes:
        return eventstream.payload_chunk(data)
