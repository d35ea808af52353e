"""The environment variable that names an invocation's trace, set anew with each of them.

`os.environ[...] = value` is setenv(), and glibc keeps every value that it ever saw: 140 bytes an invocation, so that a function
with 128 MB would be out of memory after a million. After the first few the variable is therefore a buffer of our own, given to
the C library by putenv() and written over from then on, which is quicker, too (0.9 us instead of 1.4). The first few are
ordinary, because most environments never see more, and a new buffer is a page to copy in a fork.
"""

from __future__ import annotations

import os

NAME = "_X_AMZN_TRACE_ID"
ORDINARY = 100  # invocations
BUFFER_BYTES = 512

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import Array, c_char
    from typing import Any


class TraceVariable:
    """`_X_AMZN_TRACE_ID`, for this process, for programs that it starts, and in `os.environ`."""

    __slots__ = ("_buffer", "_count", "_putenv")

    def __init__(self) -> None:
        self._count = 0
        self._buffer: Array[c_char] | None = None
        self._putenv: Any = None

    def set(self, value: str | None) -> None:
        if value is None:
            os.environ.pop(NAME, None)
            return
        self._count += 1
        if self._count == ORDINARY:
            self._take_over()
        text = os.fsencode(f"{NAME}={value}")
        if self._buffer is None or len(text) >= BUFFER_BYTES:
            os.environ[NAME] = value
            return
        vars(os.environ)["_data"][_KEY] = text[_VALUE:]  # as os.environ itself does, but for the call of setenv()
        self._buffer.value = text
        self._putenv(self._buffer)  # each time: the function may have set or removed it itself

    def _take_over(self) -> None:
        try:
            import ctypes
        except ImportError:  # a build without it
            return
        if not isinstance(vars(os.environ).get("_data"), dict):  # another Python than those that we know
            return
        self._buffer = ctypes.create_string_buffer(BUFFER_BYTES)
        self._putenv = ctypes.CDLL(None).putenv


_KEY = os.fsencode(NAME)
_VALUE = len(_KEY) + 1
