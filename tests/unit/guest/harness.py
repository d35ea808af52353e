"""Runs the Python runtime against a Runtime API that the test itself plays, request by request."""

from __future__ import annotations

import array
import dataclasses
import json
import os
import select
import signal
import socket
import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from sandbox.native.interpreters import PYTHON_RUNTIMES, Interpreter, find_interpreters, support

RUNTIME = Path(__file__).parents[3] / "sandbox" / "guest" / "python"
FORKER = Path(__file__).with_name("forker.py")
WAIT_S = 10.0
ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n'
ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"

interpreters: dict[str, Interpreter] = {found.runtime: found for found in find_interpreters()}


def every_interpreter() -> list[Any]:
    """Parameters: one per runtime of AWS, skipped with the reason where this host has none for it."""
    known = support(interpreters.values())
    return [
        pytest.param(runtime, marks=() if runtime in interpreters else pytest.mark.skip(reason=known[runtime].detail))
        for runtime in PYTHON_RUNTIMES
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def event_bytes(body: bytes, request_id: str = "id-1", **headers: str) -> bytes:
    fields = {
        "Content-Type": "application/json",
        "Lambda-Runtime-Aws-Request-Id": request_id,
        "Lambda-Runtime-Deadline-Ms": "9999999999999",
        "Lambda-Runtime-Invoked-Function-Arn": ARN,
    }
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    fields["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return b"HTTP/1.1 200 OK\r\n" + head.encode() + b"\r\n" + body


class Api:
    """The platform's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(WAIT_S)
        self.sock = sock
        self._data = b""
        self.pieces: list[int] = []  #: sizes of what each receive gave

    @property
    def has_data(self) -> bool:
        return bool(self._data)

    def request(self) -> Request:
        while b"\r\n\r\n" not in self._data:
            self._receive()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._data) < length:
            self._receive()
        body, self._data = self._data[:length], self._data[length:]
        method, path, _ = first.split()
        return Request(method, path, headers, body)

    def _receive(self) -> None:
        piece = self.sock.recv(1 << 20)
        if not piece:
            raise EOFError
        self.pieces.append(len(piece))
        self._data += piece

    def expect_next(self) -> None:
        request = self.request()
        assert (request.method, request.path) == ("GET", "/2018-06-01/runtime/invocation/next")

    def event(self, event: object, request_id: str = "id-1", **headers: str) -> None:
        body = event if isinstance(event, bytes) else json.dumps(event).encode()
        self.sock.sendall(event_bytes(body, request_id, **headers))

    def invoke(self, event: object = None, request_id: str = "id-1", **headers: str) -> Request:
        """Answer the `next` that is pending, and give the function's answer; acknowledges it, and takes the next `next`."""
        self.event(event, request_id, **headers)
        answer = self.request()
        self.sock.sendall(ACCEPTED)
        self.expect_next()
        return answer


class Function:
    """A runtime process with its function."""

    def __init__(self, pid: int, api: Api, output: int, wait: Any) -> None:
        self.pid = pid
        self.api = api
        self._output = output
        self._wait = wait
        self.status: int | None = None

    def read(self) -> str:
        """All that was written and not read yet; does not wait for more."""
        pieces = []
        while select.select([self._output], [], [], 0)[0]:
            piece = os.read(self._output, 1 << 20)
            if not piece:
                break
            pieces.append(piece)
        return b"".join(pieces).decode("utf-8", "backslashreplace")

    def end(self) -> int:
        """Exit status, or the signal's number below zero, of the process that is about to end."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(self._wait())
        return self.status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.api.sock.close()
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.end()
        os.close(self._output)


def environment(directory: Path, handler: str, runtime_api: str, extra: Mapping[str, str]) -> dict[str, str]:
    names = {
        "LAMBDA_TASK_ROOT": str(directory),
        "_HANDLER": handler,
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]0",
        "PYTHONPATH": "/var/runtime",
        "TZ": ":UTC",
    }
    return {**names, **extra}


def write(directory: Path, files: str | Mapping[str, str]) -> None:
    for name, text in ({"app.py": files} if isinstance(files, str) else files).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


class Forker:
    """One warm interpreter, and the functions that are forked from it."""

    def __init__(self, interpreter: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(WAIT_S)
        self._control = ours
        command = [str(interpreter), "-I", "-S", str(FORKER), str(RUNTIME), str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env={}, stdin=subprocess.DEVNULL)
        theirs.close()
        self.loaded: list[str] = []

    def wait_until_ready(self) -> None:
        self.loaded = json.loads(self._control.recv(200_000))

    def _ask(self, message: object, fds: tuple[int, ...] = ()) -> Any:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._control.sendmsg([json.dumps(message).encode()], ancillary)
        return json.loads(self._control.recv(200_000))

    def start(
        self,
        directory: Path,
        files: str | Mapping[str, str],
        handler: str = "app.handler",
        *,
        runtime_api: str = "127.0.0.1:9",
        environ: Mapping[str, str] | None = None,
    ) -> Function:
        write(directory, files)
        here, there = socket.socketpair()
        output_r, output_w = os.pipe()
        with there:
            message = {"environment": environment(directory, handler, runtime_api, environ or {})}
            pid = self._ask(message, (there.fileno(), output_w, output_w))
        os.close(output_w)
        return Function(pid, Api(here), output_r, lambda: self._ask({"wait": pid}))

    def close(self) -> None:
        self._control.close()
        assert self._process.wait(WAIT_S) == 0


def run_script(
    interpreter: Path, directory: Path, files: str | Mapping[str, str], handler: str, options: tuple[str, ...] = (), **extra: str
) -> Function:
    """The other way in: a fresh interpreter that runs the runtime as a script."""
    write(directory, files)
    here, there = socket.socketpair()
    output_r, output_w = os.pipe()
    command = [str(interpreter), *options, str(RUNTIME / "lambent_bootstrap.py"), "--fd", str(there.fileno())]
    with there:
        process = subprocess.Popen(
            command,
            pass_fds=[there.fileno()],
            env=environment(directory, handler, "127.0.0.1:9", extra),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output_w,
            stderr=output_w,
        )
    os.close(output_w)

    def wait() -> int:
        code = process.wait(WAIT_S)
        return code << 8 if code >= 0 else -code

    return Function(process.pid, Api(here), output_r, wait)
