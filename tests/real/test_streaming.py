"""Response streaming end to end: a custom runtime, real sandboxes, boto3's decoder and plain HTTP clients."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Family
from tests.real.product import Product, connected, eventually
from tests.real.streamer import BOOTSTRAP, now_ns

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]

MB = 1_000_000

Get = Callable[[str], http.client.HTTPResponse]


@pytest.fixture
def name(product: Product) -> str:
    return product.deploy({"bootstrap": BOOTSTRAP}, Runtime="provided.al2023", Handler="any", Timeout=3, MemorySize=256)


def streamed(product: Product, name: str, do: str, **more: Any) -> tuple[bytes, dict[str, Any]]:
    """All that came as chunks, and the last event."""
    answer = product.client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps({"do": do}), **more)
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    data = b""
    last: dict[str, Any] = {}
    for event in answer["EventStream"]:
        assert not last, "InvokeComplete is the last"
        data += event.get("PayloadChunk", {}).get("Payload", b"")
        last = event.get("InvokeComplete", last)
    return data, last


def url(product: Product, name: str) -> str:
    product.publish_url(name, InvokeMode="RESPONSE_STREAM")
    return product.url_path(name)


@pytest.fixture
def get(product: Product) -> Iterator[Get]:
    """Asks for a path, on a connection of its own; the answer can be read while it comes."""
    with contextlib.ExitStack() as opened:

        def ask(path: str) -> http.client.HTTPResponse:
            connection = http.client.HTTPConnection(urllib.parse.urlsplit(product.instance.endpoint).netloc, timeout=30)
            opened.callback(connection.close)
            connection.request("GET", path)
            return opened.enter_context(connection.getresponse())

        yield ask


def resident(pid: int, what: str) -> int:
    """Bytes of memory that a process has (VmRSS), or had at most since `forget_peak` (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def test_pieces_come_one_by_one(product: Product, name: str) -> None:
    answer = product.client.invoke_with_response_stream(FunctionName=name, Payload=b'{"do":"lines=3"}', LogType="Tail")
    came: list[tuple[float, bytes]] = []
    last: dict[str, Any] = {}
    for event in answer["EventStream"]:
        if "PayloadChunk" in event:
            came.append((time.monotonic(), event["PayloadChunk"]["Payload"]))
        last = event.get("InvokeComplete", last)
    assert [data for _, data in came] == [b"line 0\n", b"line 1\n", b"line 2\n"]
    assert came[1][0] - came[0][0] > 0.1
    log = base64.b64decode(last["LogResult"]).decode()
    assert last.keys() == {"LogResult"}
    assert "ended with 202\n" in log or "REPORT RequestId" in log


def test_first_byte_is_there_before_the_handler_ends(product: Product, get: Get, name: str) -> None:
    path = url(product, name)
    latencies, early = [], []
    for _ in range(5):
        response = get(path + "?clock=0.3")
        first = int(response.read1())
        came = now_ns()
        latencies.append((came - first) / 1e6)
        early.append(came < int(response.read()))  # on a busy machine we may be late ourselves
    print(f"first byte after the first write: {sorted(latencies)[2]:.2f} ms")
    assert any(early), "the handler went on after its first byte was here"


def test_url_with_a_prelude(product: Product, get: Get, name: str) -> None:
    response = get(url(product, name) + "?prelude=0.1")
    assert (response.status, response.headers["X-Tea"], response.headers["Set-Cookie"]) == (418, "pot", "a=b")
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.read() == b"short and stout"


def test_buffered_invoke_collects_a_stream(product: Product, name: str) -> None:
    assert product.invoke(name, {"do": "lines=2"}).payload == b"line 0\nline 1\n"
    late = product.invoke(name, {"do": "late"})
    assert (late.function_error, late.value["errorType"]) == ("Unhandled", "Function.Late")
    assert product.invoke(name, {"do": "mb=7"}).value["errorType"] == "Function.ResponseSizeTooLarge"


def test_a_python_function_that_does_not_stream(product: Product, get: Get) -> None:
    name = product.deploy("def handler(event, context):\n    return {'statusCode': 201, 'body': event['do']}\n")
    assert streamed(product, name, "x") == (b'{"statusCode": 201, "body": "x"}', {})
    response = get(url(product, name) + "?")
    assert (response.status, response.headers["Content-Type"]) == (502, "text/plain"), "KeyError: there is no 'do'"
    data, last = streamed(product, name, "x" * 1_000_000)
    assert (len(data), last) == (1_000_000 + len(b'{"statusCode": 201, "body": ""}'), {})


@pytest.mark.parametrize(
    ("do", "data", "error_type"),
    [
        ("error", b"", "Function.Early"),
        ("late", b"half", "Function.Late"),
        ("exit", b"half", "Runtime.ExitError"),
        ("exit-before", b"", "Runtime.ExitError"),
        ("break", b"half", "Runtime.TruncatedResponse"),
        ("wait=60", b"half", "Sandbox.Timedout"),
    ],
)
def test_what_goes_wrong(product: Product, get: Get, name: str, do: str, data: bytes, error_type: str) -> None:
    got, last = streamed(product, name, do)
    assert (got, last["ErrorCode"]) == (data, "Unhandled")
    assert json.loads(last["ErrorDetails"])["errorType"] == error_type
    assert streamed(product, name, "done") == (b"no", {}), "and then it works again"
    path = url(product, name)
    response = get(f"{path}?{do}")
    if data:
        assert response.status == 200
        with pytest.raises(http.client.IncompleteRead) as caught:
            response.read()
        assert caught.value.partial == data
    else:
        assert (response.status, response.read()) == (502, b"Internal Server Error")


def test_a_handler_that_never_ends_meets_its_deadline(product: Product, name: str) -> None:
    data, last = streamed(product, name, "endless")
    assert json.loads(last["ErrorDetails"])["errorType"] in ("Sandbox.Timedout", "Function.ResponseSizeTooLarge")
    assert len(data) > 10 * MB


def test_more_than_200_mb_are_cut(product: Product, get: Get, name: str) -> None:
    product.client.update_function_configuration(FunctionName=name, Timeout=60)
    product.updated(name)
    with get(url(product, name) + "?mb=201") as response:
        size = 0
        try:
            while piece := response.read(1 << 20):
                size += len(piece)
        except http.client.IncompleteRead as error:
            size += len(error.partial)
    assert size <= 200 * MB
    eventually(lambda: any("ended with 413" in line for line in product.log(name)))


def test_200_mb_cost_the_gateway_less_than_10(product: Product, get: Get, name: str) -> None:
    product.client.update_function_configuration(FunctionName=name, Timeout=60)
    product.updated(name)
    path = url(product, name)
    get(path + "?mb=2").read()
    gateway = Family(product.instance.process.pid).gateway
    before, size = resident(gateway, "VmRSS"), 0
    forget_peak(gateway)
    with get(path + "?mb=200") as response:
        while piece := response.read(1 << 20):
            size += len(piece)
            if 90 * MB < size < 92 * MB:
                time.sleep(0.1)  # a client that stalls: everything fills up as far as it can
    assert size == 200 * MB
    grown = resident(gateway, "VmHWM") - before
    print(f"the gateway grew by {grown / MB:.1f} MB")
    assert grown < 10 * MB


def test_the_function_goes_on_when_its_client_leaves(product: Product, name: str) -> None:
    product.client.update_function_configuration(FunctionName=name, Timeout=30)
    product.updated(name)
    path = url(product, name)
    client = connected(product.instance.endpoint)
    client.sendall(f"GET {path}?mb=50 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert client.recv(100_000)
    client.close()
    eventually(lambda: any(line.startswith("REPORT") for line in product.log(name)))
    assert streamed(product, name, "done") == (b"x", {})


def test_a_client_that_stalls_holds_nobody_else_up(product: Product, name: str) -> None:
    other = product.deploy("def handler(event, context):\n    return event\n")
    product.invoke(other)
    path = url(product, name)
    client = connected(product.instance.endpoint)
    client.sendall(f"GET {path}?mb=150 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    client.recv(1)
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(product.invoke(other, 1).value)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [1] * 4
    client.settimeout(30)
    eventually(lambda: any("Task timed out after 3.00" in line for line in product.log(name)))
    while client.recv(1 << 20):
        pass
    client.close()


def test_the_command_prints_a_stream(product: Product, name: str) -> None:
    command = (
        sys.executable,
        "-m",
        "gateway",
        "invoke",
        name,
        '{"do":"lines=2"}',
        "--stream",
        "--endpoint",
        product.instance.endpoint,
    )
    run = subprocess.run(command, capture_output=True, check=True)
    assert run.stdout == b"line 0\nline 1\n"
    run = subprocess.run([*command[:5], '{"do":"late"}', *command[6:]], capture_output=True, check=False)
    assert (run.returncode, run.stdout) == (1, b"half")
    assert b"Function.Late" in run.stderr
