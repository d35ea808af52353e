"""The native driver, gateway side: asks the spawner, and does by itself what must not cost a message.

The hot path needs no spawner: freezing is a write to a descriptor that came with the sandbox, memory is a `pread` of another.
When the spawner's end of the socket closes, all sandboxes are gone with it (their inits end when their control sockets close);
this side says so to their owners, and connects again as soon as the supervisor has another spawner up.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import itertools
import logging
import os
import platform
import socket
from collections.abc import Callable, Collection, Mapping

from sandbox.driver import ExitStatus, Support
from sandbox.environment import for_extensions
from sandbox.errors import DriverUnavailable, ImageError, RuntimeUnavailable, SandboxError, SandboxGone
from sandbox.guest import messages
from sandbox.images.emulation import emulation
from sandbox.images.engine import PLATFORMS
from sandbox.native import cpu, plan
from sandbox.native.channel import Channel, Message
from sandbox.native.places import LAMBDA_API, RUNTIME_API
from sandbox.spec import Architecture, FunctionSpec, Image, StemKey
from sandbox.tasks import Tasks

log = logging.getLogger(__name__)

CONNECT_S = 30.0
RECONNECT_S = 0.02
KEPT_AT_ONCE = 1000  #: ids in one message, which may have 160 KB
Received = Callable[[Message, list[int]], None]
HOST_ARCHITECTURE = {"x86_64": Architecture.X86_64, "aarch64": Architecture.ARM64}.get(platform.machine())


@functools.lru_cache(maxsize=4096)
def _top_level(code_path: str) -> tuple[str, ...]:
    """Names at the top of a package; packages never change, so one look is enough."""
    return tuple(os.listdir(code_path))


@functools.lru_cache(maxsize=4096)
def _of_layers(opt_path: str, runtime: str) -> tuple[str, ...]:
    """Names that layers bring to a Python path: like a package's own they come before the standard library's."""
    found: list[str] = []
    for directory in (f"{opt_path}/python/lib/{runtime}/site-packages", f"{opt_path}/python"):
        with contextlib.suppress(OSError):  # not there, as in most layers
            found += os.listdir(directory)
    return tuple(found)


class NativeHandle:
    """One sandbox; see `sandbox.driver` for the contract."""

    runtime_api = "{}:{}".format(*RUNTIME_API)
    lambda_api = "{}:{}".format(*LAMBDA_API)

    def __init__(self, driver: NativeDriver, name: str, runtime: str, reply: Message, fds: list[int]) -> None:
        self.id = name
        self.on_exit: Callable[[ExitStatus], None] = _ignore
        self.on_extension_exit: Callable[[str, ExitStatus], None] = _ignore_extension
        self.extension_log_fd = -1
        self.on_gone: Callable[[str], None] = _ignore
        self._driver = driver
        self._runtime = runtime
        self._interpreter = str(reply["interpreter"])
        preloaded = reply["preloaded"]
        assert isinstance(preloaded, list)
        self._preloaded = preloaded
        if "runtime_api" in reply:  # else it is where it always is
            self.runtime_api, self.lambda_api = str(reply["runtime_api"]), str(reply["lambda_api"])
        self._frozen_word = str(reply["frozen"]).encode()
        self._thawed_word = str(reply["thawed"]).encode()
        self.connection: socket.socket | None = _socket(fds[0])
        self.listener = _socket(fds[1])
        self.lambda_listener: socket.socket | None = _socket(fds[2])
        self.log_fd, self._freeze_fd = fds[3], fds[4]
        self._memory_fd, self._peak_fd = (fds[5], fds[6]) if reply["memory"] else (-1, -1)
        self._cpu_file = str(reply["cpu"])
        self._cpu_fd = fds[-1] if self._cpu_file else -1
        self._memory_mb = 0
        self._frozen = False
        self._alive = True
        self._stopped: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "dead" if not self._alive else "frozen" if self._frozen else "running"
        return f"<NativeHandle {self.id} {self._runtime} {state}>"

    async def specialise(self, spec: FunctionSpec, environment: Mapping[str, str]) -> None:
        self._check()
        self._memory_mb = spec.memory_mb
        await self._driver.request(
            {
                "op": "specialise",
                "id": self.id,
                "environment": dict(environment),
                **self._what(spec),
                "interpreter": self._interpreter,
                "memory_mb": spec.memory_mb,
                "tmp_mb": spec.tmp_mb,
                "extensions": spec.extensions,
                "extension_environment": for_extensions(environment) if spec.extensions else {},
            },
            self._specialised,
        )

    def kill_at(self, at_s: float) -> None:
        self._driver.tell({"op": "kill_at", "id": self.id, "at_s": at_s})

    def _what(self, spec: FunctionSpec) -> Message:
        """The function itself: its directories, or the program of its image."""
        if spec.program is not None:
            # An emulator would run it; AWS has none, and this is where that is to be found out.
            foreign = spec.program.architecture not in ("", PLATFORMS[spec.architecture])
            command, directory = spec.program.command, spec.program.directory
            return {"python": "none", "command": command, "directory": directory, "foreign": foreign}
        top_level = _top_level(spec.code_path)
        if spec.opt_path:
            top_level += _of_layers(spec.opt_path, spec.runtime)
        return {
            "code": spec.code_path.removeprefix(self._driver.code_dir).lstrip("/"),
            "opt": spec.opt_path.removeprefix(self._driver.code_dir).lstrip("/"),
            "python": plan.choose(spec.runtime, spec.environment, top_level, self._preloaded),
        }

    def _specialised(self, _: Message, fds: list[int]) -> None:
        for fd in fds:
            if self._stopped:
                os.close(fd)
            else:
                self.extension_log_fd = fd

    def rehearse(self) -> None:
        self._driver.tell({"op": "rehearse", "id": self.id})

    def start_runtime(self) -> None:
        self._driver.tell({"op": "start_runtime", "id": self.id})

    def signal(self, number: int, extension: str | None = None) -> None:
        self._driver.tell({"op": "signal", "id": self.id, "number": number, "extension": extension})

    async def reset(self) -> None:
        self._check()
        self.thaw()
        await self._driver.request({"op": "reset", "id": self.id}, self._replaced)
        self._check()

    def _replaced(self, _: Message, fds: list[int]) -> None:
        if self._stopped:
            os.close(fds[0])
            return
        if self.connection is not None:
            self.connection.close()
        self.connection = _socket(fds[0])

    def ration(self) -> None:
        if self._alive and self._cpu_fd >= 0:
            with contextlib.suppress(OSError):  # the cgroup of a sandbox that died can be gone before the news of it is here
                os.write(self._cpu_fd, cpu.ration(self._cpu_file, self._memory_mb).encode())

    def freeze(self) -> None:
        if self._alive and not self._frozen:
            self._frozen = True
            self._tell_freezer(self._frozen_word)

    def thaw(self) -> None:
        if self._alive and self._frozen:
            self._frozen = False
            self._tell_freezer(self._thawed_word)

    def _tell_freezer(self, word: bytes) -> None:
        """The cgroup of a sandbox that died can be gone before the news of it is here."""
        try:
            os.write(self._freeze_fd, word)
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.EPIPE):  # a pipe where an engine freezes
                raise

    async def tcp_socket(self) -> socket.socket:
        self._check()
        made: list[socket.socket] = []
        wanted = True

        def received(_: Message, fds: list[int]) -> None:
            made.append(_socket(fds[0]))
            if not wanted:  # whoever asked was cancelled
                made.pop().close()

        try:
            await self._driver.request({"op": "socket", "id": self.id}, received)
        except BaseException:
            wanted = False
            while made:
                made.pop().close()
            raise
        return made[0]

    def memory_bytes(self) -> int:
        return self._read(self._memory_fd)

    def memory_peak_bytes(self) -> int:
        return self._read(self._peak_fd)

    def _read(self, fd: int) -> int:
        if not self._alive or fd < 0:
            return 0
        try:
            return int(os.pread(fd, 32, 0))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return 0

    async def stop(self) -> None:
        if self._stopped is None:
            self._alive = False
            self.on_exit = self.on_gone = _ignore
            self.on_extension_exit = _ignore_extension
            self._stopped = asyncio.get_running_loop().create_task(self._stop(), name=f"stop {self.id}")
        await asyncio.shield(self._stopped)

    async def _stop(self) -> None:
        # The spawner kills before anything here is closed: what is still running must not see its connections break first.
        await self._driver.end(self)
        for sock in (self.listener, self.lambda_listener, self.connection):
            if sock is not None:
                sock.close()
        for fd in (self.log_fd, self.extension_log_fd, self._freeze_fd, self._memory_fd, self._peak_fd, self._cpu_fd):
            if fd >= 0:
                os.close(fd)

    @property
    def alive(self) -> bool:
        """Neither stopped nor known to be gone."""
        return self._alive

    def exited(self, message: Message) -> None:
        code, number, launch_error = message.get("code"), message.get("signal"), message.get("launch_error")
        status = ExitStatus(
            code=code if isinstance(code, int) else None,
            signal=number if isinstance(number, int) else None,
            oom=message.get("oom") is True,
            launch_error=launch_error if isinstance(launch_error, str) else None,
        )
        if "extension" in message:
            self.on_extension_exit(str(message["extension"]), status)
        else:
            self.on_exit(status)

    def gone(self, reason: str) -> None:
        if self._alive:
            self._alive = False
            self.on_gone(reason)

    def _check(self) -> None:
        if not self._alive:
            raise SandboxGone


class DescriptorsLost(DriverUnavailable):
    """The gateway has no descriptors free for another sandbox (ulimit -n)."""


class NativeDriver:
    """Talks to the spawner that listens at `socket_path`; `code_dir` is the code store that both know."""

    name = "native"
    walls = "namespaces (pid, mount, net, ipc, uts), own uid, cgroup limits, seccomp, no capabilities"

    def __init__(self, socket_path: str, code_dir: str) -> None:
        self.code_dir = code_dir
        self.isolation = f"{self.walls}; network: not known yet"
        self._socket_path = socket_path
        self._support: dict[str, Support] = {}
        self._channel: Channel | None = None
        self._connected = asyncio.Event()
        self._requests: dict[int, tuple[asyncio.Future[None], Received]] = {}
        self._numbers = itertools.count()
        self._names = itertools.count()
        self._handles: dict[str, NativeHandle] = {}
        self._tasks = Tasks(lambda error: log.error("a task failed: %r", error))
        self._closing = False
        self.pulls: dict[str, tuple[int, int]] = {}
        self._kept: list[StemKey] | None = None
        self.spawner_ends = 0  #: how often the spawner ended although it should not have

    async def start(self) -> None:
        """Raises DriverUnavailable when no spawner answers within 30 s."""
        self._reconnect()
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._connected.wait()
        except TimeoutError:
            raise DriverUnavailable(f"no spawner answers at {self._socket_path}") from None

    def support(self, key: StemKey) -> Support:
        if key.image:
            why_not = emulation(key.architecture)
            return Support(why_not is None, why_not or "an image's own program")
        if key.architecture is not HOST_ARCHITECTURE:
            why_not = emulation(key.architecture)
            return Support(why_not is None, why_not or "emulated, in an image's files")
        missing = Support(False, f"the native driver has no runtime {key.runtime}; in a container image it would run")
        return self._support.get(key.runtime, missing)

    def is_light(self, key: StemKey) -> bool:
        """Node.js has started by then, and takes tens of megabytes; whatever is emulated takes its time."""
        return not key.image and key.architecture is HOST_ARCHITECTURE and not key.runtime.startswith("nodejs")

    async def look(self, key: StemKey) -> Support:
        """Raises DriverUnavailable, SandboxError."""
        support = self.support(key)
        if support.available and not key.image and self._asks(key):
            try:
                await self.request({"op": "look", "runtime": key.runtime, "architecture": key.architecture})
            except RuntimeUnavailable as error:
                return Support(False, str(error))
        return support

    def _asks(self, key: StemKey) -> bool:
        """Whether the spawner knows more about this runtime than it has said."""
        return key.architecture is not HOST_ARCHITECTURE

    def keep(self, keys: Collection[StemKey]) -> None:
        self._kept = list(keys)
        self._tell_kept()

    def _tell_kept(self) -> None:
        if self._kept is None:
            return
        images = [key.image for key in self._kept if key.image]
        runtimes = [[key.runtime, key.architecture] for key in self._kept if not key.image]
        while True:
            now, images = images[:KEPT_AT_ONCE], images[KEPT_AT_ONCE:]
            self.tell({"op": "keep", "images": now, "runtimes": runtimes, "more": bool(images)})
            runtimes = []
            if not images:
                return

    async def image(self, uri: str, architecture: Architecture) -> Image:
        """Raises ImageError, DriverUnavailable, SandboxError."""
        found: list[Image] = []

        def received(reply: Message, _: list[int]) -> None:
            image = reply["image"]
            assert isinstance(image, dict)
            found.append(Image.of(image))

        self.pulls[uri] = 0, 0
        try:
            await self.request({"op": "image", "uri": uri, "architecture": architecture}, received)
        finally:
            self.pulls.pop(uri, None)
        return found[0]

    def _refused(self, key: StemKey) -> str | None:
        """Why the spawner need not even be asked."""
        support = self.support(key)
        return None if support.available else support.detail

    async def create(self, key: StemKey) -> NativeHandle:
        """Raises RuntimeUnavailable, DriverUnavailable, SandboxError."""
        if (why_not := self._refused(key)) is not None:
            raise RuntimeUnavailable(why_not)
        name = f"{os.getpid():x}-{next(self._names):x}"
        making = asyncio.get_running_loop().create_task(self._create(name, key), name=f"create {name}")
        try:
            handle = await asyncio.shield(making)
        except asyncio.CancelledError:
            self._tasks.start(self._undo(making), f"undo {name}")
            raise
        if not handle.alive:  # news of its end came before there was anybody to be told
            await handle.stop()
            raise SandboxGone
        return handle

    async def _create(self, name: str, key: StemKey) -> NativeHandle:
        made: list[NativeHandle] = []

        def received(reply: Message, fds: list[int]) -> None:
            made.append(NativeHandle(self, name, key.runtime, reply, fds))
            self._handles[name] = made[0]

        try:
            await self.request(
                {"op": "create", "id": name, "runtime": key.runtime, "architecture": key.architecture, "image": key.image},
                received,
            )
        except DescriptorsLost:
            with contextlib.suppress(SandboxError):
                await self.request({"op": "stop", "id": name})
            raise
        return made[0]

    async def _undo(self, making: asyncio.Task[NativeHandle]) -> None:
        with contextlib.suppress(SandboxError):
            await (await making).stop()

    async def request(self, message: Message, received: Received | None = None) -> None:
        """Raises DriverUnavailable when the spawner is not there, goes meanwhile or fails, SandboxGone when the sandbox is not
        there any more, SandboxError when the spawner refuses.

        `received` is called with a good answer and its descriptors in the step in which it comes: whatever comes right behind
        it finds things as they are then, and no descriptor is lost when the caller is cancelled.
        """
        if self._channel is None or self._channel.closed:
            raise DriverUnavailable("the spawner is restarting")
        number = next(self._numbers)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._channel.send({"n": number, **message})
        except messages.TooLarge as error:
            raise SandboxError(f"the spawner cannot be asked: {error}") from None
        self._requests[number] = future, received or _no_descriptors
        await future

    def tell(self, message: Message) -> None:
        """What is not answered; where there is no spawner there is no sandbox to be told anything."""
        if self._channel is not None and not self._channel.closed:
            self._channel.send(message)

    async def end(self, handle: NativeHandle) -> None:
        """Have the spawner end a sandbox of its own; one whose spawner has gone went with it. Never raises."""
        if handle.id in self._handles:
            with contextlib.suppress(SandboxError):
                await self.request({"op": "stop", "id": handle.id})
            self._handles.pop(handle.id, None)

    def _on_message(self, message: Message, fds: list[int]) -> None:
        number = message.get("n")
        if isinstance(number, int):
            self._answered(*self._requests.pop(number), message, fds)
            return
        for fd in fds:
            os.close(fd)
        handle = self._handles.get(str(message.get("id")))
        match message.get("event"):
            case "hello":
                support = message["support"]
                assert isinstance(support, dict)
                self._support = {runtime: Support(*pair) for runtime, pair in support.items()}
                self.isolation = f"{self.walls}; network: {message['network']}"
                if "ways" in message:
                    self.isolation += f"; {message['ways']}"
                self._connected.set()
                self._tell_kept()
            case "pull" if message["uri"] in self.pulls:
                done, total = message["done"], message["total"]
                assert isinstance(done, int)
                assert isinstance(total, int)
                self.pulls[str(message["uri"])] = done, total
            case "exit" if handle is not None:
                handle.exited(message)
            case "gone" if handle is not None:
                handle.gone(str(message.get("reason")))

    def _answered(self, future: asyncio.Future[None], received: Received, reply: Message, fds: list[int]) -> None:
        error: SandboxError | None = None
        if "refused" in reply:
            error = SandboxError(f"the spawner refused: {reply['refused']}")
        elif "bad_image" in reply:
            error = ImageError(str(reply["bad_image"]), missing=reply.get("missing") is True)
        elif "unavailable" in reply:
            error = RuntimeUnavailable(str(reply["unavailable"]))
        elif "gone" in reply:
            error = SandboxGone(str(reply["gone"]))
        elif "lost" in reply:
            error = DescriptorsLost()
        elif "error" in reply:
            error = DriverUnavailable(f"the spawner could not: {reply['error']}")
        else:
            received(reply, fds)
        if future.done():  # whoever asked was cancelled
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def _on_closed(self) -> None:
        self._connected.clear()
        self._fail_requests()
        handles, self._handles = self._handles, {}
        if not self._closing:
            self.spawner_ends += 1
            log.error("the spawner ended; its %d sandboxes with it", len(handles))
            self._reconnect()
        for handle in handles.values():
            handle.gone("the spawner ended")

    def _fail_requests(self) -> None:
        requests, self._requests = self._requests, {}
        for future, _ in requests.values():
            if not future.done():
                future.set_exception(DriverUnavailable("the spawner ended"))

    def _reconnect(self) -> None:
        self._tasks.start(self._connect(), "connect to the spawner")

    async def _connect(self) -> None:
        """The socket outlives the spawner, so a connection waits in its backlog until there is another spawner to take it."""
        while not self._closing:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.setblocking(False)
            try:
                sock.connect(self._socket_path)
            except OSError:
                sock.close()
                await asyncio.sleep(RECONNECT_S)
                continue
            self._channel = Channel(sock, self._on_message, self._on_closed)
            return

    async def close(self) -> None:
        self._closing = True
        await asyncio.gather(*(handle.stop() for handle in list(self._handles.values())))
        if self._channel is not None and not self._connected.is_set():  # it waits for a spawner that may never come
            self._channel.close()
            self._fail_requests()
        await self._tasks.join()
        if self._channel is not None:
            self._channel.close()


def _socket(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def _no_descriptors(_: Message, fds: list[int]) -> None:
    assert not fds


def _ignore(_: object) -> None:
    """Nobody listens yet, or any more."""


def _ignore_extension(_: str, __: ExitStatus) -> None:
    """Nobody listens yet, or any more."""
