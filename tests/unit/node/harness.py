"""One process of the Node.js runtime and the other end of its connection: what it asks, says and prints, byte for byte."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox.environment import compose
from sandbox.native.nodes import NODE_RUNTIMES, Node, find_nodes, support
from tests.sandboxes import SPEC

MAIN = Path(__file__).resolve().parents[3] / "sandbox/guest/node/bootstrap.js"
nodes: dict[str, Node] = {found.runtime: found for found in find_nodes()}
_known = support(nodes.values())
every_node = pytest.mark.parametrize(
    "runtime",
    [
        pytest.param(runtime, marks=() if runtime in nodes else pytest.mark.skip(reason=_known[runtime].detail))
        for runtime in NODE_RUNTIMES
    ],
)
needs_node = pytest.mark.skipif(not nodes, reason="no Node.js that AWS has is installed")
ANSWERS_WITHIN_S = 10.0
_HEAD = re.compile(rb"(.*?)\r\n\r\n", re.DOTALL)


@dataclasses.dataclass
class Request:
    """What the runtime sent."""

    line: str
    headers: dict[str, str]
    body: bytes
    trailers: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def path(self) -> str:
        return self.line.split()[1].removeprefix("/2018-06-01/runtime")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Function:
    """A function that runs; the test is its Runtime API."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self.process = process
        self.connection = connection
        self._data = b""
        self._log = b""

    def _more(self) -> None:
        data = self.connection.recv(1 << 20)
        if not data:
            raise EOFError(self.log())
        self._data += data

    def _line(self) -> bytes:
        while b"\r\n" not in self._data:
            self._more()
        line, _, self._data = self._data.partition(b"\r\n")
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._data) < size:
            self._more()
        data, self._data = self._data[:size], self._data[size:]
        return data

    def head(self) -> Request:
        """A request without its body."""
        line = self._line().decode()
        return Request(line, dict(self._fields()), b"")

    def _fields(self) -> Iterator[tuple[str, str]]:
        while line := self._line().decode():
            name, _, value = line.partition(":")
            yield name.lower(), value.strip()

    def chunk(self) -> bytes:
        """The next of a chunked body; empty at its end."""
        data = self._exactly(int(self._line(), 16))
        if data:
            assert self._line() == b""
        return data

    def request(self) -> Request:
        found = self.head()
        if found.headers.get("transfer-encoding") == "chunked":
            found.body = b"".join(iter(self.chunk, b""))
            found.trailers = dict(self._fields())
        else:
            found.body = self._exactly(int(found.headers.get("content-length", 0)))
        return found

    def asked(self, line: str) -> Request:
        """The next request, which must be this one."""
        found = self.request()
        assert found.line == f"{line} HTTP/1.1", (found, self.log())
        return found

    def asks_next(self) -> None:
        self.asked("GET /2018-06-01/runtime/invocation/next")

    def send_event(self, event: object, request_id: str = "id-1", **headers: str) -> None:
        """An answer to `next`; call `asks_next` before."""
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        lines = {"Lambda-Runtime-Aws-Request-Id": request_id, "Lambda-Runtime-Deadline-Ms": "4102444800000"}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.connection.sendall(f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    def accept(self) -> None:
        self.connection.sendall(b'HTTP/1.1 202 Accepted\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n')

    def invoke(self, event: object = None, request_id: str = "id-1", **headers: str) -> Request:
        """An event, and what it was answered with, accepted."""
        self.asks_next()
        self.send_event(event, request_id, **headers)
        found = self.request()
        self.accept()
        return found

    def log(self) -> str:
        """All that was printed up to now."""
        assert self.process.stdout is not None
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.process.stdout.fileno(), 1 << 16):
                self._log += data
        return self._log.decode()

    def ends(self) -> int:
        """The exit code. All that it printed is in the log then."""
        return self.process.wait(ANSWERS_WITHIN_S)


_AT_THREE_AND_FOUR = """
import os, sys
for number, fd in zip((103, 104), sys.argv[1:3]):
    os.dup2(int(fd), number, False)
os.dup2(103, 3)
os.dup2(104, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


@contextlib.contextmanager
def running(
    directory: Path,
    files: Mapping[str, str] | str,
    handler: str = "index.handler",
    runtime: str | None = None,
    *,
    mode: str = "--fd",
    **variables: str,
) -> Iterator[Function]:
    """`files` is the text of index.js, or all files by name. `mode` is ``--fd``, or ``--stem``: that gets its
    environment when it says that it is ready."""
    runtime = runtime or list(nodes)[-1]
    task = directory / "task"
    for name, text in ({"index.js": files} if isinstance(files, str) else files).items():
        path = task / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    task.mkdir(exist_ok=True)
    spec = dataclasses.replace(SPEC, runtime=runtime, handler=handler)
    environment = {**compose(spec, "127.0.0.1:9"), "PATH": "/usr/bin:/bin", "LAMBDA_TASK_ROOT": str(task), **variables}
    here, there = socket.socketpair()
    here.settimeout(ANSWERS_WITHIN_S)
    go, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    go.settimeout(ANSWERS_WITHIN_S)
    command = [str(nodes[runtime].executable), "--expose-gc", str(MAIN)]
    stem = mode == "--stem"
    if stem:
        command = [sys.executable, "-c", _AT_THREE_AND_FOUR, str(told.fileno()), str(there.fileno()), *command, mode]
    else:
        command += [mode, str(there.fileno())]
    with here, there, go, told:
        process = subprocess.Popen(
            command,
            pass_fds=[there.fileno(), told.fileno()],
            cwd=task,
            env={"PATH": environment["PATH"]} if stem else environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        there.close()
        told.close()
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        with process:
            try:
                if stem:
                    assert go.recv(1) == b"r"
                    go.sendall(json.dumps({"environment": environment}).encode())
                yield Function(process, here)
            finally:
                process.kill()
