"""A runtime that cannot be forked, such as Node.js: its stem is a process of its own that was started and waits.

The process gets two descriptors: on `GO_FD` it says that it is ready, with one byte, and later reads the function's environment,
a JSON message; `API_FD` is its connection to the Runtime API. A function that sets or brings what such a process reads when it
starts gets a fresh one instead, which finds everything in its environment and connects by itself.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import NoReturn, TypedDict

    class Program(TypedDict):
        """Paths inside the sandbox, and the environment of a process that has no function yet."""

        path: str
        main: str
        environment: dict[str, str]

else:
    Program = dict

GO_FD, API_FD = 3, 4
FLAGS = ("--expose-gc", "--max-http-header-size=81920")
OLD_SHARE = 0.9  #: of the function's memory, as AWS gives it to V8's old generation
YOUNG_SHARE = 0.05  #: the same for each half of the young one
#: For stems, which do not know the function: neither can be changed later. The old generation's must do for the largest function,
#: the young one's for the smallest: with V8's own 16 to 64 MB, one of 128 MB is killed for its memory where it is not on AWS.
STEM_OLD_MB, STEM_YOUNG_MB = 9216, 8


def be_stem(program: Program, go: socket.socket, api: socket.socket) -> NoReturn:
    """Become the waiting process. Raises OSError."""
    high = [os.dup(fd) for fd in (go.fileno(), api.fileno())]
    while min(high) <= API_FD:  # they would be overwritten
        high = [os.dup(fd) for fd in high]
    os.dup2(high[0], GO_FD)
    os.dup2(high[1], API_FD)
    os.execve(program["path"], [*_words(program, STEM_OLD_MB, STEM_YOUNG_MB), "--stem"], program["environment"])


def command(program: Program, memory_mb: int) -> list[str]:
    """For a fresh process of a function with so much memory. With `--fd N` behind it it has a connection to the Runtime API."""
    return _words(program, int(memory_mb * OLD_SHARE), max(1, int(memory_mb * YOUNG_SHARE)))


def _words(program: Program, old_mb: int, young_mb: int) -> list[str]:
    return [program["path"], *FLAGS, f"--max-semi-space-size={young_mb}", f"--max-old-space-size={old_mb}", program["main"]]
