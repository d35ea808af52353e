"""Load that does not distort what it measures: `wrk` for throughput, raw sockets in one process for single requests."""

from __future__ import annotations

import contextlib
import gc
import re
import selectors
import shutil
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import click

from gateway.clock import SystemClock

_UNITS_MS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
now_s: Final = SystemClock().monotonic


class Target(NamedTuple):
    """Where to send requests: an address to connect to, and what to say there."""

    host: str
    port: int
    path: str
    host_header: str

    @classmethod
    def of(cls, url: str, endpoint: str) -> Target:
        """`url` at the gateway that `endpoint` names: a function URL's own host name need not be known to any resolver."""
        there, wanted = urllib.parse.urlsplit(endpoint), urllib.parse.urlsplit(url)
        assert there.hostname is not None
        assert there.port is not None
        return cls(there.hostname, there.port, wanted.path or "/", wanted.netloc)

    @property
    def request(self) -> bytes:
        return f"GET {self.path} HTTP/1.1\r\nHost: {self.host_header}\r\n\r\n".encode()


class Wrk(NamedTuple):
    """What one run of wrk found."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    requests: int


def wrk(target: Target, *, connections: int, seconds: int) -> Wrk:
    """Load `target` and read what wrk prints. Raises click.ClickException where it is missing or any request failed."""
    program = shutil.which("wrk")
    if program is None:
        raise click.ClickException("wrk is not installed. Debian and Ubuntu: apt-get install wrk; macOS: brew install wrk.")
    command = [program, "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-H", f"Host: {target.host_header}"]
    run = subprocess.run(
        [*command, f"http://{target.host}:{target.port}{target.path}"], capture_output=True, text=True, check=False
    )
    for failure in ("Non-2xx", "Socket errors"):
        if failure in run.stdout or run.returncode:
            raise click.ClickException(f"requests to {target.host_header} failed:\n{run.stdout}{run.stderr}")
    return parse_wrk(run.stdout)


def parse_wrk(text: str) -> Wrk:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    requests = re.search(r"^\s*(\d+) requests in ", text, re.MULTILINE)
    shares = {
        share: float(number) * _UNITS_MS[unit] for share, number, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s|m)\b", text)
    }
    if rate is None or requests is None or not {"50", "99"} <= shares.keys():
        raise click.ClickException(f"cannot read what wrk printed:\n{text}")
    return Wrk(float(rate[1]), shares["50"], shares["99"], int(requests[1]))


class Client:
    """One kept-alive connection, one request at a time."""

    def __init__(self, target: Target) -> None:
        self.socket = socket.create_connection((target.host, target.port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = target.request

    def timed_ms(self) -> float:
        """Milliseconds from the request's first byte to the answer's last. Raises click.ClickException for anything but 200."""
        begun_s = now_s()
        self.socket.sendall(self._request)
        answer = b""
        while not _whole(answer):
            data = self.socket.recv(65536)
            if not data:
                raise click.ClickException(f"the gateway closed the connection after {answer!r}")
            answer += data
        took_ms = (now_s() - begun_s) * 1000
        _check(answer)
        return took_ms

    def close(self) -> None:
        self.socket.close()


def burst_ms(targets: Sequence[Target]) -> list[float]:
    """One request to each at the same time, each on a connection of its own; milliseconds from the first send to each answer."""
    sockets = [socket.create_connection((target.host, target.port), timeout=60) for target in targets]
    requests = [target.request for target in targets]
    answers = dict.fromkeys(sockets, b"")
    took_ms: list[float] = []
    with quiet(), selectors.DefaultSelector() as selector:
        for connection in sockets:
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, connection)
        begun_s = now_s()
        for connection, request in zip(sockets, requests, strict=True):
            connection.send(request)
        while len(took_ms) < len(sockets):
            ready = selector.select(60)
            if not ready:
                raise click.ClickException(f"{len(sockets) - len(took_ms)} of {len(sockets)} requests had no answer in 60 s")
            for key, _ in ready:
                connection = key.data
                data = connection.recv(65536)
                answers[connection] += data
                if _whole(answers[connection]) or not data:
                    took_ms.append((now_s() - begun_s) * 1000)
                    selector.unregister(connection)
    for connection in sockets:
        connection.close()
        _check(answers[connection])
    return took_ms


def _whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return length is not None and len(body) >= int(length[1])


def _check(answer: bytes) -> None:
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise click.ClickException(f"a request failed: {answer[:1000].decode(errors='replace')}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No garbage collection of ours in the middle of a measurement; nor right before it, which would leave nothing but its own in
    the caches of the processors that we share with what is measured."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all are not above: with 100 values, 0.99 is the last but one."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]
