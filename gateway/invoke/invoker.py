"""THE path: an invocation comes in, a version is resolved, a sandbox runs it, its report is written, its result goes out.

Nothing here waits: `start` finds a sandbox at once or queues, and what came of it is told in the step in which the sandbox
tells it. `invoke` is the same for whoever would rather wait.

Client gone is not function cancelled. A caller that goes away while its invocation still waits for a sandbox takes it out of the
queue; once the event is handed over the function runs to its end, is reported and billed, and only the answer is dropped.

An event is handed over once. A sandbox found dead before that costs the caller nothing, another one is found; whatever happens
after it is the function's outcome, and never a second run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.clock import Clock
from gateway.control.catalog import Catalog
from gateway.errors import ApiError, InvalidRuntimeException, ServiceException, TooManyRequestsException
from gateway.invocation import Invocation, InvokeResult
from gateway.invoke import report
from gateway.invoke.resolve import resolve
from gateway.pool.held import Held, Request
from gateway.pool.pool import Pool
from gateway.records import FunctionVersion
from gateway.scheduler.admission import ACCOUNT, RATE, RESERVED, RESERVED_RATE
from gateway.scheduler.commands import THROTTLES, Why
from sandbox.errors import RuntimeUnavailable
from sandbox.outcome import Outcome, Status, Work

RETRY_LEAST_S: Final = 1.0  #: Retry-After has whole seconds
_REASONS: Final = {Why.RESERVED: RESERVED, Why.RATE: RATE, Why.RESERVED_RATE: RESERVED_RATE, Why.SCALING: RATE}
_log = logging.getLogger(__name__)

_SUCCESS: Final = Status.SUCCESS  # Python 3.11 takes 66 ns to read a member off its enum

Answered = Callable[[InvokeResult | ApiError], None]


class Invoker:
    """`random` gives numbers in [0, 1), for weighted aliases; `queue_wait_s` is how long a caller waits for a sandbox at most."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        pool: Pool,
        clock: Clock,
        random: Callable[[], float],
        region: str,
        account_id: str,
        queue_wait_s: float,
    ) -> None:
        self._catalog = catalog
        self._pool = pool
        self._clock = clock
        self._random = random
        self._region = region
        self._account_id = account_id
        self._queue_wait_s = queue_wait_s

    def resolve(self, function_name: str, qualifier: str | None) -> FunctionVersion:
        """What an invocation would run now. Raises ResourceNotFoundException, ResourceConflictException."""
        return resolve(
            self._catalog.get(function_name),
            function_name,
            qualifier,
            region=self._region,
            account_id=self._account_id,
            random=self._random,
        )

    def stops_loops(self, function_name: str) -> bool:
        """Whether its RecursiveLoop is Terminate."""
        function = self._catalog.get(function_name)
        return function is not None and function.recursive_loop == "Terminate"

    async def invoke(self, invocation: Invocation) -> InvokeResult:
        """Run it. A function's error is a result too; raises ApiError where the function was not run.

        Cancelled, the invocation leaves the queue, or runs on unheard.
        """
        future: asyncio.Future[InvokeResult | ApiError] = asyncio.get_running_loop().create_future()

        def answered(result: InvokeResult | ApiError) -> None:
            if not future.done():  # cancelled, and its task has not had its turn yet
                future.set_result(result)

        call = self.start(invocation, answered)
        try:
            result = await future
        except asyncio.CancelledError:
            call.leave()
            raise
        if isinstance(result, ApiError):
            raise result
        return result

    def start(self, invocation: Invocation, answered: Answered) -> Call:
        """Run it. `answered` is called once, maybe before this returns, unless the caller leaves; it must not raise.

        Raises ApiError where nothing can be run, and `answered` is not called then.
        """
        version = self.resolve(invocation.function_name, invocation.qualifier)
        if invocation.stream is not None:
            invocation.stream.runs(version)
        call = Call(invocation, version, invocation.arrived_s + self._queue_wait_s, self._pool, self._clock, answered)
        self._pool.submit(call)
        return call


class Call(Request):
    """One invocation on its way."""

    __slots__ = ("_answered", "_answered_s", "_clock", "_held", "_invocation", "_log_tail", "_outcome", "_pool", "_started")

    _answered_s: float  # how long the runtime took, where extensions took longer
    _held: Held
    _outcome: Outcome  # of the one whose answer waits for its log to be whole
    _started: bool  # START is written

    def __init__(
        self,
        invocation: Invocation,
        version: FunctionVersion,
        deadline_s: float,
        pool: Pool,
        clock: Clock,
        answered: Answered,
    ) -> None:
        super().__init__(version, deadline_s)
        self._answered = answered
        self._log_tail: bytes | None = None
        self._invocation = invocation
        self._pool = pool
        self._clock = clock

    def leave(self) -> None:
        """Its caller does not want it any more: out of the queue, or it runs on unheard."""
        self._answered = _unheard
        self._pool.leave(self)

    def run(self, held: Held) -> None:
        invocation, version = self._invocation, self.version
        arn = version.unqualified_arn
        self._held = held
        work = Work(
            request_id=invocation.request_id,
            invoked_arn=arn if invocation.qualifier is None else f"{arn}:{invocation.qualifier}",
            payload=invocation.payload,
            content_type=invocation.content_type,
            trace_id=invocation.trace_id,
            timeout_s=version.timeout_s,
            client_context=invocation.client_context,
            cognito_identity=invocation.cognito_identity,
            stream=invocation.stream,
        )
        self._started = held.sandbox.invoke(work, self._settled)
        # Now that it is certain that it runs here. Nothing that it writes is read before this step ends.
        held.log.begin()
        if self._started:
            held.log.platform(report.start(invocation.request_id, version, self._clock.wall(), invocation.trace_id))
        else:
            work.on_begun = self._start  # AWS's START comes after an Init that runs within the invocation

    def _start(self) -> None:
        self._started = True
        invocation = self._invocation
        line = report.start(invocation.request_id, self.version, self._clock.wall(), invocation.trace_id)
        self._held.log.platform(line)

    def _settled(self, outcome: Outcome) -> None:
        """All in this step: the sandbox may be given its next invocation, and write its START, as soon as this returns."""
        if outcome.closed:
            self._report(outcome, outcome.duration_s)
        else:
            outcome.on_closed = self._closed
            self._answered_s = outcome.duration_s
            if self._invocation.want_log_tail:
                self._outcome = outcome
        self._pool.settled(self._held)
        if outcome.closed or not self._invocation.want_log_tail:
            self._tell(outcome)

    def _closed(self, outcome: Outcome) -> None:
        """Extensions are done with what was answered before; who wants the log's tail has waited for it to be whole."""
        tally = self._held.instance.group.tally
        tally.extensions += 1
        tally.extensions_s += outcome.duration_s - self._answered_s
        self._report(outcome, self._answered_s)
        if self._invocation.want_log_tail:
            self._tell(self._outcome)

    def _report(self, outcome: Outcome, answered_s: float) -> None:
        tally = self._held.instance.group.tally
        tally.duration_s.add(outcome.duration_s)
        if outcome.status is not _SUCCESS:
            tally.errors.add(outcome.status.value)
            self._say_what_came(outcome)
        log = self._held.log
        in_init = not self._started
        if in_init:
            self._start()
        request_id, version, trace_id = self._invocation.request_id, self.version, ""
        if version.tracing_mode == "Active" and ";Sampled=1" in self._invocation.trace_id:
            trace_id = self._invocation.trace_id
        log.platform(
            report.end(
                request_id,
                version,
                outcome,
                self._clock.wall(),
                in_init=in_init,
                trace_id=trace_id,
                answered_s=answered_s,
                answer=self._held.sandbox,
            )
        )
        if self._invocation.want_log_tail:
            self._log_tail = log.tail()

    def _say_what_came(self, outcome: Outcome) -> None:
        """The function's own log has more. It is for debugging here, since a function that always fails would fill the log."""
        _log.debug(
            "%s:%s ended with %s %s",
            self.version.name,
            self.version.version,
            outcome.status.value,
            outcome.error_type or "",
            extra={
                "request_id": self._invocation.request_id,
                "function": self.version.name,
                "sandbox": self._held.sandbox.id,
            },
        )

    def _tell(self, outcome: Outcome) -> None:
        self._answered(
            InvokeResult(
                payload=outcome.payload,
                content_type=outcome.content_type,
                status=outcome.status,
                version=self.version,
                log_tail=self._log_tail,
            )
        )

    def refused(self, why: Why, error: Exception | None, retry_s: float | None) -> None:
        self._answered(_api_error(why, error, retry_s))


def _unheard(result: InvokeResult | ApiError) -> None: ...


def _api_error(why: Why, error: Exception | None, retry_s: float | None) -> ApiError:
    """The one place where what went wrong below becomes what a caller is told."""
    if isinstance(error, RuntimeUnavailable):
        return InvalidRuntimeException(str(error))
    if why in THROTTLES:
        # What AWS has no reason for is the machine: to its callers that is the account's concurrency. A zero is no time to wait.
        return TooManyRequestsException(_REASONS.get(why, ACCOUNT), None if retry_s is None else max(retry_s, RETRY_LEAST_S))
    detail = f": {error}" if error is not None else ""
    return ServiceException(f"The invocation was not run: {why.value}{detail}.")
