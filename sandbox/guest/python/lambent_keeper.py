"""Where there is no isolation: starts a function's runtime and extensions, says how they ended, and kills what they left behind.

One keeper a sandbox, run by the driver of plain processes as ``lambent_keeper.py CONTROL [prepare]``, under the interpreter that
the function will have; standard output and error are the function's log. It has imported the runtime already, so a start is a
fork. As a subreaper (Linux) it becomes the parent of whatever loses its own, so that no daemon that a function makes escapes it,
as long as the keeper itself lives; it ends, and kills, when the driver's end of the control socket closes.

Control messages are lines of JSON on a stream socket, one request at a time: ``start`` (with the runtime's Runtime API
connection as a descriptor, and the extensions' log if there are any) is answered by ``started``, ``kill`` by ``killed``;
``exit`` comes by itself. Where there are extensions ``start`` starts those, and ``runtime`` the runtime.
"""

from __future__ import annotations

import array
import contextlib
import functools
import json
import os
import resource
import select
import signal
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lambent_bootstrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
LAUNCH_FAILED = 253
WRAPPER_NOT_FOUND = 127  # what a shell ends with, and AWS's start of a wrapper is one
NO_BOOTSTRAP = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"


def prctl(option: int, argument: int) -> None:
    """Does nothing where there is no such call."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.PyDLL(None).prctl(option, argument, 0, 0, 0)


class Keeper:
    """`started` are the runtime and extensions; they stay zombies until the next kill, so that nobody gets their numbers.

    The driver stops and continues them by those numbers, and may not know yet that they have ended.
    """

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.started = {}  # type: dict[int, tuple[str | None, int]]  # name, and where it writes why it could not begin
        self.running = set()  # type: set[int]  # those whose ends were not reported
        self.waiting = None  # type: tuple[dict[str, object], int] | None  # what the runtime will be started with
        self._data = b""
        self._fds = []  # type: list[int]

    def send(self, message: dict[str, object]) -> None:
        self.control.sendall(json.dumps(message).encode() + b"\n")

    def serve(self) -> None:
        """Until the driver goes."""
        wake_r, wake_w = os.pipe()
        os.set_blocking(wake_r, False)
        os.set_blocking(wake_w, False)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self.send({"event": "ready", "preloaded": sorted(lambent_bootstrap.loaded())})
        while True:
            for fd in select.select([self.control.fileno(), wake_r], [], [])[0]:
                if fd == wake_r:
                    os.read(wake_r, 4096)
                    self.reap()
                    continue
                message = self.receive()
                if message is None:
                    return
                if message["op"] == "start":
                    self.start(message, self._fds.pop(0))
                elif message["op"] == "runtime":
                    self.start_runtime()
                elif message["op"] == "kill":
                    self.kill_all()
                    self.send({"event": "killed"})

    def receive(self) -> dict[str, object] | None:
        """One message; waits for the rest of it. None when the driver has gone."""
        while b"\n" not in self._data:
            fds = array.array("i")
            data, ancillary, _, _ = self.control.recvmsg(65536, socket.CMSG_SPACE(fds.itemsize))
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(content)
            self._fds += fds
            if not data:
                return None
            self._data += data
        line, _, self._data = self._data.partition(b"\n")
        message = json.loads(line.decode())
        assert isinstance(message, dict)
        return message

    def start(self, message: dict[str, object], connection: int) -> None:
        self.waiting = message, connection
        extensions = message["extensions"]
        assert isinstance(extensions, dict)
        pids = {}  # type: dict[str, int]
        if extensions:
            log = self._fds.pop(0)
            for name, path in extensions.items():
                pids[name] = self.fork(name, (log,), functools.partial(run_extension, message, path, log))
            os.close(log)
        else:
            self.start_runtime()
        self.send({"event": "started", "extensions": pids})
        self.reap()

    def start_runtime(self) -> None:
        if self.waiting is not None:
            (message, connection), self.waiting = self.waiting, None
            pid = self.fork(None, (connection,), lambda launch: run(message, connection, launch))
            os.close(connection)
            self.send({"event": "runtime", "pid": pid})

    def fork(self, name: str | None, keep: tuple[int, ...], work: Callable[[int], None]) -> int:
        """A process that does `work`, given where to write why it cannot."""
        launch_r, launch_w = os.pipe()
        keeper = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != keeper:
                    os._exit(0)
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where Lambent was started by nohup
                signal.signal(signal.SIGINT, signal.default_int_handler)
                close_all_but((0, 1, 2, launch_w, *keep))
                work(launch_w)
            finally:
                os._exit(LAUNCH_FAILED)
        os.close(launch_w)
        self.started[pid] = name, launch_r
        self.running.add(pid)
        return pid

    def reap(self) -> None:
        """Collect orphans; report the end of what was started once, and leave it as it is."""
        for pid in children(os.getpid()):
            if pid not in self.started:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        for pid in sorted(self.running):
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                continue
            self.running.discard(pid)
            name, launch = self.started[pid]
            event = {"event": "exit", "extension": name}  # type: dict[str, object]
            event["code" if ended.si_code == os.CLD_EXITED else "signal"] = ended.si_status
            if ended.si_code == os.CLD_EXITED and ended.si_status == LAUNCH_FAILED:
                event["launch_error"] = os.read(launch, 4096).decode(errors="replace") or None
            self.send(event)

    def kill_all(self) -> None:
        """SIGKILL to everything below this process, and wait until nothing is left.

        First all are stopped, so that none is born while the others die.
        """
        self.running.clear()
        if self.waiting is not None:
            os.close(self.waiting[1])
            self.waiting = None
        stopped = set()  # type: set[int]
        while True:
            found = {pid for pid in descendants(os.getpid()) if pid not in stopped}
            if not found:
                break
            for pid in found:
                signal_to(pid, signal.SIGSTOP)
            stopped |= found
        for pid in self.started:
            with contextlib.suppress(OSError):  # where descendants cannot be listed, this is all that there is
                os.killpg(pid, signal.SIGKILL)
        while True:
            for pid in descendants(os.getpid()):
                signal_to(pid, signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
        for _, launch in self.started.values():
            os.close(launch)
        self.started = {}


def close_all_but(keep: tuple[int, ...]) -> None:
    for name in os.listdir("/dev/fd"):
        if int(name) not in keep:
            with contextlib.suppress(OSError):
                os.close(int(name))


def signal_to(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def children(pid: int) -> list[int]:
    """Empty where /proc does not tell."""
    found = []  # type: list[int]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found.extend(map(int, file.read().split()))
    return found


def descendants(pid: int) -> list[int]:
    found = children(pid)
    for each in found:  # grows as it goes
        found.extend(children(each))
    return found


def run(message: dict[str, object], connection: int, launch: int) -> None:
    """Be the runtime, in a process of its own; returns only where it cannot be."""
    environment, command, limits = message["environment"], message["command"], message["limits"]
    assert isinstance(environment, dict)
    assert isinstance(command, list)
    assert isinstance(limits, dict)
    limit_and_bind(limits)
    os.chdir(str(message["directory"]))
    if not command:
        os.close(launch)
        os.environ.clear()
        os.environ.update(environment)
        lambent_bootstrap.main(connection)
    if None in command:
        os.set_inheritable(connection, True)
        command = [str(connection) if each is None else each for each in command]
    if message["wrapper"]:
        if not os.path.exists(str(message["wrapper"])):
            os._exit(WRAPPER_NOT_FOUND)
        command.insert(0, message["wrapper"])
    elif not os.path.exists(command[0]):
        os.write(launch, NO_BOOTSTRAP.encode())
        return
    execute(command, environment, "/var/task/bootstrap", launch)


def run_extension(message: dict[str, object], path: str, log: int, launch: int) -> None:
    """Be an external extension; returns only where it cannot be."""
    environment, limits = message["extension_environment"], message["limits"]
    assert isinstance(environment, dict)
    assert isinstance(limits, dict)
    limit_and_bind(limits)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir("/")
    execute([path], environment, f"/opt/extensions/{os.path.basename(path)}", launch)


def limit_and_bind(limits: dict[str, int]) -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)  # else sudo would make processes that the keeper cannot kill
    for name, value in limits.items():
        limit = getattr(resource, name)
        _, hard = resource.getrlimit(limit)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def execute(command: list[str], environment: dict[str, str], known_as: str, launch: int) -> None:
    """Become that program; where it cannot be, say why with its name on AWS."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # an interpreter ignores them, and that would be inherited
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(command[0], command, environment)
    except OSError as error:
        os.write(launch, f"fork/exec {known_as}: {os.strerror(error.errno or 0).lower()}".encode())


def main(arguments: list[str]) -> None:
    control = socket.socket(fileno=int(arguments[0]))
    control.set_inheritable(False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if arguments[1:] == ["prepare"]:
        lambent_bootstrap.prepare()
    keeper = Keeper(control)
    try:
        keeper.serve()
    finally:
        keeper.kill_all()


if __name__ == "__main__":
    main(sys.argv[1:])
