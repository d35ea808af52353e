"""``GET /_lambent/logs/NAME``: a function's log as JSON, one entry a line, for `lambent logs`.

``since`` (milliseconds since the epoch) leaves out what is older; with ``follow=1`` the answer goes on as the log grows.
Everything is read from the log's files in a worker thread, a piece at a time, and the next piece only when the last one was
sent: a reader that never reads costs one piece of memory, however much the function writes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qs, unquote

import orjson
from aiohttp import web

from gateway import arn
from gateway.control.catalog import Catalog
from gateway.edge.connection import Connection
from gateway.errors import InvalidParameterValueException
from gateway.observe.log_files import START, LogEvent
from gateway.observe.logs import Logs

PREFIX: Final = "/_lambent/logs/"


class LogRoute:
    """Answers from `logs`; `catalog` tells which functions there are although they wrote nothing yet."""

    def __init__(self, *, logs: Logs, catalog: Catalog, region: str, account_id: str) -> None:
        self._logs = logs
        self._catalog = catalog
        self._region = region
        self._account_id = account_id
        self._followers: set[_Follower] = set()

    async def handle(self, request: web.BaseRequest, connection: Connection, name: str, query: str) -> web.StreamResponse:
        """Answer a request for the log of `name` (as on the wire). Raises ApiError."""
        name = unquote(name)
        given = parse_qs(query)
        since = given.get("since", ["0"])[-1]
        if not (since.isascii() and since.isdigit() and len(since) < 16):
            raise InvalidParameterValueException("since must be a time in milliseconds since the epoch.")
        if self._catalog.get(name) is None and not await asyncio.to_thread(self._logs.known, name):
            raise arn.not_found(self._region, self._account_id, name)
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        connection.sending = True  # from here on an error cannot become another answer: it breaks this one off
        await response.prepare(request)
        if request.method != "HEAD":
            if given.get("follow", ["0"])[-1] == "1":
                with self._following(connection, name) as follower:
                    await self._send(response, name, int(since), follower)
            else:
                await self._send(response, name, int(since), None)
        await response.write_eof()
        return response

    def stop(self) -> None:
        """End what follows, after all that is written by now: the gateway is about to end."""
        for follower in self._followers:
            follower.stop()

    @contextlib.contextmanager
    def _following(self, connection: Connection, name: str) -> Iterator[_Follower]:
        follower = _Follower(asyncio.get_running_loop())
        self._followers.add(follower)
        self._logs.follow(name, follower)
        connection.left = follower.stop
        try:
            yield follower
        finally:
            connection.left = None
            self._logs.unfollow(name, follower)
            self._followers.discard(follower)

    async def _send(self, response: web.StreamResponse, name: str, since_ms: int, follower: _Follower | None) -> None:
        await asyncio.to_thread(self._logs.flush)
        position = START
        while True:
            events, after = await asyncio.to_thread(self._logs.read_from, name, position)
            if chunk := b"".join([_line(event) for event in events if event.timestamp_ms >= since_ms]):
                await response.write(chunk)
            if after == position and (follower is None or not await follower.news()):
                return
            position = after


class _Follower:
    """Wakes one reader when there is more, from whatever thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._grown = asyncio.Event()
        self._stopped = False

    def grown(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._grown.set)

    def stop(self) -> None:
        self._stopped = True
        self._grown.set()

    async def news(self) -> bool:
        """Wait until there may be more; False when there will not be any."""
        if not self._stopped:
            await self._grown.wait()
            self._grown.clear()
        return not self._stopped


def _line(event: LogEvent) -> bytes:
    return orjson.dumps(
        {"timestamp": event.timestamp_ms, "stream": event.stream, "message": event.message}, option=orjson.OPT_APPEND_NEWLINE
    )
