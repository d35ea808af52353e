"""One invocation, from the edge to the sandbox and back. [P]"""

from __future__ import annotations

import dataclasses
from typing import Protocol

from gateway.records import FunctionVersion
from sandbox.outcome import Status, Stream


class ResponseStream(Stream, Protocol):
    """Who takes the answer while the function gives it, and wants to know before what runs."""

    def runs(self, version: FunctionVersion) -> None: ...


@dataclasses.dataclass(slots=True, kw_only=True)
class Invocation:
    """What the edge asks the invoker to run.

    `arrived_s` is on the monotonic clock. `payload` is the event's bytes, already checked to be JSON.
    """

    request_id: str
    function_name: str
    qualifier: str | None  #: as the caller named it: None, ``$LATEST``, a version or an alias
    payload: bytes
    trace_id: str  #: value of X-Amzn-Trace-Id
    content_type: str = "application/json"
    client_context: str | None = None  #: JSON text, decoded from base64
    cognito_identity: str | None = None
    want_log_tail: bool = False
    arrived_s: float
    stream: ResponseStream | None = None  #: gets the answer while it comes; it may come as a whole all the same


@dataclasses.dataclass(slots=True, kw_only=True)
class InvokeResult:
    """What an invocation came to; `payload` is the answer, or the error document when `status` is not SUCCESS.

    Of an answer that its `stream` was given nothing is in `payload`.
    """

    payload: bytes
    content_type: str
    status: Status
    version: FunctionVersion  #: what ran: X-Amz-Executed-Version
    log_tail: bytes | None = None  #: last 4 KB of this invocation's log, when asked for

    @property
    def function_error(self) -> str | None:
        """Value of X-Amz-Function-Error."""
        return None if self.status is Status.SUCCESS else "Unhandled"
