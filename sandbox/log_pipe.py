"""Reading what a sandbox writes: never more than one bounded read per turn of the loop, and all that is there when it matters.

What a function printed before it answered is in the pipe when its answer is read (the kernel copies before `write`
returns), so the bytes that the pipe holds at that moment are all that belongs to the invocation. `drain` reads exactly
those: the capacity of the pipe is its bound, and a function that goes on writing in another thread cannot keep the gateway
here.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import termios
from collections.abc import Callable
from typing import Final

READ_BYTES: Final = 256 * 1024  # a pipe gives what it holds, 64 KiB by default; one read a turn


class LogPipe:
    """Gives what comes out of `fd` to `sink`. The descriptor stays its owner's, who closes it after `close`."""

    __slots__ = ("_count", "_fd", "_loop", "_open", "sink")

    def __init__(self, fd: int, sink: Callable[[bytes], None]) -> None:
        self.sink = sink
        self._fd = fd
        self._count = memoryview(bytearray(4)).cast("i")
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._loop.add_reader(fd, self._readable)

    def drain(self) -> None:
        """Hand over all that was written until now."""
        if not self._open:
            return
        # FIONREAD and not a read that fails: the usual answer is "nothing", and an exception costs more than the system call.
        fcntl.ioctl(self._fd, termios.FIONREAD, self._count, True)
        missing = self._count[0]
        while missing > 0:
            data = os.read(self._fd, missing)
            if not data:
                return
            missing -= len(data)
            self.sink(data)

    def close(self) -> None:
        """Stop reading; idempotent. What is in the pipe is handed over first."""
        if self._open:
            with contextlib.suppress(OSError):  # the driver was closed before its sandboxes, and took its descriptors along
                self.drain()
            self._open = False
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:  # `drain` was quicker
            return
        if data:
            self.sink(data)
        else:  # every writer is gone, and an unnamed pipe gets no new ones
            self._open = False
            self._loop.remove_reader(self._fd)
