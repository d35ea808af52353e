"""A real spawner as a process of its own, for tests that want sandboxes without a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from sandbox.clock import SystemClock
from sandbox.docker.driver import DockerDriver
from sandbox.native.driver import HOST_ARCHITECTURE, NativeDriver
from sandbox.native.leftovers import sweep
from sandbox.outcome import Outcome, Work
from sandbox.sandbox import Sandbox
from sandbox.spec import Architecture, FunctionSpec, StemKey

PYTHON = f"python3.{sys.version_info.minor}"  #: a runtime that is there wherever the tests run
SPARES = 4  #: fewer than usual, so that a spawner comes to rest sooner


class Spawned:
    """A spawner below `directory`, labelled `owner`, with a driver for it; `package` puts files into its code store.

    The other settings of the spawner's are `settings`; with the address of an `engine` its sandboxes are containers.
    """

    def __init__(self, directory: Path, owner: str, max_sandboxes: int = 300, **settings: object) -> None:
        self.directory = directory
        self.max_sandboxes = max_sandboxes
        self.owner = owner
        self.code_dir = directory / "code"
        self.settings = settings
        driver = DockerDriver if settings.get("engine") else NativeDriver
        self.driver = driver(str(directory / "spawner.sock"), str(self.code_dir))
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process: asyncio.subprocess.Process | None = None
        self._functions = 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """The first time, and again after `kill`; ready when it returns."""
        if self._process is None:
            for name in ("code", "volumes", "run"):
                (self.directory / name).mkdir()
            self._listener.bind(str(self.directory / "spawner.sock"))
            self._listener.listen(16)
        config = {
            "listen_fd": self._listener.fileno(),
            "owner": self.owner,
            "code_dir": str(self.code_dir),
            "volume_dir": str(self.directory / "volumes"),
            "run_dir": str(self.directory / "run"),
            "uid_base": 1_900_000_000,
            "max_sandboxes": self.max_sandboxes,
            "spare_volumes": SPARES,
            "spare_networks": SPARES,
            "spare_groups": SPARES,
            **self.settings,
        }
        program = "sandbox.docker.spawner" if self.settings.get("engine") else "sandbox.native.spawner"
        status_r, status_w = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", program, json.dumps(config), "--status-fd", str(status_w)),
                pass_fds=[self._listener.fileno(), status_w],
            )
        finally:
            os.close(status_w)
        try:
            said = await asyncio.to_thread(os.read, status_r, 1000)
        finally:
            os.close(status_r)
        assert said == b"ready\n", said

    async def kill(self) -> None:
        """As a crash would, and what the supervisor does after one."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        await asyncio.to_thread(sweep, self.owner)

    async def end(self) -> int:
        """As the supervisor ends it; its exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()

    async def close(self) -> None:
        await self.driver.close()
        if self._process is not None:
            await self.end()
        self._listener.close()

    def package(self, files: dict[str, str]) -> str:
        """A directory of the code store with these files; those named `bootstrap` are executable."""
        self._functions += 1
        directory = self.code_dir / f"f{self._functions}"
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if path.name == "bootstrap" else 0o644)
        return str(directory)

    def spec(self, code: str | dict[str, str], **overrides: object) -> FunctionSpec:
        """`code`: the text of app.py with a `handler`, or all files."""
        settings: dict[str, object] = {
            "account_id": "000000000000",
            "region": "us-east-1",
            "name": "inside",
            "version": "$LATEST",
            "arn": "arn:aws:lambda:us-east-1:000000000000:function:inside",
            "runtime": PYTHON,
            "architecture": HOST_ARCHITECTURE or Architecture.X86_64,
            "handler": "app.handler",
            "memory_mb": 128,
            "timeout_s": 10,
            "tmp_mb": 512,
            "code_path": self.package({"app.py": code} if isinstance(code, str) else code),
            "log_group": "/aws/lambda/inside",
            "log_stream": "2026/01/01/[$LATEST]0",
        }
        return FunctionSpec(**{**settings, **overrides})  # type: ignore[arg-type]

    async def open(self, spec: FunctionSpec) -> Sandbox:
        key = StemKey(spec.runtime, spec.architecture)
        return await Sandbox.open(await self.driver.create(key), key, clock=SystemClock())


@contextlib.asynccontextmanager
async def spawned(directory: Path, owner: str, max_sandboxes: int = 300, **settings: object) -> AsyncIterator[Spawned]:
    """`settings`: of the spawner; without any that begin with network, sandboxes have none."""
    spawner = Spawned(directory, owner, max_sandboxes, **settings)
    try:
        await spawner.start()
        await spawner.driver.start()
        yield spawner
    finally:
        await spawner.close()


async def call(sandbox: Sandbox, payload: bytes = b"{}", timeout_s: float = 10, request_id: str = "r-1") -> Outcome:
    """One invocation to its end; the sandbox can take another when this returns."""
    loop = asyncio.get_running_loop()
    settled: asyncio.Future[Outcome] = loop.create_future()
    idle: asyncio.Future[None] = loop.create_future()

    def over(_: object, *__: object) -> None:
        if not idle.done():
            idle.set_result(None)

    sandbox.on_idle = sandbox.on_gone = over
    work = Work(
        request_id=request_id,
        invoked_arn="arn:aws:lambda:us-east-1:000000000000:function:inside",
        payload=payload,
        content_type="application/json",
        trace_id="Root=1-00000000-000000000000000000000000",
        timeout_s=timeout_s,
    )
    sandbox.invoke(work, settled.set_result)
    outcome = await settled
    await idle
    return outcome
