"""Performs what the scheduler decides, and tells it what came of that.

Everything happens in the event loop's thread. An event of the scheduler and the commands that it returns are one step without an
await, so nobody ever sees a sandbox that is promised and not yet busy. Performing a command may be an event itself (a sandbox
that turns out dead): its commands go to the end of the backlog, so that all are performed in the order in which they were
decided.

What takes time is done by tasks, one a sandbox and errand: making a stem, Init, stopping. Freezing does not: it is one write, 0.1
ms, and comes from the one timer, a few at a time.

A client that left is not a function cancelled: once its event is handed over an invocation runs to its end, and only the answer
is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gateway.clock import Clock
from gateway.control.provisioning import targets
from gateway.pool.held import Held, Logs, Request, SandboxLike, spec_of
from gateway.pool.usage import Usage, usage
from gateway.records import Function, FunctionVersion
from gateway.scheduler.commands import Announce, Command, Freeze, Hurry, Make, Refuse, Run, Specialise, Stop, Why
from gateway.scheduler.core import Core
from gateway.scheduler.group import Group
from gateway.scheduler.keepalive.overrides import Keep, keep_of
from gateway.scheduler.policy import Policy
from gateway.scheduler.provision import InitFailed, Standing
from gateway.scheduler.state import Instance, State
from gateway.tally import Tallies
from sandbox.errors import DriverUnavailable, RuntimeUnavailable, SandboxError, SandboxGone
from sandbox.spec import StemKey
from sandbox.tasks import Tasks

_log = logging.getLogger(__name__)

_RESERVED, _STOPPING = State.RESERVED, State.STOPPING  # Python 3.11 takes 66 ns to read a member off its enum


class Pool:
    """All sandboxes of this gateway.

    `open_sandbox` makes a stem; it raises DriverUnavailable for what may be better soon, RuntimeUnavailable for what will not,
    and leaves nothing behind when it raises or is cancelled. `code_path` is where a key's unpacked code is. What happens is
    counted in `tallies`. `failed` is told of faults of our own in a task: the pool goes on, but what the task was for is lost.
    """

    def __init__(
        self,
        *,
        open_sandbox: Callable[[StemKey], Awaitable[SandboxLike]],
        code_path: Callable[[str], str],
        logs: Logs,
        clock: Clock,
        policy: Policy,
        tallies: Tallies | None = None,
        failed: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._open_sandbox = open_sandbox
        self._code_path = code_path
        self._logs = logs
        self._clock = clock
        self._now = clock.monotonic
        self._tallies = Tallies() if tallies is None else tallies
        self._core = Core(policy, self._tallies)
        #: told the name of a function of which a version's provisioned concurrency is ready, or has failed
        self.on_provisioned: Callable[[str], None] = lambda name: None
        self._held: dict[Instance, Held] = {}
        self._backlog: deque[Command] = deque()
        self._performing = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed_s = math.inf
        self._makers = Tasks(failed or _task_failed)
        self._workers = Tasks(failed or _task_failed)
        self._drained: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Pool {self._core!r} {len(self._held)} held, {len(self._makers) + len(self._workers)} tasks>"

    @property
    def in_flight(self) -> int:
        """Invocations that were let in and whose sandboxes have not finished with them."""
        return self._core.in_flight

    # --- what others tell

    def submit(self, request: Request) -> None:
        """Find a sandbox for an invocation: at once if one is warm, else when there is one."""
        now = self._now()
        self._perform(self._core.arrived(request, request.version, now), now)

    def leave(self, request: Request) -> None:
        """Its caller does not want it any more. What has begun runs on."""
        now = self._now()
        self._perform(self._core.left(request, now), now)

    def settled(self, held: Held) -> None:
        """The answer of the invocation that this sandbox works on is there."""
        if held.instance.state is _RESERVED:  # else it is being stopped, and that ended its work
            self._core.settled(held.instance, self._now())

    def function_changed(self, old: Function | None, new: Function | None) -> None:
        """A function was created (`old` is None), changed, or deleted (`new` is None); for `Catalog.subscribe`.

        Keeps stems for the runtimes in use, and lets go of sandboxes that run old code or configuration.
        """
        now = self._now()
        core = self._core
        before = old.versions if old is not None else {}
        after = new.versions if new is not None else {}
        for number, version in before.items():
            successor = after.get(number)
            if successor is None or successor.generation != version.generation:
                self._perform(core.retired((version.name, version.version, version.generation), now), now)
        # New ones first, so that stems of a runtime that stays in use are not let go in between.
        for number, version in after.items():
            if number not in before or before[number].stem != version.stem:
                self._perform(core.used(version.stem, 1, now), now)
        for number, version in before.items():
            if number not in after or after[number].stem != version.stem:
                self._perform(core.used(version.stem, -1, now), now)
        had, wanted = targets(old), targets(new)
        for number, count in wanted.items():  # raised before others are lowered: what both can use changes hands
            if count != had.get(number, 0):
                self._perform(core.provisioned(after[number], count, now), now)
        for number in had:
            if number not in wanted and number in after:
                self._perform(core.provisioned(after[number], 0, now), now)
        function = new or old
        reserved = new.reserved_concurrency if new is not None else None
        if function is not None and reserved != (old.reserved_concurrency if old is not None else None):
            self._perform(core.reserved(function.name, reserved, now), now)
        if function is not None and (keep := _keep(new)) != _keep(old):
            self._perform(core.kept(function.name, keep, now), now)
        if old is not None and new is None:
            self._tallies.forget(old.name)

    def pressed(self) -> None:
        """The host lacks memory: some frozen sandboxes are let go."""
        now = self._now()
        self._perform(self._core.pressed(now), now)

    def standing(self, version: FunctionVersion) -> Standing | None:
        """How far a version's provisioned concurrency is, if it has any."""
        return self._core.standing((version.name, version.version, version.generation))

    def snapshot(self) -> dict[str, Any]:
        """What there is now, as plain values, for people and benchmarks. Looks at every sandbox: not for the hot path."""
        core = self._core
        states = Counter(instance.state.value for instance in self._held)
        functions: dict[str, Counter[str]] = {}
        for instance in self._held:
            group: Group | None = getattr(instance, "group", None)  # a stem has none
            if group is not None:
                functions.setdefault(group.version.name, Counter())[instance.state.value] += 1
        stems: Counter[str] = Counter()
        for key, supply in core.supplies.items():
            stems[key.name] += len(supply.ready)
        if making := sum(supply.making for supply in core.supplies.values()):
            states[State.MAKING.value] = making
        return {
            "sandboxes": dict(states),
            "functions": {name: dict(counts) for name, counts in functions.items()},
            "stems": dict(stems),
            "waiting": core.waiting,
            "running": core.in_flight - core.waiting,
            "concurrency_limit": core.admission.account.limit,
            "memory": {"used_bytes": core.budget.used_bytes, "budget_bytes": core.budget.total_bytes},
        }

    def usage(self) -> dict[str, Usage]:
        """What each function that has anything here has of it. Looks at every sandbox: not for the hot path."""
        return usage(self._held, self._core.groups.values())

    async def close(self, budget_s: float) -> None:
        """Let nobody in, finish within `budget_s` what was let in, stop everything. After it no sandbox and no task is left.

        Cancelled, it has not: it is to be called again.
        """
        now = self._now()
        loop = asyncio.get_running_loop()
        self._drained = loop.create_future()
        self._perform(self._core.closed(now), now)
        if budget_s > 0:
            await asyncio.wait([self._drained], timeout=budget_s)
        now = self._now()
        self._perform(self._core.abandoned(now), now)
        for instance in list(self._held):
            if instance.state is not State.STOPPING:
                self._perform(self._core.died(instance, now), now)
        self._makers.cancel()
        await self._makers.join()
        await self._workers.join()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._armed_s = math.inf

    # --- what sandboxes tell

    def _idled(self, sandbox: SandboxLike, held: Held) -> None:
        if held.instance.state is not _STOPPING:
            now = self._now()
            if held.instance.provisioned and not sandbox.initialised:  # it was reset, and would be cold: another one is not
                self._perform(self._core.died(held.instance, now), now)
                return
            self._perform(self._core.idled(held.instance, now), now)

    def _gone(self, sandbox: SandboxLike, reason: str, held: Held) -> None:
        if held.instance.state is not State.STOPPING:
            _log.warning("sandbox %s is gone: %s", sandbox.id, reason, extra=_of(held))
            self._tallies.totals.lost += 1
            now = self._now()
            self._perform(self._core.died(held.instance, now), now)

    # --- commands

    def _perform(self, commands: Sequence[Command], now: float) -> None:
        """Perform commands, and see to the timer; to be called after each event of the core."""
        if commands:
            self._backlog.extend(commands)
            if not self._performing:
                self._performing = True
                try:
                    while self._backlog:
                        self._do(self._backlog.popleft(), now)
                finally:
                    self._performing = False
        if self._core.wake_s < self._armed_s:
            self._arm(now)
        if self._drained is not None and not self._drained.done() and not self._core.in_flight:
            self._drained.set_result(None)

    def _do(self, command: Command, now: float) -> None:
        match command:
            case Run():
                request = command.ticket
                assert isinstance(request, Request)
                self._run(request, self._held[command.instance], now)
            case Make(instance):
                self._makers.start(self._make(instance), f"make {instance.number}")
            case Specialise(instance):
                self._workers.start(self._start(self._held[instance]), f"start {instance.number}")
            case Freeze(instance):
                sandbox = self._held[instance].sandbox
                sandbox.freeze()
                self._perform(self._core.measured(instance, sandbox.memory_bytes(), now), now)
            case Stop(instance):
                held = self._held[instance]
                self._workers.start(self._stop(held), f"stop {instance.number}")
                if held.sandbox.lingers:
                    self._perform(self._core.weighed(instance, held.sandbox.memory_bytes(), now), now)
            case Hurry(instance):
                self._held[instance].sandbox.hurry()
            case Refuse(request, why, error, retry_s):
                assert isinstance(request, Request)
                request.refused(why, error, retry_s)
            case Announce(version):
                self.on_provisioned(version.name)

    def _run(self, request: Request, held: Held, now: float) -> None:
        if held.instance.provisioned and not held.sandbox.initialised and not request.attempts:
            # Its runtime ended while it was idle. Another one has been through Init, most likely; if not, this runs Init again.
            self._perform(self._core.missed(request, held.instance, now), now)
            return
        try:
            request.run(held)
        except SandboxGone:
            self._perform(self._core.missed(request, held.instance, now), now)
        except Exception as error:  # ours; the sandbox may be in any state
            _log.exception("could not hand an event to %s", held.sandbox.id)
            request.refused(Why.FAILED, error, None)
            held.instance.group.tally.not_run.add(Why.FAILED.name.lower())
            self._perform(self._core.died(held.instance, now), now)

    async def _make(self, instance: Instance) -> None:
        asked_s = self._now()
        try:
            sandbox = await self._open_sandbox(instance.stem)
        except asyncio.CancelledError:
            now = self._now()
            self._perform(self._core.make_failed(instance, now, DriverUnavailable(), final=False), now)
            raise
        except Exception as error:
            _report(f"could not make a sandbox for {instance.stem.name}", error)
            now = self._now()
            final = isinstance(error, RuntimeUnavailable)
            self._perform(self._core.make_failed(instance, now, error, final=final), now)
            return
        # atomic: no await
        held = self._held[instance] = Held(instance, sandbox)
        sandbox.on_idle = lambda sandbox: self._idled(sandbox, held)
        sandbox.on_gone = lambda sandbox, reason: self._gone(sandbox, reason, held)
        now = self._now()
        self._tallies.totals.make_s.add(now - asked_s)
        self._perform(self._core.made(instance, now), now)
        if instance.state is State.STEM:  # nobody took it at once
            sandbox.rehearse()

    async def _start(self, held: Held) -> None:
        instance = held.instance
        version = instance.group.version
        try:
            spec = spec_of(version, self._code_path, self._clock.wall(), provisioned=instance.provisioned)
            held.log = self._logs.open(version.name, spec.log_group, spec.log_stream, version.logging)
            await held.sandbox.init(spec, held.log)
            if instance.provisioned and not held.sandbox.initialised:
                raise InitFailed
        except Exception as error:
            if instance.state is not State.STARTING:  # it was told to stop
                return
            _report(f"could not start {version.name}:{version.version} in {held.sandbox.id}", error, held)
            now = self._now()
            later = isinstance(error, DriverUnavailable)
            final = not isinstance(error, SandboxGone | DriverUnavailable | InitFailed)
            self._perform(self._core.start_failed(instance, now, error, final=final, later=later), now)
            return
        if instance.state is State.STARTING:
            now = self._now()
            self._perform(self._core.started(instance, now), now)

    async def _stop(self, held: Held) -> None:
        await held.sandbox.stop()
        held.log.close()
        del self._held[held.instance]
        now = self._now()
        self._perform(self._core.stopped(held.instance, now), now)

    # --- time

    def _arm(self, now: float) -> None:
        """One timer for all: set to when the core wants its next tick."""
        if self._timer is not None:
            self._timer.cancel()
        self._armed_s = self._core.wake_s
        self._timer = asyncio.get_running_loop().call_later(max(0.0, self._armed_s - now), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._armed_s = math.inf
        now = self._now()
        self._perform(self._core.tick(now), now)


def _keep(function: Function | None) -> Keep | None:
    """What a function's tags say about idle sandboxes. What they cannot say was refused when they were set."""
    try:
        return keep_of(function.tags) if function is not None else None
    except ValueError as error:
        _log.warning("%s: %s", function.name if function is not None else "", error)
        return None


def _of(held: Held | None) -> dict[str, str | None] | None:
    """What a line in the log is about."""
    if held is None:
        return None
    group: Group | None = getattr(held.instance, "group", None)  # a stem has none
    return {"sandbox": held.sandbox.id, "function": None if group is None else group.version.name}


def _report(what: str, error: Exception, held: Held | None = None) -> None:
    """What the sandbox layer foresees is a line, anything else is a fault of ours."""
    if isinstance(error, SandboxError | InitFailed):
        _log.warning("%s: %s", what, error, extra=_of(held))
    else:
        _log.error("%s", what, exc_info=error, extra=_of(held))


def _task_failed(error: BaseException) -> None:
    _log.critical("a task of the pool failed", exc_info=error)
