"""What the caller and the log are told when an invocation did not end with the runtime's own answer, in AWS's words. [P]

Evidence for the texts: answers recorded from AWS in 2025-11 (`Sandbox.Timedout`, exit status 127, exit 0,
`Function.ResponseSizeTooLarge`); for signals AWS's runtime interface emulator, which names them as Go does, and lines of AWS's
own logs that users posted ("signal: killed", "signal: segmentation fault", "signal: illegal instruction"). So a runtime that
a signal ended, also one that it sent to itself, is reported at once with the signal's name. (A recording of 2025-11 that is
named after a segmentation fault and shows a time-out is no evidence to the contrary: its function only recursed without end,
which Python 3.12 and later survives.)
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Final

import orjson

from sandbox.driver import ExitStatus
from sandbox.outcome import Status
from sandbox.runtime_api.wire import MAX_PAYLOAD_BYTES

#: Go's names of Linux's signals (syscall.Signal.String).
_SIGNAL_NAMES: Final = {
    1: "hangup",
    2: "interrupt",
    3: "quit",
    4: "illegal instruction",
    5: "trace/breakpoint trap",
    6: "aborted",
    7: "bus error",
    8: "floating point exception",
    9: "killed",
    10: "user defined signal 1",
    11: "segmentation fault",
    12: "user defined signal 2",
    13: "broken pipe",
    14: "alarm clock",
    15: "terminated",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer of the runtime's own."""

    status: Status
    error_type: str
    message: str
    logged: bool = True  #: AWS's log has the message and the type as lines of their own, before END

    def payload(self, request_id: str) -> bytes:
        """The error document for the caller."""
        return orjson.dumps({"errorType": self.error_type, "errorMessage": f"RequestId: {request_id} Error: {self.message}"})

    def log_lines(self, request_id: str) -> tuple[str, ...]:
        return (f"RequestId: {request_id} Error: {self.message}", self.error_type) if self.logged else ()


def timed_out(timeout_s: float) -> Failure:
    """The function's deadline has come."""
    return Failure(Status.TIMEOUT, "Sandbox.Timedout", f"Task timed out after {timeout_s:.2f} seconds", logged=False)


def timed_out_line(request_id: str, timeout_s: float, wall_s: float) -> str:
    """The platform's log line for it; `wall_s` is since the epoch."""
    at = datetime.datetime.fromtimestamp(wall_s, datetime.UTC).isoformat(timespec="milliseconds")[:-6]
    return f"{at}Z {request_id} Task timed out after {timeout_s:.2f} seconds"


def exited(status: ExitStatus) -> Failure:
    """The runtime process ended before it answered."""
    if status.launch_error is not None and status.launch_error.startswith("workdir "):
        return Failure(Status.FAILURE, "Runtime.InvalidWorkingDir", status.launch_error.removeprefix("workdir "))
    if status.launch_error is not None:
        return Failure(Status.FAILURE, "Runtime.InvalidEntrypoint", status.launch_error)
    how = _how(status)
    message = f"Runtime exited with error: {how}" if how else "Runtime exited without providing a reason"
    return Failure(Status.FAILURE, "Runtime.ExitError", message)


def extension_exited(status: ExitStatus, announced: str | None) -> Failure:
    """An extension's process ended unasked, or was never there; `announced` is what it said before, if it did.

    Recorded from AWS's logs by users: ``exit code 0`` and ``exit status 255`` with Extension.Crash, ``exit code 0`` with
    Extension.InitError.
    """
    if status.launch_error is not None:
        return Failure(Status.FAILURE, "Extension.LaunchError", status.launch_error)
    return Failure(Status.FAILURE, announced or "Extension.Crash", _how(status) or "exit code 0")


def _how(status: ExitStatus) -> str:
    """As Go words it; empty for a proper end."""
    if status.signal is not None:
        return f"signal: {_SIGNAL_NAMES.get(status.signal, f'signal {status.signal}')}"
    return f"exit status {status.code}" if status.code else ""


TORN: Final = Failure(
    Status.FAILURE, "Runtime.TruncatedResponse", "Runtime closed the connection before its response was complete"
)


def broken(reason: str) -> Failure:
    """The sandbox itself is gone, or could not do what was asked: ours."""
    return Failure(Status.FAILURE, "Sandbox.Failure", reason)


TOO_LARGE_TYPE: Final = "Function.ResponseSizeTooLarge"


def too_large(limit_bytes: int = MAX_PAYLOAD_BYTES) -> bytes:
    """The error document for an answer that is larger than that."""
    message = f"Response payload size exceeded maximum allowed payload size ({limit_bytes} bytes)."
    return orjson.dumps({"errorMessage": message, "errorType": TOO_LARGE_TYPE})


INVALID_MODE_TYPE: Final = "Runtime.InvalidResponseModeHeader"
INVALID_MODE: Final = orjson.dumps({"errorMessage": "Invalid function response mode", "errorType": INVALID_MODE_TYPE})
