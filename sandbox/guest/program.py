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
HEAP_SHARE = 0.9  #: of the function's memory, as AWS gives it to V8's old generation
LARGEST_MB = 10240  #: what a function may have; a stem must be good for that, as the limit cannot be changed later


def be_stem(program: Program, go: socket.socket, api: socket.socket) -> NoReturn:
    """Become the waiting process. Raises OSError."""
    high = [os.dup(fd) for fd in (go.fileno(), api.fileno())]
    while min(high) <= API_FD:  # they would be overwritten
        high = [os.dup(fd) for fd in high]
    os.dup2(high[0], GO_FD)
    os.dup2(high[1], API_FD)
    os.execve(program["path"], [*command(program, LARGEST_MB), "--stem"], program["environment"])


def command(program: Program, memory_mb: int) -> list[str]:
    """For a fresh process of a function with so much memory. With `--fd N` behind it it has a connection to the Runtime API."""
    return [program["path"], *FLAGS, f"--max-old-space-size={int(memory_mb * HEAP_SHARE)}", program["main"]]
