"""The Telemetry API and the Logs API end to end: an extension from a layer, a listener in its sandbox, real time."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.real.product import Product, eventually, package

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
          "buffering": {"timeoutMs": 25}}
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

FUNCTION = """
import os, sys, time
print("function loads")
def handler(event, context):
    if event == "events":
        return open("/tmp/events").read() if os.path.exists("/tmp/events") else ""
    if event == "exit":
        os._exit(3)
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


def deploy(product: Product, layer: str, mode: str = "") -> str:
    return product.deploy(FUNCTION, Layers=[layer], Environment={"Variables": {"MODE": mode}}, Timeout=10, MemorySize=256)


def told(product: Product, name: str, until: str, times: int = 1) -> list[dict[str, Any]]:
    """What the listener was told, once `until` was told so many times."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [json.loads(line) for line in product.invoke(name, "events").value.splitlines()]
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
    records = {event["type"]: event["record"] for event in events}
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
