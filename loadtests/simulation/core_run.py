"""A trace through the scheduler's core alone: commands are performed by a heap of what is to happen when.

It is the core that decides in the gateway, with nothing of it replaced; the pool, the invoker and the event loop are left out. So
it is the quickest way to ask which decisions are right.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Sequence

from gateway.records import FunctionVersion
from gateway.scheduler.commands import Command, Freeze, Make, Refuse, Run, Specialise, Stop
from gateway.scheduler.core import Core
from gateway.scheduler.policy import Policy
from gateway.scheduler.state import Instance
from gateway.scheduler.waiting import Ticket
from loadtests.simulation.measures import Measures
from loadtests.simulation.trace import Trace
from loadtests.simulation.versions import ARCHITECTURE, RUNTIME, Machine, used_bytes, version
from sandbox.spec import StemKey

EVERY = 8192  #: invocations between two reports of progress
MADE, STARTED, ANSWERED, STOPPED = range(4)


class Call(Ticket):
    """One invocation of the trace."""

    __slots__ = ("arrived_s", "run_s")

    def __init__(self, arrived_s: float, run_s: float, deadline_s: float) -> None:
        super().__init__(deadline_s)
        self.arrived_s = arrived_s
        self.run_s = run_s


class CoreRun:
    """One run; `measures` is complete when `play` has returned."""

    def __init__(self, trace: Trace, policy: Policy, machine: Machine) -> None:
        self.measures = Measures(policy.keep_alive, policy.memory_bytes)
        self.core = Core(policy)
        self._trace = trace
        self._machine = machine
        self._versions: list[FunctionVersion | None] = [None] * len(trace.functions)  # made when they are called
        self._used: dict[str, int] = {}
        self._events: list[tuple[float, int, int, Instance]] = []
        self._order = 0
        self._ready_s: dict[Instance, float] = {}  # of those that were not used yet
        self._now = 0.0

    def play(self, progress: Callable[[int], None] = lambda done: None) -> Measures:
        """Run the whole trace. `progress` is told now and then how many invocations are done."""
        began_s = time.perf_counter()
        core, machine, measures, versions = self.core, self._machine, self.measures, self._versions
        stem = StemKey(RUNTIME, ARCHITECTURE)
        self._perform(core.used(stem, len(versions), 0.0), 0.0)
        budget = core.budget
        supply = core.supplies[stem]
        stem_bytes = core.policy.stem_bytes
        for done, (arrived_s, number, run_s) in enumerate(self._trace):
            if core.wake_s <= arrived_s or (self._events and self._events[0][0] <= arrived_s):
                self._until(arrived_s)
            measures.wasted_byte_s += (budget.idle_bytes - len(supply.ready) * stem_bytes) * (arrived_s - self._now)
            self._now = arrived_s
            one = versions[number]
            if one is None:
                one = versions[number] = self._called(number)
            call = Call(arrived_s, run_s, arrived_s + machine.queue_wait_s)
            commands = core.arrived(call, one, arrived_s)
            if commands:
                self._perform(commands, arrived_s)
            if not done % EVERY:
                progress(done)
        measures.invocations = len(self._trace)
        measures.duration_s = self._trace.duration_s
        measures.prewarms = core.tallies.totals.prewarms
        measures.evictions = sum(core.tallies.totals.evictions.values())
        wasted_byte_s = measures.wasted_byte_s
        self._until(self._trace.duration_s + machine.queue_wait_s)  # who came last may wait still
        measures.wasted_byte_s = wasted_byte_s
        measures.took_s = time.perf_counter() - began_s
        progress(measures.invocations)
        return measures

    def _called(self, number: int) -> FunctionVersion:
        """A function is called for the first time."""
        function = self._trace.functions[number]
        self._used[function.name] = used_bytes(function)
        return version(function)

    def _until(self, end_s: float) -> None:
        """Whatever happens until then."""
        core, events, measures = self.core, self._events, self.measures
        budget = core.budget
        (supply,) = core.supplies.values()
        stem_bytes = core.policy.stem_bytes
        while True:
            due_s = events[0][0] if events else math.inf
            wake_s = core.wake_s
            now = min(due_s, wake_s)
            if now > end_s:
                return
            if now < self._now:
                now = self._now
            measures.wasted_byte_s += (budget.idle_bytes - len(supply.ready) * stem_bytes) * (now - self._now)
            self._now = now
            if wake_s < due_s:
                commands = core.tick(now)
                if commands:
                    self._perform(commands, now)
                continue
            _, _, kind, instance = heapq.heappop(events)
            if kind == ANSWERED:
                core.settled(instance, now)
                commands = core.idled(instance, now)
            elif kind == STARTED:
                self._ready_s[instance] = now
                measures.starts += 1
                commands = core.started(instance, now)
            elif kind == MADE:
                commands = core.made(instance, now)
            else:
                commands = core.stopped(instance, now)
            if commands:
                self._perform(commands, now)
            if budget.used_bytes > measures.most_bytes:
                measures.most_bytes = budget.used_bytes

    def _perform(self, commands: Sequence[Command], now: float) -> None:
        machine = self._machine
        for command in commands:
            match command:
                case Run(ticket, instance):
                    assert isinstance(ticket, Call)
                    self._begun(ticket, instance, now)
                    self._later(now + ticket.run_s, ANSWERED, instance)
                case Freeze(instance):
                    more = self.core.measured(instance, self._used[instance.group.key[0]], now)
                    if more:
                        self._perform(more, now)
                case Make(instance):
                    self._later(now + machine.create_s, MADE, instance)
                case Specialise(instance):
                    self._later(now + machine.init_s, STARTED, instance)
                case Stop(instance):
                    self._ready_s.pop(instance, None)
                    self._later(now + machine.stop_s, STOPPED, instance)
                case Refuse():
                    self.measures.refused += 1

    def _begun(self, call: Call, instance: Instance, now: float) -> None:
        ready_s = self._ready_s.pop(instance, None) if self._ready_s else None
        if ready_s is not None and ready_s > call.arrived_s:
            self.measures.cold += 1
        if now > call.arrived_s:
            self.measures.waits_s.append(now - call.arrived_s)

    def _later(self, due_s: float, kind: int, instance: Instance) -> None:
        self._order += 1
        heapq.heappush(self._events, (due_s, self._order, kind, instance))
