"""A timer that is exact to some tens of microseconds.

The timers of asyncio and uvloop are rounded to whole milliseconds, which is longer than a warm invocation takes: they would send
in little bursts, and each millisecond's wait would be counted as the gateway's. So the kernel's timerfd wakes the loop instead.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from typing import Final, Protocol

_CLOCK_MONOTONIC: Final = 1
_ABSTIME: Final = 1
_FLAGS: Final = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC are the same numbers: timerfd_create(2)


class Timer(Protocol):
    """Time as the generator knows it, in seconds of one monotonic clock."""

    def now(self) -> float: ...
    async def until(self, when_s: float) -> None: ...


class _Spec(ctypes.Structure):
    """struct itimerspec: an interval, which is not used, and a time."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class KernelTimer:
    """A timerfd in the running loop, for one waiter at a time. Raises OSError where the kernel has none to give."""

    now = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._loop.add_reader(self._fd, self._ring)

    def __enter__(self) -> KernelTimer:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    async def until(self, when_s: float) -> None:
        """Return when `now` is `when_s`, at once if that is past."""
        seconds, nanoseconds = divmod(max(1, round(when_s * 1e9)), 1_000_000_000)
        self._waiter = self._loop.create_future()
        if self._libc.timerfd_settime(self._fd, _ABSTIME, ctypes.byref(_Spec(0, 0, seconds, nanoseconds)), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        await self._waiter

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # set anew since it rang
            return
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
