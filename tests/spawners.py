"""A spawner in this process with a driver for it, whose sandboxes are a sleeping process and nothing else: no right is needed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from sandbox.docker.cgroups import ContainerGroup
from sandbox.guest import messages
from sandbox.native.channel import Message
from sandbox.native.config import Config
from sandbox.native.driver import HOST_ARCHITECTURE, NativeDriver
from sandbox.native.jail import Jail
from sandbox.native.network import Networks
from sandbox.native.spawner import Spawner
from sandbox.spec import Architecture, Program, StemKey

IMAGE = "sha256:" + "0" * 64
KEY = StemKey("", HOST_ARCHITECTURE or Architecture.X86_64, IMAGE)
PROGRAM = Program(IMAGE, ("/function",), "/", {})


class Group(ContainerGroup):
    """As a cgroup is without the kernel: what has been removed cannot be written to."""

    def __init__(self) -> None:
        super().__init__(directories={}, memory=None, memory_v2=False, freezer=Path("/nonexistent"))
        self.removed = False

    def freeze_fd(self) -> int:
        return os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)

    def limit_memory(self, limit_bytes: int) -> None:
        if self.removed:
            raise FileNotFoundError(2, "the cgroup is gone")

    def remove(self) -> None:
        self.removed = True


class SleepersSpawner(Spawner):
    """Takes requests as its parent does; `inits` are the inits' ends of the control sockets, by sandbox."""

    def __init__(self, config: Config, networks: Networks) -> None:
        super().__init__(config, {}, networks, {"support": {}, "network": "none"})
        self.inits: dict[str, socket.socket] = {}

    def _check(self, request: Message) -> None:
        """Whatever is asked for."""

    async def _give_birth(self, jail: Jail, request: Message, there: socket.socket, out: list[int], reply: Message) -> None:
        jail.group = Group()
        reply["preloaded"], reply["interpreter"] = [], ""
        out += [socket.socket().detach(), socket.socket().detach()]
        log_r, log_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        out.append(log_r)
        os.close(log_w)
        jail.adopt(os.posix_spawn("/bin/sleep", ["sleep", "600"], {}))  # noqa: ASYNC221  the jail reaps it
        self.inits[jail.name] = there
        with socket.socket() as connection:
            messages.send(there, {"event": "stem"}, [connection.fileno()])

    async def close(self) -> None:
        await super().close()
        for there in self.inits.values():
            there.close()


@contextlib.asynccontextmanager
async def sleepers(directory: Path) -> AsyncIterator[tuple[NativeDriver, SleepersSpawner]]:
    """Both, connected; closed at the end."""
    for name in ("code", "volumes", "run"):
        (directory / name).mkdir()
    config = Config(
        listen_fd=-1,
        owner="unit",
        code_dir=str(directory / "code"),
        volume_dir=str(directory / "volumes"),
        run_dir=str(directory / "run"),
        uid_base=1_900_000_000,
        max_sandboxes=10,
    )
    networks = Networks()
    spawner = SleepersSpawner(config, networks)
    path = str(directory / "spawner.sock")
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        loop.add_reader(listener, lambda: spawner.serve(listener.accept()[0]))
        driver = NativeDriver(path, config.code_dir)
        try:
            await driver.start()
            yield driver, spawner
        finally:
            await driver.close()
            loop.remove_reader(listener)
            async with asyncio.timeout(10):  # the patience of a supervisor
                await spawner.close()
            networks.executor.shutdown()
