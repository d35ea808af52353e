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
- *Answered, extensions not done.* The caller has its answer; the invocation is closed, and the environment free, when the last
  of them asks for its next event, or by the deadline, or by the death of one.

Renewing is what AWS calls reset and suppressed init: the processes are killed at once, or shut down where there are extensions
(`shutdown.py`), /tmp stays, and the function's Init runs again within the next invocation and its deadline. A shutdown is
never on a request's path: whoever waits was answered before, and an event that comes meanwhile cuts it short.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import math
import socket
from collections.abc import Callable
from typing import Any, Final

from sandbox import failures, lifecycle, platform_lines
from sandbox.clock import Clock
from sandbox.deadline import Deadline
from sandbox.driver import ExitStatus, Handle
from sandbox.environment import Credentials
from sandbox.errors import SandboxError, SandboxGone
from sandbox.failures import Failure
from sandbox.inside import ANNOUNCED, Inside
from sandbox.lifecycle import Event, State
from sandbox.log import Log, NoLog
from sandbox.log_pipe import LogPipe
from sandbox.outcome import Outcome, Status, Work
from sandbox.runtime_api import extensions, session, wire
from sandbox.runtime_api.extensions import Extension
from sandbox.runtime_api.server import RuntimeApi
from sandbox.shutdown import Shutdown
from sandbox.spec import FunctionSpec, StemKey
from sandbox.tasks import Tasks
from sandbox.telemetry.telemetry import Telemetry

INIT_LIMIT_S: Final = 10.0
PROVISIONED_INIT_LIMIT_S: Final = 130.0  # or the function's timeout, if that is longer
EXIT_GRACE_S: Final = 0.1
TORN_GRACE_S: Final = 0.1
INIT_ERROR_GRACE_S: Final = 0.3  # for who has reported an error that it ends by, to do so, with its last log lines


_DEAD, _STOPPING, _FROZEN, _SENT = State.DEAD, State.STOPPING, State.FROZEN, session.State.SENT  # see runtime_api.session
_INVOKED, _RELEASED, _SUCCESS = Event.INVOKED, Event.RELEASED, Status.SUCCESS


@dataclasses.dataclass(frozen=True, slots=True)
class ApiInside:
    """The Lambda API as functions call it."""

    endpoint: str  #: the URL for those who have this host's network
    serve: Callable[[socket.socket], Callable[[], None]]  #: serve it at this listener as well, until what is returned is called


class Sandbox(Inside):
    """Made by `open`, given its function by `init`, used by `invoke` and `freeze`, ended by `stop`.

    `on_idle` is called when the environment is free again after an invocation, `on_gone` at most once, when the sandbox died
    without being asked to, after any work in hand was settled. Both are Any-typed so that a user may know the sandbox by a
    Protocol (the type of a callback is invariant).
    """

    __slots__ = ()

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
        self._log: Log = NoLog()
        self._log_pipe = LogPipe(handle.log_fd, self._log.output)
        self._telemetry: Telemetry | None = None  # where there are extensions that may want it
        self._extension_pipe: LogPipe | None = None
        self._extension_line = b""
        self._tasks = Tasks(self._task_failed)
        self._renewing: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._grace: asyncio.TimerHandle | None = None  # the one wait that a race above asked for
        self._exit: ExitStatus | None = None  # the runtime has ended so, and its last bytes are waited for
        self._specialised = False  # the runtime has been told to begin; else it is a stem's
        self._spoilt = False  # must be reset before anything else
        self._reason = ""  # why, as extensions are told
        self._runtime_alive = False  # for a shutdown; where there are no extensions nobody looks
        self._hurried = False
        self._ending: Shutdown | None = None  # the shutdown that is under way
        self._unclosed: tuple[Work, Outcome] | None = None  # answered, while extensions still work on it
        self._work: Work | None = None
        self._settled: Callable[[Outcome], None] | None = None
        self._peak_bytes = 0
        self._peak_until_s = -math.inf
        self._began_s = 0.0  # when the event was handed over, or Init began
        self._first_byte_s = -math.inf  # when the last answer's head was read, where that is asked for
        self._init_s: float | None = None  # for the first invocation's report
        self._init_ended: asyncio.Future[tuple[str, str | None]] | None = None  # how the first Init went: status, error type
        self._init_error: tuple[bytes, str, str] | None = None  # the last init error: payload, content type, error type
        self._init_told = False  # a log in JSON has how the runtime's part of this Init went

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
        handle.on_extension_exit = self._extension_exited
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

    async def init(self, spec: FunctionSpec, log: Log) -> None:
        """Give the stem its function, and run its Init phase (10 s; with provisioned concurrency at least 130 s).

        Returns when the sandbox can take work, also when the function's Init failed or took too long: then the next invocation
        runs it again. `log` is told what there is from now on. Raises SandboxGone, SandboxError for what is ours.
        """
        if self.state not in lifecycle.LIVE:
            raise SandboxGone
        self.state = lifecycle.following(self.state, Event.SPECIALISED)
        self.spec = self._api.function = spec
        self._api.timed = spec.log_format == "JSON"
        self._log = log
        self._log_pipe.sink = log.output
        if spec.program is None:  # an image has no version of a runtime that could be told
            # Not before the function is on its way; before any of its output all the same, which is read in a later turn.
            asyncio.get_running_loop().call_soon(log.platform, platform_lines.init_start(spec, self._clock.wall()))
        self._init_ended = asyncio.get_running_loop().create_future()
        self._began_s = now_s = self._clock.monotonic()
        limit_s = INIT_LIMIT_S
        if spec.initialization_type == "provisioned-concurrency":
            limit_s = max(PROVISIONED_INIT_LIMIT_S, spec.timeout_s)
        self._deadline.set(now_s + limit_s, now_s)
        try:
            await self._begin(spec)
        except SandboxError as error:
            self._die(str(error))
            raise
        status, error_type = await self._init_ended
        if status in ("error", "timeout"):
            self._report_init("init", status, error_type)
            self._spoil("timeout" if status == "timeout" else "failure")
        if self._spoilt:  # also where it ended after an Init that went well, before this woke
            await self._renewed()
        if self.state is not State.INIT:
            raise SandboxGone(error_type if status == "gone" else None)
        # In the next turn of the loop: the event that waits for this is handed over in this one.
        asyncio.get_running_loop().call_soon(self._handle.ration)
        self.state = lifecycle.following(self.state, Event.INITIALISED)

    def rehearse(self) -> None:
        """Nobody waits for this stem, so that it has time for whatever makes a start quicker. Nothing where it is none."""
        if self.state is State.STARTING:
            self._handle.rehearse()

    def invoke(self, work: Work, settled: Callable[[Outcome], None]) -> bool:
        """Hand an event over, and thaw for it. `settled` is called exactly once, later, after all that was written before it.

        False where the function's Init comes first: then `work.on_begun` is called when that has succeeded, if it does.
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
        wall_s = self._clock.wall()
        deadline_ms = int((wall_s + timeout_s) * 1000)
        api = self._api
        api.invoke(work.request_id, wire.event(work, deadline_ms), work.stream)
        if api.extensions is not None and self._specialised:
            api.tell(extensions.INVOKE, extensions.invoke_event(work, deadline_ms))
        if self._telemetry is not None and self._specialised:
            self._telemetry.begun(work, now_s, wall_s)
        if before is _FROZEN:
            self._handle.thaw()
        self._deadline.set(now_s + timeout_s, now_s)
        if self._specialised:
            return True
        if self._ending is not None:
            self._ending.hurry()
        self._renew()
        return False

    def freeze(self) -> None:
        """Stop its processes where they are. Idempotent; nothing on a dead sandbox. Raises IllegalEvent while it works."""
        if self.state not in lifecycle.LIVE:
            return
        self.state = lifecycle.following(self.state, Event.FROZEN)
        if not self._spoilt:  # frozen processes would not die, and there is nothing left that could use the processor
            self._handle.freeze()

    @property
    def initialised(self) -> bool:
        """Whether the function's Init has gone well. If not (any more), the next invocation runs it."""
        return self._specialised

    @property
    def lingers(self) -> bool:
        """Whether `stop` takes up to two seconds: there are extensions, and they have time for their end."""
        return self._specialised and self._api.extensions is not None

    @property
    def first_byte_s(self) -> float | None:
        """How long after its event the last answer began; None if it came in one piece, and where the log is no JSON."""
        latency_s = self._first_byte_s - self._began_s
        return latency_s if latency_s >= 0 else None

    @property
    def streamed_bytes(self) -> int:
        """How much of the last answer was streamed."""
        return self._api.streamed_bytes

    def memory_bytes(self) -> int:
        """What it uses now."""
        return self._handle.memory_bytes()

    async def stop(self) -> None:
        """End it and all that is in it; work in hand settles first. Never raises, idempotent; cancelling it does not stop it.

        At once, but where there are extensions within AWS's time for a shutdown, 500 or 2,000 ms (`shutdown.py`).
        """
        if self._stopping is None:
            politely = self._specialised and self._api.extensions is not None and self.state in lifecycle.LIVE
            if self.state in lifecycle.LIVE:
                self._shut(Event.STOPPED, "the sandbox was stopped", silence=not politely)
            self._stopping = self._tasks.start(self._stop(politely), f"stop {self.id}")
        await asyncio.wait({self._stopping})

    def hurry(self) -> None:
        """Somebody waits for what it holds: the time that `stop` gives its extensions is over. It is to be stopped, or stops."""
        self._hurried = True
        if self._ending is not None:
            self._ending.hurry()

    async def _stop(self, politely: bool) -> None:
        if politely:
            await self._end_extensions("spindown")
            self._silence()
        self._unserve()
        await self._handle.stop()
        self.state = lifecycle.following(self.state, Event.DIED)

    # What the Runtime API tells (`runtime_api.server.Owner`).

    def on_next(self, before: session.State) -> None:
        if before is _SENT:
            known = self._api.extensions
            if self._telemetry is not None:
                self._telemetry.runtime_done()
            # After an exit it asked with its last breath: what follows that releases it.
            if self._exit is None and (known is None or known.idle):
                self._release()
        elif before is session.State.STARTED:
            self._init_error = None
            if self._telemetry is not None:
                self._telemetry.init_runtime_done("success")
            self._tell_init("success")
            if not self._api.session.holding:
                self._init_succeeded()
        elif before in (session.State.TORN, session.State.CUT):
            self._stop_waiting()
            self._fail(failures.TORN)
            if self._unclosed is None:
                self._release()

    def on_answer(self, payload: bytes, content_type: str, error_type: str | None) -> None:
        if self._grace is not None and self._exit is None and self._announced() is None:
            self._stop_waiting()  # it was torn, and came again
        self._settle(_SUCCESS if error_type is None else Status.ERROR, payload, content_type, error_type)

    def on_answer_begins(self) -> None:
        self._first_byte_s = self._clock.monotonic()

    def on_torn(self) -> None:
        if self._exit is None:
            self._wait(TORN_GRACE_S, self._torn)

    def on_init_error(self, payload: bytes, content_type: str, error_type: str) -> None:
        self._init_error = payload, content_type, error_type
        self._wait(INIT_ERROR_GRACE_S, self._init_error_over)
        if self._work is not None:
            self._report_init("invoke", "error", error_type)
            self._settle(Status.ERROR, payload, content_type, error_type)

    def on_disconnected(self) -> None:
        if self._exit is not None:
            self._exit_over()

    def on_extension(self, extension: Extension) -> None:
        known = self._api.extensions
        if known is None or self._spoilt or self.state not in lifecycle.LIVE:
            return  # it is being shut down
        if extension.state in ANNOUNCED:
            self._wait(INIT_ERROR_GRACE_S, functools.partial(self._extension_stays, extension))
        elif extension.state is extensions.State.REGISTERED:
            if self._telemetry is None:
                self._observe()
            if extension.external and known.all_registered:
                self._runtime_alive = True
                self._handle.start_runtime()
        elif self._api.session.state is not session.State.READY:
            return  # the runtime is not done yet, and will look
        elif self._api.session.holding:
            if known.all_ready:
                self._api.release()
                self._init_succeeded()
        elif self.state is State.BUSY and self._work is None and known.idle:
            self._release()

    # What the handle tells.

    def _exited(self, status: ExitStatus) -> None:
        self._runtime_alive = False
        if self._ending is not None:
            self._ending.runtime_ended()
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

    def _extension_exited(self, name: str, status: ExitStatus) -> None:
        known = self._api.extensions
        if known is None:
            return
        extension = known[name]
        extension.alive = False
        if self._ending is not None:
            self._ending.extension_ended(extension, status)
        if self.state not in lifecycle.LIVE or self._spoilt:
            return
        if status.launch_error is not None:
            extension.error_type = "PermissionDenied" if "permission denied" in status.launch_error else "UnknownError"
            extension.see(extensions.Event.LAUNCH_FAILED)
        self._extension_failed(failures.extension_exited(status, ANNOUNCED.get(extension.state)))

    def _gone(self, reason: str) -> None:
        self._die(reason)

    # What time tells.

    def _deadline_reached(self) -> None:
        if self.state is State.INIT:
            self._end_init("timeout", None)
            return
        work = self._work
        if work is not None and self._initialising:
            self._report_init("invoke", "timeout", None)
        self._spoil("timeout", late=True)
        late = work or (self._unclosed[0] if self._unclosed is not None else None)
        if late is not None:
            failure = failures.timed_out(late.timeout_s)
            line = failures.timed_out_line(late.request_id, late.timeout_s, self._clock.wall())
            if work is not None:
                self._fail(failure, line)
            else:
                self._close(failure, line)

    def _torn(self) -> None:
        self._stop_waiting()
        if self._work is not None:
            self._spoil("failure")
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
        if (announced := self._announced()) is not None:  # by an internal extension, which ends with its runtime
            failure = dataclasses.replace(failure, error_type=announced)
        if self.state is State.INIT and self._end_init("error", self._init_error[2] if self._init_error else failure.error_type):
            return
        if self._work is None:
            self._close(failure)
            self._spoil("failure")
            return
        in_init = self._initialising
        if in_init:
            self._report_init("invoke", "error", failure.error_type)
        self._spoil("failure")
        if in_init and self._init_error is not None:
            payload, content_type, error_type = self._init_error
            self._settle(Status.ERROR, payload, content_type, error_type)
        else:
            self._fail(failure)

    def _init_error_over(self) -> None:
        """The runtime has reported an init error, and does not end by itself."""
        self._stop_waiting()
        assert self._init_error is not None
        if self.state is not State.INIT or not self._end_init("error", self._init_error[2]):
            self._spoil("failure")

    def _extension_stays(self, extension: Extension) -> None:
        """It has said that it ends, and does not."""
        self._stop_waiting()
        announced = ANNOUNCED[extension.state]
        self._extension_failed(Failure(Status.FAILURE, announced, extension.error_type or announced))


def _nothing() -> None:
    """Nothing is served that would have to end."""
