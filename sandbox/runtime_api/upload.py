"""A response that is handed on while it comes, instead of being collected.

What one read of the connection brought is handed on as one piece, in the step in which it was read: the first byte is on its way
to the caller before the function has written its second. A taker that can't keep up has the reading from the runtime paused, so
that no more than what one read takes is ever held here, and the kernel makes the runtime wait.
"""

from __future__ import annotations

import asyncio

from sandbox.outcome import Stream


class Upload:
    """One response on its way to `stream`; it is the `Flow` that the stream may pause."""

    __slots__ = ("_over", "_pieces", "_transport", "held", "size", "stream")

    def __init__(self, stream: Stream, transport: asyncio.Transport) -> None:
        self.stream = stream
        self.size = 0  #: bytes handed on
        self.held = False  #: the stream wants no more for now, and nothing is read
        self._transport = transport
        self._pieces: list[bytes] = []
        self._over = False

    def __repr__(self) -> str:
        return f"<Upload {'over' if self._over else 'held' if self.held else 'running'}>"

    def add(self, data: bytes) -> None:
        """What the parser gave; `flush` hands it on."""
        if not self._over:
            self._pieces.append(data)

    def flush(self) -> None:
        """Hand on what has come since the last time."""
        pieces = self._pieces
        if pieces:
            self._pieces = []
            self.size += sum(map(len, pieces))
            self.stream.chunk(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def end(self) -> None:
        """There is no more of it, or no more that counts. The connection is read again: something else may come."""
        self.flush()
        self._over = True
        if self.held:
            self.held = False
            self._resume()

    def drop(self) -> None:
        """Nothing that comes from now on counts, nor what was not handed on yet."""
        self._over = True
        self._pieces.clear()

    # What the stream says.

    def pause(self) -> None:
        if not self.held and not self._over and not self._transport.is_closing():
            self.held = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.held and not self._over:
            self.held = False
            self._resume()

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()
