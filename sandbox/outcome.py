"""What a sandbox is given to do, and what came of it. [P]"""

from __future__ import annotations

import dataclasses
import enum


class Status(enum.Enum):
    """How an invocation ended, in the words of AWS's platform.report."""

    SUCCESS = "success"
    ERROR = "error"  #: the function reported an error
    FAILURE = "failure"  #: the runtime or an extension broke
    TIMEOUT = "timeout"


@dataclasses.dataclass(slots=True, kw_only=True)
class Work:
    """One event for a sandbox. The function's deadline is `timeout_s` after the event was handed over."""

    request_id: str
    invoked_arn: str  #: qualified only where the caller qualified
    payload: bytes
    content_type: str
    trace_id: str
    timeout_s: float
    client_context: str | None = None
    cognito_identity: str | None = None


@dataclasses.dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a `Work`: settled exactly once, after all that the function wrote before its answer was read.

    `payload` is the answer or, where `status` is not SUCCESS, the error document that the caller gets. `log_lines` are the
    platform's own lines that stand before END (time-out, exit), each without its newline.
    """

    status: Status
    payload: bytes
    content_type: str = "application/json"
    error_type: str | None = None
    duration_s: float
    init_s: float | None = None  #: this sandbox's Init, reported by the first invocation after it only
    max_memory_bytes: int = 0
    log_lines: tuple[str, ...] = ()
