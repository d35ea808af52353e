"""The seam between "which sandbox, when" and "how": what every driver gives, and the contract it gives it under. [P]

The contract, which `tests/conformance` holds every driver to, the fake included:

1. `Driver.create` makes a stem: everything that does not need the function. It either returns a live handle or raises and
   leaves nothing behind. Cancelling it does the same. Many may be under way at once.
2. A handle's sockets and descriptors belong to the handle. They are valid until `stop` is called; `stop` closes them.
   Nobody else closes them. The listener is already listening and non-blocking.
3. `rehearse` may be called on a stem; it says that nobody waits for it now, so that it has time for whatever makes a start
   quicker. It is synchronous, waits for nothing, and changes nothing that can be seen.
   `specialise` is called on a stem, and again after each `reset`, then with the same spec. When it returns the runtime was told
   to begin; what comes of it is seen on the Runtime API (`init/error`, `next`) or as an exit. Where the spec names extensions,
   they are told to begin instead, each in a process group of its own with the environment that is theirs, and the runtime waits
   for `start_runtime`. What they write comes from `extension_log_fd`, which is there from the first such `specialise` on.
4. `on_exit` is called once for each runtime process that ends, in the event loop, after all that the process wrote is
   readable from `log_fd`; `on_extension_exit` likewise for each extension, with its name. `on_gone` is called at most once,
   when the sandbox as a whole went away without being asked to (its init was killed, the spawner died); after it only `stop`
   has a meaning. None is called once `stop` was called.
5. `freeze`, `thaw` and `ration` are synchronous, idempotent and quick (they are on the hot path); on a dead one they do nothing.
   `thaw` returns when the sandbox can run again, or, where an engine must be asked, is about to; `freeze` need not wait until the
   last task has stopped. The last of them counts.
6. `reset` kills every process of the sandbox but its init and makes the sandbox a stem again that waits to be specialised; code,
   /tmp and network namespace stay. So the kill comes at once and the new Init only with the next invocation, as on AWS. The
   exits that it causes itself are not reported; a runtime that is already gone does no harm.
   After it `connection` may be a new socket (the old one is closed by the handle).
7. `stop` kills whatever is left at once, frozen or not, without letting it run any further, and returns when processes, mounts,
   cgroups, namespaces, descriptors and files are gone. It never raises, may be called at any time, twice, and during `create`'s
   sibling calls; cancelling it does not stop it. There is no harm in any other call after it: they raise `SandboxGone`,
   or do nothing where they are synchronous.
8. `signal` reaches the runtime's process, or that of the extension named; SIGKILL its whole process group. It is synchronous,
   does not wait, and does nothing where there is no such process. What is frozen is thawed first by who signals. `kill_at` has
   all that runs killed at that moment of the monotonic clock; a reset or stop calls it off. Where a spawner does it, however busy
   the caller is then; plain processes are killed by a timer of the caller's loop, as late as that is.
9. `tcp_socket` gives an unconnected, non-blocking socket of the sandbox's network, which is the caller's: what listens inside on
   127.0.0.1 is reached by it. Raises SandboxGone, and SandboxError where there is no way in.
10. `support` answers at once with what is known; `look` finds out, and has ready what stems of that kind need (it may unpack an
   image). `keep` says which kinds of stem functions need, all of them, each time that these change: what only others need may go.
11. `close` of the driver stops every sandbox it ever made and returns when nothing is left.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from sandbox.spec import Architecture, FunctionSpec, Image, StemKey


@dataclasses.dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a runtime or an extension ended: exactly one of `code` and `signal` is set."""

    code: int | None = None
    signal: int | None = None
    oom: bool = False  #: the kernel killed in this sandbox because its memory limit was reached
    launch_error: str | None = None  #: why it could not be started at all (no bootstrap, not executable)

    def __str__(self) -> str:
        return f"exit status {self.code}" if self.signal is None else f"signal {self.signal}"


@dataclasses.dataclass(frozen=True, slots=True)
class Support:
    """Whether this host can run a runtime on an architecture, and if not, what would change that."""

    available: bool
    detail: str  #: the interpreter's path and version, or what to install


class Handle(Protocol):
    """One sandbox of a driver. See the module for the contract."""

    id: str  #: unique among all sandboxes of this gateway, short enough for a log line
    listener: socket.socket  #: the Runtime API's listening socket as the sandbox reaches it at `runtime_api`
    connection: socket.socket | None  #: a connection to the Runtime API that the runtime already holds, if any
    runtime_api: str  #: what AWS_LAMBDA_RUNTIME_API says inside, ``host:port``
    lambda_listener: socket.socket | None  #: listens where the sandbox expects the Lambda API; None: it reaches the gateway's own
    lambda_api: str  #: where that is, ``host:port``; empty without one
    log_fd: int  #: non-blocking read end of the pipe that is stdout and stderr of everything inside but extensions
    extension_log_fd: int  #: the same for extensions; -1 as long as there were none
    on_exit: Callable[[ExitStatus], None]
    on_extension_exit: Callable[[str, ExitStatus], None]
    on_gone: Callable[[str], None]  #: with the reason, for the log

    async def specialise(self, spec: FunctionSpec, environment: Mapping[str, str]) -> None: ...
    async def reset(self) -> None: ...
    async def stop(self) -> None: ...
    def rehearse(self) -> None: ...  # nobody waits for this stem: it has time for whatever makes a start quicker
    def start_runtime(self) -> None: ...
    def signal(self, number: int, extension: str | None = None) -> None: ...
    def ration(self) -> None: ...  # Init is over: from now on the processors are shared out by MemorySize, if at all
    def kill_at(self, at_s: float) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    async def tcp_socket(self) -> socket.socket: ...
    def memory_bytes(self) -> int: ...  # used now
    def memory_peak_bytes(self) -> int: ...  # highest since the sandbox was specialised


class Driver(Protocol):
    """Makes sandboxes. See the module for the contract."""

    name: str  #: ``native``, ``docker``, ``fake``
    pulls: dict[str, tuple[int, int]]  #: by URI the images that are looked for now: bytes here, bytes in all as far as known
    isolation: str  #: one line for people, once started: what separates functions from each other and the host, their network

    async def start(self) -> None: ...
    def support(self, key: StemKey) -> Support: ...
    async def look(self, key: StemKey) -> Support: ...  # raises DriverUnavailable, SandboxError
    def is_light(self, key: StemKey) -> bool: ...  # a stem of it takes some megabytes and milliseconds, and not more
    def keep(self, keys: Collection[StemKey]) -> None: ...
    async def image(self, uri: str, architecture: Architecture) -> Image: ...  # raises ImageError, DriverUnavailable
    async def create(self, key: StemKey) -> Handle: ...
    async def close(self) -> None: ...
