"""One end of a SOCK_SEQPACKET pair in an event loop: whole messages with descriptors, in order, never blocking.

A burst of starts fills a socket's buffer after a few hundred packets, so what does not fit waits here. Descriptors given to
`send` belong to the channel and are closed once they are sent, or the channel is closed.

One message can be too large, which is no reason to end what all others go through: `send` refuses it, because later nobody would
be there to be told. So none is cut off on its way either, and one that is cut off all the same is dropped.
"""

from __future__ import annotations

import asyncio
import collections
import errno
import logging
import os
import socket
from collections.abc import Callable

import orjson

from sandbox.guest import messages

log = logging.getLogger(__name__)

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
        # a packet must fit into the send buffer as a whole, which is larger than ours unless a host has another default
        self._max_bytes = min(messages.MAX_MESSAGE_BYTES, sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32)
        self._waiting: collections.deque[tuple[bytes, list[int]]] = collections.deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)
        self.closed = False

    def send(self, message: Message, fds: list[int] | None = None) -> None:
        """Raises BrokenPipeError when the channel is closed, and messages.TooLarge; a peer that goes later is told by
        `on_closed`. `fds` are closed in any case."""
        fds = fds or []
        if self.closed:
            _close(fds)
            raise BrokenPipeError("the channel is closed")
        try:
            data = encode(message)
            messages.check_size(data, self._max_bytes)
        except ValueError:
            _close(fds)
            raise
        self._waiting.append((data, fds))
        if len(self._waiting) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._waiting:
            data, fds = self._waiting[0]
            try:
                messages.send_encoded(self._sock, data, fds)
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    self._gone()
                    return
                log.error("a message of %d bytes was dropped: %s", len(data), error)
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
        except messages.Truncated:
            log.error("a message was dropped: it is larger than %d bytes", messages.MAX_MESSAGE_BYTES)
            return
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


def encode(message: Message) -> bytes:
    """As `messages.encode`, and quicker: this is on the way of every cold start."""
    try:
        return orjson.dumps(message)
    except TypeError:  # a lone surrogate, which stands for a byte in a file's name
        return messages.encode(message).encode()


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
