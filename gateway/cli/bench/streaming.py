"""Streamed answers: how soon the first byte is there, how fast the rest, and what the gateway needs for it."""

from __future__ import annotations

import contextlib
import io
import socket
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.cli.api import FUNCTIONS
from gateway.cli.bench.instance import Instance
from gateway.cli.bench.load import Target, now_s, percentile, quiet
from gateway.cli.bench.report import Figure
from gateway.cli.deploy import Wish, publish_url, put

MB: Final = 1_000_000
STREAM_MB: Final = 200
STALL_S: Final = 0.2

#: A runtime in a few lines: says what time it is and waits, or gives as many megabytes as it is asked for.
BOOTSTRAP: Final = rf"""#!/usr/bin/env python3
import json, os, socket, time
HOST, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
API = "/2018-06-01/runtime/invocation/"

def answer(file):
    length, request_id = 0, ""
    while (line := file.readline().strip().decode()):
        name, _, value = line.partition(": ")
        if name.lower() == "content-length":
            length = int(value)
        elif name.lower() == "lambda-runtime-aws-request-id":
            request_id = value
    return request_id, file.read(length)

connection = socket.create_connection((HOST, int(PORT)))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
file = connection.makefile("rb")
megabyte = bytes({MB})
while True:
    connection.sendall(b"GET %snext HTTP/1.1\r\nHost: h\r\n\r\n" % API.encode())
    request_id, event = answer(file)
    wanted = int(json.loads(event)["rawQueryString"] or 0)
    connection.sendall((
        "POST %s%s/response HTTP/1.1\r\nHost: h\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n"
        "Lambda-Runtime-Function-Response-Mode: streaming\r\n\r\n" % (API, request_id)).encode())
    if wanted:
        for _ in range(wanted):
            connection.sendall(b"%x\r\n" % len(megabyte) + megabyte + b"\r\n")
    else:
        data = b"%20d" % time.monotonic_ns()
        connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))
        time.sleep(0.02)
    connection.sendall(b"0\r\n\r\n")
    answer(file)
"""


def measure(base: Path, count: int, step: Callable[[str], None]) -> list[Figure]:
    """First bytes of `count` streams, one by one; then 200 MB at once to a client that stalls for a while on the way."""
    base.mkdir()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        package.writestr(entry, BOOTSTRAP)
    with Instance(base / "data", {}) as instance:
        api = instance.api
        put(api, Wish(name="streams", runtime="provided.al2023", handler="any", timeout_s=60), archive.getvalue())
        url = publish_url(api, "streams")
        api.call("PUT", f"/2021-10-31{FUNCTIONS.removeprefix('/2015-03-31')}/streams/url", {"InvokeMode": "RESPONSE_STREAM"})
        target = Target.of(url, instance.endpoint)
        firsts = []
        with quiet():
            for _ in range(count):
                step("first bytes of streams")
                firsts.append(_first_byte_ms(target))
        step(f"a stream of {STREAM_MB} MB")
        _megabytes(target, 10, None)
        grown = _growth(instance, lambda: _megabytes(target, STREAM_MB, STALL_S))
        rate = max(_megabytes(target, STREAM_MB, None) for _ in range(3))
    return [
        Figure(
            name="stream: first byte after the function's first write, p50", value=percentile(firsts[1:], 0.5), unit="ms", most=1
        ),
        Figure(name="stream: the same, p99", value=percentile(firsts[1:], 0.99), unit="ms"),
        Figure(name=f"stream of {STREAM_MB} MB through a function URL", value=rate, unit="MB/s"),
        Figure(name=f"  the gateway grows by, for {STREAM_MB} MB and a client that stalls", value=grown, unit="MB", most=10),
    ]


def _connected(target: Target, query: str) -> socket.socket:
    sock = socket.create_connection((target.host, target.port), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(f"GET {target.path}?{query} HTTP/1.1\r\nHost: {target.host_header}\r\nConnection: close\r\n\r\n".encode())
    return sock


def _first_byte_ms(target: Target) -> float:
    """Milliseconds from the function's write to our read; both read the one monotonic clock of the machine."""
    with contextlib.closing(_connected(target, "")) as sock:
        data = b""
        while b"\r\n\r\n" not in data or len(data.partition(b"\r\n\r\n")[2]) < 24:
            data += sock.recv(65536)
        came_s = now_s()
        written_ns = int(data.partition(b"\r\n\r\n")[2].split(b"\r\n")[1])
        while sock.recv(65536):
            pass
        return came_s * 1000 - written_ns / 1e6


def _megabytes(target: Target, megabytes: int, stall_s: float | None) -> float:
    """Megabytes a second, from the request to the end."""
    began_s = now_s()
    with contextlib.closing(_connected(target, str(megabytes))) as sock:
        size = 0
        while piece := sock.recv(1 << 20):
            size += len(piece)
            if stall_s is not None and size > megabytes * MB // 2:
                time.sleep(stall_s)
                stall_s = None
    if size < megabytes * MB:
        raise RuntimeError(f"{size} bytes came of a stream of {megabytes} MB")
    return megabytes / (now_s() - began_s)


def _growth(instance: Instance, run: Callable[[], object]) -> float:
    """By how many megabytes the gateway's memory is larger at most while something runs, than it was before."""
    gateway = instance.gateway_pid
    before = _memory_mb(gateway, "VmRSS")
    Path(f"/proc/{gateway}/clear_refs").write_text("5")  # forget the peak
    run()
    return _memory_mb(gateway, "VmHWM") - before


def _memory_mb(pid: int, what: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / MB for line in lines if line.startswith(what))
