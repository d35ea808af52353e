"""A machine that is asked for more than it can do: the real scheduler core in virtual time, with sandboxes that only take time.

What is offered comes at random (Poisson) and does not wait for answers, for functions of which one may be asked for far more
than all others. What is done counts; what is refused costs nothing here, as it costs a real gateway little.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from gateway.cli.bench.decisions import version
from gateway.scheduler.commands import Announce, Command, Freeze, Make, Run, Specialise, Stop
from gateway.scheduler.core import Core
from gateway.scheduler.policy import MIB, Policy
from gateway.scheduler.state import Instance
from gateway.scheduler.waiting import Ticket
from sandbox.spec import StemKey

SANDBOXES: Final = 40  #: that the machine's memory holds
FUNCTIONS: Final = 10
RUN_S: Final = 0.05  #: mean of an invocation
INIT_S: Final = 0.1
MAKE_S: Final = 0.007
STOP_S: Final = 0.002
WAIT_S: Final = 2.0  #: that a caller allows
USED_BYTES: Final = 30 * MIB
CAPACITY: Final = SANDBOXES / RUN_S  #: invocations a second, if nothing were ever started


class Call(Ticket):
    """One invocation: when it came, and of which function."""

    __slots__ = ("came_s", "function")

    def __init__(self, function: int, now: float) -> None:
        super().__init__(now + WAIT_S)
        self.function = function
        self.came_s = now


@dataclasses.dataclass(slots=True)
class Result:
    """What came of a load."""

    seconds: float
    offered: list[int]  #: by function
    done: list[int]  #: by function
    waited_s: list[float] = dataclasses.field(default_factory=list)  #: for a sandbox, of those that got one

    @property
    def goodput(self) -> float:
        """Invocations done, a second."""
        return sum(self.done) / self.seconds

    def served(self, function: int) -> float:
        """The share of what one function was asked for."""
        return self.done[function] / max(1, self.offered[function])

    @property
    def wait_p99_s(self) -> float:
        return sorted(self.waited_s)[int(0.99 * len(self.waited_s))] if self.waited_s else 0.0


class Machine:
    """Performs commands; `shares` says how much of what is offered is each function's. `now` is its time."""

    def __init__(self, shares: Sequence[float], seed: int = 0) -> None:
        self._shares = list(shares)
        self._random = random.Random(seed)
        memory_bytes = SANDBOXES * 128 * MIB + 4 * 8 * MIB
        self.core = Core(Policy(memory_bytes=memory_bytes, concurrency=1000, request_rate=0, scaling_rate=0))
        self.versions = [version(f"function-{number}") for number in range(len(shares))]
        self._events: list[tuple[float, int, Callable[[float], Sequence[Command]]]] = []
        self._order = itertools.count()
        self.now = 0.0
        self._result = self._new(1.0)
        for one in self.versions:
            self.perform(self.core.used(StemKey(one.runtime, one.architecture), 1, 0.0))

    def offer(self, rate: float, seconds: float) -> Result:
        """So many invocations a second for so long, after a second in which it gets used to that."""
        self._result = self._new(1.0)
        self._until(self.now + 1.0, rate)
        self._result = result = self._new(seconds)
        self._until(self.now + seconds, rate)
        return result

    def _new(self, seconds: float) -> Result:
        none = [0] * len(self._shares)
        return Result(seconds, none.copy(), none.copy())

    def _until(self, end_s: float, rate: float) -> None:
        next_s = self.now + self._random.expovariate(rate)
        while True:
            event_s = self._events[0][0] if self._events else end_s
            wake_s = self.core.wake_s
            at_s = min(next_s, event_s, wake_s)
            if at_s >= end_s:
                self.now = end_s
                return
            self.now = max(self.now, at_s)
            if at_s == next_s:
                self._arrive()
                next_s = self.now + self._random.expovariate(rate)
            elif at_s == event_s:
                self.perform(heapq.heappop(self._events)[2](self.now))
            else:
                self.perform(self.core.tick(self.now))

    def _arrive(self) -> None:
        (number,) = self._random.choices(range(len(self._shares)), self._shares)
        self._result.offered[number] += 1
        self.perform(self.core.arrived(Call(number, self.now), self.versions[number], self.now))

    def _later(self, delay_s: float, event: Callable[[float], Sequence[Command]]) -> None:
        heapq.heappush(self._events, (self.now + delay_s, next(self._order), event))

    def perform(self, commands: Sequence[Command]) -> None:
        core = self.core
        backlog = deque(commands)
        while backlog:
            match backlog.popleft():
                case Make(instance):
                    self._later(MAKE_S, functools.partial(core.made, instance))
                case Specialise(instance):
                    self._later(INIT_S, functools.partial(core.started, instance))
                case Freeze(instance):
                    backlog += core.measured(instance, USED_BYTES, self.now)
                case Stop(instance):
                    self._later(STOP_S, functools.partial(core.stopped, instance))
                case Announce():
                    pass
                case Run(ticket, instance):
                    assert isinstance(ticket, Call)
                    self._result.waited_s.append(self.now - ticket.came_s)
                    self._later(self._random.expovariate(1 / RUN_S), functools.partial(self._answer, ticket, instance))

    def _answer(self, call: Call, instance: Instance, now: float) -> Sequence[Command]:
        self._result.done[call.function] += 1
        self.core.settled(instance, now)
        return self.core.idled(instance, now)


@dataclasses.dataclass(frozen=True, slots=True)
class Overload:
    """What four times as much as the machine can do comes to."""

    peak: float  #: the highest goodput of loads from half to one and a half times the capacity, invocations a second
    goodput: float  #: at four times the capacity
    wait_p99_s: float  #: of what was accepted then
    neighbour: float  #: of functions that ask for little while one floods the machine: the share that is served


def measure(seconds: float = 20.0) -> Overload:
    even = [1.0] * FUNCTIONS
    peak = max(Machine(even).offer(factor * CAPACITY, seconds).goodput for factor in (0.5, 0.8, 1.0, 1.2, 1.5))
    over = Machine(even).offer(4 * CAPACITY, seconds)
    flood = Machine([4.0, *[0.01] * (FUNCTIONS - 1)]).offer(4 * CAPACITY, seconds)
    served = min(flood.served(number) for number in range(1, FUNCTIONS))
    return Overload(peak, over.goodput, over.wait_p99_s, served)
