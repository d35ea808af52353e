"""What the edge asks of the parts below it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from gateway.invocation import Invocation, InvokeResult
from gateway.records import FunctionVersion

if TYPE_CHECKING:
    from aiohttp import web


class Invokes(Protocol):
    """Runs invocations. Raises subclasses of ApiError only."""

    def invoke(self, invocation: Invocation) -> Awaitable[InvokeResult]:
        """Run it. Cancelled, which the edge does when the client leaves, it gives up its place in the queue; once the function
        has its event, it runs to its end unheard."""

    def resolve(self, function_name: str, qualifier: str | None) -> FunctionVersion:
        """The version that an invocation would run."""


class Handles(Protocol):
    """Answers a request; makes an answer of every ApiError itself. `request_id` is in the answer and in what is logged."""

    def handle(self, request: web.BaseRequest, request_id: str) -> Awaitable[web.StreamResponse]: ...
