"""Invoke over a real connection. Statuses and headers: botocore's model. Texts: recorded from AWS on 24 November 2025."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.errors import TooManyRequestsException
from gateway.invocation import Invocation, InvokeResult
from sandbox.outcome import Status
from tests.wire.edge import ACCOUNT, REGION, Answer, Edge, function, result, serving

PATH = "/2015-03-31/functions/echo/invocations"


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with serving(tmp_path, function()) as edge:
        yield edge


async def call(edge: Edge, body: bytes = b"", path: str = PATH, headers: Mapping[str, str] | None = None) -> Answer:
    return await edge.request("POST", path, {"Host": "127.0.0.1:9000", **(headers or {})}, body)


def error(answer: Answer) -> tuple[int, str, str]:
    body: dict[str, Any] = orjson.loads(answer.body)
    return answer.status, answer["x-amzn-ErrorType"], body.get("message") or body["Message"]


async def test_request_response(edge: Edge) -> None:
    answer = await call(edge, b'{"a": [1, 2.50]}')
    assert (answer.status, answer.body) == (200, b'{"a": [1, 2.50]}')
    assert answer["Content-Type"] == "application/json"
    assert answer["X-Amz-Executed-Version"] == "$LATEST"
    assert answer["x-amzn-RequestId"] == edge.invoker.invocations[0].request_id
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", answer["X-Amzn-Trace-Id"])
    assert answer.get("X-Amz-Function-Error") == answer.get("X-Amz-Log-Result") == []


async def test_empty_body_is_an_empty_event(edge: Edge) -> None:
    await call(edge)
    assert edge.invoker.invocations[0].payload == b"{}"


async def test_function_error_is_a_200_with_a_header(edge: Edge) -> None:
    async def failing(_: Invocation) -> InvokeResult:
        return result(b'{"errorMessage":"x"}', Status.TIMEOUT)

    edge.invoker.handler = failing
    answer = await call(edge)
    assert (answer.status, answer["X-Amz-Function-Error"], answer.body) == (200, "Unhandled", b'{"errorMessage":"x"}')


async def test_log_tail(edge: Edge) -> None:
    async def logging(invocation: Invocation) -> InvokeResult:
        return result(b"null", log_tail=b"START\nEND\n" if invocation.want_log_tail else None)

    edge.invoker.handler = logging
    assert base64.b64decode((await call(edge, headers={"X-Amz-Log-Type": "Tail"}))["X-Amz-Log-Result"]) == b"START\nEND\n"
    assert (await call(edge, headers={"X-Amz-Log-Type": "None"})).get("X-Amz-Log-Result") == []


async def test_dry_run(edge: Edge) -> None:
    answer = await call(edge, b"{}", headers={"X-Amz-Invocation-Type": "DryRun"})
    assert (answer.status, answer.body, answer.get("X-Amz-Executed-Version")) == (204, b"", [])
    assert not edge.invoker.invocations
    missing = await call(edge, path=PATH.replace("echo", "nope"), headers={"X-Amz-Invocation-Type": "DryRun"})
    assert error(missing)[:2] == (404, "ResourceNotFoundException")


async def test_event_is_refused_and_never_pretended(edge: Edge) -> None:
    answer = await call(edge, b"{}", headers={"X-Amz-Invocation-Type": "Event"})
    assert answer.status == 501
    assert not edge.invoker.invocations


async def test_durable_execution_is_refused(edge: Edge) -> None:
    assert (await call(edge, headers={"X-Amz-Durable-Execution-Name": "x"})).status == 501


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        (
            {"X-Amz-Invocation-Type": "Sometimes"},
            r"1 validation error detected: Value 'Sometimes' at 'invocationType' failed to satisfy constraint: Member must .*",
        ),
        ({"X-Amz-Log-Type": "All"}, r"1 validation error detected: Value 'All' at 'logType' .*"),
        ({"X-Amz-Invocation-Type": "x", "X-Amz-Log-Type": "y"}, r"2 validation errors detected: .*"),
    ],
)
async def test_parameters_that_the_model_refuses(edge: Edge, headers: dict[str, str], text: str) -> None:
    status, code, message = error(await call(edge, headers=headers))
    assert (status, code) == (400, "ValidationException")
    assert re.fullmatch(text, message), message


@pytest.mark.parametrize(
    ("name", "qualifier"),
    [
        ("echo", None),
        (f"{ACCOUNT}:function:echo", None),
        (f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:echo", None),
        (f"arn%3Aaws%3Alambda%3A{REGION}%3A{ACCOUNT}%3Afunction%3Aecho", None),
        ("echo:$LATEST", "$LATEST"),
        ("echo%3A%24LATEST", "$LATEST"),
    ],
)
async def test_forms_of_the_name(edge: Edge, name: str, qualifier: str | None) -> None:
    assert (await call(edge, path=PATH.replace("echo", name))).status == 200
    assert (edge.invoker.invocations[0].function_name, edge.invoker.invocations[0].qualifier) == ("echo", qualifier)


async def test_qualifier(edge: Edge) -> None:
    assert (await call(edge, path=PATH + "?Qualifier=$LATEST")).status == 200
    assert edge.invoker.invocations[0].qualifier == "$LATEST"
    status, code, message = error(await call(edge, path=PATH + "?Qualifier=7"))
    assert (status, code) == (404, "ResourceNotFoundException")
    assert message == f"Function not found: arn:aws:lambda:{REGION}:{ACCOUNT}:function:echo:7"
    status, code, message = error(await call(edge, path=PATH + "?Qualifier=invalid-qualifier-with-?-char"))
    assert (status, code) == (400, "ValidationException")
    assert message == (
        "1 validation error detected: Value 'invalid-qualifier-with-?-char' at 'qualifier' failed to satisfy constraint: "
        r"Member must satisfy regular expression pattern: \$(LATEST(\.PUBLISHED)?)|[a-zA-Z0-9-_$]+"
    )
    status, code, message = error(await call(edge, path=PATH.replace("echo", "echo:1") + "?Qualifier=2"))
    assert message == "The derived qualifier from the function name does not match the specified qualifier."


async def test_name_that_is_none(edge: Edge) -> None:
    name = f"arn:aws:lambda:{REGION}:123400000000@function:myfn"
    status, code, message = error(await call(edge, path=PATH.replace("echo", name)))
    assert (status, code) == (400, "ValidationException")
    assert message.startswith(f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: ")


@pytest.mark.parametrize(
    "body",
    [b"n\x87r\x9e\xe9\xb5\xd7I\xee\x9bmt", b"\x99\xeb,j\x07\xa1zYh", b"{", b"{'a': 1}", b"NaN", b"[" * 100_000, b" ", b'"\xff"'],
)
async def test_what_is_not_json(edge: Edge, body: bytes) -> None:
    status, code, message = error(await call(edge, body))
    assert (status, code) == (400, "InvalidRequestContentException")
    assert message.startswith("Could not parse request body into json: Could not parse payload into json: ")
    assert not edge.invoker.invocations


async def test_recorded_position_of_a_wrong_byte(edge: Edge) -> None:
    _, _, message = error(await call(edge, b"n\x87r\x9e\xe9\xb5\xd7I\xee\x9bmt"))
    assert message == (
        "Could not parse request body into json: Could not parse payload into json: Invalid UTF-8 start byte 0x87\n"
        " at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); line: 1, column: 3]"
    )


@pytest.mark.parametrize("body", [b'"\\ud800"', b"1e999", b"12345678901234567890123", b' {"a":1}\n', b"null"])
async def test_json_that_some_parsers_refuse(edge: Edge, body: bytes) -> None:
    assert (await call(edge, body)).body == body


async def test_client_context(edge: Edge) -> None:
    context = {"custom": {"tést": "\n"}}
    header = base64.b64encode(json.dumps(context, indent=1).encode()).decode()
    assert (await call(edge, headers={"X-Amz-Client-Context": header})).status == 200
    got = edge.invoker.invocations[0].client_context
    assert got is not None
    assert json.loads(got) == context
    assert got.isascii()
    assert got.isprintable()


@pytest.mark.parametrize(
    "header", ["%%%", "bm90IGpzb24=", "WzFd", "e30", base64.b64encode(b'{"a":"' + b"x" * 2700 + b'"}').decode()]
)
async def test_client_context_that_is_none(edge: Edge, header: str) -> None:
    status, code, message = error(await call(edge, headers={"X-Amz-Client-Context": header}))
    assert (status, code) == (400, "InvalidRequestContentException")
    assert message.startswith("Client context must be ")


async def test_throttle(edge: Edge) -> None:
    async def throttled(_: Invocation) -> bytes:
        raise TooManyRequestsException("ConcurrentInvocationLimitExceeded")

    edge.invoker.handler = throttled
    answer = await call(edge)
    assert (answer.status, answer["x-amzn-ErrorType"]) == (429, "TooManyRequestsException")
    assert orjson.loads(answer.body)["Reason"] == "ConcurrentInvocationLimitExceeded"


async def test_other_operations_are_the_apis(edge: Edge) -> None:
    for method, path in [
        ("GET", PATH),
        ("POST", "/2015-03-31/functions"),
        ("POST", "/2014-11-13/functions/echo/invoke-async"),
        ("GET", "/2021-11-15/functions/echo/response-streaming-invocations"),
        ("POST", "/2021-11-15/functions/a/b/response-streaming-invocations"),
        ("POST", "/2015-03-31/functions/a/b/invocations"),
        ("GET", "/_code/abc"),
        ("GET", "/"),
    ]:
        assert (await edge.request(method, path, {"Host": "127.0.0.1"})).body == b"0 bytes"
        assert edge.api.asked[-1] == (method, path)
