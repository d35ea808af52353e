"""A trace through pool and scheduler, as they are in the gateway, over sandboxes that do not exist, in virtual time.

What `core_run` leaves out is in it: the event loop, a task for every start and stop, the one timer. It says the same of a policy,
more slowly, and that it does is worth knowing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from gateway.pool.held import Held, Request
from gateway.pool.pool import Pool
from gateway.records import Function, FunctionVersion, LoggingConfig
from gateway.scheduler.commands import Why
from gateway.scheduler.policy import Policy
from gateway.tally import Tallies
from loadtests.simulation.measures import Measures
from loadtests.simulation.trace import Trace
from loadtests.simulation.versions import Machine, used_bytes, version
from loadtests.simulation.virtual_loop import VirtualClock, in_virtual_time
from sandbox.outcome import Outcome, Work
from sandbox.testing import Behaviour, FakeHost, FakeSandbox, FakeState, Run

EVERY: Final = 1024  #: invocations between two reports of progress
SAMPLE_S: Final = 60.0  #: between two looks at what is wasted
SAMPLES: Final = 20_000  #: at most so many, however long a trace takes
DRAIN_S: Final = 3600.0


class NoLogs:
    """Function logs that go nowhere."""

    def open(self, function_name: str, log_group: str, stream: str, config: LoggingConfig) -> NoLogs:
        return self

    def output(self, data: bytes) -> None: ...
    def platform(self, line: str) -> None: ...
    def extension(self, line: str) -> None: ...
    def begin(self) -> None: ...
    def tail(self) -> bytes:
        return b""

    def close(self) -> None: ...


class Call(Request):
    """One invocation of the trace."""

    __slots__ = ("arrived_s", "player", "run_s", "used_bytes")

    def __init__(self, player: PoolRun, version: FunctionVersion, used_bytes: int, arrived_s: float, run_s: float) -> None:
        super().__init__(version, arrived_s + player.machine.queue_wait_s)
        self.player = player
        self.used_bytes = used_bytes
        self.arrived_s = arrived_s
        self.run_s = run_s

    def run(self, held: Held) -> None:
        self.player.begun(self, held)

    def refused(self, why: Why, error: Exception | None, retry_s: float | None) -> None:
        self.player.measures.refused += 1


class PoolRun:
    """One run."""

    def __init__(self, trace: Trace, policy: Policy, machine: Machine) -> None:
        self.measures = Measures(policy.keep_alive, policy.memory_bytes)
        self.machine = machine
        self._trace = trace
        self._policy = policy
        self._tallies = Tallies()
        self._calls: dict[str, Call] = {}
        self._pool: Pool

    def play(self, progress: Callable[[int], None] = lambda done: None) -> Measures:
        """Run the whole trace. `progress` is told now and then how many invocations are done."""
        began_s = time.perf_counter()
        measures = in_virtual_time(lambda: self._play(progress))
        measures.took_s = time.perf_counter() - began_s
        return measures

    async def _play(self, progress: Callable[[int], None]) -> Measures:
        loop = asyncio.get_running_loop()
        machine, measures, trace = self.machine, self.measures, self._trace
        behaviour = Behaviour(
            create_s=machine.create_s,
            init_s=machine.init_s,
            stop_s=machine.stop_s,
            stem_bytes=self._policy.stem_bytes,
            run=self._run,
        )
        host = FakeHost(behaviour)
        pool = self._pool = Pool(
            open_sandbox=host.open,
            code_path=str,
            logs=NoLogs(),
            clock=VirtualClock(loop),
            policy=self._policy,
            tallies=self._tallies,
        )
        versions = [version(function) for function in trace.functions]
        used = [used_bytes(function) for function in trace.functions]
        for one in versions:
            pool.function_changed(None, Function(name=one.name, versions={one.version: one}))
        sample_s = max(SAMPLE_S, trace.duration_s / SAMPLES)
        calls = iter(trace)
        done = asyncio.Event()

        def arrive(arrived_s: float, number: int, run_s: float) -> None:
            measures.invocations += 1
            pool.submit(Call(self, versions[number], used[number], arrived_s, run_s))
            if not measures.invocations % EVERY:
                progress(measures.invocations)
            following()

        def following() -> None:
            call = next(calls, None)
            if call is None:
                done.set()
            else:
                loop.call_at(call[0], arrive, *call)

        def sample() -> None:
            idle = [
                one for one in host.live.values() if one.spec is not None and one.state in (FakeState.READY, FakeState.FROZEN)
            ]
            measures.wasted_byte_s += sum(one.memory_bytes() for one in idle) * sample_s
            measures.most_bytes = max(measures.most_bytes, host.memory_bytes())
            if not done.is_set():
                loop.call_later(sample_s, sample)

        following()
        loop.call_later(sample_s, sample)
        await done.wait()
        measures.duration_s = loop.time()
        totals = self._tallies.totals
        measures.prewarms, measures.evictions = totals.prewarms, sum(totals.evictions.values())
        measures.starts = totals.init_s.count
        await pool.close(DRAIN_S)
        progress(measures.invocations)
        return measures

    def _run(self, work: Work) -> Run:
        call = self._calls[work.request_id]
        return Run(run_s=call.run_s, memory_bytes=call.used_bytes)

    def begun(self, call: Call, held: Held) -> None:
        """The event is handed over."""
        now = asyncio.get_running_loop().time()
        request_id = str(id(call))
        self._calls[request_id] = call
        assert isinstance(held.sandbox, FakeSandbox)
        first = held.sandbox.invocations == 0

        def settled(outcome: Outcome) -> None:
            del self._calls[request_id]
            self._pool.settled(held)

        held.sandbox.invoke(
            Work(request_id=request_id, invoked_arn="", payload=b"{}", content_type="", trace_id="", timeout_s=1e9), settled
        )
        if now > call.arrived_s:
            self.measures.waits_s.append(now - call.arrived_s)
            if first:
                self.measures.cold += 1
