"""The body of a request: how much, how slowly, and what to say to a client that asks first.

Most bodies are there when their headers are, and reading them costs one call. All else is the slow path: a declared length is
checked before a byte is read, the length is checked again while reading, ``100 Continue`` is said only for what will be
accepted, and who sends more slowly than `BYTES_PER_S` on average, after some seconds of grace, is cut off. That bounds half a
request as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import hdrs, web

from gateway.errors import ApiError, Fault, RequestEntityTooLargeException

BYTES_PER_S: Final = 50_000
GRACE_S: Final = 30.0

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class RequestTimeout(ApiError):
    """The request did not arrive in time."""

    code, status, fault = "RequestTimeoutException", 408, Fault.CLIENT


class BadRequest(ApiError):
    """The request is not valid HTTP."""

    code, status, fault = "BadRequestException", 400, Fault.CLIENT


class ClientGone(Exception):
    """The client left before its request was complete; there is nobody to answer."""


def at_hand(request: web.BaseRequest) -> bytes | None:
    """The body where it is complete already, as far as one is that fits into the read buffer (some 100 kB); else None."""
    content = request.content
    return content.read_nowait() if content.is_eof() else None


async def read(request: web.BaseRequest, limit_bytes: int, operation: str, grace_s: float = GRACE_S) -> bytes:
    """The whole body, where `at_hand` has none.

    Raises RequestEntityTooLargeException in AWS's words for `operation`, RequestTimeout, BadRequest where its framing is
    broken, and ClientGone. After any of them the connection is of no use any more.
    """
    content = request.content
    check_length(request, limit_bytes, operation)
    say_continue(request)
    chunks: list[bytes] = []
    size = 0
    async with in_time(request, grace_s):
        while chunk := await content.readany():
            size += len(chunk)
            if size > limit_bytes:
                raise too_large(limit_bytes, operation)
            chunks.append(chunk)
    return b"".join(chunks)


def too_large(limit_bytes: int, operation: str) -> RequestEntityTooLargeException:
    """AWS's error for a body above the limit (recorded for CreateFunction; users quote it for InvokeFunction)."""
    return RequestEntityTooLargeException(f"Request must be smaller than {limit_bytes} bytes for the {operation} operation")


def check_length(request: web.BaseRequest, limit_bytes: int, operation: str) -> None:
    """Refuse a body that says itself that it is too large, before any of it is read."""
    declared = request.headers.get(hdrs.CONTENT_LENGTH)
    if declared is not None and int(declared) > limit_bytes:  # the parser let nothing but digits through
        raise too_large(limit_bytes, operation)


def say_continue(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send its body (curl does from 1 MB on, some SDKs always)."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and not request.content.total_bytes:
        transport = request.transport
        if transport is not None and request.version >= (1, 1):
            transport.write(_CONTINUE)


@contextlib.asynccontextmanager
async def in_time(request: web.BaseRequest, grace_s: float = GRACE_S) -> AsyncIterator[None]:
    """Bound how long the body may take to arrive while the block reads it, and name what goes wrong on the way.

    The body may always have taken `grace_s` and a second for every `BYTES_PER_S` that came. The time is not counted any more
    once the body is complete.
    """
    content = request.content
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        async with asyncio.timeout(None) as scope:
            timer: asyncio.TimerHandle

            def check() -> None:
                nonlocal timer
                if content.is_eof():
                    return
                due = begun + grace_s + content.total_bytes / BYTES_PER_S
                if due <= loop.time():
                    scope.reschedule(due)
                else:
                    timer = loop.call_at(due, check)

            timer = loop.call_later(grace_s, check)
            try:
                yield
            finally:
                timer.cancel()
    except TimeoutError as error:
        if scope.expired():
            raise RequestTimeout from error
        raise
    except web.RequestPayloadError as error:
        raise BadRequest("The body of the request is not valid HTTP.") from error
    except ConnectionError as error:
        raise ClientGone from error
