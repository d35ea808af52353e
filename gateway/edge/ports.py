"""What the edge asks of the parts below it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Protocol

from gateway.invocation import Invocation, InvokeResult
from gateway.records import FunctionVersion

if TYPE_CHECKING:
    from aiohttp import web


class Invokes(Protocol):
    """Runs invocations. Raises subclasses of ApiError only.

    An invocation is cancelled only when the gateway itself ends, never because its client left: AWS runs it to its end, too.
    """

    def invoke(self, invocation: Invocation) -> Awaitable[InvokeResult]: ...

    def resolve(self, function_name: str, qualifier: str | None) -> FunctionVersion:
        """The version that an invocation would run."""


class Handles(Protocol):
    """Answers a request; makes an answer of every ApiError itself."""

    def handle(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]: ...
