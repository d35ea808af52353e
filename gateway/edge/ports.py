"""What the edge asks of the parts below it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from gateway.errors import ApiError
from gateway.invocation import Invocation, InvokeResult
from gateway.records import FunctionVersion

if TYPE_CHECKING:
    from aiohttp import web


class Leaves(Protocol):
    """An invocation that was started."""

    def leave(self) -> None:
        """Nobody wants its answer any more: it gives up its place in the queue; once the function has its event, it runs to its
        end unheard."""


class Invokes(Protocol):
    """Runs invocations. Raises subclasses of ApiError only."""

    def start(self, invocation: Invocation, answered: Callable[[InvokeResult | ApiError], None]) -> Leaves:
        """Run it. `answered`, which must not raise, is called once, maybe before this returns; not after `leave`."""

    def invoke(self, invocation: Invocation) -> Awaitable[InvokeResult]:
        """The same for whoever waits. Cancelled, which the edge does when the client leaves, it is left."""

    def resolve(self, function_name: str, qualifier: str | None) -> FunctionVersion:
        """The version that an invocation would run."""

    def stops_loops(self, function_name: str) -> bool:
        """Whether a chain of requests that comes through the function again and again is stopped there."""


class Handles(Protocol):
    """Answers a request; makes an answer of every ApiError itself. `request_id` is in the answer and in what is logged."""

    def handle(self, request: web.BaseRequest, request_id: str) -> Awaitable[web.StreamResponse]: ...
