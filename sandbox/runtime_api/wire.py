"""The Runtime API's bytes: paths, headers, prebuilt answers, and the answer to `next` that carries an event. [P]

Every answer of the hot path is one bytes object, made once, so that answering is one `transport.write`. Statuses, error types and
texts are those of AWS's runtime interface emulator (internal/lambda/rapi/rendering; 410 is of its newer tree), whose code is what
runs in AWS's own sandboxes.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
from typing import Final

import orjson

from sandbox.outcome import Work

MAX_PAYLOAD_BYTES: Final = 6 * 1024 * 1024 + 100  #: of an answer; the 100 bytes are AWS's own margin
MAX_CALL_BYTES: Final = 64 << 10  #: of any other body: registrations and subscriptions take some hundred bytes
BASE: Final = b"/2018-06-01"
EXTENSIONS_BASE: Final = b"/2020-01-01/extension"
NEXT_URL: Final = BASE + b"/runtime/invocation/next"
INVOCATION_PREFIX: Final = BASE + b"/runtime/invocation/"
RESPONSE_SUFFIX: Final = b"/response"

CONTENT_TYPE: Final = b"content-type"
CONTENT_LENGTH: Final = b"content-length"
EXPECT: Final = b"expect"
ERROR_TYPE: Final = b"lambda-runtime-function-error-type"  # header of an error, trailer of a streamed response
ERROR_BODY: Final = b"lambda-runtime-function-error-body"  # trailer
RESPONSE_MODE: Final = b"lambda-runtime-function-response-mode"
EXTENSION_NAME: Final = b"lambda-extension-name"
EXTENSION_IDENTIFIER: Final = b"lambda-extension-identifier"
EXTENSION_FEATURE: Final = b"lambda-extension-accept-feature"
EXTENSION_ERROR_TYPE: Final = b"lambda-extension-function-error-type"
WANTED_HEADERS: Final = frozenset(
    {CONTENT_TYPE, CONTENT_LENGTH, EXPECT, ERROR_TYPE, ERROR_BODY, RESPONSE_MODE}
    | {EXTENSION_NAME, EXTENSION_IDENTIFIER, EXTENSION_FEATURE, EXTENSION_ERROR_TYPE}
)
ERROR_CAUSE_TYPE: Final = "application/vnd.aws.lambda.error.cause+json"

_REASONS: Final = {
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    410: "Gone",
    413: "Request Entity Too Large",
    431: "Request Header Fields Too Large",
}


class Route(enum.StrEnum):
    """What a request asks for."""

    NEXT = "next"
    RESPONSE = "response"
    ERROR = "error"
    INIT_ERROR = "init error"
    REGISTER = "extension register"
    EXTENSION_NEXT = "extension next"
    EXTENSION_INIT_ERROR = "extension init error"
    EXTENSION_EXIT_ERROR = "extension exit error"
    TELEMETRY = "telemetry"
    LOGS = "logs"
    FIXED = "fixed"  #: the answer does not depend on anything


def answer(status: int, body: bytes = b"", content_type: str = "application/json", extra: str = "") -> bytes:
    """A whole HTTP answer; `extra` is further header lines, each with its CRLF."""
    type_line = f"Content-Type: {content_type}\r\n" if body else ""
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\n{type_line}{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body


def error_answer(status: int, error_type: str, message: str) -> bytes:
    """An error as the Runtime API says it."""
    return answer(status, orjson.dumps({"errorMessage": message, "errorType": error_type}))


def too_large(limit_bytes: int = MAX_PAYLOAD_BYTES) -> bytes:
    """The answer to a response that is larger than that."""
    return error_answer(413, "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({limit_bytes} bytes).")


def closing(whole_answer: bytes) -> bytes:
    """The same answer, which also says that the connection ends with it."""
    return whole_answer.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
ACCEPTED: Final = answer(202, b'{"status":"OK"}')
PONG: Final = answer(200, b"pong", "text/plain; charset=utf-8")
RESTORED: Final = answer(200)  # nothing was snapshotted, so there is nothing to wait for
INVALID_REQUEST_ID: Final = error_answer(400, "InvalidRequestID", "Invalid request ID")
INVALID_RESPONSE_MODE: Final = error_answer(400, "InvalidFunctionResponseMode", "Invalid function response mode")
TOO_LATE: Final = error_answer(410, "InvokeTimeout", "Invoke timeout")
BAD_REQUEST: Final = answer(400, b"400 Bad Request", "text/plain; charset=utf-8")
HEADERS_TOO_LARGE: Final = answer(431, b"431 Request Header Fields Too Large", "text/plain; charset=utf-8")
NOT_FOUND: Final = answer(404, b"404 page not found\n", "text/plain; charset=utf-8")
LOGS_OFF: Final = error_answer(202, "Logs.NotSupported", "Logs API is not supported")
SUBSCRIBED: Final = answer(200, b'"OK"')
TELEMETRY_OFF: Final = error_answer(202, "Telemetry.NotSupported", "Telemetry API is not supported")

#: Everything but `/runtime/invocation/{id}/…`: path → method, route, answer where it is fixed.
_PATHS: Final[dict[bytes, tuple[bytes, Route, bytes]]] = {
    NEXT_URL: (b"GET", Route.NEXT, b""),
    BASE + b"/runtime/init/error": (b"POST", Route.INIT_ERROR, b""),
    BASE + b"/runtime/restore/next": (b"GET", Route.FIXED, RESTORED),
    BASE + b"/runtime/restore/error": (b"POST", Route.INIT_ERROR, b""),  # a failed restore is a failed init
    BASE + b"/ping": (b"GET", Route.FIXED, PONG),
    EXTENSIONS_BASE + b"/register": (b"POST", Route.REGISTER, b""),
    EXTENSIONS_BASE + b"/event/next": (b"GET", Route.EXTENSION_NEXT, b""),
    EXTENSIONS_BASE + b"/init/error": (b"POST", Route.EXTENSION_INIT_ERROR, b""),
    EXTENSIONS_BASE + b"/exit/error": (b"POST", Route.EXTENSION_EXIT_ERROR, b""),
    b"/2020-08-15/logs": (b"PUT", Route.LOGS, b""),
    b"/2022-07-01/telemetry": (b"PUT", Route.TELEMETRY, b""),
}


#: Six digits of the length: of a body that is surely small enough.
_USUAL_ANSWER: Final = re.compile(
    rb"POST %b([0-9A-Za-z-]+)%b HTTP/1\.1\r\n(Host: [^\r\n]*)\r\nContent-Type: application/json\r\n"
    rb"Content-Length: ([0-9]{1,6})\r\n\r\n" % (re.escape(INVOCATION_PREFIX), re.escape(RESPONSE_SUFFIX))
)
_GET_NEXT: Final = b"GET " + INVOCATION_PREFIX + b"next HTTP/1.1\r\n"


def route(method: bytes, url: bytes) -> tuple[Route, bytes]:
    """Where a request goes: the route with the request id (RESPONSE, ERROR) or the answer (FIXED)."""
    if method == b"POST" and url.endswith(RESPONSE_SUFFIX) and url.startswith(INVOCATION_PREFIX):
        return Route.RESPONSE, url[len(INVOCATION_PREFIX) : -len(RESPONSE_SUFFIX)]
    url = url.partition(b"?")[0]
    known = _PATHS.get(url)
    if known is None:
        if url.startswith(INVOCATION_PREFIX):
            request_id, slash, what = url[len(INVOCATION_PREFIX) :].partition(b"/")
            if slash and what in (b"response", b"error"):
                if method != b"POST":
                    return Route.FIXED, method_not_allowed("POST")
                return (Route.RESPONSE if what == b"response" else Route.ERROR), request_id
        return Route.FIXED, NOT_FOUND
    if method != known[0]:
        return Route.FIXED, method_not_allowed(known[0].decode())
    return known[1], known[2]


def answer_and_next(data: bytes, request_id: bytes) -> bytes | None:
    """The response in `data`, if that is a successful answer to `request_id` and the next `next`, both whole and nothing else.

    So sends our own Python runtime, in one piece, and reading that by its shape saves 4 of the 14 us that an invocation costs
    here. Whatever differs in a byte (None) is for the parser, which would come to the same.
    """
    head = _USUAL_ANSWER.match(data)
    if head is None:
        return None
    answered, host, length = head.groups()
    begin = head.end()
    end = begin + int(length)
    if answered != request_id or data[end:] != b"%b%b\r\n\r\n" % (_GET_NEXT, host):
        return None
    return data[begin:end]


def method_not_allowed(allowed: str) -> bytes:
    return answer(405, extra=f"Allow: {allowed}\r\n")


def invalid_transition(state: str, wanted: str) -> bytes:
    """The 403 of a call that is not allowed now; `state` and `wanted` are AWS's names of states."""
    message = f"State transition from {state} to {wanted} failed for runtime. Error: State transition is not allowed"
    return error_answer(403, "InvalidStateTransition", message)


def event(work: Work, deadline_ms: int) -> bytes:
    """The answer to `next`: head and payload in one. `deadline_ms` is since the epoch. Headers without a value are left out."""
    payload, content_type, trace_id, arn = work.payload, work.content_type, work.trace_id, work.invoked_arn
    # One test for the usual case. What a client sent must not end a header line and begin another.
    if not (content_type + trace_id + arn).isprintable():
        content_type, trace_id, arn = _one_line(content_type), _one_line(trace_id), _one_line(arn)
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {content_type or 'application/json'}\r\nContent-Length: {len(payload)}\r\n"
        f"Lambda-Runtime-Aws-Request-Id: {work.request_id}\r\nLambda-Runtime-Deadline-Ms: {deadline_ms}\r\n"
        f"Lambda-Runtime-Invoked-Function-Arn: {arn}\r\n"
    )
    if trace_id:
        head += f"Lambda-Runtime-Trace-Id: {trace_id}\r\n"
    if work.client_context:
        head += f"Lambda-Runtime-Client-Context: {_one_line(work.client_context)}\r\n"
    if work.cognito_identity:
        head += f"Lambda-Runtime-Cognito-Identity: {_one_line(work.cognito_identity)}\r\n"
    return (head + "\r\n").encode("utf-8", "replace") + payload


def _one_line(value: str) -> str:
    """`value` fit for a header line. JSON is not changed by it: line ends in JSON are only ever white space."""
    return "".join(character if character.isprintable() else " " for character in value)


_OWN_ERROR_TYPE: Final = re.compile(r"(Runtime|Function)\.[A-Z][a-zA-Z]+")  # searched, not matched: as AWS does


def error_type(header: bytes | None) -> str:
    """The error type that counts, from what the runtime said: its own within AWS's name spaces, else an unknown one."""
    text = (header or b"").decode("latin-1")
    if _OWN_ERROR_TYPE.search(text):
        return text
    return "Function.Unknown" if text.startswith("Function.") else "Runtime.Unknown"


def without_cause(body: bytes) -> tuple[bytes, str]:
    """What the caller gets of an error document that brings an X-Ray cause: the document without it, and its content type."""
    try:
        document = orjson.loads(body)
        kept = {key: document[key] for key in ("errorMessage", "errorType", "stackTrace") if key in document}
    except (orjson.JSONDecodeError, TypeError):
        return b'"Invalid error body"', "application/octet-stream"
    return orjson.dumps(kept), "application/json"


def trailer_body(value: bytes) -> bytes:
    """The error document that the trailer of a streamed response carries in base64; empty when it is not base64."""
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return b""
