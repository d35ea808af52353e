"""What goes on in one sandbox: an Init that begins and is over, an invocation that ends, an environment that is renewed.

The lower half of `Sandbox`, which hears what happens and calls this. Everything that an invocation's end takes is here, in
one place for all the ways that there are to an end, and so is everything that extensions need beyond their calls.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable
from typing import Any, Final

from sandbox import failures, lifecycle, platform_lines
from sandbox.clock import Clock
from sandbox.deadline import Deadline
from sandbox.driver import ExitStatus, Handle
from sandbox.environment import Credentials, compose
from sandbox.errors import SandboxError
from sandbox.failures import Failure
from sandbox.lifecycle import Event, State
from sandbox.log import Log
from sandbox.log_pipe import LogPipe
from sandbox.outcome import Outcome, Status, Work
from sandbox.runtime_api import extensions, session
from sandbox.runtime_api.extensions import Extensions
from sandbox.runtime_api.server import RuntimeApi
from sandbox.shutdown import Shutdown
from sandbox.spec import FunctionSpec, StemKey
from sandbox.tasks import Tasks
from sandbox.telemetry.subscription import Category
from sandbox.telemetry.telemetry import Telemetry

#: What an extension that has said so fails with.
ANNOUNCED: Final = {
    extensions.State.INIT_ERROR: "Extension.InitError",
    extensions.State.EXIT_ERROR: "Extension.ExitError",
}
#: Reading the memory peak takes 2 us. Who worked for less than QUICK_S has touched a few MB at most, so the last reading serves
#: for PEAK_AGE_S: what a REPORT says is never older than that.
QUICK_S: Final = 0.002
PEAK_AGE_S: Final = 0.05
LONGEST_LINE_BYTES: Final = 256 * 1024  # of an extension, until it is cut
_RELEASED: Final = Event.RELEASED
_SUCCESS: Final = Status.SUCCESS
_SENT, _READY = session.State.SENT, session.State.READY


class Inside:
    """See `Sandbox`, which makes all of these."""

    __slots__ = (
        "_api",
        "_began_s",
        "_clock",
        "_credentials",
        "_deadline",
        "_ending",
        "_exit",
        "_extension_line",
        "_extension_pipe",
        "_first_byte_s",
        "_grace",
        "_handle",
        "_hurried",
        "_init_ended",
        "_init_error",
        "_init_s",
        "_init_told",
        "_lambda_endpoint",
        "_log",
        "_log_pipe",
        "_peak_bytes",
        "_peak_until_s",
        "_reason",
        "_renewing",
        "_runtime_alive",
        "_settled",
        "_specialised",
        "_spoilt",
        "_stopping",
        "_tasks",
        "_telemetry",
        "_unclosed",
        "_unserve",
        "_work",
        "id",
        "key",
        "on_gone",
        "on_idle",
        "spec",
        "state",
    )

    id: str
    key: StemKey
    spec: FunctionSpec | None
    state: State
    on_idle: Callable[[Any], None]
    on_gone: Callable[[Any, str], None]
    _handle: Handle
    _clock: Clock
    _credentials: Credentials | None
    _lambda_endpoint: str
    _unserve: Callable[[], None]
    _api: RuntimeApi
    _deadline: Deadline
    _log: Log
    _log_pipe: LogPipe
    _telemetry: Telemetry | None  # where there are extensions that may want it
    _extension_pipe: LogPipe | None
    _extension_line: bytes  # that extensions have begun
    _tasks: Tasks
    _renewing: asyncio.Task[None] | None
    _stopping: asyncio.Task[None] | None
    _grace: asyncio.TimerHandle | None  # the one wait that a race asked for
    _exit: ExitStatus | None  # the runtime has ended so, and its last bytes are waited for
    _specialised: bool  # the runtime has been told to begin; else it is a stem's
    _spoilt: bool  # must be reset before anything else
    _reason: str  # why, as extensions are told
    _runtime_alive: bool  # for a shutdown; where there are no extensions nobody looks
    _hurried: bool  # what a stop gives extensions as time is over
    _ending: Shutdown | None  # the shutdown that is under way
    _unclosed: tuple[Work, Outcome] | None  # answered, while extensions still work on it
    _work: Work | None
    _settled: Callable[[Outcome], None] | None
    _peak_bytes: int
    _peak_until_s: float  # when `_peak_bytes` is too old for anybody
    _began_s: float  # when the event was handed over, or Init began
    _first_byte_s: float  # when the last answer's head was read, where the log is in JSON; one that came as a whole has none
    _init_s: float | None  # for the first invocation's report
    _init_ended: asyncio.Future[tuple[str, str | None]] | None  # how the first Init went: status, error type
    _init_error: tuple[bytes, str, str] | None  # the last init error: payload, content type, error type
    _init_told: bool  # a log in JSON has how the runtime's part of this Init went

    def _environment(self, spec: FunctionSpec) -> dict[str, str]:
        return compose(spec, self._handle.runtime_api, self._credentials, self._lambda_endpoint)

    def _extension_failed(self, failure: Failure) -> None:
        if self.state is State.INIT and self._end_init("error", failure.error_type):
            self._stop_waiting()
            return
        if self._work is not None and self._initialising:
            self._report_init("invoke", "error", failure.error_type)
        self._close(failure)
        self._spoil("failure")
        if self._work is not None:
            self._fail(failure)

    # The ends.

    def _settle(
        self, status: Status, payload: bytes, content_type: str, error_type: str | None, log_lines: tuple[str, ...] = ()
    ) -> None:
        """The one place where an invocation ends."""
        work, settled = self._work, self._settled
        assert work is not None
        assert settled is not None
        self._work = self._settled = None
        now_s = self._clock.monotonic()
        duration_s = now_s - self._began_s
        self._log_pipe.drain()
        init_s, self._init_s = self._init_s, None
        if duration_s > QUICK_S or now_s > self._peak_until_s or status is not _SUCCESS:
            self._peak_bytes = self._handle.memory_peak_bytes()
            self._peak_until_s = now_s + PEAK_AGE_S
        outcome = Outcome(
            status=status,
            payload=payload,
            content_type=content_type,
            error_type=error_type,
            duration_s=duration_s,
            init_s=init_s,
            max_memory_bytes=self._peak_bytes,
            log_lines=log_lines,
        )
        known = self._api.extensions
        if known is not None:
            self._drain()
            # Only an answer leaves the environment at work; what else ends an invocation has dismissed the runtime.
            if self._api.session.state in (_SENT, _READY) and not known.idle and self.state is State.BUSY:
                outcome.closed = False
                self._unclosed = work, outcome
        if self._telemetry is not None:
            self._telemetry.answered(outcome, self._api.streamed_bytes, now_s)
        settled(outcome)

    def _close(self, failure: Failure | None = None, *log_lines: str) -> None:
        """The invocation that is answered already is over for its extensions too, or, with `failure`, by it."""
        if self._unclosed is None:
            return
        (work, unclosed), self._unclosed = self._unclosed, None
        self._drain()
        outcome = dataclasses.replace(
            unclosed,
            duration_s=self._clock.monotonic() - self._began_s,
            max_memory_bytes=self._handle.memory_peak_bytes(),
            closed=True,
            on_closed=None,
        )
        if failure is not None:
            outcome.status, outcome.error_type = failure.status, failure.error_type
            outcome.log_lines = (*outcome.log_lines, *(log_lines or failure.log_lines(work.request_id)))
        if self._telemetry is not None:
            self._telemetry.over(outcome)
        if unclosed.on_closed is not None:
            unclosed.on_closed(outcome)

    def _drain(self) -> None:
        self._log_pipe.drain()
        if self._extension_pipe is not None:
            self._extension_pipe.drain()

    def _fail(self, failure: Failure, *log_lines: str) -> None:
        assert self._work is not None
        request_id = self._work.request_id
        payload, lines = failure.payload(request_id), log_lines or failure.log_lines(request_id)
        self._settle(failure.status, payload, "application/json", failure.error_type, lines)

    def _release(self) -> None:
        if self._unclosed is not None:
            self._close()
        elif self._telemetry is not None:
            self._telemetry.over()
        self._deadline.clear()
        self.state = lifecycle.following(self.state, _RELEASED)
        self.on_idle(self)

    def _end_init(self, status: str, error_type: str | None) -> bool:
        """The first Init has ended; nothing for any later one.

        Returns whether `init` sees to what follows. Not so where it had gone well already: `init` wakes a turn later, and what
        ends a runtime between is no end of its Init any more.
        """
        assert self._init_ended is not None
        if self._init_ended.done():
            return self._init_ended.cancelled() or self._init_ended.result()[0] != "success"
        self._deadline.clear()
        if status == "success":
            self._init_s = self._clock.monotonic() - self._began_s
        self._init_ended.set_result((status, error_type))
        return True

    @property
    def _initialising(self) -> bool:
        """A suppressed Init runs: within the invocation in hand."""
        now = self._api.session
        return self._specialised and (now.state is session.State.STARTED or now.holding)

    def _tell_init(self, status: str, error_type: str | None = None) -> None:
        """The runtime has asked for its first event, or will not; for logs in JSON, once in an Init."""
        assert self.spec is not None
        if self.spec.log_format == "JSON" and not self._init_told:
            self._init_told = True
            phase = "init" if self.state is State.INIT else "invoke"
            self._drain()
            self._log.platform(platform_lines.init_runtime_done(self.spec, self._clock.wall(), phase, status, error_type))

    def _init_succeeded(self) -> None:
        """Runtime and extensions have asked for their first events."""
        self._report_extensions()
        if self._telemetry is not None:
            self._telemetry.init_over("success")
            if not self._telemetry.wanted:
                self._forget_telemetry()
        assert self.spec is not None
        if self.spec.log_format == "JSON":
            phase, duration_s = "init" if self.state is State.INIT else "invoke", self._clock.monotonic() - self._began_s
            self._log.platform(platform_lines.init_report(self.spec, self._clock.wall(), duration_s, phase, "success", None))
        if self.state is State.INIT:
            self._end_init("success", None)
            return
        work = self._work
        if work is None:
            return
        if self._telemetry is not None:
            self._telemetry.begun(work, self._clock.monotonic(), self._clock.wall())
        if work.on_begun is not None:
            work.on_begun()
        if self._api.extensions is not None:
            left_s = self._began_s + work.timeout_s - self._clock.monotonic()
            deadline_ms = int((self._clock.wall() + left_s) * 1000)
            self._api.tell(extensions.INVOKE, extensions.invoke_event(work, deadline_ms))

    def _report_init(self, phase: str, status: str, error_type: str | None) -> None:
        assert self.spec is not None
        duration_s = self._clock.monotonic() - self._began_s
        self._drain()
        self._tell_init(status, error_type)
        self._report_extensions()
        self._log.platform(platform_lines.init_report(self.spec, self._clock.wall(), duration_s, phase, status, error_type))
        if self._telemetry is not None:
            self._telemetry.init_over(status, error_type)

    def _report_extensions(self) -> None:
        if self._api.extensions is not None:
            assert self.spec is not None
            for extension in self._api.extensions:
                self._log.platform(platform_lines.extension(self.spec, self._clock.wall(), extension))
                if self._telemetry is not None:
                    self._telemetry.extension(extension)

    def _announced(self) -> str | None:
        """What an extension has said that it fails with."""
        found = (ANNOUNCED.get(extension.state) for extension in self._api.extensions or ())
        return next((announced for announced in found if announced is not None), None)

    def _die(self, reason: str) -> None:
        """It is gone without being asked to."""
        if self._ending is not None:
            self._ending.hurry()
        if self.state not in lifecycle.LIVE:
            return
        init_is_told = self.state is State.INIT
        self._shut(Event.DIED, reason, silence=True)
        if not init_is_told:
            self.on_gone(self, reason)

    def _shut(self, event: Event, reason: str, *, silence: bool) -> None:
        """Do nothing any more, and with `silence` hear nothing; what is in hand fails."""
        self.state = lifecycle.following(self.state, event)
        self._stop_waiting()
        self._exit = None
        self._deadline.close()
        self._api.dismiss()
        self._tasks.cancel()
        if self._work is not None:
            self._fail(failures.broken(reason))
        self._close(failures.broken(reason))
        if silence:
            self._silence()
        if self._init_ended is not None:
            self._end_init("gone", reason)

    def _silence(self) -> None:
        self._unobserve()
        self._api.close()
        self._log_pipe.close()
        if self._extension_pipe is not None:
            self._extension_pipe.close()
            self._end_extension_line()

    # Renewing.

    async def _begin(self, spec: FunctionSpec) -> None:
        """Have the function's Init begin, with its extensions if it has any. Raises SandboxError."""
        self._specialised = self._api.accepting = True
        self._init_told = False
        self._peak_until_s = -math.inf
        self._runtime_alive = not spec.extensions
        if len(spec.extensions) > extensions.MAX_EXTENSIONS:
            self._too_many(spec)
            return
        if spec.extensions:
            self._api.extensions = Extensions(spec, spec.extensions)
            self._observe()
        await self._handle.specialise(spec, self._environment(spec))
        if spec.extensions and self._extension_pipe is None and self.state in lifecycle.LIVE:
            self._extension_pipe = LogPipe(self._handle.extension_log_fd, self._extension_output)

    def _observe(self) -> None:
        """There are extensions: from now on they may ask to be told what happens."""
        assert self.spec is not None
        phase = "init" if self.state is State.INIT else "invoke"
        self._telemetry = Telemetry(self.spec, phase, self._clock, self._handle.tcp_socket, self._task_failed)
        self._telemetry.on_subscribed = self._subscribed
        if self.spec.log_format == "JSON":  # AWS has no line for it where the log is text
            self._telemetry.on_dropped = lambda event: self._log.platform(event.decode())
        self._api.telemetry = self._telemetry
        self._log_pipe.sink = self._function_output

    def _subscribed(self, name: str, types: list[str], logs: bool) -> None:
        assert self.spec is not None
        self._log.platform(platform_lines.subscribed(self.spec, self._clock.wall(), name, types, logs=logs))

    def _unobserve(self) -> None:
        """They are gone."""
        self._api.telemetry = None
        if self._telemetry is not None:
            self._telemetry.close()
            self._forget_telemetry()

    def _forget_telemetry(self) -> None:
        """Nobody is told of anything: by now the Runtime API knows it only to say that subscriptions are closed."""
        self._telemetry = None
        self._log_pipe.sink = self._log.output

    def _function_output(self, data: bytes) -> None:
        self._log.output(data)
        if self._telemetry is not None:
            self._telemetry.output(Category.FUNCTION, data)

    def _extension_output(self, data: bytes) -> None:
        """Whole lines, since two processes write to one log: a line that the function has begun is not an extension's to end."""
        *lines, rest = (self._extension_line + data).split(b"\n")
        if len(rest) > LONGEST_LINE_BYTES:
            lines.append(rest)
            rest = b""
        self._extension_line = rest
        if lines:
            self._log.extension(b"\n".join(lines).decode("utf-8", "replace"))
        if self._telemetry is not None:
            self._telemetry.output(Category.EXTENSION, data)

    def _end_extension_line(self) -> None:
        """Nobody is left who could."""
        if self._extension_line:
            self._extension_output(b"\n")

    def _too_many(self, spec: FunctionSpec) -> None:
        """AWS starts the first ten and fails at the next; here none is started."""
        self._api.extensions = Extensions(spec, spec.extensions[: extensions.MAX_EXTENSIONS + 1])
        for extension in self._api.extensions:
            extension.alive = False
        extension.error_type = "TooManyExtensions"
        extension.see(extensions.Event.LAUNCH_FAILED)
        self._extension_failed(Failure(Status.FAILURE, "Extension.LaunchError", "ErrTooManyExtensions"))

    async def _end_extensions(self, reason: str) -> None:
        """Where there are any, give them their time; then whatever is left may be killed."""
        if self._api.extensions is not None and self._ending is None and not self._hurried:
            if self._telemetry is not None:
                self._telemetry.flush()
            self._ending = Shutdown(self._handle, self._api, self._clock, runtime_alive=self._runtime_alive, reason=reason)
            try:
                await self._ending.run()
            finally:
                self._ending = None

    def _spoil(self, reason: str, late: bool = False) -> None:
        """What runs inside must not go on: it is ended as soon as possible, and does not count from now on."""
        self._reason = reason
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
                    await self._end_extensions(self._reason)
                    await handle.reset()
                    self._drain()
                    self._end_extension_line()
                    self._unobserve()
                    self._api.replaced()
                    if handle.connection is not None:
                        await self._api.attach(handle.connection)
                    self._spoilt = False
                    if self.state is State.BUSY and self._work is None:
                        self._release()
                elif self._work is not None and not self._specialised:
                    assert self.spec is not None
                    await self._begin(self.spec)
                else:
                    break
        except SandboxError as error:
            self._die(str(error))
            return
        if not self._specialised:
            handle.rehearse()

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
