"""What the scheduler's decisions about one warm invocation cost, with few and with many functions: the core alone.

With many, two things are measured. Ten of them: whether anything is done more often because there are others. All of them in
random order: then each comes when the processor has long forgotten all that is known of it, and whatever is looked at comes from
memory. That costs whoever looks at anything, so a bare look-up in a dictionary is measured beside it, in the same rounds.

The calls of a function come so soon one after the other that there is nothing to learn from that. Both are measured once more
with pauses that the keep-alive policy learns from, because that is more work and looks at more.
"""

from __future__ import annotations

import dataclasses
import gc
import random
import time
from collections.abc import Sequence
from typing import Final

from gateway.records import FunctionVersion, LoggingConfig
from gateway.scheduler.commands import Command, Make, Run, Specialise, Stop
from gateway.scheduler.core import Core
from gateway.scheduler.policy import Policy
from gateway.scheduler.state import Instance
from gateway.scheduler.waiting import Ticket
from sandbox.spec import Architecture

EACH: Final = 10_000  #: decisions in a round
ROUNDS: Final = 21
GAP_S: Final = 0.1  #: between two calls of a function, in virtual time, however many there are: so the same is done for each
PAUSE_S: Final = 2.0  #: the same, of which the keep-alive policy learns


def version(name: str, memory_mb: int = 128) -> FunctionVersion:
    """A function that nobody deployed."""
    return FunctionVersion(
        account_id="000000000000",
        region="us-east-1",
        name=name,
        version="$LATEST",
        generation=1,
        runtime="python3.12",
        handler="app.handler",
        role="arn:aws:iam::000000000000:role/any",
        architecture=Architecture.X86_64,
        code_sha256="",
        code_size_bytes=1,
        code_key=name,
        memory_mb=memory_mb,
        logging=LoggingConfig(log_group=f"/aws/lambda/{name}"),
        last_modified="",
        revision_id="",
    )


class Crowd:
    """A core that `functions` functions have called, of which the last `sandboxes` still have one, warm."""

    def __init__(self, functions: int, sandboxes: int) -> None:
        self._now = 0.0
        self._core = Core(
            Policy(
                memory_bytes=1 << 60, max_sandboxes=sandboxes, concurrency=1_000_000, freeze_after_s=1e9, request_rate=0,
                scaling_rate=0, stems_min=0, stems_max=0,
            )
        )  # fmt: skip
        self._versions: list[FunctionVersion] = []
        for number in range(functions):
            one = version(f"function-{number}")
            self._versions.append(one)
            self._serve(self._core.arrived(Ticket(self._now + 30), one, self._now))
        random.Random(0).shuffle(self._versions)
        self._warm = [one for one in self._versions if (one.name, "$LATEST", 1) in self._core.groups]

    def __repr__(self) -> str:
        return f"<Crowd {len(self._versions)} functions, {len(self._warm)} with a sandbox>"

    def _serve(self, commands: Sequence[Command]) -> None:
        backlog = list(commands)
        while backlog:
            self._now += 1e-4
            match backlog.pop(0):
                case Make(instance):
                    backlog += self._core.made(instance, self._now)
                case Specialise(instance):
                    backlog += self._core.started(instance, self._now)
                case Stop(instance):
                    backlog += self._core.stopped(instance, self._now)
                case Run(_, instance):
                    self._finish(instance)

    def _finish(self, instance: Instance) -> None:
        self._core.settled(instance, self._now)
        self._core.idled(instance, self._now)

    def decide_us(self, functions: int | None = None, gap_s: float = GAP_S) -> float:
        """Microseconds of processor time for arrival, answer and end of one invocation, of so many functions in turn."""
        count = len(self._warm[:functions])
        self._decide(count, count, gap_s)  # or the first call of each came after a long pause, of which more is learned
        began_s = time.process_time()
        self._decide(count, EACH, gap_s)
        return (time.process_time() - began_s) / EACH * 1e6

    def _decide(self, functions: int, times: int, gap_s: float) -> None:
        core, warm, now = self._core, self._warm, self._now
        step_s = gap_s / functions
        for number in range(times):
            now += step_s
            (run,) = core.arrived(Ticket(now + 30), warm[number % functions], now)
            assert isinstance(run, Run)
            core.settled(run.instance, now)
            core.idled(run.instance, now)
        self._now = now

    def look_up_us(self) -> float:
        """Microseconds of a bare look-up of a version, all of those with a sandbox in turn: nothing is decided."""
        groups, warm = self._core.groups, self._warm
        count = len(warm)
        began_s = time.process_time()
        for number in range(EACH):
            one = warm[number % count]
            groups[one.name, one.version, one.generation]
        return (time.process_time() - began_s) / EACH * 1e6


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of a decision. The best of rounds that take turns: whatever else the machine does only ever adds."""

    few: float  #: with 10 functions and as many sandboxes
    among_many: float  #: with 100,000 functions and 10,000 sandboxes, for ten of these
    all_over: float  #: the same, for all 10,000 in random order
    learned_few: float  #: after a pause, with 10 functions
    learned_all_over: float  #: after a pause, of all 10,000 in random order
    look_up_few: float  #: a bare look-up, with 10 functions
    look_up_all_over: float  #: the same, of all 10,000 in random order

    @property
    def memory(self) -> float:
        """What a look-up costs more because what it looks at is in no cache."""
        return max(0.0, self.look_up_all_over - self.look_up_few)


def measure() -> Cost:
    few, many = Crowd(10, 10), Crowd(100_000, 10_000)
    gc.collect()
    gc.freeze()  # as the gateway does
    rounds = [
        (
            few.decide_us(), many.decide_us(10), many.decide_us(),
            few.decide_us(gap_s=PAUSE_S), many.decide_us(gap_s=PAUSE_S),
            few.look_up_us(), many.look_up_us(),
        )
        for _ in range(ROUNDS)
    ]  # fmt: skip
    gc.unfreeze()
    return Cost(*(min(one) for one in zip(*rounds, strict=True)))
