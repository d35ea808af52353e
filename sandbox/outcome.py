"""What a sandbox is given to do, and what came of it. [P]"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import Final, Protocol

MIB: Final = 1 << 20
ERROR_MS: Final = 5e-7  #: more than floating point adds to any duration, less than any clock shows


class Status(enum.Enum):
    """How an invocation ended, in the words of AWS's platform.report."""

    SUCCESS = "success"
    ERROR = "error"  #: the function reported an error
    FAILURE = "failure"  #: the runtime or an extension broke
    TIMEOUT = "timeout"


class Flow(Protocol):
    """Where a streamed answer comes from. Both may be called at any time, also after its end, and do nothing twice."""

    def pause(self) -> None:
        """Read no more of it for now: the runtime that writes it has to wait."""

    def resume(self) -> None: ...


class Stream(Protocol):
    """Who takes an answer while the runtime still gives it. Called in the event loop; must neither block nor raise.

    An answer that is there as a whole may come by `Outcome.payload` alone, without any call here. Once `begin` was called the
    payload of a success is empty, and that of an error is the error document only. After the outcome nothing is called.
    """

    @property
    def limit_bytes(self) -> int:
        """The longest answer; a longer one is cut there, and is an error."""

    def begin(self, content_type: str, flow: Flow) -> None:
        """The runtime has begun to answer; `content_type` is empty where it did not say."""

    def chunk(self, data: bytes) -> None:
        """The next bytes of the answer: as many as came at once, which is a few hundred KB at most."""


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
    stream: Stream | None = None  #: takes the answer while it is given; without, it is collected
    on_begun: Callable[[], None] | None = None  #: called when an Init that had to come first is over; see `Sandbox.invoke`


@dataclasses.dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a `Work`: settled exactly once, after all that the function wrote before its answer was read.

    `payload` is the answer or, where `status` is not SUCCESS, the error document that the caller gets. `log_lines` are the
    platform's own lines that stand before END (time-out, exit), each without its newline.

    Where extensions still work on the event when the answer is there, `closed` is False: the caller is answered, while the
    invocation goes on, and is billed, until they are done. `on_closed`, set by who is told this, is then called exactly once
    with the outcome as it came to be: its duration includes the extensions', and its status says how they ended.
    """

    status: Status
    payload: bytes
    content_type: str = "application/json"
    error_type: str | None = None
    duration_s: float
    init_s: float | None = None  #: this sandbox's Init, reported by the first invocation after it only
    max_memory_bytes: int = 0
    log_lines: tuple[str, ...] = ()
    closed: bool = True
    on_closed: Callable[[Outcome], None] | None = None


def billed_ms(outcome: Outcome) -> int:
    """Each begun millisecond, of Init too, as AWS bills since August 2025; what floating point adds to one begins none."""
    billed = math.ceil(outcome.duration_s * 1000 - ERROR_MS) or 1
    if outcome.init_s is not None:
        billed += math.ceil(outcome.init_s * 1000 - ERROR_MS) or 1
    return billed
