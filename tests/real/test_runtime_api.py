"""The Runtime API as a real runtime meets it: each call of `/2018-06-01`, its answers, and what the caller and the log get."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real import expected, extensions, scripted
from tests.real.product import PYTHON, Product, eventually, package
from tests.real.scripted import RUNTIME_API as API
from tests.real.scripted import Called, error

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]

JSON = {"Content-Type": "application/json"}
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


@pytest.fixture(scope="module")
def name(lambent_up: Any, lambda_client: Any) -> Iterator[str]:
    """One function for all tests that leave its runtime as it was."""
    product = Product(lambent_up, lambda_client)
    yield scripted.runtime(
        product, LoggingConfig={"LogFormat": "JSON", "SystemLogLevel": "DEBUG"}, TracingConfig={"Mode": "Active"}
    )
    product.clear()


def told(product: Product, name: str, *calls: Called) -> list[Any]:
    """What these calls were answered."""
    found: list[Any] = product.invoke(name, calls).value
    return found


def answering(product: Product, name: str, *calls: Called) -> tuple[Any, list[Any]]:
    """The answer of an invocation that one of the calls answers, and what all were answered."""
    answer = product.invoke(name, calls)
    eventually(lambda: product.sandboxes(name).keys() <= {"idle", "frozen"})  # else another one serves the next
    return answer, product.invoke(name, "seen").value


def usual(headers: dict[str, str]) -> dict[str, str]:
    """Without what differs each time."""
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", headers["lambda-runtime-aws-request-id"]
    )
    assert 8_000 < int(headers["lambda-runtime-deadline-ms"]) - time.time() * 1000 <= 10_000
    return {
        key: value for key, value in headers.items() if key not in ("lambda-runtime-aws-request-id", "lambda-runtime-deadline-ms")
    }


def test_next(product: Product, name: str) -> None:
    """Its headers, each only where it has a value."""
    arn = product.client.get_function_configuration(FunctionName=name)["FunctionArn"]
    answer = product.invoke(name, "event")
    status, headers, event = answer.value
    assert (status, event) == (200, '"event"')
    assert headers["lambda-runtime-aws-request-id"] == answer.request_id
    common = usual(headers)
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0", common.pop("lambda-runtime-trace-id"))
    common.pop("content-length")
    assert common == {"content-type": "application/json", "lambda-runtime-invoked-function-arn": arn}

    context = {"client": {"installation_id": "i"}, "custom": {"a": "ä"}, "env": {}}
    identity = {"cognitoIdentityId": "us-east-1:1", "cognitoIdentityPoolId": "us-east-1:2"}
    sent = {
        "X-Amz-Client-Context": base64.b64encode(json.dumps(context).encode()).decode(),
        "X-Amz-Cognito-Identity": json.dumps({**identity, "more": 1}),
        "X-Amzn-Trace-Id": TRACE,
    }
    for operation in ("2015-03-31/functions/{}/invocations", "2021-11-15/functions/{}/response-streaming-invocations"):
        path = f"/{operation.format(name)}?Qualifier=$LATEST"
        status, _, body = product.fetch(path, method="POST", body=b'"event"', headers=sent)
        assert status == 200
        _, headers, _ = json.loads(body if operation.startswith("2015") else body[body.index(b"[200") : body.rindex(b"]") + 1])
        headers = usual(headers)
        assert json.loads(headers.pop("lambda-runtime-client-context")) == context
        assert json.loads(headers.pop("lambda-runtime-cognito-identity")) == identity
        assert re.fullmatch(re.escape(TRACE) + ";Lineage=[0-9a-f]{8}:1", headers["lambda-runtime-trace-id"]), "and who was called"
        assert headers["lambda-runtime-invoked-function-arn"] == arn + ":$LATEST"


@pytest.mark.parametrize("wrong", ["no JSON", '"a text"', "[" * 5000])
def test_an_identity_that_is_none(product: Product, name: str, wrong: str) -> None:
    status, headers, body = product.fetch(
        f"/2015-03-31/functions/{name}/invocations", method="POST", body=b"1", headers={"X-Amz-Cognito-Identity": wrong}
    )
    assert (status, headers["x-amzn-errortype"]) == (400, "InvalidRequestContentException")
    assert json.loads(body)["message"] == "X-Amz-Cognito-Identity must be a valid JSON string."


def test_next_again_is_the_same_event(product: Product, name: str) -> None:
    """A runtime whose connection broke asks again."""
    calls: list[Called] = [("GET", f"{API}/invocation/next", {}, None)]
    answer = product.invoke(name, calls)
    ((status, headers, event),) = answer.value
    assert (status, headers["lambda-runtime-aws-request-id"], json.loads(event)) == (
        200,
        answer.request_id,
        json.loads(json.dumps(calls)),
    )


def test_a_response_counts_once_and_only_for_its_request(product: Product, name: str) -> None:
    answer, seen = answering(
        product,
        name,
        ("POST", f"{API}/invocation/8476a536-e9f4-11e8-9739-2dfe598c3fcd/response", {}, "0"),
        ("POST", f"{API}/invocation/ID/response", JSON, '"one"'),
        ("POST", f"{API}/invocation/ID/response", JSON, '"two"'),
        ("POST", f"{API}/invocation/ID/error", JSON, "{}"),
        ("POST", f"{API}/init/error", JSON, "{}"),
    )
    assert answer.value == "one"
    assert error(seen[0]) == (400, "InvalidRequestID", "Invalid request ID")
    assert (seen[1][0], json.loads(seen[1][2])) == (202, {"status": "OK"})
    for told_, wanted in zip(seen[2:], ("InvocationResponse", "InvocationErrorResponse", "InitError"), strict=True):
        message = f"State transition from ResponseSent to {wanted} failed for runtime. Error: State transition is not allowed"
        assert error(told_) == (403, "InvalidStateTransition", message)


def test_a_response_that_is_too_large(product: Product, name: str) -> None:
    limit = 6 * 1024 * 1024 + 100
    answer, seen = answering(product, name, ("POST", f"{API}/invocation/ID/response", {}, limit + 1))
    expected.too_large(answer)
    assert error(seen[0]) == (413, "RequestEntityTooLarge", f"Exceeded maximum allowed payload size ({limit} bytes).")
    answer, seen = answering(product, name, ("POST", f"{API}/invocation/ID/response", {}, limit))
    assert (len(answer.payload), seen[0][0]) == (limit, 202)


def test_a_response_mode_that_is_none(product: Product, name: str) -> None:
    mode = {"Lambda-Runtime-Function-Response-Mode": "buffered", "x-answers": "1"}
    answer, seen = answering(product, name, ("POST", f"{API}/invocation/ID/response", mode, "1"))
    assert error(seen[0]) == (400, "InvalidFunctionResponseMode", "Invalid function response mode")
    assert answer.value == {"errorType": "Runtime.InvalidResponseModeHeader", "errorMessage": "Invalid function response mode"}
    streaming = {"Lambda-Runtime-Function-Response-Mode": "streaming"}
    answer, seen = answering(product, name, ("POST", f"{API}/invocation/ID/response", streaming, '"whole"'))
    assert (answer.value, seen[0][0]) == ("whole", 202)


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ("Runtime.Mine", "Runtime.Mine"),
        ("Function.Mine", "Function.Mine"),
        ("Function.mine", "Function.Unknown"),
        ("ValueError", "Runtime.Unknown"),
        (None, "Runtime.Unknown"),
    ],
)
def test_an_error_and_its_type(product: Product, name: str, said: str | None, counts: str) -> None:
    """The caller gets the runtime's own document; the platform only takes a type from AWS's name spaces."""
    document = {"errorMessage": "m", "errorType": "Whatever", "stackTrace": ["a", "b"]}
    headers = {} if said is None else {"Lambda-Runtime-Function-Error-Type": said}
    answer, seen = answering(product, name, ("POST", f"{API}/invocation/ID/error", headers, json.dumps(document)))
    assert (answer.function_error, answer.value) == ("Unhandled", document)
    assert (seen[0][0], json.loads(seen[0][2])) == (202, {"status": "OK"})
    events = {event["type"]: event["record"] for event in map(json.loads, answer.log.splitlines())}
    for kind in ("platform.runtimeDone", "platform.report"):
        assert (events[kind]["status"], events[kind]["errorType"]) == ("error", counts)


def test_the_cause_of_an_error_is_not_the_callers(product: Product, name: str) -> None:
    """By content type it is part of the document, by header it is beside it."""
    cause = {"working_directory": "/", "exceptions": [], "paths": []}
    document = {"errorMessage": "m", "errorType": "T", "stackTrace": []}
    mixed = (
        "POST",
        f"{API}/invocation/ID/error",
        {"Content-Type": "application/vnd.aws.lambda.error.cause+json"},
        json.dumps(document | cause),
    )
    assert answering(product, name, mixed)[0].value == document
    beside = {"Lambda-Runtime-Function-XRay-Error-Cause": json.dumps(cause)}
    assert answering(product, name, ("POST", f"{API}/invocation/ID/error", beside, json.dumps(document)))[0].value == document


def test_the_other_paths(product: Product, name: str) -> None:
    found = told(
        product,
        name,
        ("GET", "/2018-06-01/ping", {}, None),
        ("GET", f"{API}/restore/next", {}, None),
        ("POST", f"{API}/restore/error", JSON, "{}"),
        ("GET", f"{API}/nothing", {}, None),
        ("POST", f"{API}/invocation/next", {}, None),
        ("GET", f"{API}/invocation/ID/response", {}, None),
        ("PUT", "/2022-07-01/telemetry", JSON, "{}"),
        ("PUT", "/2020-08-15/logs", JSON, "{}"),
    )
    assert [(status, body) for status, _, body in found[:2]] == [(200, "pong"), (200, "")]
    assert error(found[2])[:2] == (403, "InvalidStateTransition")
    assert (found[3][0], found[3][2]) == (404, "404 page not found\n")
    assert [(status, headers["allow"]) for status, headers, _ in found[4:6]] == [(405, "GET"), (405, "POST")]
    assert error(found[6]) == (202, "Telemetry.NotSupported", "Telemetry API is not supported")
    assert error(found[7]) == (202, "Logs.NotSupported", "Logs API is not supported")


def test_calls_before_init_is_over(product: Product) -> None:
    """Nothing can be answered before there is an event; an init error is said once, and is the end."""
    document = {"errorMessage": "no key", "errorType": "Whatever", "stackTrace": []}
    name = scripted.runtime(
        product,
        [
            ("POST", f"{API}/invocation/8476a536-e9f4-11e8-9739-2dfe598c3fcd/response", {}, "0"),
            ("POST", f"{API}/init/error", {"Lambda-Runtime-Function-Error-Type": "Runtime.NoKey"}, json.dumps(document)),
            ("POST", f"{API}/init/error", {"Lambda-Runtime-Function-Error-Type": "Runtime.Again"}, "{}"),
        ],
    )
    answer = product.invoke(name)
    assert (answer.function_error, answer.value) == ("Unhandled", document)
    log = "\n".join(product.log(name))
    message = "State transition from InitError to Ready failed for runtime. Error: State transition is not allowed"
    refusal = json.dumps({"errorMessage": message, "errorType": "InvalidStateTransition"}, separators=(",", ":"))
    assert f"refused: 403 {refusal}\n" in log
    for phase in ("init", "invoke"):
        assert re.search(
            rf"INIT_REPORT Init Duration: [\d.]+ ms\tPhase: {phase}\tStatus: error\tError Type: Runtime.NoKey\n", log
        )
    assert re.search(rf"REPORT RequestId: {answer.request_id}\t.*\tStatus: error\tError Type: Runtime.NoKey", log)


def test_an_answer_that_is_too_late(product: Product) -> None:
    """Where there are extensions a function is told to end, and has the time to try."""
    if "python" not in extensions.LANGUAGES:
        pytest.skip("no Python for extensions")
    code = """
import http.client, os, signal, time
def late(*_):
    api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    api.request("POST", f"/2018-06-01/runtime/invocation/{request_id}/response", b"1")
    answer = api.getresponse()
    print("told", answer.status, answer.read().decode(), flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, late)
def handler(event, context):
    global request_id
    request_id = context.aws_request_id
    time.sleep(60)
"""
    name = extensions.deploy(product, code, {"agent": extensions.PYTHON}, Timeout=1)
    expected.TIMED_OUT(product.invoke(name))
    refusal = json.dumps({"errorMessage": "Invoke timeout", "errorType": "InvokeTimeout"}, separators=(",", ":"))
    expected.eventually_logged(product, name, f"told 410 {refusal}")


def test_where_a_bootstrap_is_looked_for(product: Product) -> None:
    """The function's own goes before a layer's, and without either the error says where it was looked for."""
    says = "#!/bin/sh\necho from {} >&2\nexec /usr/bin/env python3 /opt/own\n"
    files = {"bootstrap": says.format("the layer"), "own": scripted.RUNTIME}
    arn = product.client.publish_layer_version(LayerName="lookup", Content={"ZipFile": package(files)})["LayerVersionArn"]
    settings: dict[str, Any] = {"Runtime": "provided.al2023", "Handler": "any", "Layers": [arn], "Timeout": 10}
    for code, who in (({"bootstrap": says.format("the function")}, "the function"), ({"data": ""}, "the layer")):
        name = product.deploy(code, **settings)
        assert product.invoke(name, "event").value[0] == 200
        assert f"from {who}" in product.log(name)
    name = product.deploy({"data": ""}, Runtime="provided.al2023", Handler="any")
    expected.platform_says("Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")(
        product.invoke(name)
    )


def test_a_traced_invocation_is_told_by_its_log(product: Product) -> None:
    """Whose caller has sampled it, of a function with TracingConfig Active."""
    code = "def handler(event, context):\n    return event\n"
    line = "XRAY TraceId: 1-5759e988-bd862e3fe1be46a994272793\tSegmentId: 53995c3f42cd8ad8\tSampled: true\t"
    for mode, wanted in (("Active", [line]), ("PassThrough", [])):
        name = product.deploy(code, TracingConfig={"Mode": mode}, Runtime=PYTHON)
        for trace in (TRACE, TRACE.replace("Sampled=1", "Sampled=0")):
            product.fetch(
                f"/2015-03-31/functions/{name}/invocations", method="POST", body=b"1", headers={"X-Amzn-Trace-Id": trace}
            )
        log = product.log(name)
        assert [entry for entry in log if entry.startswith("XRAY")] == wanted
        if wanted:
            assert log[log.index(line) - 1].startswith("REPORT RequestId: ")
