"""The spawner's zygotes: one warm interpreter a runtime, started when first asked for, replaced when it dies."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path

from sandbox.native import strays
from sandbox.native.cgroups import Cgroups
from sandbox.native.channel import Channel, Message
from sandbox.native.trees import Tree
from sandbox.tasks import Tasks

log = logging.getLogger(__name__)

START_S = 20.0
FORK_S = 10.0


class Zygote:
    """One zygote process. `inits` gives the pids of all inits that are known at the moment, whoever forked them."""

    def __init__(self, runtime: str, inits: Callable[[], Collection[int]]) -> None:
        self.runtime = runtime
        self.preloaded: list[str] = []  #: top-level modules that a function may not bring under the same name
        self.interpreter = ""  #: path inside the sandbox
        self._inits = inits
        self._tasks = Tasks(lambda error: log.error("a task failed: %r", error))
        self._pending: dict[str, tuple[Callable[[int], None], asyncio.Future[None]]] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self.dead = False

    async def start(self, command: Callable[[int], list[str]], interpreter: str = "") -> None:
        """Run `command(control_fd)`, which gets that descriptor. Raises OSError when it does not come up."""
        self.interpreter = interpreter
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = Channel(here, self._on_message, self.end)
        with there:
            self._process = subprocess.Popen(  # noqa: ASYNC220  takes 1 ms, and once per runtime
                command(there.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                process_group=0,  # `strays` goes by it
            )
        try:
            async with asyncio.timeout(START_S):
                await self._ready
        except BaseException:
            self.end()
            raise

    async def fork(self, name: str, fds: list[int], born: Callable[[int], None], message: Message) -> None:
        """Make a new sandbox's init; `born` is called with its host pid. `fds` and `message` as the init takes them, `fds` are
        always closed.

        Raises OSError when there is none, also when the zygote died meanwhile: then nothing that it may have forked for this is
        left. A zygote that does not answer within 10 s is killed.
        """
        if self._channel is None or self.dead:
            for fd in fds:
                os.close(fd)
            raise OSError(f"the {self.runtime} zygote is gone")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending[name] = born, future
        self._channel.send({"id": name, **message}, fds)
        try:
            async with asyncio.timeout(FORK_S):
                await asyncio.shield(future)
        except TimeoutError:
            log.error("the %s zygote does not answer and is killed", self.runtime)
            self.end()
            await future

    def _on_message(self, message: Message, fds: list[int]) -> None:
        if "ready" in message:
            preloaded = message["preloaded"]
            assert isinstance(preloaded, list)
            self.preloaded = preloaded
            if not self._ready.done():
                self._ready.set_result(None)
            return
        born, future = self._pending.pop(str(message["id"]))
        if isinstance(pid := message.get("pid"), int):
            born(pid)
            future.set_result(None)
        else:
            future.set_exception(OSError(str(message.get("error"))))

    def end(self) -> None:
        """Kill it, or see that it is dead. Its sandboxes live on; forks that are under way fail, once nothing is left of them."""
        if self.dead:
            return
        self.dead = True
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if not self._ready.done():
            self._ready.set_exception(OSError(f"the {self.runtime} zygote ended"))
            self._ready.exception()
        if self._pending:
            self._tasks.start(self._fail_pending(), f"strays of {self.runtime}")

    async def _fail_pending(self) -> None:
        """All that it told was heard before its end was: an init that is not known now was forked for one of these."""
        pending, self._pending = self._pending, {}
        assert self._process is not None
        found = strays.find(self._process.pid, self._inits())
        try:
            await asyncio.get_running_loop().run_in_executor(None, strays.end, found)
        finally:
            for _, future in pending.values():
                future.set_exception(OSError(f"the {self.runtime} zygote ended"))


class Zygotes:
    """Starts each zygote once, also when many ask at once; forgets dead ones."""

    def __init__(
        self,
        staging: Path,
        resolv_conf: str,
        cgroups: Cgroups,
        trees: dict[str, Tree],
        inits: Callable[[], Collection[int]],
    ) -> None:
        """`trees` by runtime; `inits` as for `Zygote`."""
        self._staging = staging
        self._resolv_conf = resolv_conf
        self._join = [str(path / "cgroup.procs") for path in cgroups.zygote_joins()]
        self._trees = trees
        self._inits = inits
        self._zygotes: dict[str, asyncio.Task[Zygote]] = {}
        self._closed = False

    def __contains__(self, runtime: str) -> bool:
        return runtime in self._trees

    async def get(self, runtime: str) -> Zygote:
        """Raises KeyError for a runtime that this host does not have, OSError when its zygote does not come up."""
        task = self._zygotes.get(runtime)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None or task.result().dead)):
            if self._closed:
                raise OSError("the spawner is ending")
            if task is not None:
                log.warning("starting another zygote for %s", runtime)
            tree = self._trees[runtime]
            task = asyncio.get_running_loop().create_task(self._start(runtime, tree), name=f"zygote {runtime}")
            self._zygotes[runtime] = task
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise OSError("the spawner is ending") from None
            raise

    async def _start(self, runtime: str, tree: Tree) -> Zygote:
        zygote = Zygote(runtime, self._inits)
        arguments = {
            "staging": str(self._staging),
            "tree": dataclasses.asdict(tree),
            "resolv_conf": self._resolv_conf,
            "join": self._join,
        }

        def command(control_fd: int) -> list[str]:
            return [sys.executable, "-m", "sandbox.native.rootfs", json.dumps({**arguments, "control_fd": control_fd})]

        await zygote.start(command, tree.interpreter)
        return zygote

    def close(self) -> None:
        """End all, and start no more."""
        self._closed = True
        for task in self._zygotes.values():
            task.cancel()
            if task.done() and not task.cancelled() and task.exception() is None:
                task.result().end()
