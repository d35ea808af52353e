"""Sandboxes that do not exist: they have the manners and the timing of real ones, and neither processes nor I/O.

`FakeHost.open` stands where the pool calls `driver.create` and `Sandbox.open`; its sandboxes have exactly the members of
`sandbox.sandbox.Sandbox`. They use the running loop's `call_later` only, so a loop under virtual time simulates
an hour in a second. What they do is decided by `Behaviour`, whose fields may be changed at any time and whose `run` is asked for
each invocation. They check their user: work for a sandbox that is busy or not initialised raises `AssertionError` at once, which
is how a simulation finds a pool that gives one sandbox to two invocations.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import itertools
from collections.abc import Callable
from typing import Any, Final

from sandbox.errors import SandboxError, SandboxGone
from sandbox.log import Log
from sandbox.outcome import Outcome, Status, Work
from sandbox.spec import FunctionSpec, StemKey

MIB = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one invocation comes to. Longer than the function's timeout becomes TIMEOUT by itself."""

    run_s: float = 0.01
    finish_s: float = 0.0  #: from the answer until the environment asks for `next`; 0 is in the same step
    status: Status = Status.SUCCESS
    payload: bytes = b"null"
    error_type: str | None = None
    gone: bool = False  #: the sandbox dies after `run_s`: FAILURE, then `on_gone`
    memory_bytes: int | None = None  #: what the sandbox uses from then on; None leaves it


class PlainLog:
    """All that is told about a sandbox, as bytes and in one place."""

    def __init__(self, write: Callable[[bytes], None] = lambda data: None) -> None:
        self.output = write
        self.platform: Callable[[str], None] = lambda line: write(line.encode() + b"\n")
        self.extension: Callable[[str], None] = self.platform


def _run(work: Work) -> Run:
    return Run()


LINGERING_S: Final = 0.5  #: a stop that takes as long is one with extensions


@dataclasses.dataclass(slots=True, kw_only=True)
class Behaviour:
    """How the sandboxes of a `FakeHost` behave; all durations in seconds."""

    create_s: float = 0.007
    init_s: float = 0.1
    reset_s: float = 0.01
    stop_s: float = 0.002
    stem_bytes: int = 3 * MIB
    idle_bytes: int = 30 * MIB  #: used after Init
    run: Callable[[Work], Run] = _run
    create_error: Callable[[StemKey], SandboxError | None] = lambda key: None  #: raised by `open` after `create_s`
    init_error: Callable[[FunctionSpec], SandboxError | None] = lambda spec: None  #: raised by `init` after `init_s`: ours
    init_fails: Callable[[FunctionSpec], bool] = lambda spec: False  #: the function's Init fails: the first invocation repeats it


class FakeState(enum.Enum):
    STEM = "stem"
    INIT = "init"
    READY = "ready"
    BUSY = "busy"  #: from `invoke` until `on_idle`
    FROZEN = "frozen"
    GONE = "gone"  #: died, or stopped


class FakeHost:
    """Makes fake sandboxes and remembers those that live, so that a test can ask what is left.

    `live` holds every sandbox that was opened and not stopped yet, also the dead ones nobody stopped.
    """

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or Behaviour()
        self.live: dict[str, FakeSandbox] = {}
        self.opened = 0
        self.invoked = 0
        self._ids = itertools.count(1)

    async def open(self, key: StemKey) -> FakeSandbox:
        """A stem after `create_s`. Raises what `create_error` says. Cancelled, it leaves nothing."""
        await asyncio.sleep(self.behaviour.create_s)
        error = self.behaviour.create_error(key)
        if error is not None:
            raise error
        sandbox = FakeSandbox(f"fake-{next(self._ids)}", key, self)
        self.live[sandbox.id] = sandbox
        self.opened += 1
        return sandbox

    def memory_bytes(self) -> int:
        """What all living sandboxes use together."""
        return sum(sandbox.memory_bytes() for sandbox in self.live.values())


class FakeSandbox:
    """One of a `FakeHost`'s sandboxes; see `sandbox.sandbox.Sandbox` for what the members promise."""

    __slots__ = (
        "_host",
        "_hurried",
        "_needs_init",
        "_settled",
        "_stopping",
        "_timer",
        "_used_bytes",
        "_work",
        "id",
        "init_s",
        "invocations",
        "key",
        "on_gone",
        "on_idle",
        "rehearsed",
        "spec",
        "state",
    )

    def __init__(self, id: str, key: StemKey, host: FakeHost) -> None:
        self.id = id
        self.key = key
        self.spec: FunctionSpec | None = None
        # Any, because the type of a callback is invariant: so a user may say "anything like a sandbox" in its Protocol.
        self.on_idle: Callable[[Any], None] = lambda sandbox: None
        self.on_gone: Callable[[Any, str], None] = lambda sandbox, reason: None
        self.state = FakeState.STEM
        self.invocations = 0
        self.rehearsed = False  #: it was told, as a stem, that nobody waits for it
        self.init_s: float | None = None
        self._host = host
        self._needs_init = False
        self._hurried = False
        self._settled: Callable[[Outcome], None] | None = None
        self._stopping: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._used_bytes = host.behaviour.stem_bytes
        self._work: Work | None = None

    def __repr__(self) -> str:
        return f"<FakeSandbox {self.id} {self.spec.name if self.spec else '-'} {self.state.value} {self.invocations} invocations>"

    @property
    def initialised(self) -> bool:
        return not self._needs_init

    async def init(self, spec: FunctionSpec, log: Log) -> None:
        """Takes `init_s`; raises SandboxGone when stopped or dead meanwhile, or what `init_error` says."""
        if self.state is FakeState.GONE:
            raise SandboxGone
        assert self.state is FakeState.STEM, f"second init of {self!r}"
        assert spec.stem == self.key, f"{spec.stem} given to {self!r}"
        self.spec = spec
        self.state = FakeState.INIT
        behaviour = self._host.behaviour
        await asyncio.sleep(behaviour.init_s)
        if self.state is not FakeState.INIT:
            raise SandboxGone
        error = behaviour.init_error(spec)
        if error is not None:
            self.state = FakeState.GONE
            raise error
        self._needs_init = behaviour.init_fails(spec)
        self.init_s = None if self._needs_init else behaviour.init_s
        self._used_bytes = behaviour.idle_bytes
        self.state = FakeState.READY

    def rehearse(self) -> None:
        """Only what is a stem has the time."""
        if self.state is FakeState.STEM:
            self.rehearsed = True

    def invoke(self, work: Work, settled: Callable[[Outcome], None]) -> bool:
        """Raises SandboxGone when it died or was stopped before: then nothing was begun, and `settled` is never called."""
        if self.state is FakeState.GONE:
            raise SandboxGone
        assert self.state in (FakeState.READY, FakeState.FROZEN), f"invoke on {self!r}"
        assert self.spec is not None
        self.state = FakeState.BUSY
        self.invocations += 1
        self._host.invoked += 1
        self._work, self._settled = work, settled
        run = self._host.behaviour.run(work)
        loop = asyncio.get_running_loop()
        begun = not self._needs_init
        if self._needs_init:
            self._needs_init = False
            if work.on_begun is not None:
                loop.call_later(self._host.behaviour.init_s, work.on_begun)
            run = dataclasses.replace(run, run_s=run.run_s + self._host.behaviour.init_s)
        if run.run_s > work.timeout_s:
            reset_s = self._host.behaviour.reset_s
            run = Run(run_s=work.timeout_s, finish_s=reset_s, status=Status.TIMEOUT, error_type="Sandbox.Timedout")
            self._needs_init = True
        self._timer = loop.call_later(run.run_s, self._answered, run)
        return begun

    def freeze(self) -> None:
        """Idempotent; harmless on a dead sandbox."""
        assert self.state is not FakeState.BUSY, f"freeze of {self!r}"
        if self.state is FakeState.READY:
            self.state = FakeState.FROZEN

    @property
    def lingers(self) -> bool:
        return self._host.behaviour.stop_s >= LINGERING_S

    @property
    def first_byte_s(self) -> float | None:
        """Its answers come in one piece."""
        return None

    @property
    def streamed_bytes(self) -> int:
        return 0

    def memory_bytes(self) -> int:
        return 0 if self.state is FakeState.GONE else self._used_bytes

    async def stop(self) -> None:
        """Takes `stop_s`; idempotent, and cancelling it does not stop it. Work in hand settles as FAILURE before."""
        if self._stopping is None:
            loop = asyncio.get_running_loop()
            self._stopping = loop.create_future()
            self._fail("stopped")
            self._timer = loop.call_later(0 if self._hurried else self._host.behaviour.stop_s, self._stopped)
        await asyncio.shield(self._stopping)

    def hurry(self) -> None:
        """What it has left of `stop_s` is over."""
        self._hurried = True
        if self._stopping is not None and self._timer is not None:
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(0, self._stopped)

    def die(self, reason: str = "init was killed") -> None:
        """What a test calls: the sandbox goes away by itself, whatever it is doing. Work settles first, then `on_gone`."""
        if self.state is FakeState.GONE:
            return
        in_init = self.state is FakeState.INIT  # then `init` raises and that is the news
        self._fail(reason)
        if not in_init:
            self.on_gone(self, reason)

    def _answered(self, run: Run) -> None:
        assert self._work is not None
        assert self._settled is not None
        work, settled = self._work, self._settled
        if run.memory_bytes is not None:
            self._used_bytes = run.memory_bytes
        if run.gone:
            self.die("killed while it ran")
            return
        self._work = self._settled = None
        outcome = self._outcome(work, run.status, run.run_s, run.error_type, run.payload)
        outcome.init_s, self.init_s = self.init_s, None
        if run.finish_s:
            self._timer = asyncio.get_running_loop().call_later(run.finish_s, self._idle)
            settled(outcome)
        else:
            settled(outcome)
            self._idle()

    def _idle(self) -> None:
        if self.state is FakeState.BUSY:  # else it was stopped from within `settled`
            self._timer = None
            self.state = FakeState.READY
            self.on_idle(self)

    def _fail(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.state = FakeState.GONE
        work, settled = self._work, self._settled
        self._work = self._settled = None
        if work is not None and settled is not None:
            settled(self._outcome(work, Status.FAILURE, 0.0, "Sandbox.Failure", reason.encode()))

    def _stopped(self) -> None:
        self._timer = None
        self._host.live.pop(self.id, None)
        assert self._stopping is not None
        self._stopping.set_result(None)

    def _outcome(
        self, work: Work, status: Status, duration_s: float, error_type: str | None, payload: bytes = b"null"
    ) -> Outcome:
        return Outcome(
            status=status, payload=payload, error_type=error_type, duration_s=duration_s, max_memory_bytes=self._used_bytes
        )
