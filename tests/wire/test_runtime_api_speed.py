"""What the Runtime API and `Sandbox` add, per invocation, to the bytes that must travel anyway.

The reference is a protocol that answers every piece with a constant, over the same kind of socket, with the same bytes in both
directions, on the same loop in the same run: so the ratio says something about our code, whatever the machine.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

import pytest
import uvloop

from sandbox.clock import SystemClock
from sandbox.driver import ExitStatus
from sandbox.outcome import Outcome
from sandbox.runtime_api import wire
from sandbox.sandbox import Sandbox
from sandbox.spec import FunctionSpec
from sandbox.testing import PlainLog
from tests.sandboxes import KEY, SPEC, work

pytestmark = [pytest.mark.bench, pytest.mark.timeout(120)]
INVOCATIONS = 30_000
MOST = 4.5  #: times the reference; 17 µs against 6 µs of processor time when this was written
NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: 127.0.0.1:9001\r\n\r\n"
RESPONSE = (
    b"POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nContent-Type: application/json\r\n"
)
BODY = b'{"key": "value"}'
uvloop.new_event_loop().close()  # libuv's first loop makes a pipe for signals that stays for the life of the process


def runtime(sock: socket.socket) -> None:
    """What our Python runtime does, without Python's own work: answer and ask in one piece. In a process of its own."""
    sock.setblocking(True)
    sock.sendall(NEXT)
    data = b""
    while piece := sock.recv(65536):
        data += piece
        at = data.find(b"Aws-Request-Id: ")
        if at >= 0 and data.endswith(BODY):
            head = RESPONSE % data[at + 16 : at + 52] + b"Content-Length: %d\r\n\r\n" % len(BODY)
            sock.sendall(head + BODY + NEXT)
            data = b""


def echo(sock: socket.socket) -> None:
    """As many bytes to and fro as above."""
    sock.setblocking(True)
    there = b"x" * (len(RESPONSE) + 36 + 20 + len(BODY) + len(NEXT))
    sock.sendall(there)
    while sock.recv(65536):
        sock.sendall(there)


def forked(child: Callable[[socket.socket], None], inner: socket.socket, outer: socket.socket) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            outer.close()
            child(inner)
        finally:
            os._exit(0)
    inner.close()
    return pid


class Handle:
    """The least that a sandbox needs."""

    id = "bench"
    runtime_api = "127.0.0.1:9001"
    lambda_listener: socket.socket | None = None
    lambda_api = ""
    on_exit: Callable[[ExitStatus], None]
    on_extension_exit: Callable[[str, ExitStatus], None]
    extension_log_fd = -1
    on_gone: Callable[[str], None]

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self._outer, self._inner = socket.socketpair()
        self.connection: socket.socket | None = self._outer
        self.log_fd, self._log_inside = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._pid = 0

    async def specialise(self, spec: FunctionSpec, environment: Mapping[str, str]) -> None:
        self._pid = forked(runtime, self._inner, self._outer)

    async def reset(self) -> None:
        raise AssertionError

    async def stop(self) -> None:
        self.listener.close()
        self._outer.close()
        os.kill(self._pid, signal.SIGKILL)
        await asyncio.to_thread(os.waitpid, self._pid, 0)
        os.close(self.log_fd)
        os.close(self._log_inside)

    def start_runtime(self) -> None: ...
    def signal(self, number: int, extension: str | None = None) -> None: ...
    def ration(self) -> None: ...
    def rehearse(self) -> None: ...
    def kill_at(self, at_s: float) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    async def tcp_socket(self) -> socket.socket:
        return socket.socket()

    def memory_bytes(self) -> int:
        return 1

    def memory_peak_bytes(self) -> int:
        return 1


async def ours() -> float:
    """Processor seconds per invocation."""
    sandbox = await Sandbox.open(Handle(), KEY, clock=SystemClock())
    await sandbox.init(SPEC, PlainLog())
    done = asyncio.get_running_loop().create_future()
    left = INVOCATIONS
    job = work(BODY)

    def settled(outcome: Outcome) -> None:
        assert outcome.payload == BODY

    def idle(_: object) -> None:
        nonlocal left
        left -= 1
        if left:
            sandbox.invoke(job, settled)
        else:
            done.set_result(None)

    sandbox.on_idle = idle
    before = os.times()
    sandbox.invoke(job, settled)
    await done
    after = os.times()
    await sandbox.stop()
    return (after.user + after.system - before.user - before.system) / INVOCATIONS


async def reference() -> float:
    """The same for bytes only."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    answer = wire.ACCEPTED + wire.event(work(BODY), 1_795_253_823_000)

    class Protocol(asyncio.Protocol):
        left = INVOCATIONS

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = cast("asyncio.Transport", transport)

        def data_received(self, data: bytes) -> None:
            self.left -= 1
            if self.left:
                self.transport.write(answer)
            else:
                self.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            done.set_result(None)

    outer, inner = socket.socketpair()
    pid = forked(echo, inner, outer)
    outer.setblocking(False)
    before = os.times()
    await loop.connect_accepted_socket(Protocol, outer)
    await done
    after = os.times()
    await asyncio.to_thread(os.waitpid, pid, 0)
    return (after.user + after.system - before.user - before.system) / INVOCATIONS


def run(measured: Callable[[], Coroutine[Any, Any, float]]) -> float:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measured())


def test_cost_of_an_invocation(record_property: Callable[[str, object], None]) -> None:
    bare = min(run(reference) for _ in range(3))
    full = min(run(ours) for _ in range(3))
    record_property("µs per invocation", full * 1e6)
    print(f"\nRuntime API and sandbox: {full * 1e6:.1f} µs of processor time each; bytes alone: {bare * 1e6:.1f} µs")
    assert full <= MOST * bare
