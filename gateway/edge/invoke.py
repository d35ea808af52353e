"""The operation Invoke: the one of AWS's API that carries load, and so the one that does not go through the service model.

Header names, statuses and limits are the model's, texts of errors recorded from AWS in November 2025. A parameter that looks
unusual is handed to the model's own checks, which then say what AWS says. An empty body is the event ``{}``, as on AWS. Not
checked against AWS: what is answered to a client context that is too long.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn
from urllib.parse import parse_qs, unquote

import orjson

from gateway import arn
from gateway.clock import Clock
from gateway.edge import body, constraints, lineage, model
from gateway.edge.call import Asked, Call
from gateway.edge.connection import Connection
from gateway.edge.ports import Invokes
from gateway.edge.reply import Reply
from gateway.edge.stamp import Second
from gateway.edge.url_event import folded
from gateway.errors import InvalidRequestContentException, NotImplementedHere
from gateway.invocation import Invocation, InvokeResult
from gateway.observe.trace import Ids
from sandbox.outcome import Status

if TYPE_CHECKING:
    from aiohttp import web

PREFIX: Final = "/2015-03-31/functions/"
SUFFIX: Final = "/invocations"

BODY_BYTES: Final = 6 * 1024 * 1024
CLIENT_CONTEXT_BYTES: Final = 3583  #: in base64

TYPE: Final = "x-amz-invocation-type"
LOG: Final = "x-amz-log-type"
CLIENT_CONTEXT: Final = "x-amz-client-context"
COGNITO_IDENTITY: Final = "x-amz-cognito-identity"  #: as AWS's runtime interface emulator takes it
_DURABLE: Final = "x-amz-durable-execution-name"
TRACE: Final = "x-amzn-trace-id"
_SUCCESS: Final = Status.SUCCESS
_KINDS: Final = (None, "RequestResponse", "Event", "DryRun")
_QUALIFIER: Final = re.compile(r"\$LATEST|[a-zA-Z0-9_-]{1,128}", re.ASCII)
_SOURCE: Final = "at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: {line}, column: {column}]"


class Place(NamedTuple):
    """Where a request goes. `name` and `query` are as on the wire."""

    name: str
    query: str


def place_of(method: str, target: str) -> Place | None:
    """The function that a request is to invoke."""
    if method != "POST" or not target.startswith(PREFIX):
        return None
    path, _, query = target.partition("?")
    name = path[len(PREFIX) : -len(SUFFIX)]
    return Place(name, query) if path.endswith(SUFFIX) and name and "/" not in name else None


class Invoke:
    """Answers ``POST /2015-03-31/functions/{name}/invocations``. `region` and `account_id` are those that an ARN must have."""

    def __init__(
        self,
        *,
        invoker: Invokes,
        clock: Clock,
        ids: Ids,
        region: str,
        account_id: str,
        body_grace_s: float = body.GRACE_S,
    ) -> None:
        self._invoker = invoker
        self._monotonic = clock.monotonic
        self._wall = clock.wall
        self._ids = ids
        self._region = region
        self._account_id = account_id
        self._body_grace_s = body_grace_s
        self._second = Second()

    async def handle(self, request: web.BaseRequest, connection: Connection, request_id: str, place: Place) -> web.StreamResponse:
        """Answer a request. Raises ApiError, and ClientGone."""
        if (content := body.at_hand(request)) is None:
            content = await body.read(request, BODY_BYTES, "InvokeFunction", self._body_grace_s)
        headers = folded(request.headers.items())
        asked = Asked(request.method, headers, "HTTP/1.1", connection.peer, connection.port, request_id)
        call = self.call(asked, place, content)
        if isinstance(call, Reply):
            return call
        connection.left = request.task.cancel
        try:
            result = await self._invoker.invoke(call.invocation)
        finally:
            connection.left = None
        return self.answer(call, result)

    def call(self, asked: Asked, place: Place, content: bytes) -> Call | Reply:
        """The invocation that a whole request is, or the answer to one that runs nothing. Raises ApiError."""
        headers = asked.headers
        name, query = place
        kind = headers.get(TYPE)
        log = headers.get(LOG)
        qualifier = parse_qs(query, keep_blank_values=True).get("Qualifier", [None])[-1] if query else None
        if "%" in name:
            name = unquote(name)
        if kind is not None or log is not None or qualifier is not None:
            check("Invoke", _KINDS, kind, log, qualifier, name)
        ref = arn.parse(name, qualifier, region=self._region, account_id=self._account_id)
        if _DURABLE in headers:
            raise NotImplementedHere("Durable executions are not implemented yet.")
        if kind == "Event":
            raise NotImplementedHere("The invocation type Event is not implemented yet: there is no durable queue for events.")
        if kind == "DryRun":
            self._invoker.resolve(ref.name, ref.qualifier)
            return self._reply(204, f"x-amzn-RequestId: {asked.request_id}\r\n")
        context, identity = headers.get(CLIENT_CONTEXT), headers.get(COGNITO_IDENTITY)
        given = headers.get(TRACE)
        trace = self._ids.trace(given, self._wall())
        trace_id = self._ids.segment(trace)
        if given is not None:
            trace_id = lineage.continued(trace_id, ref.name, self._invoker)
        invocation = Invocation(
            request_id=asked.request_id,
            function_name=ref.name,
            qualifier=ref.qualifier,
            payload=event(content),
            trace_id=trace_id,
            client_context=client_context(context) if context else None,
            cognito_identity=cognito_identity(identity) if identity else None,
            want_log_tail=log == "Tail",
            arrived_s=self._monotonic(),
        )
        return Call(invocation, trace)

    def answer(self, call: Call, result: InvokeResult) -> Reply:
        """The answer that the result of a call makes."""
        head = (
            f"Content-Type: application/json\r\nx-amzn-RequestId: {call.invocation.request_id}\r\n"
            f"X-Amzn-Trace-Id: {call.trace}\r\nX-Amz-Executed-Version: {result.version.version}\r\n"
        )
        if result.status is not _SUCCESS:
            head += "X-Amz-Function-Error: Unhandled\r\n"
        if result.log_tail is not None:
            head += f"X-Amz-Log-Result: {base64.b64encode(result.log_tail).decode()}\r\n"
        return self._reply(200, head, result.payload)

    def _reply(self, status: int, head: str, content: bytes = b"") -> Reply:
        self._second.at(self._wall())
        return Reply(status, self._second.date + head.encode(), content)


def event(content: bytes) -> bytes:
    """The event that a request body stands for. Raises InvalidRequestContentException for what is not JSON."""
    if not content:
        return b"{}"
    try:
        orjson.loads(content)
    except ValueError:
        _lenient(content)
    return content


def client_context(header: str) -> str:
    """The client context as JSON text, on one line. Raises InvalidRequestContentException."""
    if len(header) > CLIENT_CONTEXT_BYTES:
        raise InvalidRequestContentException(
            f"Client context must be no more than {CLIENT_CONTEXT_BYTES} bytes when Base64-encoded."
        )
    try:
        value = json.loads(base64.b64decode(header, validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise InvalidRequestContentException("Client context must be a valid Base64-encoded JSON object.") from error
    if not isinstance(value, dict):
        raise InvalidRequestContentException("Client context must be a valid Base64-encoded JSON object.")
    return json.dumps(value, separators=(",", ":"))  # ASCII: it travels as a header


def cognito_identity(header: str) -> str:
    """Who the caller is to Cognito, as the JSON text that runtimes get. Raises InvalidRequestContentException.

    AWS reads it off the credentials that signed the request. Here nobody's are Cognito's, so a caller says it, in the header
    that AWS's emulator has for it; what a function is told by it is worth as much as the caller is trusted.
    """
    try:
        value = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestContentException("X-Amz-Cognito-Identity must be a valid JSON string.") from error
    if not isinstance(value, dict):
        raise InvalidRequestContentException("X-Amz-Cognito-Identity must be a valid JSON string.")
    names = ("cognitoIdentityId", "cognitoIdentityPoolId")
    return json.dumps({name: value[name] for name in names if isinstance(value.get(name), str)}, separators=(",", ":"))


def check(
    operation: str, kinds: tuple[str | None, ...], kind: str | None, log: str | None, qualifier: str | None, name: str
) -> None:
    """Raises what the service model says to parameters that it does not allow. Loading the model takes long, so: only for
    those."""
    if kind in kinds and log in (None, "None", "Tail") and (qualifier is None or _QUALIFIER.fullmatch(qualifier) is not None):
        return
    values: dict[str, Any] = {"FunctionName": name, "InvocationType": kind, "LogType": log, "Qualifier": qualifier}
    shape = model.operations()[operation].input
    if shape is not None:
        constraints.check(shape, {key: value for key, value in values.items() if value is not None})


def _lenient(content: bytes) -> None:
    """For the little that orjson refuses and JSON allows: escaped lone surrogates, numbers beyond a float."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        which = "start" if "start" in error.reason else "middle"
        raise _not_json(f"Invalid UTF-8 {which} byte 0x{content[error.start]:02x}", content, error.start + 1) from error
    try:
        json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise _not_json(error.msg, content, error.pos) from error
    except ValueError as error:
        raise _not_json(str(error), content, 0) from error
    except RecursionError as error:
        raise _not_json("Document nesting depth exceeds the maximum allowed", content, 0) from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"Unrecognized token '{constant}'")


def _not_json(what: str, content: bytes, position: int) -> InvalidRequestContentException:
    """AWS's words around ours: what its JSON parser says between them is not worth chasing."""
    before = content[:position]
    where = _SOURCE.format(line=before.count(b"\n") + 1, column=position - before.rfind(b"\n"))
    return InvalidRequestContentException(
        f"Could not parse request body into json: Could not parse payload into json: {what}\n {where}"
    )
