"""The Runtime API of one sandbox: all its connections, and the event that waits for its runtime.

The server runs on every socket that a driver hands over, listening or connected already. Which call is allowed when is
`session`'s, what the bytes mean is `connection`'s; here both meet, and their owner is told.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, Final, Protocol

from sandbox.outcome import Stream
from sandbox.runtime_api import extensions as extensions_api
from sandbox.runtime_api import wire
from sandbox.runtime_api.connection import Connection
from sandbox.runtime_api.extensions import Extension, Extensions
from sandbox.runtime_api.session import Event, Session, State
from sandbox.spec import FunctionSpec

_STARTED, _RUNNING, _READY = State.STARTED, State.RUNNING, State.READY  # see session
_RESPONSE, _ERROR = State.RESPONSE, State.ERROR

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

    def on_answer_begins(self) -> None:
        """The head of a response or error was read; told only where `RuntimeApi.timed` asks for it."""

    def on_extension(self, extension: Extension) -> None:
        """An extension has registered, asked for an event, or said that it fails; its state says which."""


class Watcher(Protocol):
    """Tells extensions what happens in their environment."""

    def subscribe(self, extension: Extension, body: bytes, *, logs: bool) -> None:
        """`extension` asks for telemetry, by the Telemetry API or, with `logs`, the Logs API. Raises Refused."""

    def answer_begins(self) -> None:
        """The head of a response or error was read."""


class RuntimeApi:
    """All connections of one sandbox, and the events that wait for its runtime and its extensions.

    `extensions` is None as long as there are none, which is how an ordinary function pays for them with a look at it.
    """

    __slots__ = (
        "_asking",
        "_connections",
        "_event",
        "_holder",
        "_of_extensions",
        "_servers",
        "accepting",
        "extensions",
        "function",
        "owner",
        "session",
        "stream",
        "streamed_bytes",
        "telemetry",
        "timed",
    )

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.session = Session()
        self.accepting = False  #: whether new connections are welcome: not while no runtime runs that we know of
        self.function: FunctionSpec | None = None  #: what extensions are told about; without it nobody can register
        self.extensions: Extensions | None = None
        self._connections: set[Connection] = set()
        self._of_extensions: set[Connection] = set()  # those of other processes: of external extensions
        self._asking: dict[str, Connection] = {}  # by extension: the connection whose `next` is unanswered
        self._holder: Connection | None = None  # the connection whose `next` is unanswered
        self._event = b""  # the answer to `next` that the runtime works on, for when it asks again
        self._servers: list[asyncio.Server] = []
        self.stream: Stream | None = None  #: takes the answer to the event in hand while it comes
        self.streamed_bytes = 0  #: how many of the answer were streamed
        self.timed = False  #: whether the owner wants to know when answers begin
        self.telemetry: Watcher | None = None  #: who is told what only telemetry wants to know; None: nobody can subscribe

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
        self.streamed_bytes = 0
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
        return any(connection.held for connection in self._connections | self._of_extensions)

    def dismiss(self, late: bool = False) -> None:
        """The runtime will be killed and replaced: nothing that it still says counts, and nobody new is listened to.

        Its connections stay until `replaced`: a runtime that sees them break would write its last words into the function's log.
        Extensions are listened to until then, since they are told of the end.
        """
        self.accepting = self.extensions is not None
        self._holder = None
        self._event = b""
        if self.stream is not None:
            self.stream = None
            for connection in self._connections | self._of_extensions:  # whoever has brought the answer
                connection.drop()
        self.session.dismissed(late)

    def replaced(self) -> None:
        """The old runtime is dead, and its extensions are."""
        self._cut_all()
        self.session.restarted()

    def _cut_all(self) -> None:
        self.accepting = False
        for connection in self._connections | self._of_extensions:
            connection.cut()
        self._connections.clear()
        self._of_extensions.clear()
        self._asking.clear()
        self.extensions = None

    def close(self) -> None:
        """For good; idempotent."""
        self.dismiss()
        self._cut_all()
        for server in self._servers:
            server.close()
        self._servers.clear()

    def admit(self, connection: Connection, known: bool) -> bool:
        if not known and (not self.accepting or len(self._connections) + len(self._of_extensions) >= MAX_CONNECTIONS):
            return False
        self._connections.add(connection)
        return True

    def closed(self, connection: Connection) -> None:
        if self._holder is connection:
            self._holder = None
        if self._asking:
            self._asking = {name: asking for name, asking in self._asking.items() if asking is not connection}
        if connection in self._of_extensions:
            self._of_extensions.discard(connection)
            return
        self._connections.discard(connection)
        if not self._connections:
            self.owner.on_disconnected()

    def next(self, connection: Connection) -> None:
        """`connection` asks for an event. Raises Refused."""
        if self.taking_answer:
            self._look_for_ends(connection)
        if self.extensions is not None and self.session.state is _STARTED:
            self.extensions.open = False
            self.session.holding = not self.extensions.all_ready
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
        if before is not _READY and not self.session.holding:  # else it waits for the extensions
            self._event = b""
        self.owner.on_next(before)

    def answer_begins(self, connection: Connection, request_id: bytes, what: Event) -> None:
        """`connection` brought the head of a response or error. Raises Refused."""
        if self.taking_answer:
            self._look_for_ends(connection)
        self.session.answer_begins(request_id, what)
        if self.telemetry is not None:
            self.telemetry.answer_begins()
        if self.timed:
            self.owner.on_answer_begins()

    def _look_for_ends(self, asking: Connection) -> None:
        """`asking` goes on although an answer is being read elsewhere. If that connection ended before, it is torn before."""
        for connection in (self._connections | self._of_extensions) - {asking}:
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

    # Extensions.

    def release(self) -> None:
        """The extensions are ready too: the runtime gets the event that waited for that, if there is one."""
        if self.session.released() and self._holder is not None:
            holder, self._holder = self._holder, None
            holder.send_event(self._event)

    def register(self, connection: Connection, headers: Mapping[bytes, bytes], body: bytes) -> bytes:
        """An extension registers; the answer. Raises Refused."""
        found = self.extensions
        if found is None:
            if self.function is None or self.session.state is not _STARTED:
                raise extensions_api.closed()
            found = Extensions(self.function)
        extension, answer = found.register(headers, body)
        self.extensions = found
        self._is_of(extension, connection)
        self.owner.on_extension(extension)
        return answer

    def extension_next(self, connection: Connection, headers: Mapping[bytes, bytes]) -> None:
        """An extension asks for an event. Raises Refused."""
        identifier = extensions_api.identifier_of(headers)
        extension = self.extensions.find(identifier) if self.extensions is not None else None
        if extension is None:
            raise extensions_api.unknown(f"extension {identifier}")
        self._is_of(extension, connection)
        if extension.name in self._asking:
            raise extensions_api.not_now(extension, extensions_api.Event.ASKED)
        if not extension.pending:
            extension.see(extensions_api.Event.ASKED)
        self._asking[extension.name] = connection
        if extension.pending:
            self._hand_over(extension)
        else:
            self.owner.on_extension(extension)

    def extension_error(self, connection: Connection, headers: Mapping[bytes, bytes], what: extensions_api.Event) -> bytes:
        """An extension says that its Init failed, or that it is about to end; the answer. Raises Refused."""
        identifier = extensions_api.identifier_of(headers)
        error_type = extensions_api.error_type_of(headers)
        extension = self.extensions.find(identifier) if self.extensions is not None else None
        if extension is None:
            raise extensions_api.unknown("Lambda-Extension-Identifier")
        self._is_of(extension, connection)
        extension.see(what)
        if extension.error_type is None:  # the first counts
            extension.error_type = error_type
            self.owner.on_extension(extension)
        return wire.ACCEPTED

    def subscribe(self, connection: Connection, headers: Mapping[bytes, bytes], body: bytes, *, logs: bool) -> bytes:
        """An extension wants telemetry; the answer. Raises Refused."""
        if self.telemetry is None:
            return wire.LOGS_OFF if logs else wire.TELEMETRY_OFF
        identifier = extensions_api.identifier_of(headers)
        extension = self.extensions.find(identifier) if self.extensions is not None else None
        if extension is None:
            raise extensions_api.unknown(f"extension {identifier}")
        self._is_of(extension, connection)
        self.telemetry.subscribe(extension, body, logs=logs)
        return wire.SUBSCRIBED

    def tell(self, kind: str, event: Mapping[str, Any]) -> None:
        """Give every extension that is subscribed to `kind` an event."""
        assert self.extensions is not None
        for extension in self.extensions.of(kind):
            extension.give(extensions_api.event_answer(event))
            self._hand_over(extension)

    def _hand_over(self, extension: Extension) -> None:
        """Now if it asks, else when it does."""
        asking = self._asking.pop(extension.name, None)
        if asking is not None:
            event, extension.pending = extension.pending, b""
            asking.send_event(event)

    def _is_of(self, extension: Extension, connection: Connection) -> None:
        """`connection` is an external extension's, so that a runtime which has ended is not waited for because that goes on.

        An internal one ends with its runtime, and mostly shares a pool of connections with it: what it called by may bring the
        next answer.
        """
        if extension.external and connection in self._connections and connection is not self._holder:
            self._connections.discard(connection)
            self._of_extensions.add(connection)


def _own(sock: socket.socket) -> socket.socket:
    """The same socket for the loop, which closes what it is given; and would block as a whole on one that blocks."""
    own = sock.dup()
    own.setblocking(False)
    return own
