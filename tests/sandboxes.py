"""What tests of the sandbox layer share: a clock that follows the loop's (virtual) time, specs, work, a sandbox with its user."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
from collections.abc import AsyncIterator
from typing import Any

from sandbox.clock import Clock
from sandbox.fake_driver import FakeDriver, FakeHandle, FakeRuntime, Script
from sandbox.outcome import Outcome, Work
from sandbox.sandbox import Sandbox
from sandbox.spec import Architecture, FunctionSpec, StemKey
from sandbox.testing import PlainLog

KEY = StemKey("python3.11", Architecture.X86_64)
SPEC = FunctionSpec(
    account_id="000000000000",
    region="us-east-1",
    name="hello",
    version="$LATEST",
    arn="arn:aws:lambda:us-east-1:000000000000:function:hello",
    runtime="python3.11",
    architecture=Architecture.X86_64,
    handler="app.handler",
    memory_mb=128,
    timeout_s=3,
    tmp_mb=512,
    code_path="/nowhere",
    log_group="/aws/lambda/hello",
    log_stream="2026/11/21/[$LATEST]0123456789abcdef0123456789abcdef",
)
WALL_S = 1_795_253_820.0  # 2026-11-21T09:37:00Z
_ids = itertools.count(1)


class LoopClock:
    """Both clocks from the running loop's time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return WALL_S + asyncio.get_running_loop().time()


def work(payload: bytes = b"{}", timeout_s: float = 3.0, **changes: Any) -> Work:
    usual = Work(
        request_id=f"00000000-0000-4000-8000-{next(_ids):012d}",
        invoked_arn=SPEC.arn,
        payload=payload,
        content_type="application/json",
        trace_id="Root=1-5759e988-bd862e3fe1be46a994272793",
        timeout_s=timeout_s,
    )
    return dataclasses.replace(usual, **changes)


class User:
    """Uses a sandbox as the pool does, and remembers all that it was told."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.log = b""
        self.begun = b""  #: INIT_START, which every log begins with
        self.news: list[str] = []  # "settled", "idle", "gone: reason", in order
        self._idle = asyncio.Event()
        sandbox.on_idle = self._on_idle
        sandbox.on_gone = self._on_gone

    def write_log(self, data: bytes) -> None:
        if data.startswith(b"INIT_START"):
            self.begun += data
        else:
            self.log += data

    def begin(self, job: Work) -> asyncio.Future[Outcome]:
        """Hand `job` over; the future is its outcome. A second outcome for it is an InvalidStateError."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def settled(outcome: Outcome) -> None:
            self.news.append("settled")
            future.set_result(outcome)

        self._idle.clear()
        self.sandbox.invoke(job, settled)
        return future

    async def run(self, payload: bytes = b"{}", timeout_s: float = 3.0, **changes: Any) -> Outcome:
        """One invocation until the sandbox is free again."""
        outcome = await self.begin(work(payload, timeout_s, **changes))
        await self.idle()
        return outcome

    async def idle(self) -> None:
        await self._idle.wait()

    def _on_idle(self, sandbox: Sandbox) -> None:
        assert sandbox is self.sandbox
        self.news.append("idle")
        self._idle.set()

    def _on_gone(self, sandbox: Sandbox, reason: str) -> None:
        assert sandbox is self.sandbox
        self.news.append(f"gone: {reason}")
        self._idle.set()


@dataclasses.dataclass
class Rig:
    """A sandbox on the fake driver, with its user."""

    driver: FakeDriver
    handle: FakeHandle
    user: User

    @property
    def sandbox(self) -> Sandbox:
        return self.user.sandbox


@contextlib.asynccontextmanager
async def rig(
    script: Script, *, spec: FunctionSpec = SPEC, init: bool = True, connected: bool = True, clock: Clock | None = None
) -> AsyncIterator[Rig]:
    """A sandbox whose runtime does `script`; stopped at the end, when nothing may be left."""
    driver = FakeDriver(script, connected=connected)
    handle = await driver.create(KEY)
    user = User(await Sandbox.open(handle, KEY, clock=clock or LoopClock()))
    try:
        if init:
            await user.sandbox.init(spec, PlainLog(user.write_log))
        yield Rig(driver, handle, user)
    finally:
        await user.sandbox.stop()
        await driver.close()


async def echo(runtime: FakeRuntime) -> None:
    """The usual script: every event is its own answer."""
    while True:
        request_id, payload = await runtime.next()
        await runtime.respond(request_id, payload)
