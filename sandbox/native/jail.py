"""One sandbox as the spawner holds it: the pid, the cgroups, the control socket of its init, and the way to its end.

Nothing here decides; the gateway does. The order at the end matters: kill while still frozen, so that nothing runs again;
thaw, which a v1 freezer needs for the kill to arrive; reap; then remove what had only waited for the processes.
"""

from __future__ import annotations

import asyncio
import collections
import errno
import os
import signal
import socket
from collections.abc import Callable
from typing import Protocol

from sandbox.clock import SystemClock
from sandbox.native.cgroups import NONE
from sandbox.native.channel import Channel, Message

STEM_S = 20.0
DYING_S = 0.01  #: for so long those that were killed at a moment that was asked for come before others
_REASON_CHARS = 4096  #: of what an init says of its end; more would be a large message
_SEND_ONLY = ("code", "signal", "launch_error", "extension")


class Container(Protocol):
    """What an engine made for a sandbox, which needs more than its init's end to be gone."""

    def kill(self) -> None: ...
    async def remove(self) -> None: ...


class Ended(OSError):
    """The sandbox is not there any more, for the reason given."""


class Jail:
    """`on_exit(status)` for each runtime or extension that ends, `on_gone(reason)` once when init ended unasked; neither after
    `stop`.

    It is there before its init is: until `adopt` or `unborn` says what came of that, `stop` waits.
    """

    def __init__(
        self,
        name: str,
        uid: int,
        control: socket.socket,
        on_exit: Callable[[Message], None],
        on_gone: Callable[[str], None],
    ) -> None:
        self.name = name
        self.uid = uid
        self.group = NONE  #: until it is given one
        self.container: Container | None = None
        self.stem_s = STEM_S  #: patience with what it takes to become a stem
        self.image = ""  #: id of the one whose files are its root
        self.specialised = False
        self.has_extension_log = False
        self._on_exit = on_exit
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._stem: asyncio.Future[None] = self._loop.create_future()
        self._waits = False  # the runtime, for its function
        self._unclaimed: list[int] = []  # descriptors that came with the news that it is a stem, until `stem` takes them
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._channel = Channel(control, self._on_message, self._on_closed)
        self._pidfd: int | None = None
        self._reason = "its init ended"
        self._oom_kills = 0
        self._sockets: collections.deque[asyncio.Future[int]] = collections.deque()  # those that init is asked for
        self._timer: asyncio.TimerHandle | None = None  # for a kill that was asked for, or for the end of `_dying`
        self._dying = False
        self.pid = 0  #: of init, on the host, as long as it is not reaped
        self.stopping = False

    def adopt(self, pid: int) -> None:
        """The spawner is the parent of init, by CLONE_PARENT, so the pid cannot have been used again."""
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._reap)
        if self.stopping:
            self._kill()

    def unborn(self) -> None:
        """There will be no init. Harmless when there was one."""
        if not self.pid and not self._ended.done():
            self._ended.set_result(None)

    async def stem(self) -> list[int]:
        """The descriptor that init made: the runtime's connection.

        Raises Ended, TimeoutError, OSError.
        """
        async with asyncio.timeout(self.stem_s):
            await asyncio.shield(self._stem)
        if self.stopping:
            raise Ended("it was stopped")
        if not self._waits:
            raise Ended(self._reason)
        fds, self._unclaimed = self._unclaimed, []
        return fds

    def specialise(self, message: Message, fds: list[int]) -> None:
        """Raises Ended, messages.TooLarge; closes `fds` in any case."""
        if self._channel.closed:
            for fd in fds:
                os.close(fd)
            raise Ended(self._reason)
        self._channel.send(message, fds)
        self.specialised = True
        self._waits = False

    def tell(self, message: Message) -> None:
        """What needs no answer. Nothing where it is not there any more: whoever wants to know is told by `on_gone`."""
        if not self._channel.closed:
            self._channel.send(message)

    def kill_at(self, at_s: float) -> None:
        """Kill all but init then, on the monotonic clock. Nothing else is done at that moment: many may have the same."""
        self._call_off()
        self.group.may_hurry()
        self._timer = self._loop.call_later(max(0.0, at_s - SystemClock.monotonic()), self._kill_inside)

    def _kill_inside(self) -> None:
        if not self.group.kill():
            self.tell({"op": "kill"})
            return
        self.group.hurry(True)
        self._dying = True
        self._timer = self._loop.call_later(DYING_S, self._call_off)

    def _call_off(self) -> None:
        """There is no kill to come, and none that anything has to give way to."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._dying:
            self._dying = False
            self.group.hurry(False)

    async def reset(self) -> int:
        """Raises what `stem` does. Gives the new runtime's connection."""
        self._call_off()
        if self._channel.closed:
            raise Ended(self._reason)
        self._stem = self._loop.create_future()
        self._channel.send({"op": "reset"})
        (connection,) = await self.stem()
        return connection

    def pidfd(self) -> int:
        """Of its init; the descriptor is the caller's. Raises Ended."""
        if self._pidfd is None:
            raise Ended(self._reason)
        return os.dup(self._pidfd)

    async def tcp_socket(self) -> int:
        """An unconnected TCP socket of the sandbox's network, made by init, which is in it. Raises Ended."""
        if self._channel.closed:
            raise Ended(self._reason)
        future: asyncio.Future[int] = self._loop.create_future()
        self._sockets.append(future)
        self._channel.send({"op": "socket"})
        return await future

    def _on_message(self, message: Message, fds: list[int]) -> None:
        if message["event"] == "socket" and not (future := self._sockets.popleft()).done():
            if fds:
                future.set_result(fds.pop())
            else:
                future.set_exception(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        if message["event"] == "stem" and not self._stem.done():
            self._unclaimed = fds
            self._waits = True
            if "lost" in message:
                self._stem.set_exception(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
            else:
                self._stem.set_result(None)
            return
        for fd in fds:
            os.close(fd)
        if message["event"] == "exit" and self._waits and "extension" not in message:
            # Perhaps in one breath with the news that it waits, and so before the answer that tells of that: the gateway would
            # take this for the exit of the runtime before, or of nobody's, and give the function to a dead process.
            self._waits = False
            self._reason = "the runtime process ended before it was given a function"
            self._kill()
        elif message["event"] == "exit" and not self.stopping:
            status: Message = {key: message[key] for key in _SEND_ONLY if message.get(key) is not None}
            known, self._oom_kills = self._oom_kills, self.group.oom_kills()
            status["oom"] = self._oom_kills > known
            self._on_exit(status)
        elif message["event"] == "failed":
            self._reason = str(message["reason"])[:_REASON_CHARS]

    def _on_closed(self) -> None:
        while self._sockets:
            if not (future := self._sockets.popleft()).done():
                future.set_exception(Ended(self._reason))
        if not self._stem.done():
            self._stem.set_exception(Ended(self._reason))
            self._stem.exception()

    def _reap(self) -> None:
        assert self._pidfd is not None
        self._loop.remove_reader(self._pidfd)
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)
        self._pidfd = None
        self.pid = 0
        self._ended.set_result(None)
        self._on_closed()
        if not self.stopping:
            self._on_gone(self._reason)

    async def stop(self) -> None:
        """Kill whatever is left and wait for its end; then remove the cgroups. Idempotent. Raises OSError if those do not go."""
        if not self.stopping:
            self.stopping = True
            self._call_off()
            self._kill()
            self._channel.close()
            self._on_closed()
            for fd in self._unclaimed:
                os.close(fd)
            self._unclaimed = []
        await asyncio.shield(self._ended)
        if self.container is not None:
            await self.container.remove()
        await self._loop.run_in_executor(None, self.group.remove)

    def _kill(self) -> None:
        if self.container is not None:
            self.container.kill()
        if self._pidfd is not None:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.group.thaw_after_kill()
