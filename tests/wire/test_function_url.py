"""Function URLs over a real connection, against what was recorded from AWS on 24 November 2025.

Not recorded, so only our own: CORS, HEAD, header values that are no strings, the answer to an event that is too large.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from gateway.errors import InvalidRuntimeException, TooManyRequestsException
from gateway.invocation import Invocation, InvokeResult
from gateway.records import Alias, Cors, Function, Policy
from sandbox.outcome import Status
from tests.wire.edge import BY_URL, HOST, PUBLIC, REGION, URL_ID, VIA_URL, Edge, function, result, serving

FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with serving(tmp_path, function()) as edge:
        yield edge


def returning(edge: Edge, value: object) -> None:
    """Have the function return this, as a Python handler would."""

    async def handler(_: Invocation) -> bytes:
        return json.dumps(value).encode()

    edge.invoker.handler = handler


async def test_event_is_payload_format_2(edge: Edge) -> None:
    client = await edge.connect()
    answer = await client.request(
        "POST",
        "/path/1?q=query&a=1&a=b%20c",
        {"User-Agent": "test/echo", "Content-Type": "application/json", "Extra-Headers": "With WeiRd CapS", "Cookie": "x=1; y=2"},
        b'{"foo": "bar"}',
    )
    peer = client.writer.get_extra_info("sockname")
    await client.aclose()
    event = orjson.loads(answer.body)
    trace = event["headers"].pop("x-amzn-trace-id")
    context = event["requestContext"]
    assert re.fullmatch(r"\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d \+0000", context.pop("time"))
    assert context.pop("timeEpoch") > 1_700_000_000_000
    assert context.pop("requestId") == answer["x-amzn-RequestId"] == edge.invoker.invocations[0].request_id
    assert answer["X-Amzn-Trace-Id"] == trace
    assert event == {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/path/1",
        "rawQueryString": "q=query&a=1&a=b%20c",
        "cookies": ["x=1", "y=2"],
        "headers": {
            "host": HOST,
            "user-agent": "test/echo",
            "content-type": "application/json",
            "extra-headers": "With WeiRd CapS",
            "cookie": "x=1; y=2",
            "content-length": "14",
            "x-forwarded-for": "127.0.0.1",
            "x-forwarded-proto": "http",
            "x-forwarded-port": str(edge.server.port),
        },
        "queryStringParameters": {"q": "query", "a": "1,b c"},
        "requestContext": {
            "accountId": "anonymous",
            "apiId": URL_ID,
            "domainName": HOST.partition(":")[0],
            "domainPrefix": URL_ID,
            "http": {
                "method": "POST",
                "path": "/path/1",
                "protocol": "HTTP/1.1",
                "sourceIp": peer[0],
                "userAgent": "test/echo",
            },
            "routeKey": "$default",
            "stage": "$default",
        },
        "body": '{"foo": "bar"}',
        "isBase64Encoded": False,
    }


async def test_absent_is_absent_not_null(edge: Edge) -> None:
    event = orjson.loads((await edge.request("GET", "/")).body)
    assert event.keys().isdisjoint({"cookies", "queryStringParameters", "body"})
    assert event["rawQueryString"] == ""


async def test_multipart_comes_as_base64(edge: Edge) -> None:
    body = b'--4efd\r\nContent-Disposition: form-data; name="formfield"\r\n\r\nnot a file\r\n--4efd--\r\n'
    answer = await edge.request("POST", "/test/value", {"Content-Type": "multipart/form-data; boundary=4efd"}, body)
    event = orjson.loads(answer.body)
    assert event["isBase64Encoded"] is True
    assert base64.b64decode(event["body"]) == body


@pytest.mark.parametrize(
    ("returned", "body"),
    [
        ({"hello": "world"}, b'{"hello":"world"}'),
        ({"statusCode": 200, "body": "body123"}, b"body123"),
        ({"statusCode": 200, "body": '{"hello": "world"}'}, b'{"hello": "world"}'),
        (["hello", 3, True], b'["hello",3,true]'),
        ("hello", b"hello"),
        (3, b"3"),
        (3.1, b"3.1"),
        (True, b"true"),
        (None, b"null"),
    ],
)
async def test_recorded_answers(edge: Edge, returned: object, body: bytes) -> None:
    returning(edge, returned)
    answer = await edge.request("POST", "/")
    assert (answer.status, answer.body, answer["Content-Type"]) == (200, body, "application/json")
    assert answer["Content-Length"] == str(len(body))


async def test_headers_status_cookies_and_base64(edge: Edge) -> None:
    returning(
        edge,
        {
            "statusCode": 201,
            "headers": {"content-type": "image/png", "X-Custom": "ä", "Date": "yesterday", "Transfer-Encoding": "chunked"},
            "cookies": ["a=1; Secure", "b=2"],
            "isBase64Encoded": True,
            "body": base64.b64encode(b"\x89PNG\x00\xff").decode(),
        },
    )
    answer = await edge.request("GET", "/")
    assert (answer.status, answer.body, answer["Content-Type"]) == (201, b"\x89PNG\x00\xff", "image/png")
    assert answer["X-Custom"] == "ä"
    assert answer.get("Set-Cookie") == ["a=1; Secure", "b=2"]
    assert answer["x-amzn-Remapped-Date"] == "yesterday"
    assert answer["Date"] != "yesterday"
    assert answer.get("Transfer-Encoding") == []


@pytest.mark.parametrize(
    "returned",
    [
        {"statusCode": "many"},
        {"statusCode": 99},
        {"statusCode": 200, "headers": {"X": "a\r\nInjected: 1"}},
        {"statusCode": 200, "headers": {"a b": "c"}},
        {"statusCode": 200, "headers": ["X"]},
        {"statusCode": 200, "cookies": "a=1"},
        {"statusCode": 200, "isBase64Encoded": True, "body": "not base64!"},
    ],
)
async def test_what_cannot_be_an_answer_is_the_functions_fault(edge: Edge, returned: object) -> None:
    returning(edge, returned)
    answer = await edge.request("GET", "/")
    assert (answer.status, answer.body) == (502, b"Internal Server Error")


async def test_function_error_is_502(edge: Edge) -> None:
    async def failing(_: Invocation) -> InvokeResult:
        return result(b'{"errorMessage":"secret"}', Status.ERROR)

    edge.invoker.handler = failing
    answer = await edge.request("GET", "/")
    assert (answer.status, answer.body) == (502, b"Internal Server Error")


async def test_throttle_is_429_with_its_reason(edge: Edge) -> None:
    async def throttled(_: Invocation) -> bytes:
        raise TooManyRequestsException("ReservedFunctionConcurrentInvocationLimitExceeded", retry_after_s=1.2)

    edge.invoker.handler = throttled
    answer = await edge.request("GET", "/")
    assert answer.status == 429
    assert answer["Retry-After"] == "2"
    assert orjson.loads(answer.body) == {
        "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
        "Type": "User",
        "message": "Rate Exceeded.",
    }


async def test_what_the_host_cannot_run_says_what_to_install(edge: Edge) -> None:
    async def cannot(_: Invocation) -> bytes:
        raise InvalidRuntimeException("python3.9 is not on this host; install it with uv python install 3.9")

    edge.invoker.handler = cannot
    answer = await edge.request("GET", "/")
    assert answer.status == 502
    assert b"uv python install 3.9" in answer.body


async def test_unknown_id(edge: Edge) -> None:
    answer = await edge.request("GET", "/", {"Host": f"{'z' * 32}.lambda-url.{REGION}.localhost"})
    assert (answer.status, answer.body, answer["x-amzn-ErrorType"]) == (403, b'{"Message":null}', "AccessDeniedException")


@pytest.mark.parametrize(
    "changed",
    [
        function(policy=None),
        function(policy=Policy(statements=(BY_URL,), revision_id="1")),
        function(policy=Policy(statements=(VIA_URL,), revision_id="1")),
        function(auth_type="AWS_IAM"),
    ],
    ids=["no policy", "url action only", "invoke action only", "signature needed"],
)
async def test_forbidden(edge: Edge, changed: Function) -> None:
    assert (await edge.request("GET", "/")).status == 200
    edge.catalog.replace("echo", changed)
    answer = await edge.request("GET", "/")
    assert (answer.status, orjson.loads(answer.body)) == (403, {"Message": FORBIDDEN})
    assert answer["x-amzn-ErrorType"] == "AccessDeniedException"
    assert len(edge.invoker.invocations) == 1


async def test_a_change_is_seen_at_once(edge: Edge) -> None:
    edge.catalog.replace("echo", function(policy=None))
    assert (await edge.request("GET", "/")).status == 403
    edge.catalog.replace("echo", function())
    assert (await edge.request("GET", "/")).status == 200
    edge.catalog.replace("echo", None)
    assert (await edge.request("GET", "/")).body == b'{"Message":null}'


async def test_url_of_an_alias(edge: Edge) -> None:
    changed = function(qualifier="live")
    live = Alias(name="live", version="$LATEST", revision_id="1")
    edge.catalog.replace("echo", dataclasses.replace(changed, aliases={"live": live}))
    assert (await edge.request("GET", "/")).status == 200
    assert edge.invoker.invocations[-1].qualifier == "live"
    # the alias was deleted, and with it its policy; the URL stays (recorded)
    edge.catalog.replace("echo", dataclasses.replace(changed, policies={None: PUBLIC}))
    answer = await edge.request("GET", "/")
    assert (answer.status, orjson.loads(answer.body)) == (403, {"Message": FORBIDDEN})


@pytest.mark.parametrize(
    ("target", "raw_path", "query"),
    [
        (f"/_urls/{URL_ID}", "/", ""),
        (f"/_urls/{URL_ID}/", "/", ""),
        (f"/_urls/{URL_ID}/a%2Fb//c?x=%20", "/a%2Fb//c", "x=%20"),
        (f"/_urls/{URL_ID}?x=1", "/", "x=1"),
    ],
)
async def test_by_path_as_if_by_host(edge: Edge, target: str, raw_path: str, query: str) -> None:
    event = orjson.loads((await edge.request("GET", target, {"Host": "127.0.0.1:9000"})).body)
    assert (event["rawPath"], event["rawQueryString"]) == (raw_path, query)
    assert event["requestContext"]["http"]["path"] == raw_path
    assert event["requestContext"]["domainName"] == f"{URL_ID}.lambda-url.{REGION}.localhost"


async def test_host_in_capitals_and_on_any_domain(edge: Edge) -> None:
    event = orjson.loads((await edge.request("GET", "/", {"Host": f"{URL_ID.upper()}.Lambda-Url.eu-west-1.example.com"})).body)
    assert event["requestContext"]["apiId"] == URL_ID
    assert event["requestContext"]["domainName"] == f"{URL_ID}.lambda-url.eu-west-1.example.com"


async def test_callers_trace_goes_through(edge: Edge) -> None:
    given = "Root=1-65a145be-797c3178708174547ee8c103;Parent=5070df42a4e144f8;Sampled=1"
    answer = await edge.request("GET", "/", {"X-Amzn-Trace-Id": given})
    assert answer["X-Amzn-Trace-Id"] == given == edge.invoker.invocations[0].trace_id


async def test_function_gets_a_whole_trace_header(edge: Edge) -> None:
    answer = await edge.request("GET", "/", {"X-Amzn-Trace-Id": "nonsense"})
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", answer["X-Amzn-Trace-Id"])
    trace = edge.invoker.invocations[0].trace_id
    assert re.fullmatch(re.escape(answer["X-Amzn-Trace-Id"]) + r";Parent=[0-9a-f]{16};Sampled=0", trace)


async def test_head_has_the_length_and_no_body(edge: Edge) -> None:
    returning(edge, {"statusCode": 200, "body": "hello"})
    client = await edge.connect()
    head = await client.request("HEAD", "/")
    assert (head.status, head["Content-Length"]) == (200, "5")
    assert (await client.request("GET", "/")).body == b"hello"
    await client.aclose()


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body(edge: Edge, status: int) -> None:
    returning(edge, {"statusCode": status, "body": "ignored"})
    client = await edge.connect()
    answer = await client.request("GET", "/")
    assert (answer.status, answer.get("Content-Length")) == (status, [])
    assert (await client.request("GET", "/")).status == status  # nothing of the body is on the wire
    await client.aclose()


async def test_body_in_chunks_has_a_length_in_the_event(edge: Edge) -> None:
    answer = await edge.request(
        "POST", "/", {"Transfer-Encoding": "chunked", "Content-Type": "text/plain"}, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    event = orjson.loads(answer.body)
    assert event["body"] == "abcde"
    assert event["headers"]["content-length"] == "5"
    assert "transfer-encoding" not in event["headers"]


async def test_compressed_body_reaches_the_function_as_it_is(edge: Edge) -> None:
    answer = await edge.request(
        "POST", "/", {"Content-Encoding": "gzip", "Content-Type": "application/json"}, b"\x1f\x8bnot really"
    )
    event = orjson.loads(answer.body)
    assert base64.b64decode(event["body"]) == b"\x1f\x8bnot really"


RULES = Cors(
    allow_credentials=True,
    allow_headers=("X-Custom", "Content-Type"),
    allow_methods=("GET", "POST"),
    allow_origins=("https://www.example.com",),
    expose_headers=("Date",),
    max_age_s=300,
)


async def test_preflight_needs_neither_function_nor_signature(edge: Edge) -> None:
    edge.catalog.replace("echo", function(cors=RULES, auth_type="AWS_IAM"))
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-custom"}
    answer = await edge.request("OPTIONS", "/", {"Origin": "https://www.example.com", **asked})
    assert answer.status == 200
    assert answer["Access-Control-Allow-Origin"] == "https://www.example.com"
    assert answer["Access-Control-Allow-Methods"] == "GET,POST"
    assert answer["Access-Control-Allow-Headers"] == "X-Custom,Content-Type"
    assert answer["Access-Control-Allow-Credentials"] == "true"
    assert answer["Access-Control-Max-Age"] == "300"
    refused = await edge.request("OPTIONS", "/", {"Origin": "https://evil.example", **asked})
    assert refused.get("Access-Control-Allow-Origin") == []
    assert not edge.invoker.invocations


async def test_rules_of_the_url_replace_the_functions_headers(edge: Edge) -> None:
    edge.catalog.replace("echo", function(cors=RULES))
    returning(edge, {"statusCode": 200, "headers": {"access-control-allow-origin": "*", "X-Mine": "1"}, "body": ""})
    answer = await edge.request("GET", "/", {"Origin": "https://www.example.com"})
    assert answer["Access-Control-Allow-Origin"] == "https://www.example.com"
    assert answer["Access-Control-Expose-Headers"] == "Date"
    assert answer["X-Mine"] == "1"
    assert (await edge.request("GET", "/", {"Origin": "https://evil.example"})).get("Access-Control-Allow-Origin") == []


async def test_without_rules_options_and_headers_are_the_functions(edge: Edge) -> None:
    returning(edge, {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*"}, "body": ""})
    answer = await edge.request("OPTIONS", "/", {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"})
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert len(edge.invoker.invocations) == 1
