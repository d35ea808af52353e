"""AWS's own runtime client for Python (awslambdaric from PyPI, whose HTTP side is libcurl) against our Runtime API, unchanged."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sandbox.clock import SystemClock
from sandbox.driver import ExitStatus
from sandbox.outcome import Outcome, Status
from sandbox.sandbox import Sandbox
from sandbox.spec import FunctionSpec
from sandbox.testing import PlainLog
from tests.sandboxes import KEY, SPEC, User

pytest.importorskip("awslambdaric")
pytestmark = pytest.mark.slow

FUNCTION = """
import os, sys, time

print("init")
if os.environ.get("FAIL") == "import":
    raise Exception("Runtime startup fails")
CALLS = 0

def handler(event, context):
    global CALLS
    CALLS += 1
    do = event.get("do")
    if do == "raise":
        raise ValueError("x" * event.get("size", 1))
    if do == "exit":
        sys.exit(3)
    if do == "hang":
        time.sleep(1000)
    if do == "large":
        return "x" * event["size"]
    if do == "unserialisable":
        return {1, 2}
    if do == "context":
        return {
            "id": context.aws_request_id, "arn": context.invoked_function_arn, "name": context.function_name,
            "memory": context.memory_limit_in_mb, "remaining": context.get_remaining_time_in_millis(),
            "custom": context.client_context and context.client_context.custom,
            "identity": context.identity and context.identity.cognito_identity_id,
            "trace": os.environ.get("_X_AMZN_TRACE_ID"),
        }
    return {"event": event, "calls": CALLS}
"""


class ProcessHandle:
    """A runtime that is a process of this user; enough of a driver's handle for one client that keeps to the rules."""

    def __init__(self, code: Path, extra: Mapping[str, str]) -> None:
        self.id = "ric"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.connection: socket.socket | None = None
        self.runtime_api = "{}:{}".format(*self.listener.getsockname())
        self.lambda_listener: socket.socket | None = None
        self.lambda_api = ""
        self.log_fd, self._log_inside = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._log_inside, True)
        self.on_exit: Callable[[ExitStatus], None] = lambda status: None
        self.on_gone: Callable[[str], None] = lambda reason: None
        self.on_extension_exit: Callable[[str, ExitStatus], None] = lambda name, status: None
        self.extension_log_fd = -1
        self._code = code
        self._extra = extra
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def specialise(self, spec: FunctionSpec, environment: Mapping[str, str]) -> None:
        own = {name: value for name, value in environment.items() if not name.startswith(("LD_", "PYTHON", "PATH"))}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "awslambdaric", spec.handler),
            cwd=self._code,
            env={**own, **self._extra, "PATH": os.environ["PATH"], "LAMBDA_TASK_ROOT": str(self._code)},
            stdout=self._log_inside,
            stderr=subprocess.STDOUT,
        )
        self._watcher = asyncio.get_running_loop().create_task(self._watch(self._process))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        self.on_exit(ExitStatus(code=code) if code >= 0 else ExitStatus(signal=-code))

    async def reset(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        await self.reset()
        self.listener.close()
        os.close(self.log_fd)
        os.close(self._log_inside)

    def start_runtime(self) -> None: ...
    def signal(self, number: int, extension: str | None = None) -> None: ...
    def ration(self) -> None: ...
    def rehearse(self) -> None: ...
    def kill_at(self, at_s: float) -> None: ...

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def tcp_socket(self) -> socket.socket:
        return socket.socket()

    def memory_bytes(self) -> int:
        return 1

    def memory_peak_bytes(self) -> int:
        return 1


@pytest.fixture
async def user(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[User]:
    (tmp_path / "app.py").write_text(textwrap.dedent(FUNCTION))
    handle = ProcessHandle(tmp_path, getattr(request, "param", {}))
    made = User(await Sandbox.open(handle, KEY, clock=SystemClock()))
    await made.sandbox.init(dataclasses.replace(SPEC, timeout_s=10), PlainLog(made.write_log))
    yield made
    await made.sandbox.stop()
    await asyncio.sleep(0)


async def call(user: User, timeout_s: float = 10, event: Any = None, **changes: Any) -> Outcome:
    async with asyncio.timeout(15):
        return await user.run(json.dumps({} if event is None else event).encode(), timeout_s, **changes)


async def test_events_one_after_the_other_frozen_in_between(user: User) -> None:
    for number in range(1, 4):
        outcome = await call(user, event={"n": number})
        assert outcome.status is Status.SUCCESS
        assert outcome.content_type == "application/json"
        assert json.loads(outcome.payload) == {"event": {"n": number}, "calls": number}
        user.sandbox.freeze()
    assert user.log == b"init\n"


async def test_context(user: User) -> None:
    outcome = await call(
        user,
        event={"do": "context"},
        request_id="11111111-2222-4333-8444-555555555555",
        client_context='{"custom": {"a": "b"}}',
        cognito_identity='{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}',
        trace_id="Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0",
    )
    context = json.loads(outcome.payload)
    assert 8000 < context.pop("remaining") <= 10_000
    assert context == {
        "id": "11111111-2222-4333-8444-555555555555",
        "arn": SPEC.arn,
        "name": "hello",
        "memory": "128",
        "custom": {"a": "b"},
        "identity": "i",
        "trace": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0",
    }


@pytest.mark.parametrize("size", [1, 600_000])
async def test_handler_that_raises(user: User, size: int) -> None:
    """The cause of a long message travels in a header of more than half a megabyte."""
    outcome = await call(user, event={"do": "raise", "size": size})
    document = json.loads(outcome.payload)
    assert (outcome.status, document["errorType"], len(document["errorMessage"])) == (Status.ERROR, "ValueError", size)
    assert document["requestId"]
    assert "app.py" in document["stackTrace"][0]
    assert json.loads((await call(user)).payload)["calls"] == 2


async def test_answer_that_json_cannot_carry(user: User) -> None:
    assert json.loads((await call(user, event={"do": "unserialisable"})).payload)["errorType"] == "Runtime.MarshalError"


async def test_answers_around_the_limit(user: User) -> None:
    outcome = await call(user, event={"do": "large", "size": 6 * 1024 * 1024 + 98})
    assert (outcome.status, len(outcome.payload)) == (Status.SUCCESS, 6 * 1024 * 1024 + 100)
    outcome = await call(user, event={"do": "large", "size": 6 * 1024 * 1024 + 99})
    assert (outcome.status, outcome.error_type) == (Status.ERROR, "Function.ResponseSizeTooLarge")
    assert json.loads((await call(user)).payload)["event"] == {}


async def test_large_event(user: User) -> None:
    event = {"text": "x" * 6_000_000}
    user.sandbox.freeze()
    outcome = await call(user, event=event)
    assert json.loads(outcome.payload)["event"] == event


async def test_exit_and_time_out_and_what_comes_after(user: User) -> None:
    outcome = await call(user, event={"do": "exit"})
    assert json.loads(outcome.payload)["errorMessage"].endswith("Error: Runtime exited with error: exit status 3")
    assert json.loads((await call(user)).payload)["calls"] == 1
    outcome = await call(user, 0.3, event={"do": "hang"})
    assert outcome.status is Status.TIMEOUT
    assert json.loads((await call(user)).payload)["calls"] == 1
    assert user.log.count(b"init\n") == 3
    assert user.news == ["settled", "idle"] * 4


@pytest.mark.parametrize("user", [{"FAIL": "import"}], indirect=True)
async def test_import_that_raises(user: User) -> None:
    """Recorded from AWS on 2025-11-24: the init error is the invocation's answer, and its requestId is empty."""
    for _ in range(2):
        outcome = await call(user)
        document = json.loads(outcome.payload)
        assert (outcome.status, document["errorMessage"], document["errorType"]) == (
            Status.ERROR,
            "Runtime startup fails",
            "Exception",
        )
        assert document["requestId"] == ""
        assert document["stackTrace"][-1].endswith('in <module>\n    raise Exception("Runtime startup fails")\n')
    assert b"Phase: init\tStatus: error" in user.log
