"""The Runtime API of one sandbox: all its connections, and the event that waits for its runtime.

The server runs on every socket that a driver hands over, listening or connected already. Which call is allowed when is
`session`'s, what the bytes mean is `connection`'s; here both meet, and their owner is told.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, Protocol

from sandbox.outcome import Stream
from sandbox.runtime_api.connection import Connection
from sandbox.runtime_api.session import Event, Session, State

_RUNNING, _READY, _RESPONSE, _ERROR = State.RUNNING, State.READY, State.RESPONSE, State.ERROR  # see session

MAX_CONNECTIONS: Final = 32  #: of one sandbox: a runtime, ten extensions, and room


class Owner(Protocol):
    """Who is told what the runtime did. Called in the event loop, in the order of the bytes; may call back into the server."""

    def on_next(self, before: State) -> None:
        """The runtime asked for `next`, coming from the state `before`."""

    def on_answer(self, payload: bytes, content_type: str, error_type: str | None) -> None:
        """The answer to the event is there, whole; it is an error where `error_type` is not None."""

    def on_torn(self) -> None:
        """The connection broke in the middle of the answer; it may come again."""

    def on_init_error(self, payload: bytes, content_type: str, error_type: str) -> None: ...

    def on_disconnected(self) -> None:
        """The last connection is closed: nothing that the runtime had sent is still to come."""


class RuntimeApi:
    """All connections of one sandbox, and the event that waits for its runtime."""

    __slots__ = ("_connections", "_event", "_holder", "_servers", "accepting", "owner", "session", "stream")

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.session = Session()
        self.accepting = False  #: whether new connections are welcome: not while no runtime runs that we know of
        self._connections: set[Connection] = set()
        self._holder: Connection | None = None  # the connection whose `next` is unanswered
        self._event = b""  # the answer to `next` that the runtime works on, for when it asks again
        self._servers: list[asyncio.Server] = []
        self.stream: Stream | None = None  #: takes the answer to the event in hand while it comes

    async def serve(self, listener: socket.socket) -> None:
        """Accept at `listener`, which stays its owner's: a duplicate is what the loop gets and closes."""
        server = await asyncio.get_running_loop().create_server(lambda: Connection(self), sock=_own(listener))
        self._servers.append(server)

    async def attach(self, connection: socket.socket) -> None:
        """Speak on a socket that the runtime is connected to already; it stays its owner's."""
        await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(self, connection), _own(connection))

    def invoke(self, request_id: str, event: bytes, stream: Stream | None = None) -> None:
        """Give the runtime an event (an answer to `next`, whole) as soon as it asks for one, mostly at once."""
        self._event = event
        self.stream = stream
        self.session.invoked(request_id.encode())
        holder = self._holder
        if holder is not None and self.session.state is _RUNNING:
            self._holder = None
            holder.send_event(event)

    @property
    def connected(self) -> bool:
        return bool(self._connections)

    @property
    def held(self) -> bool:
        """Whether an answer is not being read because its caller can take no more for now."""
        return any(connection.held for connection in self._connections)

    def dismiss(self, late: bool = False) -> None:
        """The runtime will be killed and replaced: nothing that it still says counts, and nobody new is listened to.

        Its connections stay until `replaced`: a runtime that sees them break would write its last words into the function's log.
        """
        self.accepting = False
        self._holder = None
        self._event = b""
        if self.stream is not None:
            self.stream = None
            for connection in self._connections:
                connection.drop()
        self.session.dismissed(late)

    def replaced(self) -> None:
        """The old runtime is dead."""
        self._cut_all()
        self.session.restarted()

    def _cut_all(self) -> None:
        for connection in self._connections:
            connection.cut()
        self._connections.clear()

    def close(self) -> None:
        """For good; idempotent."""
        self.dismiss()
        self._cut_all()
        for server in self._servers:
            server.close()
        self._servers.clear()

    def admit(self, connection: Connection, known: bool) -> bool:
        if not known and (not self.accepting or len(self._connections) >= MAX_CONNECTIONS):
            return False
        self._connections.add(connection)
        return True

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._holder is connection:
            self._holder = None
        if not self._connections:
            self.owner.on_disconnected()

    def next(self, connection: Connection) -> None:
        """`connection` asks for an event. Raises Refused."""
        if self.taking_answer:
            self._look_for_ends(connection)
        before = self.session.next()
        state = self.session.state
        if state is _RUNNING:
            connection.send_event(self._event)
            self.owner.on_next(before)
            return
        if before is State.DISMISSED:
            return
        earlier, self._holder = self._holder, connection
        if earlier is not None and earlier is not connection:
            earlier.cut()  # its client gave it up, or asks twice; it would wait for ever
        if before is not _READY:
            self._event = b""
        self.owner.on_next(before)

    def answer_begins(self, connection: Connection, request_id: bytes, what: Event) -> None:
        """`connection` brought the head of a response or error. Raises Refused."""
        if self.taking_answer:
            self._look_for_ends(connection)
        self.session.answer_begins(request_id, what)

    def _look_for_ends(self, asking: Connection) -> None:
        """`asking` goes on although an answer is being read elsewhere. If that connection ended before, it is torn before."""
        for connection in self._connections - {asking}:
            connection.look_for_end()

    @property
    def taking_answer(self) -> bool:
        """Whether an answer is being read that still counts: not when the runtime was dismissed meanwhile."""
        return (state := self.session.state) is _RESPONSE or state is _ERROR

    def torn(self, begun: bool = False) -> None:
        if self.taking_answer:
            self.session.answer_torn(begun)
            self.owner.on_torn()

    def answered(self, payload: bytes, content_type: str, error_type: str | None) -> None:
        self.stream = None
        self.session.answer_ends()
        self.owner.on_answer(payload, content_type, error_type)


def _own(sock: socket.socket) -> socket.socket:
    """The same socket for the loop, which closes what it is given; and would block as a whole on one that blocks."""
    own = sock.dup()
    own.setblocking(False)
    return own
