"""`lambent up` from the outside: what it refuses and how it says so, how it drains, and what it remembers."""

from __future__ import annotations

import base64
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli.bench.instance import Instance
from tests import conftest, leftovers

pytestmark = [pytest.mark.real, pytest.mark.slow]

PYTHON = f"python3.{sys.version_info.minor}"
CODE = """
import time
def handler(event, context):
    print("begun", flush=True)
    time.sleep(event.get("sleep_s", 0))
    return "done"
"""


def create(instance: Instance) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr("app.py", CODE)
    client = conftest.client_for(instance.endpoint)
    client.create_function(
        FunctionName="slow",
        Runtime=PYTHON,  # type: ignore[arg-type]
        Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/any",
        Timeout=30,
        Code={"ZipFile": archive.getvalue()},
    )
    client.get_waiter("function_active_v2").wait(FunctionName="slow")
    client.close()


class Invocation(threading.Thread):
    """One Invoke on its way; `payload` is its answer, None where it had none."""

    def __init__(self, instance: Instance, sleep_s: float) -> None:
        super().__init__()
        self.payload: bytes | None = None
        self._endpoint = instance.endpoint.removeprefix("http://")
        self._event = json.dumps({"sleep_s": sleep_s})
        self.start()

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._endpoint, timeout=60)
        try:
            connection.request("POST", "/2015-03-31/functions/slow/invocations", self._event)
            self.payload = connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()


def wait_until_running(instance: Instance) -> None:
    while not instance.status()["running"]:
        time.sleep(0.01)


def refuse(*arguments: str) -> str:
    """What an `up` that ends by itself says."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "up", *arguments], capture_output=True, text=True, check=False, timeout=15
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_drain_lets_what_runs_finish(up: Callable[..., Instance]) -> None:
    instance = up(drain_s=20)
    create(instance)
    invocation = Invocation(instance, 1.0)
    wait_until_running(instance)
    assert instance.close() == 0
    invocation.join()
    assert invocation.payload == b'"done"'


def test_drain_has_a_limit(up: Callable[..., Instance]) -> None:
    instance = up(drain_s=0.2)
    create(instance)
    invocation = Invocation(instance, 25)
    wait_until_running(instance)
    begun = time.monotonic()
    assert instance.close() == 0
    assert time.monotonic() - begun < 5
    invocation.join()
    assert invocation.payload is not None
    assert json.loads(invocation.payload)["Type"] == "Service", "it is told that it was cut off"


def test_second_signal_cuts_the_drain_short(up: Callable[..., Instance]) -> None:
    instance = up(drain_s=20)
    create(instance)
    invocation = Invocation(instance, 25)
    wait_until_running(instance)
    begun = time.monotonic()
    instance.process.send_signal(signal.SIGINT)
    while "ending" not in instance.log.read_text():
        time.sleep(0.01)
    assert instance.close() == 0
    assert time.monotonic() - begun < 5
    invocation.join()
    assert invocation.payload is not None
    assert json.loads(invocation.payload)["Type"] == "Service", "it is told that it was cut off"


def test_functions_survive_a_restart(up: Callable[..., Instance]) -> None:
    first = up()
    create(first)
    assert first.close() == 0
    for _ in range(2):
        instance = up()
        client = conftest.client_for(instance.endpoint)
        answer = client.invoke(FunctionName="slow", Payload=b"{}", LogType="Tail")
        assert answer["Payload"].read() == b'"done"'
        assert "begun" in base64.b64decode(answer["LogResult"]).decode()
        client.close()
        assert instance.close() == 0


def test_one_data_directory_serves_one_lambent(up: Callable[..., Instance], tmp_path: Path) -> None:
    up()
    assert "is in use by another `lambent up`" in refuse("--data-dir", str(tmp_path / "data"), "--port", "0")


def test_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refuse("--data-dir", str(tmp_path), "--port", str(port))
    assert f"lambent: port {port} of 127.0.0.1 is in use by another program. Take another one with --port." in said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--data-dir", "/proc/nowhere"], "data_dir: cannot use /proc/nowhere: No such file or directory"),
        (["--host", "192.0.2.1", "--insecure"], "host: cannot listen on 192.0.2.1, port 9000"),
        (["--host", "0.0.0.0"], "host: 0.0.0.0 can be reached from outside"),
        (["--user", "nobody-of-that-name"], "user: there is no user 'nobody-of-that-name' on this machine"),
    ],
)
def test_setting_that_cannot_be(arguments: list[str], told: str, tmp_path: Path) -> None:
    where = [] if "--data-dir" in arguments else ["--data-dir", str(tmp_path)]
    assert told in refuse(*where, *arguments)


def test_host_that_allows_no_sandboxes_is_told_with_the_remedy(tmp_path: Path) -> None:
    command = [
        "setpriv",
        "--bounding-set",
        "-sys_admin",
        sys.executable,
        "-m",
        "gateway",
        "up",
        "--data-dir",
        str(tmp_path),
        "--port",
        "0",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=15)
    assert done.returncode == 1
    assert "root, but without CAP_SYS_ADMIN" in done.stderr
    assert "--privileged" in done.stderr


def test_banner_tells_what_one_needs_to_know(lambent_up: Instance) -> None:
    said = lambent_up.log.read_text()
    assert lambent_up.endpoint in said
    assert "namespaces" in said
    assert "NO ISOLATION" not in said
    assert "gateway    runs as" in said


def test_gateway_has_no_capability_and_gains_none(lambent_up: Instance) -> None:
    gateway = next(
        pid for pid in leftovers.descendants(lambent_up.process.pid) if "gateway.app" in Path(f"/proc/{pid}/cmdline").read_text()
    )
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{gateway}/status").read_text().splitlines() if ":\t" in line)
    assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0, 0, 0, 0]
    assert status["NoNewPrivs"] == "1"
