"""JSON messages with descriptors over a SOCK_SEQPACKET pair: between spawner, zygotes and inits.

A message is one packet, so there is no framing to get wrong. `socket.recv_fds` exists only since Python 3.9.
"""

import array
import json
import os
import socket

MAX_MESSAGE_BYTES = 160 * 1024  # below the default send buffer, in which a whole packet must fit
MAX_DESCRIPTORS = 16
_INT_BYTES = array.array("i").itemsize
_ANCILLARY_BYTES = socket.CMSG_SPACE(MAX_DESCRIPTORS * _INT_BYTES)
_CLOEXEC = int(socket.MSG_CMSG_CLOEXEC)  # as members of an enum they cost more than the call
_TRUNCATED, _DESCRIPTORS_TRUNCATED = int(socket.MSG_TRUNC), int(socket.MSG_CTRUNC)
_buffer = bytearray(MAX_MESSAGE_BYTES)  # a new one for each message takes 27 us
_encoder = json.JSONEncoder(separators=(",", ":"))  # `json.dumps` would make one for each message


class TooLarge(ValueError):
    """A message is larger than any may be, and was not sent."""


class Truncated(ValueError):
    """A message came without its end, and without its descriptors: whoever sent it did not look at its size."""


class DescriptorsLost(ValueError):
    """`message` came whole, but this process has no numbers free for its descriptors (RLIMIT_NOFILE)."""

    def __init__(self, message):
        # type: (dict[str, object]) -> None
        super().__init__("no descriptor is free for what a message brought")
        self.message = message


def send(sock, message, fds=()):
    # type: (socket.socket, dict[str, object], tuple[int, ...] | list[int]) -> None
    """Raises TooLarge, OSError; BlockingIOError when `sock` is non-blocking and full."""
    data = encode(message).encode()
    check_size(data)
    send_encoded(sock, data, fds)


def check_size(data, max_bytes=MAX_MESSAGE_BYTES):
    # type: (bytes, int) -> None
    """Raises TooLarge for a message that the peer could not take as a whole."""
    if len(data) > max_bytes:
        raise TooLarge(f"a message of {len(data)} bytes, where {max_bytes} are the most")


def send_encoded(sock, data, fds=()):
    # type: (socket.socket, bytes, tuple[int, ...] | list[int]) -> None
    """What is always the same need not be encoded by each new process, which has to copy all pages that this touches."""
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary)


def encode(message):
    # type: (dict[str, object]) -> str
    """A message as it is sent."""
    return _encoder.encode(message)


def receive(sock):
    # type: (socket.socket) -> tuple[dict[str, object] | None, list[int]]
    """(message, its descriptors, close-on-exec); (None, []) when the peer is gone.

    Raises BlockingIOError; Truncated and DescriptorsLost, after which there may be more; ValueError for what is no message.

    For one thread of a process only.
    """
    try:
        size, ancillary, flags, _ = sock.recvmsg_into([_buffer], _ANCILLARY_BYTES, _CLOEXEC)
    except ConnectionResetError:
        return None, []
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % _INT_BYTES])
    if not size:
        for fd in fds:
            os.close(fd)
        return None, []
    try:
        if flags & _TRUNCATED:
            raise Truncated("message truncated")
        message = json.loads(_buffer[:size].decode())
        if not isinstance(message, dict):
            raise ValueError("message is not an object")
        if flags & _DESCRIPTORS_TRUNCATED:
            raise DescriptorsLost(message)
    except ValueError:
        for fd in fds:
            os.close(fd)
        raise
    return message, list(fds)
