"""The Runtime API's bytes: events, answers, routes. Texts are those of AWS's runtime interface emulator."""

from __future__ import annotations

import json

import pytest

from sandbox.runtime_api import wire
from sandbox.runtime_api.wire import Route
from tests.sandboxes import work


def parse(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def test_event_carries_what_the_runtime_needs_and_leaves_out_what_is_empty() -> None:
    job = work(b'{"a": 1}')
    status, headers, body = parse(wire.event(job, 1_795_253_823_000))
    assert (status, body) == (200, b'{"a": 1}')
    assert headers == {
        "Content-Type": "application/json",
        "Content-Length": "8",
        "Lambda-Runtime-Aws-Request-Id": job.request_id,
        "Lambda-Runtime-Deadline-Ms": "1795253823000",
        "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:000000000000:function:hello",
        "Lambda-Runtime-Trace-Id": "Root=1-5759e988-bd862e3fe1be46a994272793",
    }


def test_event_with_all_that_there_can_be() -> None:
    job = work(client_context='{"custom":{}}', cognito_identity='{"cognitoIdentityId":"i"}', content_type="")
    _, headers, _ = parse(wire.event(job, 1))
    assert headers["Lambda-Runtime-Client-Context"] == '{"custom":{}}'
    assert headers["Lambda-Runtime-Cognito-Identity"] == '{"cognitoIdentityId":"i"}'
    assert headers["Content-Type"] == "application/json", "an event without a type is JSON"


@pytest.mark.parametrize("field", ["content_type", "trace_id", "invoked_arn", "client_context", "cognito_identity"])
def test_what_a_client_sent_cannot_begin_another_header_or_body(field: str) -> None:
    job = work(b"{}")
    setattr(job, field, "x\r\nInjected: yes\r\n\r\nbody\x00")
    event = wire.event(job, 1)
    _, headers, body = parse(event)
    assert "Injected" not in headers
    assert body == b"{}"


def test_client_context_that_is_not_ascii_arrives_as_utf8() -> None:
    assert '{"a":"é"}'.encode() in wire.event(work(client_context='{"a":\n"é"}'.replace("\n", "")), 1)


@pytest.mark.parametrize(
    ("answer", "status", "error_type", "message"),
    [
        (wire.INVALID_REQUEST_ID, 400, "InvalidRequestID", "Invalid request ID"),
        (wire.INVALID_RESPONSE_MODE, 400, "InvalidFunctionResponseMode", "Invalid function response mode"),
        (wire.TOO_LATE, 410, "InvokeTimeout", "Invoke timeout"),
        (wire.too_large(), 413, "RequestEntityTooLarge", "Exceeded maximum allowed payload size (6291556 bytes)."),
        (wire.LOGS_OFF, 202, "Logs.NotSupported", "Logs API is not supported"),
        (wire.TELEMETRY_OFF, 202, "Telemetry.NotSupported", "Telemetry API is not supported"),
        (
            wire.invalid_transition("Started", "InvocationResponse"),
            403,
            "InvalidStateTransition",
            "State transition from Started to InvocationResponse failed for runtime. Error: State transition is not allowed",
        ),
    ],
)
def test_errors_are_awss(answer: bytes, status: int, error_type: str, message: str) -> None:
    found, headers, body = parse(answer)
    assert found == status
    assert headers["Content-Type"] == "application/json"
    assert int(headers["Content-Length"]) == len(body)
    assert json.loads(body) == {"errorMessage": message, "errorType": error_type}


def test_accepted_is_awss() -> None:
    assert parse(wire.ACCEPTED) == (202, {"Content-Type": "application/json", "Content-Length": "15"}, b'{"status":"OK"}')
    assert parse(wire.closing(wire.ACCEPTED))[1]["Connection"] == "close"


INVOCATION = b"/2018-06-01/runtime/invocation/"


@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        (b"GET", INVOCATION + b"next", (Route.NEXT, b"")),
        (b"GET", INVOCATION + b"next?a=b", (Route.NEXT, b"")),
        (b"POST", INVOCATION + b"id-1/response", (Route.RESPONSE, b"id-1")),
        (b"POST", INVOCATION + b"/response", (Route.RESPONSE, b"")),
        (b"POST", INVOCATION + b"id-1/error", (Route.ERROR, b"id-1")),
        (b"POST", b"/2018-06-01/runtime/init/error", (Route.INIT_ERROR, b"")),
        (b"POST", b"/2018-06-01/runtime/restore/error", (Route.INIT_ERROR, b"")),
        (b"GET", b"/2018-06-01/runtime/restore/next", (Route.FIXED, wire.RESTORED)),
        (b"GET", b"/2018-06-01/ping", (Route.FIXED, wire.PONG)),
        (b"POST", b"/2020-01-01/extension/register", (Route.REGISTER, b"")),
        (b"GET", b"/2020-01-01/extension/event/next", (Route.EXTENSION_NEXT, b"")),
        (b"POST", b"/2020-01-01/extension/init/error", (Route.EXTENSION_INIT_ERROR, b"")),
        (b"POST", b"/2020-01-01/extension/exit/error", (Route.EXTENSION_EXIT_ERROR, b"")),
        (b"POST", b"/2020-01-01/extension/event/next", (Route.FIXED, wire.method_not_allowed("GET"))),
        (b"GET", b"/2020-01-01/extension/other", (Route.FIXED, wire.NOT_FOUND)),
        (b"PUT", b"/2020-08-15/logs", (Route.LOGS, b"")),
        (b"PUT", b"/2022-07-01/telemetry", (Route.TELEMETRY, b"")),
        (b"GET", b"/", (Route.FIXED, wire.NOT_FOUND)),
        (b"GET", b"/2018-06-01/runtime/invocation", (Route.FIXED, wire.NOT_FOUND)),
        (b"POST", INVOCATION + b"id-1/other", (Route.FIXED, wire.NOT_FOUND)),
        (b"POST", INVOCATION + b"id-1", (Route.FIXED, wire.NOT_FOUND)),
    ],
)
def test_routes(method: bytes, url: bytes, expected: tuple[Route, bytes]) -> None:
    assert wire.route(method, url) == expected


@pytest.mark.parametrize(
    ("method", "url", "allowed"),
    [
        (b"POST", INVOCATION + b"next", "GET"),
        (b"GET", INVOCATION + b"id-1/response", "POST"),
        (b"PUT", INVOCATION + b"id-1/error", "POST"),
        (b"GET", b"/2018-06-01/runtime/init/error", "POST"),
        (b"POST", b"/2018-06-01/ping", "GET"),
        (b"GET", b"/2022-07-01/telemetry", "PUT"),
    ],
)
def test_wrong_methods(method: bytes, url: bytes, allowed: str) -> None:
    route, answer = wire.route(method, url)
    assert route is Route.FIXED
    assert parse(answer)[0] == 405
    assert parse(answer)[1]["Allow"] == allowed


@pytest.mark.parametrize(
    ("header", "counts"),
    [
        (b"Runtime.NoSuchHandler", "Runtime.NoSuchHandler"),
        (b"Function.MyError", "Function.MyError"),
        (b"Function.", "Function.Unknown"),
        (b"Function.lower", "Function.Unknown"),
        (b"Runtime.lower", "Runtime.Unknown"),
        (b"ValueError", "Runtime.Unknown"),
        (b"\xff\xfe", "Runtime.Unknown"),
        (b"", "Runtime.Unknown"),
        (None, "Runtime.Unknown"),
    ],
)
def test_error_types(header: bytes | None, counts: str) -> None:
    assert wire.error_type(header) == counts


def test_cause_is_taken_out_of_an_error_document() -> None:
    document = {"errorMessage": "m", "errorType": "T", "stackTrace": ["a"], "errorCause": {"exceptions": []}}
    body, content_type = wire.without_cause(json.dumps(document).encode())
    assert json.loads(body) == {"errorMessage": "m", "errorType": "T", "stackTrace": ["a"]}
    assert content_type == "application/json"
    for broken in (b"", b"{", b"[]", b"3", b"null", b'"text"'):
        assert wire.without_cause(broken)[0] in (b'"Invalid error body"', b"{}")


def test_trailer_body() -> None:
    assert wire.trailer_body(b"eyJhIjoxfQ==") == b'{"a":1}'
    assert wire.trailer_body(b"not base64!") == b""


BODY = b'{"a": 1}'
WHOLE = (
    b"POST /2018-06-01/runtime/invocation/id-1/response HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n"
    b"Content-Type: application/json\r\nContent-Length: 8\r\n\r\n"
    + BODY
    + b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\r\n"
)


def test_an_answer_and_the_next_next_are_read_by_their_shape() -> None:
    assert wire.answer_and_next(WHOLE, b"id-1") == BODY


@pytest.mark.parametrize(
    "data",
    [
        WHOLE[:-1],
        WHOLE + b"G",
        WHOLE.replace(b"id-1", b"id-2"),
        WHOLE.replace(b"Length: 8", b"Length: 7"),
        WHOLE.replace(b"Length: 8", b"Length: 9"),
        WHOLE.replace(b"Length: 8", b"Length: +8"),
        WHOLE.replace(b"Length: 8", b"Length: 8\r\nTransfer-Encoding: chunked"),
        WHOLE.replace(b"application/json", b"text/plain"),
        WHOLE.replace(b"Content-Type: application/json", b"Lambda-Runtime-Function-Error-Type: X"),
        WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        WHOLE.replace(b"/response", b"/error"),
        WHOLE[: WHOLE.index(b"GET")],
        b"",
        b"\r\n\r\n",
    ],
)
def test_whatever_differs_is_for_the_parser(data: bytes) -> None:
    assert wire.answer_and_next(data, b"id-1") is None


def test_without_an_invocation_there_is_no_answer() -> None:
    assert wire.answer_and_next(WHOLE.replace(b"id-1", b""), b"") is None
