"""Where the suite runs: each driver with what a test needs beside it, and how to see that nothing is left."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from sandbox.clock import Clock, SystemClock
from sandbox.driver import Driver, Handle
from sandbox.fake_driver import FakeDriver, FakeHandle
from sandbox.native import processes
from sandbox.native.plain import HOST_ARCHITECTURE, PlainDriver
from sandbox.sandbox import Sandbox
from sandbox.spec import Architecture, FunctionSpec, StemKey
from sandbox.testing import PlainLog
from tests.conformance.function import HANDLER, extension, script
from tests.engine import DockerEngine
from tests.processes import of_spawner
from tests.real.spawned import spawned
from tests.sandboxes import SPEC, User

KEY = StemKey(f"python3.{sys.version_info.minor}", HOST_ARCHITECTURE or Architecture.X86_64)


@dataclasses.dataclass
class Place:
    """One driver, started."""

    driver: Driver
    spec: FunctionSpec
    break_one: Callable[[Handle], None]  #: makes a sandbox go as a whole, without being asked to; it must be the only one
    left: Callable[[], list[str]]  #: of what sandboxes are made of
    opt: Callable[[str], str]  #: makes a directory for /opt, with this text as the external extension `agent`
    freezes_all: bool = True  #: also processes that made a session of their own
    key: StemKey = KEY
    asleep: Callable[[], bool] = lambda: True  #: whether a freeze has arrived, where that takes a while
    clock: Clock = dataclasses.field(default_factory=SystemClock)

    @contextlib.asynccontextmanager
    async def sandbox(self) -> AsyncIterator[tuple[Handle, User]]:
        """A sandbox after its Init, stopped at the end."""
        handle = await self.driver.create(self.key)
        user = User(await Sandbox.open(handle, self.key, clock=self.clock))
        try:
            await user.sandbox.init(self.spec, PlainLog(user.write_log))
            yield handle, user
        finally:
            await user.sandbox.stop()


def _spec(code_path: str) -> FunctionSpec:
    return dataclasses.replace(
        SPEC, runtime=KEY.runtime, architecture=KEY.architecture, code_path=code_path, memory_mb=128, timeout_s=10
    )


def _opt(directory: Path, text: str) -> str:
    path = directory / "extensions" / "agent"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(directory)


@contextlib.asynccontextmanager
async def fake(directory: Path, owner: str) -> AsyncIterator[Place]:
    driver = FakeDriver(script)

    def vanish(handle: Handle) -> None:
        assert isinstance(handle, FakeHandle)
        handle.vanish()

    await driver.start()
    driver.extensions["agent"] = extension
    yield Place(driver, _spec("/nowhere"), vanish, lambda: [repr(handle) for handle in driver.handles], lambda text: "/nowhere")
    await driver.close()


@contextlib.asynccontextmanager
async def plain(directory: Path, owner: str) -> AsyncIterator[Place]:
    code, sandboxes = directory / "code", directory / "sandboxes"
    code.mkdir()
    sandboxes.mkdir()
    (code / "app.py").write_text(HANDLER)
    driver = PlainDriver(directory=sandboxes)
    before = set(processes.descendants(os.getpid()))

    def descendants() -> list[int]:
        return [pid for pid in processes.descendants(os.getpid()) if pid not in before]

    def kill_keeper(handle: Handle) -> None:
        os.kill(descendants()[0], signal.SIGKILL)  # the lists are read from the top

    def left() -> list[str]:
        return [f"process {pid}" for pid in descendants()] + [
            f"directory {path}" for path in sandboxes.glob("*/*") if path.is_dir()
        ]

    await driver.start()
    yield Place(driver, _spec(str(code)), kill_keeper, left, lambda text: _opt(directory / "opt", text), freezes_all=False)
    await driver.close()
    assert not list(sandboxes.iterdir())


@contextlib.asynccontextmanager
async def native(directory: Path, owner: str) -> AsyncIterator[Place]:
    async with spawned(directory, owner) as host:

        def kill_init(handle: Handle) -> None:
            _, inits = of_spawner(host.pid)
            for init in inits:
                os.kill(init, signal.SIGKILL)

        def left() -> list[str]:
            _, inits = of_spawner(host.pid)
            return [f"init {pid}" for pid in inits]

        spec = _spec(host.package({"app.py": HANDLER}))
        yield Place(host.driver, spec, kill_init, left, lambda text: _opt(host.code_dir / "opt", text))


@contextlib.asynccontextmanager
async def docker(directory: Path, owner: str, engine: DockerEngine, **ways: Any) -> AsyncIterator[Place]:
    """Containers, dealt with in these `ways`. The image's Python is Debian's, whatever the tests run on."""
    async with spawned(directory, owner, engine=engine.url, **ways) as host:

        def kill_holder(handle: Handle) -> None:
            (container,) = engine.sandboxes(owner)
            engine.docker("kill", container)

        def left() -> list[str]:
            _, inits = of_spawner(host.pid)
            found = [f"init {pid}" for pid in inits]
            return found + [f"container {one}" for one in engine.sandboxes(owner)]

        def asleep() -> bool:
            return bool(engine.docker("ps", "--quiet", "--filter", f"label=lambent.owner={owner}", "--filter", "status=paused"))

        key = StemKey("python3.11", KEY.architecture)
        spec = dataclasses.replace(_spec(host.package({"app.py": HANDLER})), runtime=key.runtime)
        place = Place(host.driver, spec, kill_holder, left, lambda text: _opt(host.code_dir / "opt", text), key=key)
        yield dataclasses.replace(place, asleep=asleep) if ways.get("docker_freeze") == "pause" else place
    assert engine.containers(f"lambent.owner={owner}") == []
    assert engine.docker("network", "ls", "--quiet", "--filter", f"label=lambent.owner={owner}") == ""
