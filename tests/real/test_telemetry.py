"""The Telemetry API and the Logs API end to end: an extension from a layer, a listener in its sandbox, real time."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.product import PYTHON, Product, eventually, package

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]

#: Listens at sandbox.localdomain:8080 as its environment says, and keeps what comes in /tmp/events.
EXTENSION = r"""#!/usr/bin/env python3
import http.server, json, os, socket, sys, threading, time, urllib.request
API = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"]
MODE = os.environ.get("MODE", "")

def call(path, body=None, method="GET", **headers):
    request = urllib.request.Request(API + path, body, {k.replace("_", "-"): v for k, v in headers.items()}, method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.headers, answer.read()

failures = [3 if MODE == "fails" else 0]

def keep(events):
    with open("/tmp/events", "a") as file:
        for event in events:
            file.write(json.dumps(event) + "\n")
        file.write(json.dumps({"type": "batch", "size": len(events)}) + "\n")

class Listener(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if MODE == "slow":
            time.sleep(600)
        if MODE == "closes":
            self.close_connection = True
            return
        failures[0] -= 1
        if failures[0] >= 0:
            self.send_response(500)
        else:
            keep(json.loads(body))
            self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass

def lines():
    server = socket.create_server(("", 8080))
    connection, _ = server.accept()
    for line in connection.makefile("rb"):
        keep([json.loads(line)])

name = os.path.basename(sys.argv[0])
headers, _ = call("/2020-01-01/extension/register", b'{"events":["INVOKE","SHUTDOWN"]}', "POST", Lambda_Extension_Name=name)
own = {"Lambda_Extension_Identifier": headers["Lambda-Extension-Identifier"]}
if MODE == "tcp":
    threading.Thread(target=lines, daemon=True).start()
    destination = {"protocol": "TCP", "port": 8080}
elif MODE == "nobody":
    destination = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8081/"}
else:
    server = http.server.ThreadingHTTPServer(("sandbox.localdomain", 8080), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    destination = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/telemetry"}
wanted = {"schemaVersion": "2022-12-13", "types": ["platform", "function", "extension"], "destination": destination,
          "buffering": {"timeoutMs": 25}, **json.loads(os.environ.get("WANTED", "{}"))}
path = "/2022-07-01/telemetry"
if MODE == "logs":
    path, wanted["schemaVersion"] = "/2020-08-15/logs", "2021-03-18"
call(path, json.dumps(wanted).encode(), "PUT", **own)
print("extension says hello", flush=True)
while json.loads(call("/2020-01-01/extension/event/next", **own)[1])["eventType"] != "SHUTDOWN":
    if MODE == "floods":
        for _ in range(2000):
            os.write(1, b"x" * 999 + b"\n")
time.sleep(0.3)  # for what is told of the end
"""

FUNCTION = r"""
import os, sys, time
print("function loads")
def handler(event, context):
    if event == "events":
        return open("/tmp/events").read() if os.path.exists("/tmp/events") else ""
    if event == "exit":
        os._exit(3)
    if event == "raise":
        raise ValueError("as asked")
    if event == "hang":
        time.sleep(60)
    if isinstance(event, int) and event > 1:
        sys.stdout.write("".join(f"line {number}\n" for number in range(event)))
    print("function works")
    return "done"
"""


@pytest.fixture
def layer(product: Product) -> Iterator[str]:
    name = f"l-{uuid.uuid4().hex[:12]}"
    content = {"ZipFile": package({"extensions/listener": EXTENSION})}
    made = product.client.publish_layer_version(LayerName=name, Content=content)
    yield made["LayerVersionArn"]
    product.client.delete_layer_version(LayerName=name, VersionNumber=made["Version"])


def deploy(product: Product, layer: str, mode: str = "", wanted: dict[str, Any] | None = None, **settings: Any) -> str:
    """`wanted`: members of the subscription that differ from the usual."""
    variables = {"MODE": mode, **({"WANTED": json.dumps(wanted)} if wanted else {})}
    usual: dict[str, Any] = {"Layers": [layer], "Environment": {"Variables": variables}, "Timeout": 10, "MemorySize": 256}
    return product.deploy(FUNCTION, **{**usual, **settings})


def told(product: Product, name: str, until: str, times: int = 1) -> list[dict[str, Any]]:
    """What the listener was told, once `until` was told so many times; after each batch its size, as an event."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        whole, _, _ = product.invoke(name, "events").value.rpartition("\n")  # what follows is being written
        found[:] = [json.loads(line) for line in whole.splitlines()]
        return [event["type"] for event in found].count(until) >= times

    eventually(there)
    return found


@pytest.mark.parametrize("mode", ["", "tcp", "fails"])
def test_a_listener_is_told_of_everything(product: Product, layer: str, mode: str) -> None:
    name = deploy(product, layer, mode)
    answer = product.invoke(name, 1)
    assert answer.value == "done"
    events = told(product, name, "platform.report")
    kinds = [event["type"] for event in events]
    for kind in (
        "initStart",
        "telemetrySubscription",
        "initRuntimeDone",
        "extension",
        "initReport",
        "start",
        "runtimeDone",
        "report",
    ):
        assert f"platform.{kind}" in kinds, kinds
    records = {event["type"]: event["record"] for event in events if "record" in event}
    assert [event["record"] for event in events if event["type"] == "function"][:2] == ["function loads", "function works"]
    assert "extension says hello" in [event["record"] for event in events if event["type"] == "extension"]
    assert records["platform.extension"] == {"name": "listener", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}
    first = next(event["record"] for event in events if event["type"] == "platform.report")
    assert first["requestId"] == answer.request_id
    billed = f"Billed Duration: {first['metrics']['billedDurationMs']} ms\t"
    assert any(line.startswith(f"REPORT RequestId: {answer.request_id}") and billed in line for line in product.log(name))


def test_the_logs_api(product: Product, layer: str) -> None:
    name = deploy(product, layer, "logs")
    product.invoke(name, 1)
    kinds = [event["type"] for event in told(product, name, "platform.end")]
    assert {"platform.logsSubscription", "platform.extension", "platform.start", "platform.runtimeDone", "function"} <= set(kinds)
    assert "platform.initStart" not in kinds


@pytest.mark.parametrize("mode", ["slow", "closes", "nobody", "floods"])
def test_a_bad_listener_delays_nobody(product: Product, layer: str, mode: str) -> None:
    name = deploy(product, layer, mode)
    product.invoke(name, 1)
    began_s = time.monotonic()
    for _ in range(20):
        assert product.invoke(name, 1).value == "done"
    assert time.monotonic() - began_s < 10
    eventually(lambda: product.sandboxes(name) == {"frozen": 1})
    assert product.invoke(name, 1).value == "done"


def test_a_new_listener_after_the_environment_was_reset(product: Product, layer: str) -> None:
    name = deploy(product, layer)
    product.invoke(name, 1)
    assert product.invoke(name, "exit").value["errorType"] == "Runtime.ExitError"
    eventually(lambda: product.sandboxes(name) == {"frozen": 1})  # its shutdown was not cut short by another event
    events = told(product, name, "platform.initReport", times=2)
    starts = [event["record"]["phase"] for event in events if event["type"] == "platform.initStart"]
    assert starts == ["init", "invoke"]
    broken = [
        event["record"] for event in events if event["type"] == "platform.runtimeDone" and event["record"]["status"] == "failure"
    ]
    assert [record["errorType"] for record in broken] == ["Runtime.ExitError"], "told before the extension had to go"


def first(events: list[dict[str, Any]], kind: str, **members: Any) -> Any:
    """The record of the first event of a kind that has these members."""
    records = (event["record"] for event in events if event["type"] == kind)
    return next(record for record in records if not members or members.items() <= record.items())


def durations(record: Any) -> Any:
    """The same without what is measured: each such number becomes its type."""
    if isinstance(record, dict):
        measured = ("durationMs", "initDurationMs", "billedDurationMs", "maxMemoryUsedMB", "start")
        return {key: type(value).__name__ if key in measured else durations(value) for key, value in record.items()}
    return [durations(one) for one in record] if isinstance(record, list) else record


def test_every_record_has_the_members_that_awss_has(product: Product, layer: str) -> None:
    """Of an Init and an invocation that go well, as in AWS's schema of 2022-12-13."""
    name = deploy(product, layer)
    answer = product.invoke(name, 1)
    events = told(product, name, "platform.report")
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"]) for event in events if "time" in event)
    assert all(set(event) == {"time", "type", "record"} for event in events if event["type"] != "batch")
    start = first(events, "platform.initStart")
    version = start.pop("runtimeVersionArn")
    assert re.fullmatch(r"arn:aws:lambda:us-east-1::runtime:[0-9a-f]{64}", version)
    stream = start.pop("instanceId")
    assert start == {
        "initializationType": "on-demand",
        "phase": "init",
        "runtimeVersion": f"python:{PYTHON.removeprefix('python')}.v1",
        "functionName": name,
        "functionVersion": "$LATEST",
        "instanceMaxMemory": 256 << 20,
    }
    assert "[$LATEST]" in stream
    types = ["platform", "function", "extension"]
    assert first(events, "platform.telemetrySubscription") == {"name": "listener", "state": "Subscribed", "types": types}
    done = {"initializationType": "on-demand", "phase": "init", "status": "success"}
    assert first(events, "platform.initRuntimeDone") == done
    assert durations(first(events, "platform.initReport")) == {**done, "metrics": {"durationMs": "float"}}
    trace = first(events, "platform.start")["tracing"]
    assert trace["type"] == "X-Amzn-Trace-Id"
    common = {"requestId": answer.request_id, "tracing": trace}
    assert first(events, "platform.start") == {**common, "version": "$LATEST"}
    spans = [
        {"name": span, "start": "str", "durationMs": "float"}
        for span in ("responseLatency", "responseDuration", "runtimeOverhead")
    ]
    assert durations(first(events, "platform.runtimeDone")) == {
        **common,
        "status": "success",
        "metrics": {"durationMs": "float", "producedBytes": len('"done"')},
        "spans": spans,
    }
    used = {"durationMs": "float", "billedDurationMs": "int", "maxMemoryUsedMB": "int", "initDurationMs": "float"}
    assert durations(first(events, "platform.report")) == {
        **common,
        "status": "success",
        "metrics": {**used, "memorySizeMB": 256},
        "spans": [{"name": "extensionOverhead", "start": "str", "durationMs": "float"}],
    }
    assert "TELEMETRY\tName: listener\tState: Subscribed\tTypes: [Platform, Function, Extension]" in product.log(name)


@pytest.mark.parametrize(
    ("event", "status", "error_type"),
    [("raise", "error", "Runtime.Unknown"), ("exit", "failure", "Runtime.ExitError"), ("hang", "timeout", "Sandbox.Timedout")],
    ids=["raise", "exit", "hang"],
)
def test_how_an_invocation_ended_is_told(product: Product, layer: str, event: str, status: str, error_type: str) -> None:
    """Also one that ends its environment, whose extensions go with it: before they have to."""
    name = deploy(product, layer, Timeout=2)
    product.invoke(name, 1)
    answer = product.invoke(name, event)
    assert answer.function_error == "Unhandled"
    if event != "raise":
        eventually(lambda: product.sandboxes(name) == {"frozen": 1})  # its shutdown was not cut short by another event
    events = told(product, name, "platform.report", times=2)
    ended = {"requestId": answer.request_id, "status": status, "errorType": error_type}
    done, report = first(events, "platform.runtimeDone", **ended), first(events, "platform.report", **ended)
    assert set(done) == {"requestId", "status", "errorType", "metrics", "spans", "tracing"}
    assert set(report) == {"requestId", "status", "errorType", "metrics", "spans", "tracing"}
    assert [span["name"] for span in report["spans"]] == (["extensionOverhead"] if event == "raise" else [])


def test_the_logs_api_is_told_of_faults_and_ends(product: Product, layer: str) -> None:
    name = deploy(product, layer, "logs")
    product.invoke(name, 1)
    answer = product.invoke(name, "exit")
    eventually(lambda: product.sandboxes(name) == {"frozen": 1})
    events = told(product, name, "platform.fault")
    assert first(events, "platform.logsSubscription") == {
        "name": "listener",
        "state": "Subscribed",
        "types": ["platform", "function", "extension"],
    }
    fault = next(event["record"] for event in events if event["type"] == "platform.fault")
    assert fault == f"RequestId: {answer.request_id} Error: Runtime exited with error: exit status 3"
    assert {"requestId": answer.request_id} in [event["record"] for event in events if event["type"] == "platform.end"]
    assert "LOGS\tName: listener\tState: Subscribed\tTypes: [Platform, Function, Extension]" in product.log(name)


@pytest.mark.parametrize("schema", ["2022-07-01", "2022-12-13", "2025-01-29"])
def test_only_what_was_asked_for_is_told(product: Product, layer: str, schema: str) -> None:
    name = deploy(product, layer, wanted={"types": ["function"], "schemaVersion": schema})
    product.invoke(name, 1)
    events = told(product, name, "function", times=2)
    assert {event["type"] for event in events} == {"function", "batch"}


def test_a_batch_is_full_by_items(product: Product, layer: str) -> None:
    """It is sent when it is, and what is left when the environment comes to rest, long before the timeout."""
    name = deploy(product, layer, wanted={"types": ["function"], "buffering": {"maxItems": 1000, "timeoutMs": 30_000}})
    product.invoke(name, 1500)
    eventually(lambda: product.sandboxes(name) == {"frozen": 1})  # who asks all the time keeps it from rest
    events = told(product, name, "function", times=1500)
    sizes = [event["size"] for event in events if event["type"] == "batch"]
    assert max(sizes) == 1000
    lines = [event["record"] for event in events if event["type"] == "function" and event["record"].startswith("line ")]
    assert lines == [f"line {number}" for number in range(1500)]


def test_a_flood_is_counted(product: Product, layer: str) -> None:
    """What is more than two batches is dropped, and the listener is told how much; the function's own log has all of it."""
    name = deploy(product, layer, "floods")
    product.invoke(name, 1)
    events = told(product, name, "platform.logsDropped")
    dropped = first(events, "platform.logsDropped")
    assert set(dropped) == {"reason", "droppedRecords", "droppedBytes"}
    assert dropped["reason"] == "Consumer seems to have fallen behind as it has not acknowledged receipt of logs."
    assert 0 < dropped["droppedRecords"] <= 2000 * (len(events) + 1)
    assert dropped["droppedBytes"] > 500 * dropped["droppedRecords"]
