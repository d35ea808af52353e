"""One sandbox as the pool sees it: joins a driver's handle with the Runtime API, and turns what happens into outcomes.

All of it runs in the event loop, and each callback is one atomic step: there is no lock, and every race is an order of steps.

- *Exit overtakes answer.* The runtime's end is reported by another way than its answer. When it ends with work in hand, the
  kernel's order is waited for: its connections close after their last byte, so the answer counts if it was sent.
  EXIT_GRACE_S bounds the wait, for a child that holds a connection open.
- *Torn answer.* A connection that breaks within an answer is mostly followed by the exit that explains it, or by the answer
  again. After TORN_GRACE_S without either the environment is renewed: it would hold its slot until the deadline, for nobody.
- *Deadline against answer.* Whoever comes first takes the work out of `_work`; the other finds none. An answer half read
  is not an answer.
- *Torn stream.* The same for an answer that its caller got a part of already, but it can't come again: the graces only let the
  exit say why, and wait for a caller that takes the rest slowly.
- *Answered but not free.* The deadline holds until the runtime asks for `next`; an environment that never does is renewed.
- *Died in its sleep.* A runtime that ends between invocations, frozen or not, is renewed; the sandbox stays idle meanwhile,
  and an event that comes waits for the new one, under its own deadline.
- *Gone, stop.* Whatever is in hand settles as FAILURE first, in the same step; later news from inside finds nobody.

Renewing is what AWS calls reset and suppressed init: the processes are killed at once, /tmp stays, and the function's Init runs
again within the next invocation and its deadline.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Callable
from typing import Any, Final

from sandbox import failures, lifecycle
from sandbox.clock import Clock
from sandbox.deadline import Deadline
from sandbox.driver import ExitStatus, Handle
from sandbox.environment import Credentials, compose
from sandbox.errors import SandboxError, SandboxGone
from sandbox.failures import Failure
from sandbox.lifecycle import Event, State
from sandbox.log_pipe import LogPipe
from sandbox.outcome import Outcome, Status, Work
from sandbox.runtime_api import session, wire
from sandbox.runtime_api.server import RuntimeApi
from sandbox.spec import FunctionSpec, StemKey
from sandbox.tasks import Tasks

INIT_LIMIT_S: Final = 10.0
PROVISIONED_INIT_LIMIT_S: Final = 130.0  # or the function's timeout, if that is longer
EXIT_GRACE_S: Final = 0.1
TORN_GRACE_S: Final = 0.1
INIT_ERROR_GRACE_S: Final = 0.3  # for a runtime that has reported its init error to end by itself, with its last log lines


_DEAD, _STOPPING, _FROZEN, _SENT = State.DEAD, State.STOPPING, State.FROZEN, session.State.SENT  # see runtime_api.session
_INVOKED, _RELEASED, _SUCCESS = Event.INVOKED, Event.RELEASED, Status.SUCCESS


@dataclasses.dataclass(frozen=True, slots=True)
class ApiInside:
    """The Lambda API as functions call it."""

    endpoint: str  #: the URL for those who have this host's network
    serve: Callable[[socket.socket], Callable[[], None]]  #: serve it at this listener as well, until what is returned is called


class Sandbox:
    """Made by `open`, given its function by `init`, used by `invoke` and `freeze`, ended by `stop`.

    `on_idle` is called when the environment is free again after an invocation, `on_gone` at most once, when the sandbox died
    without being asked to, after any work in hand was settled. Both are Any-typed so that a user may know the sandbox by a
    Protocol (the type of a callback is invariant).
    """

    __slots__ = (
        "_api",
        "_began_s",
        "_clock",
        "_credentials",
        "_deadline",
        "_exit",
        "_grace",
        "_handle",
        "_init_ended",
        "_init_error",
        "_init_s",
        "_lambda_endpoint",
        "_log_pipe",
        "_renewing",
        "_settled",
        "_specialised",
        "_spoilt",
        "_stopping",
        "_tasks",
        "_unserve",
        "_work",
        "id",
        "key",
        "on_gone",
        "on_idle",
        "spec",
        "state",
    )

    def __init__(self, handle: Handle, key: StemKey, clock: Clock, credentials: Credentials | None) -> None:
        self.id = handle.id
        self.key = key
        self.spec: FunctionSpec | None = None
        self.state = State.STARTING
        self.on_idle: Callable[[Any], None] = lambda sandbox: None
        self.on_gone: Callable[[Any, str], None] = lambda sandbox, reason: None
        self._handle = handle
        self._clock = clock
        self._credentials = credentials
        self._lambda_endpoint = ""
        self._unserve: Callable[[], None] = _nothing
        self._api = RuntimeApi(self)
        self._deadline = Deadline(clock, self._deadline_reached)
        self._log_pipe = LogPipe(handle.log_fd, lambda data: None)
        self._tasks = Tasks(self._task_failed)
        self._renewing: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._grace: asyncio.TimerHandle | None = None  # the one wait that a race above asked for
        self._exit: ExitStatus | None = None  # the runtime has ended so, and its last bytes are waited for
        self._specialised = False  # the runtime has been told to begin; else it is a stem's
        self._spoilt = False  # must be reset before anything else
        self._work: Work | None = None
        self._settled: Callable[[Outcome], None] | None = None
        self._began_s = 0.0  # when the event was handed over, or Init began
        self._init_s: float | None = None  # for the first invocation's report
        self._init_ended: asyncio.Future[tuple[str, str | None]] | None = None  # how the first Init went: status, error type
        self._init_error: tuple[bytes, str, str] | None = None  # the last init error: payload, content type, error type

    @classmethod
    async def open(
        cls,
        handle: Handle,
        key: StemKey,
        *,
        clock: Clock,
        credentials: Credentials | None = None,
        lambda_api: ApiInside | None = None,
    ) -> Sandbox:
        """Serve a new stem's sockets. Whatever it raises, the handle is stopped then."""
        self = cls(handle, key, clock, credentials)
        handle.on_exit = self._exited
        handle.on_gone = self._gone
        try:
            await self._api.serve(handle.listener)
            if handle.connection is not None:
                await self._api.attach(handle.connection)
            if lambda_api is not None:
                self._lambda_endpoint = lambda_api.endpoint
                if handle.lambda_listener is not None:
                    self._lambda_endpoint = f"http://{handle.lambda_api}"
                    self._unserve = lambda_api.serve(handle.lambda_listener)
        except BaseException:
            await self.stop()
            raise
        return self

    def __repr__(self) -> str:
        name = self.spec.name if self.spec else f"stem of {self.key.runtime}"
        work = self._work.request_id if self._work else "no work"
        marks = " spoilt" if self._spoilt else "" if self._specialised else " unspecialised"
        return f"<Sandbox {self.id} {name}: {self.state.value}, {self._api.session.state.value}, {work}{marks}>"

    # What the pool asks for.

    async def init(self, spec: FunctionSpec, log: Callable[[bytes], None]) -> None:
        """Give the stem its function, and run its Init phase (10 s; with provisioned concurrency at least 130 s).

        Returns when the sandbox can take work, also when the function's Init failed or took too long: then the next invocation
        runs it again. `log` gets what is written inside, from now on. Raises SandboxGone, SandboxError for what is ours.
        """
        if self.state not in lifecycle.LIVE:
            raise SandboxGone
        self.state = lifecycle.following(self.state, Event.SPECIALISED)
        self.spec = spec
        self._log_pipe.sink = log
        self._init_ended = asyncio.get_running_loop().create_future()
        self._began_s = now_s = self._clock.monotonic()
        limit_s = INIT_LIMIT_S
        if spec.initialization_type == "provisioned-concurrency":
            limit_s = max(PROVISIONED_INIT_LIMIT_S, spec.timeout_s)
        self._deadline.set(now_s + limit_s, now_s)
        self._specialised = self._api.accepting = True
        try:
            await self._handle.specialise(spec, self._environment(spec))
        except SandboxError as error:
            self._die(str(error))
            raise
        status, error_type = await self._init_ended
        if status in ("error", "timeout"):
            self._log_pipe.drain()
            log(failures.init_report(self._clock.monotonic() - now_s, "init", status, error_type))
            self._spoil()
            await self._renewed()
        if self.state is not State.INIT:
            raise SandboxGone(error_type if status == "gone" else None)
        self.state = lifecycle.following(self.state, Event.INITIALISED)

    def _environment(self, spec: FunctionSpec) -> dict[str, str]:
        return compose(spec, self._handle.runtime_api, self._credentials, self._lambda_endpoint)

    def invoke(self, work: Work, settled: Callable[[Outcome], None]) -> None:
        """Hand an event over, and thaw for it. `settled` is called exactly once, later, after all that was written before it.

        Raises SandboxGone when the sandbox died or was stopped before: then nothing was begun.
        """
        before = self.state
        if before is _DEAD or before is _STOPPING:
            raise SandboxGone
        self.state = lifecycle.following(before, _INVOKED)
        self._work = work
        self._settled = settled
        self._began_s = now_s = self._clock.monotonic()
        timeout_s = work.timeout_s
        self._api.invoke(work.request_id, wire.event(work, int((self._clock.wall() + timeout_s) * 1000)), work.stream)
        if before is _FROZEN:
            self._handle.thaw()
        self._deadline.set(now_s + timeout_s, now_s)
        if not self._specialised:
            self._renew()

    def freeze(self) -> None:
        """Stop its processes where they are. Idempotent; nothing on a dead sandbox. Raises IllegalEvent while it works."""
        if self.state not in lifecycle.LIVE:
            return
        self.state = lifecycle.following(self.state, Event.FROZEN)
        if not self._spoilt:  # frozen processes would not die, and there is nothing left that could use the processor
            self._handle.freeze()

    def memory_bytes(self) -> int:
        """What it uses now."""
        return self._handle.memory_bytes()

    async def stop(self) -> None:
        """End it and all that is in it; work in hand settles first. Never raises, idempotent; cancelling it does not stop it."""
        if self._stopping is None:
            if self.state in lifecycle.LIVE:
                self._shut(Event.STOPPED, "the sandbox was stopped")
            self._stopping = self._tasks.start(self._stop(), f"stop {self.id}")
        await asyncio.wait({self._stopping})

    async def _stop(self) -> None:
        self._unserve()
        await self._handle.stop()
        self.state = lifecycle.following(self.state, Event.DIED)

    # What the Runtime API tells (`runtime_api.server.Owner`).

    def on_next(self, before: session.State) -> None:
        if before is _SENT:
            if self._exit is None:  # else it asked with its last breath: what follows the exit releases it
                self._release()
        elif before is session.State.STARTED:
            self._init_error = None
            self._end_init("success", None)
        elif before in (session.State.TORN, session.State.CUT):
            self._stop_waiting()
            self._fail(failures.TORN)
            self._release()

    def on_answer(self, payload: bytes, content_type: str, error_type: str | None) -> None:
        if self._grace is not None and self._exit is None:
            self._stop_waiting()  # it was torn, and came again
        self._settle(_SUCCESS if error_type is None else Status.ERROR, payload, content_type, error_type)

    def on_torn(self) -> None:
        if self._exit is None:
            self._wait(TORN_GRACE_S, self._torn)

    def on_init_error(self, payload: bytes, content_type: str, error_type: str) -> None:
        self._init_error = payload, content_type, error_type
        self._wait(INIT_ERROR_GRACE_S, self._init_error_over)
        if self._work is not None:
            self._report_suppressed_init("error", error_type)
            self._settle(Status.ERROR, payload, content_type, error_type)

    def on_disconnected(self) -> None:
        if self._exit is not None:
            self._exit_over()

    # What the handle tells.

    def _exited(self, status: ExitStatus) -> None:
        if self.state not in lifecycle.LIVE or self._spoilt:
            return
        if not self._specialised:
            self._die(f"the runtime process ended before it was given a function: {status}")
            return
        self._stop_waiting()
        self._exit = status
        if self._work is not None and self._api.connected:
            self._wait(EXIT_GRACE_S, self._last_words_over)
        else:
            self._exit_over()

    def _gone(self, reason: str) -> None:
        self._die(reason)

    # What time tells.

    def _deadline_reached(self) -> None:
        if self.state is State.INIT:
            self._end_init("timeout", None)
            return
        work = self._work
        if work is not None and self._specialised and self._api.session.state is session.State.STARTED:
            self._report_suppressed_init("timeout")
        self._spoil(late=True)
        if work is not None:
            line = failures.timed_out_line(work.request_id, work.timeout_s, self._clock.wall())
            self._fail(failures.timed_out(work.timeout_s), line)

    def _torn(self) -> None:
        self._stop_waiting()
        if self._work is not None:
            self._spoil()
            self._fail(failures.TORN)

    def _last_words_over(self) -> None:
        if self._api.held:  # the caller takes them slowly; the deadline bounds it
            self._wait(EXIT_GRACE_S, self._last_words_over)
        else:
            self._exit_over()

    def _exit_over(self) -> None:
        """The runtime has ended, and nothing that it sent is still to come."""
        status, self._exit = self._exit, None
        self._stop_waiting()
        assert status is not None
        failure = failures.exited(status)
        if self.state is State.INIT:
            self._end_init("error", self._init_error[2] if self._init_error else failure.error_type)
            return
        if self._work is None:
            self._spoil()
            return
        in_init = self._api.session.state is session.State.STARTED
        if in_init:
            self._report_suppressed_init("error", failure.error_type)
        self._spoil()
        if in_init and self._init_error is not None:
            payload, content_type, error_type = self._init_error
            self._settle(Status.ERROR, payload, content_type, error_type)
        else:
            self._fail(failure)

    def _init_error_over(self) -> None:
        """The runtime has reported an init error, and does not end by itself."""
        self._stop_waiting()
        if self.state is State.INIT:
            assert self._init_error is not None
            self._end_init("error", self._init_error[2])
        else:
            self._spoil()

    # The ends.

    def _settle(
        self, status: Status, payload: bytes, content_type: str, error_type: str | None, log_lines: tuple[str, ...] = ()
    ) -> None:
        """The one place where an invocation ends."""
        settled = self._settled
        assert settled is not None
        self._work = self._settled = None
        duration_s = self._clock.monotonic() - self._began_s
        self._log_pipe.drain()
        init_s, self._init_s = self._init_s, None
        settled(
            Outcome(
                status=status,
                payload=payload,
                content_type=content_type,
                error_type=error_type,
                duration_s=duration_s,
                init_s=init_s,
                max_memory_bytes=self._handle.memory_peak_bytes(),
                log_lines=log_lines,
            )
        )

    def _fail(self, failure: Failure, *log_lines: str) -> None:
        assert self._work is not None
        request_id = self._work.request_id
        payload, lines = failure.payload(request_id), log_lines or failure.log_lines(request_id)
        self._settle(failure.status, payload, "application/json", failure.error_type, lines)

    def _release(self) -> None:
        self._deadline.clear()
        self.state = lifecycle.following(self.state, _RELEASED)
        self.on_idle(self)

    def _end_init(self, status: str, error_type: str | None) -> None:
        """The first Init has ended; nothing for any later one."""
        if self._init_ended is not None and not self._init_ended.done():
            self._deadline.clear()
            if status == "success":
                self._init_s = self._clock.monotonic() - self._began_s
            self._init_ended.set_result((status, error_type))

    def _report_suppressed_init(self, status: str, error_type: str | None = None) -> None:
        duration_s = self._clock.monotonic() - self._began_s
        self._log_pipe.drain()
        self._log_pipe.sink(failures.init_report(duration_s, "invoke", status, error_type))

    def _die(self, reason: str) -> None:
        """It is gone without being asked to."""
        if self.state not in lifecycle.LIVE:
            return
        init_is_told = self.state is State.INIT
        self._shut(Event.DIED, reason)
        if not init_is_told:
            self.on_gone(self, reason)

    def _shut(self, event: Event, reason: str) -> None:
        """Hear and do nothing any more; what is in hand fails."""
        self.state = lifecycle.following(self.state, event)
        self._stop_waiting()
        self._exit = None
        self._deadline.close()
        self._api.close()
        self._tasks.cancel()
        if self._work is not None:
            self._fail(failures.broken(reason))
        self._log_pipe.close()
        self._end_init("gone", reason)

    # Renewing.

    def _spoil(self, late: bool = False) -> None:
        """What runs inside must not go on: it is killed as soon as possible, and does not count from now on."""
        self._stop_waiting()
        self._exit = None
        self._deadline.clear()
        self._specialised = False
        self._spoilt = True
        self._api.dismiss(late)
        self._renew()

    def _renew(self) -> None:
        if self._renewing is None or self._renewing.done():
            self._renewing = self._tasks.start(self._renewal(), f"renew {self.id}")

    async def _renewed(self) -> None:
        if self._renewing is not None:
            await asyncio.wait({self._renewing})

    async def _renewal(self) -> None:
        """Bring the environment to where it should be: reset if it is spoilt, begun again if there is work for it.

        At most one runs, and it looks again after each await, because the work may have timed out meanwhile.
        """
        handle = self._handle
        try:
            while True:
                if self._spoilt:
                    await handle.reset()
                    self._api.replaced()
                    if handle.connection is not None:
                        await self._api.attach(handle.connection)
                    self._spoilt = False
                    if self.state is State.BUSY and self._work is None:
                        self._release()
                elif self._work is not None and not self._specialised:
                    assert self.spec is not None
                    self._specialised = self._api.accepting = True
                    await handle.specialise(self.spec, self._environment(self.spec))
                else:
                    break
        except SandboxError as error:
            self._die(str(error))

    def _task_failed(self, error: BaseException) -> None:
        """A bug of ours: said aloud, and the sandbox is no longer to be trusted."""
        context = {"message": f"A task of {self!r} failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
        self._die(f"internal error: {error!r}")

    # Waiting for what explains what has happened.

    def _wait(self, delay_s: float, over: Callable[[], None]) -> None:
        self._stop_waiting()
        self._grace = asyncio.get_running_loop().call_later(delay_s, over)

    def _stop_waiting(self) -> None:
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None


def _nothing() -> None:
    """Nothing is served that would have to end."""
