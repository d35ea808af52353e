"""PID 1 of a sandbox: makes its world, starts runtime and extensions, reports their ends, and can begin again.

Init is a copy of the zygote and trusted; what it starts is not. It does as root what needs root (mounts, cgroups, users), in this
order: its namespaces exist already (`zygote.py` cloned into them), but for that of the network, which the spawner made and init
goes to; it forks the runtime process, which joins the cgroups, mounts /proc and /tmp for both, loses its rights and waits; that
is a *stem*. When the function comes, init moves its code to /var/task and lets the runtime go; where the function has extensions
it starts those first, and the runtime goes when the gateway says that they have registered. From then on init has no right left
but to kill, and to start other processes as the same user.

It is not in the sandbox's cgroups: a function can neither freeze it, nor have it killed for memory, nor starve it of pids.
It ends when the spawner's end of its control socket closes, and with a pid namespace's init the kernel ends all that is in it.
"""

import contextlib
import fcntl
import functools
import os
import select
import signal
import socket

import lambent_bootstrap

from . import confine, doors, launch, messages, program, rehearsal, syscalls, world

EXTENSIONS = "/opt/extensions"
CONTROL_FD = 0  # init's own numbering; stdin, stdout and stderr mean nothing to it
LOG_FD = 1
_IS_STEM = messages.encode({"event": "stem"}).encode()
_REHEARSE = messages.encode({"rehearse": True}).encode()


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable  # noqa: F401  for the types in comments


class Sandbox:
    """What init knows: its descriptors, its user, and the processes that it started and that live."""

    clones = True  # a runtime that waits is a copy of init, and starts the extensions
    waiting = None  # type: program.Program | None  # the program of a runtime that cannot be forked; a zygote has one

    def __init__(self, control, cgroup_fds, uid):
        # type: (socket.socket, list[int], int) -> None
        self.control = control
        self.doors = doors.Doors(cgroup_fds)
        self.uid = uid
        self.runtime_pid = 0
        self.go = None  # type: socket.socket | None
        self.begin = None  # type: bytes | None  # what the runtime is told when extensions have registered
        self.extensions = {}  # type: dict[int, tuple[str, int]]  # by pid: name, and where it says why it could not begin
        self.extension_log = -1
        self.specialised = False
        self.is_stem = False

    def fork_runtime(self, ahead=True):
        # type: (bool) -> socket.socket
        """Fork the process that will be the runtime; gives the gateway's end of its Runtime API connection.

        `ahead` says whether a program is started now already, or only when the function is there.
        """
        connection = self.fork(ahead)
        self.joined()
        return connection

    def fork(self, ahead=True, make_world=None):
        # type: (bool, Callable[[], None] | None) -> socket.socket
        """The first half of it, which waits for nothing.

        `make_world` is what the new process has to do for both while it is root still: each page that a process writes first is
        copied for it, so what one of them does costs less than what both do.
        """
        go_here, go_there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        api_here, api_there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pid, joined = self.doors.fork()
        if pid == 0:
            try:
                self._be_runtime(go_there, api_there, ahead, joined, make_world)
            except OSError as error:
                go_there.send(str(error).encode())
            finally:
                os._exit(launch.LAUNCH_FAILED)
        go_there.close()
        api_there.close()
        self.runtime_pid = pid
        self.is_stem = True
        if self.go is not None:
            self.go.close()
        self.go = go_here
        return api_here

    def joined(self):
        # type: () -> None
        """Wait until it has joined the cgroups and lost its rights. Raises OSError."""
        assert self.go is not None
        said = self.go.recv(4096)
        if said != b"r":
            raise OSError(said.decode(errors="replace") or "the runtime process ended before it was given a function")

    def _enter(self, keep, joined, make_world=None):
        # type: (list[int], bool, Callable[[], None] | None) -> None
        """What every process does first that will be a function's: join its cgroups, and lose every right and descriptor."""
        signal.set_wakeup_fd(-1)
        os.setsid()  # process groups and sessions reach across pid namespaces: nothing may be shared with other sandboxes
        for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.doors.join(joined)
        if make_world is not None:
            make_world()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        syscalls.close_all_but([0, 1, 2, *keep])
        confine.confine(self.uid, self.uid)

    def _be_runtime(self, go, api, ahead, joined, make_world):
        # type: (socket.socket, socket.socket, bool, bool, Callable[[], None] | None) -> None
        os.dup2(LOG_FD, 2)
        os.set_inheritable(LOG_FD, True)  # it is 1 already, and dup2 to itself would change nothing
        os.set_inheritable(api.fileno(), True)
        self._enter([go.fileno(), api.fileno()], joined, make_world)
        self.wait(go, api, ahead)

    def wait(self, go, api, ahead):
        # type: (socket.socket, socket.socket, bool) -> None
        """Be a stem's runtime, confined, until the function comes."""
        if self.waiting is not None and ahead:
            launch.default_signals()
            program.be_stem(self.waiting, go, api)
        go.send(b"r")
        message, fds = messages.receive(go)
        while message is not None and "rehearse" in message:
            if not rehearsal.is_wanted(go):
                lambent_bootstrap.rehearse()
                rehearsal.hear_made_up()
            message, fds = messages.receive(go)
        if message is not None and "extensions" in message:
            names, environment = message["extensions"], message["environment"]
            assert isinstance(names, list)
            assert isinstance(environment, dict)
            pids = [clone_extension(name, environment, fds[0], launch_w) for name, launch_w in zip(names, fds[1:])]
            for fd in fds:
                os.close(fd)
            messages.send(go, {"pids": pids})
            message, _ = messages.receive(go)
        if message is None:
            os._exit(0)
        launch.launch(go, api.detach(), message, self.waiting)

    def start_extensions(self, names, environment, by_the_runtime):
        # type: (list[str], dict[str, str], bool) -> None
        """Start the files in /opt/extensions.

        By preference the waiting runtime does it: it is confined already and in its cgroups, and the way into those that init has
        no right left for is the quick one (`doors.py`). Its clones are init's children, not its own.
        """
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in names]
        writers = [launch_w for _, launch_w in pipes]
        if by_the_runtime:
            assert self.go is not None
            message = {"extensions": names, "environment": environment}  # type: dict[str, object]
            messages.send(self.go, message, [self.extension_log, *writers])
            answer, _ = messages.receive(self.go)
            pids = answer["pids"] if answer is not None else []  # it was killed for its memory, which is told as any exit is
            assert isinstance(pids, list)
        else:
            pids = [self._fork_extension(name, environment, launch_w) for name, launch_w in zip(names, writers)]
        for launch_w in writers:
            os.close(launch_w)
        for launch_r, _ in pipes[len(pids) :]:
            os.close(launch_r)
        for name, pid, (launch_r, _) in zip(names, pids, pipes):
            self.extensions[pid] = name, launch_r

    def _fork_extension(self, name, environment, launch_w):
        # type: (str, dict[str, str], int) -> int
        pid, joined = self.doors.fork()
        if pid == 0:
            try:
                os.dup2(self.extension_log, 1)
                os.dup2(self.extension_log, 2)
                self._enter([launch_w], joined)
                os.chdir("/")
                os.write(launch_w, launch.execute([f"{EXTENSIONS}/{name}"], environment).encode())
            finally:
                os._exit(launch.LAUNCH_FAILED)
        return pid

    def start_runtime(self):
        # type: () -> None
        """Let the runtime go that waits for extensions. Nothing where none does: it may be too late."""
        message, self.begin = self.begin, None
        if message is not None and self.go is not None:
            with contextlib.suppress(OSError):  # it was killed while it waited
                self.go.send(message)

    def signal(self, number, name):
        # type: (int, str | None) -> None
        """To the runtime, or to the extension of that name; SIGKILL to all of its process group."""
        wanted = [pid for pid, (extension, _) in self.extensions.items() if extension == name]
        for pid in [self.runtime_pid] if name is None else wanted:
            if pid:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
                if number == signal.SIGKILL:
                    with contextlib.suppress(OSError):
                        os.killpg(pid, number)

    def specialise(self, message, fds):
        # type: (dict[str, object], list[int]) -> None
        """Mount what came (the code, perhaps another /tmp), let the runtime or the extensions go, and give up every right not
        needed again. Behind the mounts' descriptors comes, the first time, the pipe that is the extensions' log."""
        self.is_stem = False
        targets = message["mounts"]
        init_uid = message["init_uid"]
        extensions = message["extensions"]
        assert isinstance(targets, list)
        assert isinstance(init_uid, int)
        assert isinstance(extensions, list)
        if len(fds) > len(targets):
            self.extension_log = fds[-1]
            os.fchown(self.extension_log, self.uid, self.uid)
        for target, fd in zip(targets, fds):
            if target == "/tmp":
                syscalls.umount("/tmp")
            syscalls.move_mount(fd, target, follow=True)
            os.close(fd)
        if self.waiting is not None and message["python"] == "exec":
            self._replace_stem()
        begin = message["begin"]
        assert isinstance(begin, str)
        self.begin = begin.encode()
        if not extensions:
            self.start_runtime()
        if not self.specialised:
            self.specialised = True
            drop_rights(init_uid)
        environment = message["extension_environment"]
        assert isinstance(environment, dict)
        if extensions:
            self.start_extensions(extensions, environment, self.clones and (self.waiting is None or message["python"] == "exec"))

    def rehearse(self):
        # type: () -> None
        """Nobody waits for this stem: play what comes when the function comes, and have the runtime play its part.

        Other programs than a copy of this one play when they start, if at all.
        """
        if not self.is_stem or self.go is None or rehearsal.is_wanted(self.control):
            return
        if self.clones and self.waiting is None:
            with contextlib.suppress(OSError):  # it was killed while it waited
                messages.send_encoded(self.go, _REHEARSE)
        if self.specialised:  # and reset: its own pages are its own
            return
        own = self.go
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with here, there:
            with contextlib.suppress(OSError):
                syscalls.move_mount(-1, "/var/task")
            try:
                self.go, self.specialised = here, True
                self.specialise(rehearsal.hear_made_up(), [])
            finally:
                self.go, self.specialised, self.is_stem = own, False, True

    def _replace_stem(self):
        # type: () -> None
        """The program that waits has read too much already: a process that will start another one takes its place.

        It connects by itself: the gateway's end of the connection that it was given is closed.
        """
        if self.runtime_pid:  # else it died while it waited
            os.kill(self.runtime_pid, signal.SIGKILL)
            os.waitpid(self.runtime_pid, 0)
        self.fork_runtime(ahead=False).close()

    def reset(self):
        # type: () -> None
        """Kill all but init, whatever it is, and be a stem again."""
        kill_all()
        self.runtime_pid = 0
        self.begin = None
        for _, launch_r in self.extensions.values():
            os.close(launch_r)
        self.extensions = {}
        connection = self.fork_runtime()
        messages.send_encoded(self.control, _IS_STEM, [connection.fileno()])
        connection.close()

    def reap(self):
        # type: () -> None
        """Collect the dead; say so when the runtime or an extension is one of them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            event = {"event": "exit"}  # type: dict[str, object]
            said_at = -1
            if pid in self.extensions:
                event["extension"], said_at = self.extensions.pop(pid)
            elif pid == self.runtime_pid:
                self.runtime_pid = 0
                said_at = self.go.fileno() if self.go is not None else -1
            else:
                continue
            if os.WIFSIGNALED(status):
                event["signal"] = os.WTERMSIG(status)
            else:
                event["code"] = os.WEXITSTATUS(status)
                if event["code"] == launch.LAUNCH_FAILED and said_at >= 0:
                    os.set_blocking(said_at, False)
                    with contextlib.suppress(OSError):
                        event["launch_error"] = os.read(said_at, 4096).decode(errors="replace") or None
            if "extension" in event:
                os.close(said_at)
            messages.send(self.control, event)

    def serve(self):
        # type: () -> None
        """Until the spawner goes, or asks for the end."""
        wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(wake_r, select.POLLIN)
        self.reap()
        while True:
            for fd, _ in poll.poll():
                if fd == wake_r:
                    os.read(wake_r, 4096)
                    self.reap()
                    continue
                message, fds = messages.receive(self.control)
                if message is None:
                    return
                if message["op"] == "specialise":
                    self.specialise(message, fds)
                elif message["op"] == "reset":
                    self.reset()
                elif message["op"] == "rehearse":
                    self.rehearse()
                elif message["op"] == "start_runtime":
                    self.start_runtime()
                elif message["op"] == "socket":
                    with socket.socket() as made:
                        messages.send(self.control, {"event": "socket"}, [made.fileno()])
                elif message["op"] == "kill":
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(-1, signal.SIGKILL)
                elif message["op"] == "signal":
                    number, name = message["number"], message["extension"]
                    assert isinstance(number, int)
                    self.signal(number, None if name is None else str(name))


def clone_extension(name, environment, log, launch_w):
    # type: (str, dict[str, str], int, int) -> int
    """Execute one of the files in /opt/extensions as a sibling of this confined process; AWS gives it no arguments."""
    pid = syscalls.clone_process(syscalls.CLONE_PARENT)
    if pid == 0:
        try:
            os.setsid()
            os.dup2(log, 1)
            os.dup2(log, 2)
            syscalls.close_all_but([0, 1, 2, launch_w])
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            os.chdir("/")
            os.write(launch_w, launch.execute([f"{EXTENSIONS}/{name}"], environment).encode())
        finally:
            os._exit(launch.LAUNCH_FAILED)
    return pid


def kill_all():
    # type: () -> None
    """SIGKILL to every process of this pid namespace but this one, and wait until none is left.

    One call is enough: the kernel walks all processes under the lock that fork needs, and a process with a fatal signal pending
    cannot fork any more.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def drop_rights(uid):
    # type: (int) -> None
    """Keep the rights to kill and to become another user; the uid is that of all inits, and of no function."""
    syscalls.prctl(syscalls.PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    syscalls.set_capabilities((syscalls.CAP_KILL, syscalls.CAP_SETUID, syscalls.CAP_SETGID))
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)


def serve(sandbox, connection=None):
    # type: (Sandbox, socket.socket | None) -> None
    """Make a stem of it, say so, and be its init until the spawner goes. `connection`: of a runtime that is forked already."""
    if connection is None:
        connection = sandbox.fork()
    sandbox.joined()
    messages.send_encoded(sandbox.control, _IS_STEM, [connection.fileno()])
    connection.close()
    sandbox.serve()


def arrive(control, uid, network):
    # type: (socket.socket, int, int) -> None
    """A copy becomes an init: in the network of its sandbox, whose descriptor it closes, with the log given to user `uid`."""
    control.setblocking(True)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.fchown(LOG_FD, uid, uid)
    syscalls.setns(network, syscalls.CLONE_NEWNET)
    os.close(network)


def fail(control, error):
    # type: (socket.socket | None, BaseException) -> None
    """The reason goes to the spawner's log, if there is a way to it; whoever waits for this sandbox is told that it is gone."""
    if control is not None:
        with contextlib.suppress(OSError):
            messages.send(control, {"event": "failed", "reason": f"{type(error).__name__}: {error}"})


def main(fds, uid):
    # type: (list[int], int) -> None
    """`fds`: control socket, log pipe, network namespace, /tmp, and the cgroups to join, in this order. Never returns."""
    control = None
    try:
        # Descriptors move to the bottom so that everything above can be closed at once.
        kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
        os.dup2(kept[0], CONTROL_FD, False)
        os.dup2(kept[1], LOG_FD, False)
        syscalls.close_all_but([CONTROL_FD, LOG_FD, *kept[2:]])
        control = socket.socket(fileno=CONTROL_FD)
        arrive(control, uid, kept[2])
        socket.sethostname("169-254-100-1")
        sandbox = Sandbox(control, kept[4:], uid)
        connection = sandbox.fork(make_world=functools.partial(world.make_file_system, kept[3], uid))
        os.close(kept[3])
        serve(sandbox, connection)
    except BaseException as error:
        fail(control, error)
    finally:
        os._exit(0)
