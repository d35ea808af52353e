"""A driver without processes: real sockets and pipes, and a coroutine where the runtime process would be.

It keeps the contract of `sandbox.driver` (`tests/conformance` holds it to that), so whatever runs on it meets the same order of
events as on a real driver: the runtime's connections close before its exit is told, what it wrote is readable before that, a
frozen runtime does not move, a reset keeps /tmp. The script decides what the runtime does; see `FakeRuntime`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import os
import socket
import traceback
from collections.abc import Awaitable, Callable, Collection, Mapping
from signal import SIGKILL, SIGTERM
from typing import Any

from sandbox.driver import ExitStatus, Support
from sandbox.environment import for_extensions
from sandbox.errors import ImageError, SandboxGone
from sandbox.spec import Architecture, FunctionSpec, Image, StemKey
from sandbox.tasks import Tasks

MIB = 1 << 20


class Ended(BaseException):
    """The fake process ends here. A BaseException, as SystemExit is: no `except Exception` of a script keeps it alive."""

    def __init__(self, status: ExitStatus) -> None:
        super().__init__(str(status))
        self.status = status


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What the Runtime API answered; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class FakeRuntime:
    """The inside of a fake sandbox, as its script sees it. A script that returns exits with status 0, one that raises with 1.

    Every method that waits also waits for the thaw. `tmp` is /tmp: it outlives resets. SIGTERM ends it, unless it set
    `catches_term`; then `terminated` is set.
    """

    catches_term = False

    def __init__(self, handle: FakeHandle, spec: FunctionSpec, environment: Mapping[str, str]) -> None:
        self.spec = spec
        self.environment = environment
        self.tmp = handle.tmp
        self.terminated = asyncio.Event()
        self._handle = handle
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """One exchange with the Runtime API; `path` follows /2018-06-01."""
        return await self._exchange(method, f"/2018-06-01{path}", body, headers or {})

    async def _exchange(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {path} HTTP/1.1\r\nHost: sandbox\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
        await self.send(head.encode() + body)
        return await self.receive()

    async def send(self, data: bytes) -> None:
        """Raw bytes, for what `request` is too polite for."""
        await self._handle.thawed.wait()
        if self._writer is None:
            self._reader, self._writer = await self._connect()
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> Answer:
        """The next answer. Raises ConnectionResetError, asyncio.IncompleteReadError."""
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        await self._handle.thawed.wait()
        return Answer(int(head[0].split()[1]), headers, body)

    async def next(self) -> tuple[str, bytes]:
        """Wait for an event: request id and payload."""
        answer = await self.request("GET", "/runtime/invocation/next")
        if answer.status != 200:
            raise ConnectionError(f"next was answered with {answer.status} {answer.body!r}")
        return answer.headers["lambda-runtime-aws-request-id"], answer.body

    async def respond(self, request_id: str, payload: bytes) -> Answer:
        return await self.request("POST", f"/runtime/invocation/{request_id}/response", payload)

    async def fail(self, request_id: str, document: bytes, error_type: str = "Function.Failed") -> Answer:
        headers = {"Lambda-Runtime-Function-Error-Type": error_type}
        return await self.request("POST", f"/runtime/invocation/{request_id}/error", document, headers)

    async def init_error(self, document: bytes, error_type: str = "Function.Failed") -> Answer:
        return await self.request("POST", "/runtime/init/error", document, {"Lambda-Runtime-Function-Error-Type": error_type})

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await self._handle.connect()

    @property
    def _output(self) -> int:
        return self._handle.log_write_fd

    async def extension(
        self, what: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, identifier: str = ""
    ) -> Answer:
        """One exchange with the Extensions API; `what` is ``register``, ``event/next``, ``init/error`` or ``exit/error``."""
        sent = dict(headers or {})
        if identifier:
            sent["Lambda-Extension-Identifier"] = identifier
        method = "GET" if what == "event/next" else "POST"
        return await self._exchange(method, f"/2020-01-01/extension/{what}", body, sent)

    async def register(self, name: str, *events: str) -> str:
        """Register as an extension; the identifier."""
        answer = await self.extension("register", json.dumps({"events": events}).encode(), {"Lambda-Extension-Name": name})
        if answer.status != 200:
            raise ConnectionError(f"register was answered with {answer.status} {answer.body!r}")
        return answer.headers["lambda-extension-identifier"]

    async def subscribe(self, identifier: str, wanted: Mapping[str, Any], *, logs: bool = False) -> Answer:
        """Ask for telemetry, by the Telemetry API or the Logs API."""
        path = "/2020-08-15/logs" if logs else "/2022-07-01/telemetry"
        headers = {"Lambda-Extension-Identifier": identifier} if identifier else {}
        return await self._exchange("PUT", path, json.dumps(wanted).encode(), headers)

    async def next_event(self, identifier: str) -> dict[str, Any]:
        """Wait for an extension's event."""
        answer = await self.extension("event/next", identifier=identifier)
        if answer.status != 200:
            raise ConnectionError(f"event/next was answered with {answer.status} {answer.body!r}")
        event = json.loads(answer.body)
        assert isinstance(event, dict)
        return event

    async def print(self, data: bytes) -> None:
        """Write to standard output; waits while the pipe is full."""
        rest = memoryview(data)
        while rest:
            await self._handle.thawed.wait()
            try:
                rest = rest[os.write(self._output, rest) :]
            except BlockingIOError:
                await self._handle.writable(self._output)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._handle.thawed.wait()

    async def hang(self) -> None:
        """For ever."""
        await asyncio.get_running_loop().create_future()

    async def disconnect(self) -> None:
        """Close the connection; the next request makes another, to the listener."""
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def abort(self) -> None:
        """As when it is killed: what was not sent yet never will be, however long the other side does not read."""
        if self._writer is not None:
            self._writer.transport.abort()

    def exit(self, code: int = 0) -> None:
        raise Ended(ExitStatus(code=code))

    def kill(self, signal: int, oom: bool = False) -> None:
        raise Ended(ExitStatus(signal=signal, oom=oom))


class FakeExtension(FakeRuntime):
    """The inside of an external extension: another process, with a connection and an output of its own."""

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._handle.runtime_api.split(":")
        return await asyncio.open_connection(host, int(port))

    @property
    def _output(self) -> int:
        return self._handle.extension_log_write_fd


Script = Callable[[FakeRuntime], Awaitable[None]]
ExtensionScript = Callable[[FakeExtension], Awaitable[None]]


class FakeHandle:
    """One fake sandbox; see `sandbox.driver` for the contract."""

    def __init__(self, driver: FakeDriver, id: str) -> None:
        self.id = id
        self.on_exit: Callable[[ExitStatus], None] = lambda status: None
        self.on_extension_exit: Callable[[str, ExitStatus], None] = lambda name, status: None
        self.on_gone: Callable[[str], None] = lambda reason: None
        self.tmp: dict[str, bytes] = {}
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.runtime_api = "{}:{}".format(*self.listener.getsockname())
        self.lambda_listener: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self.lambda_listener.setblocking(False)
        self.lambda_api = "{}:{}".format(*self.lambda_listener.getsockname())
        self.connection: socket.socket | None = None
        self.log_fd, self.log_write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.extension_log_fd = self.extension_log_write_fd = -1
        self.used_bytes = 3 * MIB
        self.peak_bytes = self.used_bytes
        self.rationed = False
        self.rehearsals = 0  #: how often it was told that nobody waits for it
        self._driver = driver
        self._alive = True
        self._stopping: asyncio.Task[None] | None = None
        self._process: asyncio.Task[None] | None = None
        self._runtime: FakeRuntime | None = None
        self._extensions: dict[str, asyncio.Task[None]] = {}
        self._kill_timer: asyncio.TimerHandle | None = None
        self._inner: socket.socket | None = None  # the runtime's end of `connection`
        self._make_stem()

    def __repr__(self) -> str:
        state = "dead" if not self._alive else "running" if self._process else "stem"
        return f"<FakeHandle {self.id} {state}{'' if self.thawed.is_set() else ' frozen'}>"

    async def specialise(self, spec: FunctionSpec, environment: Mapping[str, str]) -> None:
        await asyncio.sleep(0)
        self._check()
        self._runtime = FakeRuntime(self, spec, environment)
        self.used_bytes = self.peak_bytes = 30 * MIB
        if not spec.extensions:
            self.start_runtime()
            return
        if self.extension_log_fd < 0:
            self.extension_log_fd, self.extension_log_write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for name in spec.extensions:
            extension = FakeExtension(self, spec, for_extensions(environment))
            self._extensions[name] = self._driver.tasks.start(self._run_extension(name, extension), f"{name} {self.id}")

    def rehearse(self) -> None:
        self.rehearsals += 1

    def start_runtime(self) -> None:
        if self._alive and self._runtime is not None:
            self._process = self._driver.tasks.start(self._run(self._runtime), f"runtime {self.id}")

    def signal(self, number: int, extension: str | None = None) -> None:
        task = self._process if extension is None else self._extensions.get(extension)
        if task is None:
            return
        if number == SIGTERM and extension is None and self._runtime is not None and self._runtime.catches_term:
            self._runtime.terminated.set()
            return
        asyncio.get_running_loop().call_soon(self._signalled, task, number, extension)

    def kill_at(self, at_s: float) -> None:
        self._call_off()
        loop = asyncio.get_running_loop()
        self._kill_timer = loop.call_at(at_s, self._kill_inside)

    def _kill_inside(self) -> None:
        for extension in (None, *self._extensions):
            self.signal(SIGKILL, extension)

    def _call_off(self) -> None:
        if self._kill_timer is not None:
            self._kill_timer.cancel()
            self._kill_timer = None

    def _signalled(self, task: asyncio.Task[None], number: int, extension: str | None) -> None:
        """Only now, since an exit is never told from within the call that caused it."""
        status = ExitStatus(signal=number)
        if extension is None and task is self._process:
            self._process = None
            task.cancel()
            self.on_exit(status)
        elif extension is not None and self._extensions.pop(extension, None) is task:
            task.cancel()
            self.on_extension_exit(extension, status)

    async def reset(self) -> None:
        self._check()
        await self._kill()
        self._check()
        self.thawed.set()
        self._close_connection()
        self._make_stem()

    def ration(self) -> None:
        self.rationed = True

    def freeze(self) -> None:
        if self._alive:
            self.thawed.clear()

    def thaw(self) -> None:
        if self._alive:
            self.thawed.set()

    async def tcp_socket(self) -> socket.socket:
        await asyncio.sleep(0)
        self._check()
        return _tcp_socket()

    def memory_bytes(self) -> int:
        return self.used_bytes if self._alive else 0

    def memory_peak_bytes(self) -> int:
        return self.peak_bytes if self._alive else 0

    async def stop(self) -> None:
        if self._stopping is None:
            self._alive = False
            self.on_exit, self.on_gone = (lambda status: None), (lambda reason: None)
            self.on_extension_exit = lambda name, status: None
            self._stopping = self._driver.tasks.start(self._stop(), f"stop {self.id}")
        await asyncio.wait({self._stopping})

    async def _stop(self) -> None:
        await self._kill()
        self._close_connection()
        self.listener.close()
        if self.lambda_listener is not None:
            self.lambda_listener.close()
        for fd in (self.log_fd, self.log_write_fd, self.extension_log_fd, self.extension_log_write_fd):
            if fd >= 0:
                os.close(fd)
        self._driver.forget(self)

    def vanish(self, reason: str = "init was killed") -> None:
        """What a test calls: the sandbox goes as a whole, without being asked to."""
        if self._alive:
            self._alive = False
            for task in self._tasks():
                task.cancel()
            self._close_connection()
            self.on_gone(reason)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the Runtime API for the script: the one it was born with, or one to the listener."""
        inner, self._inner = self._inner, None
        if inner is not None:
            return await asyncio.open_connection(sock=inner)
        host, port = self.runtime_api.split(":")
        return await asyncio.open_connection(host, int(port))

    async def writable(self, fd: int) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def ready() -> None:
            if not future.done():
                future.set_result(None)

        loop.add_writer(fd, ready)
        try:
            await future
        finally:
            loop.remove_writer(fd)

    async def _run(self, runtime: FakeRuntime) -> None:
        status = await _played(runtime, self._driver.script(runtime))
        self._process = None
        self.on_exit(status)

    async def _run_extension(self, name: str, extension: FakeExtension) -> None:
        status = await _played(extension, self._driver.extensions[name](extension))
        del self._extensions[name]
        self.on_extension_exit(name, status)

    def _tasks(self) -> set[asyncio.Task[None]]:
        return {*self._extensions.values(), *(() if self._process is None else (self._process,))}

    async def _kill(self) -> None:
        self._call_off()
        tasks = self._tasks()
        self._process = self._runtime = None
        self._extensions = {}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _make_stem(self) -> None:
        if self._driver.connected:
            self.connection, self._inner = socket.socketpair()
            self.connection.setblocking(False)
            self._inner.setblocking(False)

    def _close_connection(self) -> None:
        for end in (self.connection, self._inner):
            if end is not None:
                end.close()
        self.connection = self._inner = None

    def _check(self) -> None:
        if not self._alive:
            raise SandboxGone


async def _played(process: FakeRuntime, script: Awaitable[None]) -> ExitStatus:
    """How a script ended; its connection is closed then."""
    try:
        await script
        return ExitStatus(code=0)
    except Ended as ended:
        return ended.status
    except Exception:
        await process.print(traceback.format_exc().encode())
        return ExitStatus(code=1)
    except asyncio.CancelledError:
        process.abort()
        raise
    finally:
        await process.disconnect()


class FakeDriver:
    """Makes fake sandboxes that run `script`; with `connected` the runtime is born with a connection, as our Python's is.

    `extensions` are the scripts of external extensions by their names, for specs that name them.
    """

    name = "fake"
    isolation = "none: nothing runs but coroutines of this process"

    def __init__(self, script: Script, *, connected: bool = True, create_s: float = 0.0) -> None:
        self.script = script
        self.pulls: dict[str, tuple[int, int]] = {}
        self.extensions: dict[str, ExtensionScript] = {}
        self.connected = connected
        self.create_s = create_s
        self.tasks = Tasks(self._task_failed)
        self._ids = itertools.count(1)
        self.handles: set[FakeHandle] = set()  #: those that were made and not stopped

    async def start(self) -> None:
        """Nothing to wait for."""

    def support(self, key: StemKey) -> Support:
        return Support(True, "scripted")

    async def look(self, key: StemKey) -> Support:
        return self.support(key)

    def is_light(self, key: StemKey) -> bool:
        return False

    def keep(self, keys: Collection[StemKey]) -> None:
        """Nothing is kept for functions."""

    async def image(self, uri: str, architecture: Architecture) -> Image:
        """Raises ImageError."""
        raise ImageError(f"Source image {uri}: container images need sandboxes; start Lambent as root.")

    async def create(self, key: StemKey) -> FakeHandle:
        await asyncio.sleep(self.create_s)
        handle = FakeHandle(self, f"fake-{next(self._ids)}")
        self.handles.add(handle)
        return handle

    async def close(self) -> None:
        while self.handles:
            await next(iter(self.handles)).stop()

    def forget(self, handle: FakeHandle) -> None:
        self.handles.discard(handle)

    def _task_failed(self, error: BaseException) -> None:
        context = {"message": "A fake sandbox failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)


def _tcp_socket() -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    return made
