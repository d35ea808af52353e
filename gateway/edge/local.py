"""What only Lambent has, below ``/_lambent/``, for its own commands: how it is, and what functions wrote.

``GET /_lambent/status`` is one JSON object. ``GET /_lambent/logs/NAME?since=S&follow=1`` is one JSON object a line, oldest first;
with `follow` the answer goes on until the client leaves or the gateway drains. Both only read.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.edge import render
from gateway.errors import ApiError, InvalidParameterValueException, ResourceNotFoundException
from gateway.observe.logs import START, LogEvent, Logs

PREFIX: Final = "/_lambent/"
_LOGS: Final = PREFIX + "logs/"
_LOOK_AT_CLIENT_S: Final = 5.0  # a client that left an idle log is noticed this late


class LocalApi:
    """Answers below `PREFIX`. `status` gives the status object; `exists` says whether there is a function of that name."""

    def __init__(self, *, status: Callable[[], Mapping[str, Any]], logs: Logs, exists: Callable[[str], bool]) -> None:
        self._status = status
        self._logs = logs
        self._exists = exists
        self._followers: set[_Follower] = set()

    def close(self) -> None:
        """End the answers that follow a log, so that a drain need not wait for them."""
        for follower in self._followers:
            follower.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if request.method != "GET":
                raise ResourceNotFoundException(f"There is no {request.method} {request.path}.")
            if request.path == PREFIX + "status":
                return _json(self._status())
            if request.path.startswith(_LOGS):
                return await self._answer_logs(request, urllib.parse.unquote(request.path.removeprefix(_LOGS)))
            raise ResourceNotFoundException(f"There is nothing at {request.path}.")
        except ApiError as error:
            return render.error(error, "")

    async def _answer_logs(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        try:
            since_ms = int(float(request.query.get("since") or 0) * 1000)
        except (ValueError, OverflowError):
            raise InvalidParameterValueException("since is not a number of seconds since the epoch") from None
        if not self._exists(name) and not await asyncio.to_thread(self._logs.known, name):
            raise ResourceNotFoundException(f"Function not found: {name}, and there is no log of that name either.")
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        follower = _Follower(asyncio.get_running_loop())
        following = request.query.get("follow") in ("1", "true")
        if following:
            self._logs.follow(name, follower)
            self._followers.add(follower)
        try:
            await response.prepare(request)
            position = START
            while True:
                events, after = await asyncio.to_thread(self._logs.read_from, name, position)
                if lines := _lines(events, since_ms):
                    await response.write(lines)
                if after != position:
                    position = after
                elif not following or not await follower.more(request):
                    break
            await response.write_eof()
        except ConnectionError:
            pass  # the client left
        finally:
            self._logs.unfollow(name, follower)
            self._followers.discard(follower)
        return response


class _Follower:
    """Wakes the answer when the log has grown. `grown` is called from another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        self._closed = False

    def grown(self) -> None:
        self._loop.call_soon_threadsafe(self._event.set)

    def close(self) -> None:
        self._closed = True
        self._event.set()

    async def more(self, request: web.BaseRequest) -> bool:
        """Wait until there may be more; False when the client left or this is closed."""
        while not self._closed and request.transport is not None and not request.transport.is_closing():
            try:
                async with asyncio.timeout(_LOOK_AT_CLIENT_S):
                    await self._event.wait()
            except TimeoutError:
                continue
            if not self._closed:
                self._event.clear()
                return True
        return False


def _lines(events: Iterable[LogEvent], since_ms: int) -> bytes:
    return b"".join(
        orjson.dumps({"time": event.timestamp_ms / 1000, "stream": event.stream, "message": event.message}) + b"\n"
        for event in events
        if event.timestamp_ms >= since_ms
    )


def _json(value: Mapping[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json", headers={"Cache-Control": "no-store"})
