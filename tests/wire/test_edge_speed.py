"""What the front door costs: an echo through a function URL against aiohttp's hello world, under wrk in the same run."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.edge import HOST

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def serving(which: str) -> Iterator[tuple[int, int]]:
    """Process id and port of a server."""
    with subprocess.Popen([sys.executable, "-m", "tests.wire.speed_servers", which], cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


def cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_us_a_request(pid: int, port: int, *options: str) -> tuple[float, float]:
    """Microseconds of the server's processor time a request, and requests a second."""
    before = cpu_s(pid)
    command = ["wrk", "-t1", "-c16", "-d5s", *options, f"http://127.0.0.1:{port}/"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used = cpu_s(pid) - before
    assert "Non-2xx" not in found
    count = re.search(r"(\d+) requests in", found)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", found)
    assert count is not None
    assert rate is not None
    return used / int(count[1]) * 1e6, float(rate[1])


@pytest.mark.bench
@pytest.mark.timeout(120)
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_function_url_leaves_three_quarters_of_hello_world() -> None:
    """Compared by processor time, since the server has one thread and a machine that does other things too spoils rates."""
    url = ("-H", f"Host: {HOST}")
    with serving("hello") as hello, serving("edge") as edge:
        cpu_us_a_request(*hello, "-d1s")
        cpu_us_a_request(*edge, "-d1s", *url)
        rounds = [(cpu_us_a_request(*hello), cpu_us_a_request(*edge, *url)) for _ in range(3)]
    for (hello_us, hello_rate), (edge_us, edge_rate) in rounds:
        print(f"hello world {hello_us:.1f} µs, {hello_rate:.0f}/s; function URL {edge_us:.1f} µs, {edge_rate:.0f}/s")
    ratio = statistics.median(hello_us / edge_us for (hello_us, _), (edge_us, _) in rounds)
    print(f"ratio {ratio:.2f}")
    assert ratio >= 0.75
