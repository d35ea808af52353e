"""The spawner's zygotes: one warm interpreter a runtime, started when first asked for, replaced when it dies."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

from sandbox.native.cgroups import Cgroups
from sandbox.native.channel import Channel, Message

log = logging.getLogger(__name__)

START_S = 20.0
FORK_S = 10.0


class Zygote:
    """One zygote process. `fork` raises OSError when it cannot, or when the zygote died meanwhile."""

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self.preloaded: list[str] = []  #: top-level modules that a function may not bring under the same name
        self.interpreter = ""  #: path inside the sandbox
        self._pending: dict[str, asyncio.Future[int]] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self.dead = False

    async def start(self, staging: Path, prefix: str, interpreter: str, resolv_conf: str, join: list[str]) -> None:
        """Raises OSError when it does not come up."""
        self.interpreter = f"/var/lang/{interpreter}"
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = {
            "staging": str(staging),
            "prefix": prefix,
            "interpreter": interpreter,
            "resolv_conf": resolv_conf,
            "join": join,
            "control_fd": there.fileno(),
        }
        self._channel = Channel(here, self._on_message, self._on_closed)
        with there:
            self._process = subprocess.Popen(  # noqa: ASYNC220  takes 1 ms, and once per runtime
                [sys.executable, "-m", "sandbox.native.rootfs", json.dumps(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
            )
        try:
            async with asyncio.timeout(START_S):
                await self._ready
        except BaseException:
            self.kill()
            raise

    async def fork(self, name: str, uid: int, fds: list[int]) -> int:
        """The host's pid of a new sandbox's init. `fds` as `guest.init.main` takes them; they are closed in any case.

        A zygote that does not answer within 10 s is killed.
        """
        if self._channel is None or self.dead:
            for fd in fds:
                os.close(fd)
            raise OSError(f"the {self.runtime} zygote is gone")
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending[name] = future
        try:
            self._channel.send({"id": name, "uid": uid}, fds)
            async with asyncio.timeout(FORK_S):
                return await future
        except TimeoutError:
            self._on_closed()
            raise
        finally:
            self._pending.pop(name, None)

    def _on_message(self, message: Message, fds: list[int]) -> None:
        if "ready" in message:
            preloaded = message["preloaded"]
            assert isinstance(preloaded, list)
            self.preloaded = preloaded
            if not self._ready.done():
                self._ready.set_result(None)
            return
        future = self._pending.pop(str(message["id"]), None)
        if future is None or future.done():
            return
        if isinstance(pid := message.get("pid"), int):
            future.set_result(pid)
        else:
            future.set_exception(OSError(str(message.get("error"))))

    def _on_closed(self) -> None:
        """Its sandboxes live on; only forks that were under way are lost."""
        self.kill()
        reason = f"the {self.runtime} zygote ended"
        pending, self._pending = self._pending, {}
        for future in pending.values():
            if not future.done():
                future.set_exception(OSError(reason))
        if not self._ready.done():
            self._ready.set_exception(OSError(reason))

    def kill(self) -> None:
        self.dead = True
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Zygotes:
    """Starts each zygote once, also when many ask at once; forgets dead ones."""

    def __init__(self, staging: Path, resolv_conf: str, cgroups: Cgroups, trees: dict[str, tuple[str, str]]) -> None:
        """`trees`: runtime → (prefix of the interpreter's tree, interpreter relative to it)."""
        self._staging = staging
        self._resolv_conf = resolv_conf
        self._join = [str(path / "cgroup.procs") for path in cgroups.zygote_joins()]
        self._trees = trees
        self._zygotes: dict[str, asyncio.Task[Zygote]] = {}

    async def get(self, runtime: str) -> Zygote:
        """Raises KeyError for a runtime that this host does not have, OSError when its zygote does not come up."""
        task = self._zygotes.get(runtime)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None or task.result().dead)):
            if task is not None:
                log.warning("starting another zygote for %s", runtime)
            prefix, interpreter = self._trees[runtime]
            task = asyncio.get_running_loop().create_task(self._start(runtime, prefix, interpreter), name=f"zygote {runtime}")
            self._zygotes[runtime] = task
        return await asyncio.shield(task)

    async def _start(self, runtime: str, prefix: str, interpreter: str) -> Zygote:
        zygote = Zygote(runtime)
        await zygote.start(self._staging, prefix, interpreter, self._resolv_conf, self._join)
        return zygote

    def close(self) -> None:
        for task in self._zygotes.values():
            task.cancel()
            if task.done() and not task.cancelled() and task.exception() is None:
                task.result().kill()
        self._zygotes.clear()
