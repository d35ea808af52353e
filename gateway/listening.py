"""The port that is served at: taking it, and why it cannot be had. For the supervisor too, so it imports next to nothing."""

from __future__ import annotations

import errno
import socket


def listener(host: str, port: int) -> socket.socket:
    """A bound socket. Raises OSError where that cannot be."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def reason(error: Exception, host: str, port: int) -> str | None:
    """Why `listener` cannot have it, for people; None for what is no fault of host and port."""
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use by another program. Take another one with --port."
    if isinstance(error, socket.gaierror):
        return f"host: {host} is no address of this machine: {error.strerror}"
    if isinstance(error, OSError) and error.errno in (errno.EADDRNOTAVAIL, errno.EACCES) and error.filename is None:
        return f"host: cannot listen on {host}, port {port}: {error.strerror}"
    return None
