"""`python -m loadtests` as the README has it run, in short, on real sandboxes and real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.bench.instance import Instance

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]


def loadtests(endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LAMBENT_ENDPOINT": endpoint, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "loadtests", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def left_of_load_tests(up: Instance) -> list[str]:
    with contextlib.closing(up.api) as api:
        functions = api.call("GET", "/2015-03-31/functions/").json()["Functions"]
    return [function["FunctionName"] for function in functions if function["FunctionName"].startswith("load-")]


@pytest.mark.parametrize("more", [(), ("--api",), ("--kind", "large")])
def test_one_rate(lambent_up: Instance, tmp_path: Path, more: tuple[str, ...]) -> None:
    percentiles = tmp_path / "echo.hgrm"
    arguments = ("--rate", "50", "--seconds", "1", "--connections", "4", "--json", "--hgrm", str(percentiles))
    done = loadtests(lambent_up.endpoint, "open", *arguments, *more)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["requests"], found["right"], found["failures"]) == (50, 50, {})
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["max"]
    assert "TotalCount     =       50" in percentiles.read_text()
    assert not left_of_load_tests(lambent_up)


def test_a_sweep(lambent_up: Instance) -> None:
    steps = ("--from", "20", "--to", "40", "--seconds", "0.5", "--connections", "4", "--p99-ms", "5000")
    done = loadtests(lambent_up.endpoint, "sweep", *steps)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("It kept up with 40/s, where the search ended.\n")
    assert not left_of_load_tests(lambent_up)


def test_where_nothing_answers() -> None:
    with socket.socket() as silent:  # bound, but nobody listens
        silent.bind(("127.0.0.1", 0))
        done = loadtests(f"http://127.0.0.1:{silent.getsockname()[1]}", "open", "--rate", "1")
    assert done.returncode == 1
    assert done.stderr.startswith("lambent: nothing answers at http://127.0.0.1:")
    assert "Traceback" not in done.stderr
