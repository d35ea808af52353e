"""Plain processes, for hosts where Lambent is not root: the whole contract of a driver, and no isolation at all.

Each sandbox is a *keeper* (`guest/python/lambent_keeper.py`), an interpreter that has the runtime imported and waits. The
function's runtime is a fork of it in a session of its own, or another program. What this gives, and what it can't:

- **Freezing** is SIGSTOP to the runtime's process group. A process that made a group of its own runs on.
- **Memory** is what /proc says of all processes below the keeper. There is no hard limit: it is looked at ten times a second
  while the sandbox runs, and what is above MemorySize then is killed. A function can take more for a moment.
- **/tmp** is the host's. TMPDIR and HOME are a directory of the sandbox's own that goes with it; one file can't exceed the limit.
- **Leftovers**: the keeper is a subreaper, so daemons stay below it and die with the sandbox, and so does everything when the
  gateway dies. A function that kills its keeper, which it may, or asks another service to start something (systemd-run, at, a
  container engine) gets away.
- **Layers** have no /opt to be mounted at: where they are is on PATH, LD_LIBRARY_PATH and PYTHONPATH instead.
- **Isolation**: none. Functions have this user's files, network and processes, the gateway included.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import logging
import os
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from sandbox.clock import SystemClock
from sandbox.driver import ExitStatus, Support
from sandbox.environment import for_extensions
from sandbox.errors import DriverUnavailable, ImageError, RuntimeUnavailable, SandboxGone
from sandbox.guest.program import Program, command
from sandbox.native import interpreters, nodes, plan, processes, trees
from sandbox.spec import Architecture, FunctionSpec, Image, StemKey
from sandbox.tasks import Tasks

log = logging.getLogger(__name__)

RUNTIME_DIR = Path(__file__).resolve().parent.parent / "guest" / "python"
NODE_MAIN = RUNTIME_DIR.parent / "node" / "bootstrap.js"
HOST_ARCHITECTURE = {"x86_64": Architecture.X86_64, "aarch64": Architecture.ARM64, "arm64": Architecture.ARM64}.get(
    platform.machine()
)
SAMPLE_S = 0.1
STOP_S = 10.0  #: a keeper that has not killed everything by then is killed itself
OPEN_FILES = 1024  # AWS's


class PlainHandle:
    """One sandbox; see `sandbox.driver` for the contract."""

    def __init__(self, driver: PlainDriver, name: str, key: StemKey, directory: Path) -> None:
        self.id = name
        self.on_exit: Callable[[ExitStatus], None] = _ignore
        self.on_gone: Callable[[str], None] = _ignore
        self.on_extension_exit: Callable[[str, ExitStatus], None] = _ignore_extension
        self.extension_log_fd = self._extension_log_inside = -1
        self._extension_pids: dict[str, int] = {}
        self.connection: socket.socket | None = None
        self.listener = socket.socket()
        self.runtime_api = ""
        self.lambda_listener: socket.socket | None = None  #: it has this host's network, and so the gateway's own port
        self.lambda_api = ""
        self.log_fd = -1
        self._driver = driver
        self._key = key
        self._directory = directory
        self._interpreter = driver.interpreter(key.runtime)
        self._node = driver.node(key.runtime)
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(lambda error: log.error("%s: %s", self, error, exc_info=error))
        self._control: socket.socket | None = None
        self._connection_inside: socket.socket | None = None  #: what the next runtime gets
        self._process: subprocess.Popen[bytes] | None = None
        self._data = b""
        self._asking = asyncio.Lock()
        self._expected = ""
        self._answer: asyncio.Future[dict[str, Any]] | None = None
        self._preloaded: list[str] = []
        self._pid = 0  #: of the runtime, which leads its group; 0 where there is none
        self._memory_limit_bytes = 0
        self._peak_bytes = 0
        self._killed_for_memory = False
        self._frozen = False
        self._gone = False
        self._sampler: asyncio.TimerHandle | None = None
        self._kill_timer: asyncio.TimerHandle | None = None
        self._stopping: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        running = "frozen" if self._frozen else "running" if self._pid else "stem"
        return f"<PlainHandle {self.id} {self._key.runtime} {'stopped' if self._stopping else 'gone' if self._gone else running}>"

    async def begin(self) -> None:
        """Make the stem. Raises OSError, SandboxGone; what was made by then is undone by `stop`."""
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.runtime_api = "{}:{}".format(*self.listener.getsockname())
        self.listener.setblocking(False)
        self._directory.mkdir(mode=0o700)
        with contextlib.ExitStack() as inside:
            self.log_fd, log_inside = os.pipe()
            inside.callback(os.close, log_inside)
            os.set_blocking(self.log_fd, False)
            self._control, control_inside = socket.socketpair()
            inside.enter_context(control_inside)
            self._control.setblocking(False)
            self._loop.add_reader(self._control.fileno(), self._readable)
            self._expected, self._answer = "ready", self._loop.create_future()
            self._process = self._start_keeper(control_inside.fileno(), log_inside)
        self._preloaded = (await self._answer)["preloaded"]
        self._connect()

    def _start_keeper(self, control: int, log_inside: int) -> subprocess.Popen[bytes]:
        """Blocks for the millisecond until the interpreter is executed."""
        mode = ["prepare"] if self._key.runtime.startswith("python") else []
        keeper = str(RUNTIME_DIR / "lambent_keeper.py")
        return subprocess.Popen(
            [str(self._interpreter.executable), "-I", "-S", keeper, str(control), *mode],
            pass_fds=[control],
            stdin=subprocess.DEVNULL,
            stdout=log_inside,
            stderr=log_inside,
            env={"LANG": "en_US.UTF-8", "LC_CTYPE": "C.UTF-8"},
            cwd=self._directory,
            start_new_session=True,
        )

    def _connect(self) -> None:
        """A connection whose other end the next runtime gets."""
        for sock in (self.connection, self._connection_inside):
            if sock is not None:
                sock.close()
        self.connection, self._connection_inside = socket.socketpair()
        self.connection.setblocking(False)

    async def specialise(self, spec: FunctionSpec, environment: Mapping[str, str]) -> None:
        self._check()
        assert self._connection_inside is not None
        wrapper = "" if spec.runtime.startswith("provided") else spec.environment.get("AWS_LAMBDA_EXEC_WRAPPER", "")
        message: dict[str, object] = {
            "op": "start",
            "environment": self._environment(spec, environment),
            "directory": spec.code_path,
            "command": self._command(spec),
            "wrapper": wrapper.replace("/var/task", spec.code_path, 1) if wrapper.startswith("/var/task/") else wrapper,
            "limits": {"RLIMIT_NOFILE": OPEN_FILES, "RLIMIT_CORE": 0, "RLIMIT_FSIZE": spec.tmp_mb << 20},
            "extensions": {name: str(Path(spec.opt_path) / "extensions" / name) for name in spec.extensions},
        }
        if spec.extensions:
            message["extension_environment"] = for_extensions(self._environment(spec, environment))
            if self.extension_log_fd < 0:
                self.extension_log_fd, self._extension_log_inside = os.pipe()
                os.set_blocking(self.extension_log_fd, False)
        self._memory_limit_bytes = spec.memory_mb << 20
        self._peak_bytes = 0
        self._killed_for_memory = False
        connection, self._connection_inside = self._connection_inside, None
        with connection:
            passed = [connection.fileno(), *([self._extension_log_inside] if spec.extensions else [])]
            await self._ask(message, "started", passed)

    def rehearse(self) -> None: ...  # no process waits
    def start_runtime(self) -> None:
        if self._control is not None and self._stopping is None and not self._gone:
            with contextlib.suppress(OSError):  # the keeper's end is told otherwise
                self._control.send(b'{"op": "runtime"}\n')

    def signal(self, number: int, extension: str | None = None) -> None:
        pid = self._pid if extension is None else self._extension_pids.get(extension, 0)
        if pid:
            with contextlib.suppress(OSError):  # the dead stay zombies, so their numbers are nobody else's
                os.killpg(pid, number) if number == signal.SIGKILL else os.kill(pid, number)

    def kill_at(self, at_s: float) -> None:
        self._call_off()
        self._kill_timer = self._loop.call_later(max(0.0, at_s - SystemClock.monotonic()), self._signal, signal.SIGKILL)

    def _call_off(self) -> None:
        if self._kill_timer is not None:
            self._kill_timer.cancel()
            self._kill_timer = None

    def _command(self, spec: FunctionSpec) -> list[str | None]:
        """Empty where the keeper's copy is the runtime; None stands for the connection's descriptor."""
        way = plan.choose(spec.runtime, spec.environment, os.listdir(spec.code_path), self._preloaded)
        if self._node is not None:
            program = Program(path=str(self._node.executable), main=str(NODE_MAIN), environment={})
            words: list[str | None] = [*command(program, spec.memory_mb)]
            return [*words, "--fd", None]
        if way == "fork":
            return []
        if way == "exec":
            return [str(self._interpreter.executable), "-S", str(RUNTIME_DIR / "lambent_bootstrap.py"), "--fd", None]
        return [str(Path(spec.code_path) / "bootstrap")]

    def _environment(self, spec: FunctionSpec, environment: Mapping[str, str]) -> dict[str, str]:
        """What names AWS's directories names those that there are here; what the function set itself stays."""
        here = {
            "HOME": str(self._directory),
            "LAMBDA_RUNTIME_DIR": str(RUNTIME_DIR),
            "LAMBDA_TASK_ROOT": spec.code_path,
            "LD_LIBRARY_PATH": f"{spec.code_path}:{spec.code_path}/lib",
            "PATH": f"{(self._node or self._interpreter).executable.parent}:{os.environ.get('PATH', os.defpath)}",
            "PWD": spec.code_path,
            "TMPDIR": str(self._directory),
        }
        if "PYTHONPATH" in environment:
            here["PYTHONPATH"] = str(RUNTIME_DIR)
        if spec.opt_path:
            here["LD_LIBRARY_PATH"] += f":{spec.opt_path}/lib"
            here["PATH"] += f":{spec.opt_path}/bin"
        if "NODE_PATH" in environment:
            found = environment["NODE_PATH"].replace("/opt/", f"{spec.opt_path}/") if spec.opt_path else ""
            here["NODE_PATH"] = f"{found}:{spec.code_path}" if found else spec.code_path
        if spec.opt_path and "PYTHONPATH" in here:
            python = f"{spec.opt_path}/python"
            here["PYTHONPATH"] = f"{python}/lib/{spec.runtime}/site-packages:{python}:{here['PYTHONPATH']}"
        own = {name for name in spec.environment if not name.startswith("LAMBDA_")}
        return {**environment, **{name: value for name, value in here.items() if name not in own}}

    async def reset(self) -> None:
        self._check()
        self._pid = 0
        self._extension_pids = {}
        self._frozen = False
        self._stop_sampling()
        self._call_off()
        await self._ask({"op": "kill"}, "killed")
        self._connect()

    def ration(self) -> None:
        """Without cgroups the kernel shares them out as it likes."""

    def freeze(self) -> None:
        if self._pid and not self._frozen:
            self._stop_sampling()
            self._signal(signal.SIGSTOP)
            self._frozen = True

    def thaw(self) -> None:
        if self._pid and self._frozen:
            self._signal(signal.SIGCONT)
            self._frozen = False
            self._sample_later()

    def _signal(self, number: int) -> None:
        for pid in filter(None, (self._pid, *self._extension_pids.values())):  # group 0 would be our own
            with contextlib.suppress(OSError):  # the keeper leaves the dead zombies, so their numbers are nobody else's
                os.killpg(pid, number)

    async def tcp_socket(self) -> socket.socket:
        """The host's own network is the sandbox's."""
        if self._process is None or self._gone or self._stopping is not None:
            raise SandboxGone
        made = socket.socket()
        made.setblocking(False)
        return made

    def memory_bytes(self) -> int:
        if self._process is None or self._gone or self._stopping is not None:
            return 0
        return sum(map(processes.resident_bytes, processes.descendants(self._process.pid)))

    def memory_peak_bytes(self) -> int:
        """Exact for the runtime itself, sampled for what it started."""
        if self._pid:
            self._peak_bytes = max(self._peak_bytes, processes.peak_resident_bytes(self._pid))
        return self._peak_bytes

    def _sample(self) -> None:
        used = self.memory_bytes()
        self._peak_bytes = max(self._peak_bytes, used)
        if used > self._memory_limit_bytes:
            self._killed_for_memory = True
            self._signal(signal.SIGKILL)
        else:
            self._sample_later()

    def _sample_later(self) -> None:
        self._sampler = self._loop.call_later(SAMPLE_S, self._sample)

    def _stop_sampling(self) -> None:
        if self._sampler is not None:
            self._sampler.cancel()
            self._sampler = None

    async def stop(self) -> None:
        if self._stopping is None:
            self.on_exit = self.on_gone = _ignore
            self.on_extension_exit = _ignore_extension
            self._stop_sampling()
            self._call_off()
            self._stopping = self._tasks.start(self._stop(), f"stop {self.id}")
        await asyncio.wait({self._stopping})

    async def _stop(self) -> None:
        """The keeper kills all, and then ends, when its control socket closes; only then may connections break."""
        self._pid = 0
        self._extension_pids = {}
        self._lost("it was stopped")
        if self._control is not None:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
        if self._process is not None:
            await self._loop.run_in_executor(None, _wait, self._process)
        for sock in (self.listener, self.connection, self._connection_inside):
            if sock is not None:
                sock.close()
        for fd in (self.log_fd, self.extension_log_fd, self._extension_log_inside):
            if fd >= 0:
                os.close(fd)
        await self._loop.run_in_executor(None, _remove, self._directory)
        self._driver.forget(self)

    # What the keeper says.

    def _check(self) -> None:
        if self._stopping is not None or self._gone:
            raise SandboxGone

    async def _ask(self, message: dict[str, object], answer: str, passed: list[int] | None = None) -> None:
        """Wait for the keeper's `answer` to `message`. Raises SandboxGone."""
        async with self._asking:
            self._check()
            assert self._control is not None
            self._expected, self._answer = answer, self._loop.create_future()
            data = json.dumps(message).encode() + b"\n"
            try:
                sent = socket.send_fds(self._control, [data], passed) if passed is not None else self._control.send(data)
            except OSError as error:
                raise SandboxGone(f"its keeper does not listen: {error}") from error
            assert sent == len(data)  # far less than the socket's buffer, and the last message was answered
            await asyncio.shield(self._answer)

    def _readable(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._keeper_ended()
            return
        *lines, self._data = (self._data + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if message["event"] == "started":
            self._extension_pids = message["extensions"]
        elif message["event"] == "runtime":
            self._pid = int(message["pid"])
            self._sample()
        elif message["event"] == "exit":
            self._exited(message)
        if message["event"] == self._expected and self._answer is not None and not self._answer.done():
            self._answer.set_result(message)

    def _exited(self, message: dict[str, Any]) -> None:
        oom = self._killed_for_memory and message.get("signal") == signal.SIGKILL
        status = ExitStatus(message.get("code"), message.get("signal"), oom, message.get("launch_error"))
        if message["extension"] is not None:
            self._extension_pids.pop(message["extension"], None)
            self.on_extension_exit(message["extension"], status)
            return
        self._stop_sampling()
        self.memory_peak_bytes()
        self._pid = 0
        self._frozen = False
        self.on_exit(status)

    def _keeper_ended(self) -> None:
        """Without its keeper the runtime dies by PDEATHSIG; the rest of its group dies here."""
        assert self._control is not None
        self._loop.remove_reader(self._control.fileno())
        self._stop_sampling()
        if self._pid or self._extension_pids:
            self._signal(signal.SIGKILL)
            self._pid = 0
            self._extension_pids = {}
        self._lost("its keeper ended")

    def _lost(self, reason: str) -> None:
        if self._gone:
            return
        self._gone = True
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(SandboxGone(reason))
            self._answer.exception()  # whoever asked may have gone
        self.on_gone(reason)


class PlainDriver:
    """Plain processes of this user. Each sandbox gets a directory below `directory`, by default the usual place for such."""

    name = "native"
    isolation = f"functions are ordinary processes with every right of user {os.geteuid()}: its files, its network, its processes"

    def __init__(self, *, directory: Path | None = None) -> None:
        self.pulls: dict[str, tuple[int, int]] = {}  # there are no images
        self._parent = directory
        self._directory: Path | None = None
        self._lock_fd = -1
        self._support: dict[str, Support] = {}
        self._serving: dict[str, interpreters.Interpreter] = {}
        self._nodes: dict[str, nodes.Node] = {}
        self._handles: set[PlainHandle] = set()
        self._numbers = itertools.count(1)
        self._closed = False

    def __repr__(self) -> str:
        return f"<PlainDriver {'closed' if self._closed else f'{len(self._handles)} sandboxes'}>"

    async def start(self) -> None:
        """Raises OSError where no directory can be made."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(None, interpreters.find_interpreters)
        found_nodes = await loop.run_in_executor(None, nodes.find_nodes)
        self._support = trees.support(found, found_nodes)
        self._serving = interpreters.by_runtime(found)
        self._nodes = {node.runtime: node for node in found_nodes}
        if (python := trees.newest(found)) is not None:
            self._serving |= dict.fromkeys(self._nodes, python)
        await loop.run_in_executor(None, self._make_directory)

    def _make_directory(self) -> None:
        """One that says by a lock whether its owner lives; those of the dead are removed."""
        parent = self._parent or Path(tempfile.gettempdir())
        prefix = f"lambent-{os.geteuid()}-"
        for path in parent.glob(f"{prefix}*"):
            _sweep(path)
        self._directory = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        self._lock_fd = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)

    def support(self, key: StemKey) -> Support:
        if key.architecture is not HOST_ARCHITECTURE:
            return Support(False, f"this host is {platform.machine()}; {key.architecture} code does not run on it")
        missing = Support(False, f"plain processes can be Python, Node.js or bring a `bootstrap` of their own, not {key.runtime}")
        return self._support.get(key.runtime, missing)

    def interpreter(self, runtime: str) -> interpreters.Interpreter:
        """Of a sandbox's keeper, and of a Python function. Raises KeyError for a runtime that `support` denies."""
        return self._serving[runtime]

    def node(self, runtime: str) -> nodes.Node | None:
        """Of a Node.js function."""
        return self._nodes.get(runtime)

    async def look(self, key: StemKey) -> Support:
        return self.support(key)

    def is_light(self, key: StemKey) -> bool:
        return False

    def keep(self, keys: Collection[StemKey]) -> None:
        """Nothing is kept for functions."""

    async def image(self, uri: str, architecture: Architecture) -> Image:
        """Raises ImageError."""
        raise ImageError(f"Source image {uri}: container images need sandboxes; start Lambent as root.")

    async def create(self, key: StemKey) -> PlainHandle:
        if self._closed or self._directory is None:
            raise DriverUnavailable("the driver was closed" if self._closed else "the driver was not started")
        support = self.support(key)
        if not support.available:
            raise RuntimeUnavailable(support.detail)
        name = f"p{next(self._numbers)}"
        handle = PlainHandle(self, name, key, self._directory / name)
        self._handles.add(handle)
        try:
            await handle.begin()
        except (OSError, SandboxGone) as error:
            await handle.stop()
            raise DriverUnavailable(f"{name} could not be started: {error}") from error
        except BaseException:
            await handle.stop()
            raise
        return handle

    def forget(self, handle: PlainHandle) -> None:
        self._handles.discard(handle)

    async def close(self) -> None:
        self._closed = True
        while self._handles:
            await asyncio.gather(*(handle.stop() for handle in list(self._handles)))
        if self._directory is not None:
            directory, self._directory = self._directory, None
            await asyncio.get_running_loop().run_in_executor(None, _remove, directory)
            os.close(self._lock_fd)


def _ignore(_: object) -> None:
    pass


def _ignore_extension(_: str, __: ExitStatus) -> None:
    pass


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)


def _sweep(path: Path) -> None:
    """Remove the directory of a driver that died without closing."""
    with contextlib.suppress(OSError):
        fd = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path)
        finally:
            os.close(fd)


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Until the keeper has killed all and ended; if it does not, what can be reached is killed from here."""
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        for pid in (*processes.descendants(process.pid), process.pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
