"""One end of a SOCK_SEQPACKET pair in an event loop: whole messages with descriptors, in order, never blocking.

A burst of starts fills a socket's buffer after a few hundred packets, so what does not fit waits here. Descriptors given to
`send` belong to the channel and are closed once they are sent, or the channel is closed.
"""

from __future__ import annotations

import asyncio
import collections
import os
import socket
from collections.abc import Callable

from sandbox.guest import messages

Message = dict[str, object]


class Channel:
    """`on_message(message, fds)` for each packet, `on_closed()` once when the peer is gone.

    A message whose descriptors could not be taken, because this process has no number free for them, has the key ``lost``.
    Both are called in the loop, neither after `close`. The receiver owns the descriptors that it is given.
    """

    def __init__(
        self, sock: socket.socket, on_message: Callable[[Message, list[int]], None], on_closed: Callable[[], None]
    ) -> None:
        self._sock = sock
        self._sock.setblocking(False)
        self._on_message = on_message
        self._on_closed = on_closed
        self._waiting: collections.deque[tuple[Message, list[int]]] = collections.deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)
        self.closed = False

    def send(self, message: Message, fds: list[int] | None = None) -> None:
        """Raises BrokenPipeError when the channel is closed; a peer that goes later is told by `on_closed`."""
        fds = fds or []
        if self.closed:
            _close(fds)
            raise BrokenPipeError("the channel is closed")
        self._waiting.append((message, fds))
        if len(self._waiting) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._waiting:
            message, fds = self._waiting[0]
            try:
                messages.send(self._sock, message, fds)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError:
                self._gone()
                return
            self._waiting.popleft()
            _close(fds)
        self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:  # one; if there are more, the loop is back soon, and one that is not there would cost as much as one that is
            message, fds = messages.receive(self._sock)
        except BlockingIOError:
            return
        except messages.DescriptorsLost as error:
            message, fds = {**error.message, "lost": True}, []
        except (ValueError, OSError):
            self._gone()
            return
        if message is None:
            self._gone()
            return
        self._on_message(message, fds)

    def _gone(self) -> None:
        if not self.closed:
            self.close()
            self._on_closed()

    def close(self) -> None:
        """Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        while self._waiting:
            _close(self._waiting.popleft()[1])


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
