"""The locustfiles as the README has them run, in short: real sandboxes, no failure, and no function left."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.bench.instance import Instance
from tests.real.product import eventually

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(60),
    # Not imported: gevent would replace the sockets of every other test.
    pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="needs the extra `loadtests`"),
]


def locust(endpoint: str, name: str, *arguments: str) -> tuple[int, dict[str, dict[str, Any]], str]:
    """Exit code, the statistics by request, and what it logged."""
    command = [sys.executable, "-m", "locust", "-f", f"loadtests/locustfiles/{name}.py", "--headless", "--json", *arguments]
    environment = {**os.environ, "LAMBENT_ENDPOINT": endpoint, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, {entry["name"]: entry for entry in json.loads(done.stdout)}, done.stderr


def left(up: Instance) -> list[str]:
    """Functions of load tests that are online."""
    with contextlib.closing(up.api) as api:
        functions = api.call("GET", "/2015-03-31/functions/").json()["Functions"]
    return [function["FunctionName"] for function in functions if function["FunctionName"].startswith("load-")]


@pytest.mark.parametrize(
    ("name", "more", "requests"),
    [
        ("steady", (), {"URL echo", "Invoke echo"}),
        ("mixed", (), {"URL echo", "URL compute", "URL wait", "URL large", "Invoke echo", "Invoke compute"}),
        ("bursts", ("--burst-every", "0.5"), {"URL echo", "Invoke echo"}),
        ("cold", (), {"URL cold", "Invoke cold", "update"}),
    ],
)
def test_runs_without_a_failure(lambent_up: Instance, name: str, more: tuple[str, ...], requests: set[str]) -> None:
    code, seen, logged = locust(lambent_up.endpoint, name, "-u", "4", "-r", "100", "-t", "2s", *more)
    assert code == 0, logged
    assert requests <= seen.keys()
    assert all(entry["num_requests"] > 0 and entry["num_failures"] == 0 for entry in seen.values())
    assert not left(lambent_up)


def test_with_its_page_and_interrupted(lambent_up: Instance) -> None:
    """Started from the page; Ctrl-C in the middle still removes the functions."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def page(method: str, path: str, form: str | None = None) -> Any:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request(method, path, form, {"Content-Type": "application/x-www-form-urlencoded"})
            return json.loads(connection.getresponse().read())

    def there() -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            return bool(page("GET", "/stats/requests")["state"])
        return False

    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfiles/steady.py"]
    command += ["--web-host", "127.0.0.1", "--web-port", str(port)]
    environment = {**os.environ, "LAMBENT_ENDPOINT": lambent_up.endpoint, "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(there)
            assert page("POST", "/swarm", "user_count=2&spawn_rate=10")["success"]
            eventually(lambda: page("GET", "/stats/requests")["total_rps"] > 0)
            assert page("GET", "/stats/requests")["fail_ratio"] == 0
            assert left(lambent_up)
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert not left(lambent_up)


def test_where_nothing_answers() -> None:
    with socket.socket() as silent:  # bound, but nobody listens
        silent.bind(("127.0.0.1", 0))
        code, seen, logged = locust(f"http://127.0.0.1:{silent.getsockname()[1]}", "steady", "-u", "1", "-t", "30s")
    assert code == 1
    assert not seen
    assert "nothing answers at http://127.0.0.1:" in logged
    assert "Traceback" not in logged
