"""What the gateway's own layers cost a warm invocation: ``python -m tests.sim.warm_path``.

Resolve, admission, pool, scheduler, invoker and the lines of the log, on uvloop, with a sandbox that answers in the same step and
a log that is written to memory. Also the scheduler alone, with few and with many functions. Without edge, Runtime API and disk.
"""

from __future__ import annotations

import asyncio
import random
import timeit
from collections.abc import Callable
from typing import Any

import uvloop

from gateway.clock import SystemClock
from gateway.control.catalog import Catalog
from gateway.invocation import Invocation
from gateway.invoke.invoker import Invoker
from gateway.pool.pool import Pool
from gateway.records import FunctionVersion, LoggingConfig
from gateway.scheduler.commands import Command, Make, Run, Specialise
from gateway.scheduler.core import Core
from gateway.scheduler.policy import MIB, Policy
from gateway.scheduler.state import Instance
from gateway.scheduler.waiting import Ticket
from sandbox.log import Log
from sandbox.outcome import Outcome, Status, Work
from sandbox.spec import FunctionSpec, StemKey
from tests.sim.records import function, version

ROUNDS, EACH = 7, 20_000
POLICY = Policy(memory_bytes=1 << 50, max_sandboxes=1_000_000, concurrency=1_000_000)


class Echo:
    """Answers in the next step of the loop, as a socket would."""

    def __init__(self) -> None:
        self.id = "echo"
        self.initialised, self.lingers = True, False
        self.first_byte_s, self.streamed_bytes = None, 0
        self.on_idle: Callable[[Any], None] = lambda sandbox: None
        self.on_gone: Callable[[Any, str], None] = lambda sandbox, reason: None
        self._loop = asyncio.get_running_loop()

    async def init(self, spec: FunctionSpec, log: Log) -> None: ...
    def rehearse(self) -> None: ...
    def invoke(self, work: Work, settled: Callable[[Outcome], None]) -> bool:
        self._loop.call_soon(self._answer, work, settled)
        return True

    def _answer(self, work: Work, settled: Callable[[Outcome], None]) -> None:
        settled(Outcome(status=Status.SUCCESS, payload=work.payload, duration_s=0.001, max_memory_bytes=30 * MIB))
        self.on_idle(self)

    def freeze(self) -> None: ...
    def hurry(self) -> None: ...

    def memory_bytes(self) -> int:
        return 30 * MIB

    async def stop(self) -> None: ...


class Memory:
    """A log that keeps nothing."""

    def output(self, data: bytes) -> None: ...
    def platform(self, line: str) -> None: ...
    def extension(self, line: str) -> None: ...
    def begin(self) -> None: ...
    def tail(self) -> bytes:
        return b""

    def close(self) -> None: ...

    def open(self, function_name: str, log_group: str, stream: str, config: LoggingConfig) -> Memory:
        return self


async def gateway() -> float:
    """Microseconds an invocation, less what the loop and the echo themselves take."""

    async def open_sandbox(key: StemKey) -> Echo:
        return Echo()

    clock = SystemClock()
    pool = Pool(open_sandbox=open_sandbox, code_path=str, logs=Memory(), clock=clock, policy=POLICY)
    catalog = Catalog([function(version())])
    catalog.subscribe(pool.function_changed)
    invoker = Invoker(
        catalog=catalog, pool=pool, clock=clock, random=random.random, region="eu-west-1", account_id="123456789012",
        queue_wait_s=30,
    )  # fmt: skip
    invocation = Invocation(
        request_id="8c3b2a10-0f5e-4f43-9a43-2f1c5d7e9b01", function_name="echo", qualifier=None, payload=b"{}", trace_id="Root=1",
        arrived_s=clock.monotonic(),
    )  # fmt: skip
    work = Work(request_id="1", invoked_arn="", payload=b"{}", content_type="", trace_id="", timeout_s=1)
    loop = asyncio.get_running_loop()
    echo = Echo()

    async def bare() -> None:
        answered = loop.create_future()
        echo.invoke(work, answered.set_result)
        await answered

    async def full() -> None:
        invocation.arrived_s = clock.monotonic()
        await invoker.invoke(invocation)

    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, one in (("bare", bare), ("full", full)):
            began = timeit.default_timer()
            for _ in range(EACH):
                await one()
            took = (timeit.default_timer() - began) / EACH * 1e6
            best[name] = min(took, best.get(name, took))
    await pool.close(1)
    return best["full"] - best["bare"]


def decisions(functions: int) -> float:
    """Microseconds for arrive, settle and idle of a warm invocation, with so many functions warm."""
    core = Core(POLICY)
    versions = [version(f"f{number}") for number in range(functions)]
    for one in versions:
        instance = _started(core, core.arrived(Ticket(30.0), one, 0.0))
        core.settled(instance, 0.0)
        core.idled(instance, 0.0)
    now = 0.0

    def invoke(one: FunctionVersion) -> None:
        nonlocal now
        now += 1e-6
        (command,) = core.arrived(Ticket(now + 30), one, now)
        assert isinstance(command, Run)
        core.settled(command.instance, now)
        core.idled(command.instance, now)

    def some() -> None:
        for number in range(EACH):
            invoke(versions[number % functions])

    return min(timeit.repeat(some, number=1, repeat=ROUNDS)) / EACH * 1e6


def _started(core: Core, commands: Any) -> Instance:
    """Perform what a first invocation takes."""
    backlog: list[Command] = list(commands)
    while True:
        command = backlog.pop(0)
        if isinstance(command, Make):
            backlog += core.made(command.instance, 0.0)
        elif isinstance(command, Specialise):
            backlog += core.started(command.instance, 0.0)
        elif isinstance(command, Run):
            return command.instance


if __name__ == "__main__":
    print(f"a warm invocation through the gateway's layers: {uvloop.run(gateway()):.1f} µs")
    for count in (1, 10, 10_000):
        print(f"of it decisions, with {count} functions: {decisions(count):.2f} µs")
