"""The Lambda API for functions: the same that clients have, at a listener in each sandbox's own network.

There an SDK finds it by AWS_ENDPOINT_URL_LAMBDA, with a network and without one. What is the operator's (the logs of all
functions, the gateway's figures) is not served here, and neither are function URLs, which are for the world outside.

A listener costs a descriptor and an entry in the event loop's selector. Nobody there is trusted: a sandbox gets CONNECTIONS at
most, and more are left in its own backlog until one of them ends.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gateway.edge.connection import Connection
from gateway.errors import ResourceNotFoundException
from sandbox.tasks import Tasks

if TYPE_CHECKING:
    from aiohttp import web

CONNECTIONS: Final = 64  #: of one sandbox; an SDK's pool has 10
AGAIN_S: Final = 1.0  #: until a listener that found no descriptor free is asked again

_PRIVATE: Final = ("/_lambent/", "/_urls/", "/metrics")

_log = logging.getLogger(__name__)


class Inside:
    """Serves at any number of listeners with `server`, whose connections have `options`."""

    def __init__(self, server: web.Server, options: dict[str, Any]) -> None:
        self.server = server
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(lambda error: _log.error("a function's connection failed: %r", error))
        self._doors: set[_Door] = set()

    def serve(self, listener: socket.socket) -> Callable[[], None]:
        """Until what is returned is called; `listener` is to be open until then. Connections that there are end by themselves."""
        door = _Door(listener, self._loop, self._take)
        self._doors.add(door)

        def end() -> None:
            self._doors.discard(door)
            door.close()

        return end

    def _take(self, door: _Door, sock: socket.socket) -> None:
        self._tasks.start(self._connect(door, sock), "a function's connection")

    async def _connect(self, door: _Door, sock: socket.socket) -> None:
        options = self._options
        try:
            await self._loop.connect_accepted_socket(lambda: _Connection(door, self.server, loop=self._loop, **options), sock)
        except OSError:  # it is gone again
            sock.close()
            door.lost()

    async def close(self) -> None:
        """Let nobody in any more, and end the connections."""
        while self._doors:
            self._doors.pop().close()
        await self._tasks.join()
        await self.server.shutdown(0.1)


class _Door:
    """One sandbox's listener."""

    __slots__ = ("_listener", "_listening", "_loop", "_take", "_timer", "open")

    def __init__(
        self, listener: socket.socket, loop: asyncio.AbstractEventLoop, take: Callable[[_Door, socket.socket], None]
    ) -> None:
        self._listener: socket.socket | None = listener
        self._loop = loop
        self._take = take
        self._listening = False
        self._timer: asyncio.TimerHandle | None = None
        self.open = 0
        self._listen()

    def _listen(self) -> None:
        if self._listener is not None and not self._listening:
            self._listening = True
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _pause(self) -> None:
        if self._listener is not None and self._listening:
            self._listening = False
            self._loop.remove_reader(self._listener.fileno())

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            _log.warning("a function's connection to the Lambda API cannot be taken: %s", error)
            self._pause()
            self._timer = self._loop.call_later(AGAIN_S, self._listen)
            return
        sock.setblocking(False)
        self.open += 1
        if self.open >= CONNECTIONS:
            self._pause()
        self._take(self, sock)

    def lost(self) -> None:
        self.open -= 1
        self._listen()

    def close(self) -> None:
        self._pause()
        self._listener = None
        if self._timer is not None:
            self._timer.cancel()


class _Connection(Connection):
    __slots__ = ("_door",)

    def __init__(self, door: _Door, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._door = door

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._door.lost()


def check(target: str, host: str) -> None:
    """Raises ResourceNotFoundException for what functions are not served; a target that is no path is none of the API's."""
    if not target.startswith("/") or target.startswith(_PRIVATE) or ".lambda-url." in host.lower():
        raise ResourceNotFoundException("Functions are served the Lambda API here, and nothing else.")
