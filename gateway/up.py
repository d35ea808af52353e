"""What must be there before gateway and spawner start: one owner of the data directory, the right user, a socket between the two.

Runs as the supervisor's process (`lambent up` becomes it by exec, so that it holds no command line library). As root, the gateway
gets a user of its own, if that user can read the interpreter and these packages; an interpreter under /root, as pyenv has it, it
cannot, and then the gateway stays root without a single capability, for good, which on its own files is the same and elsewhere
little more than nobody. Without root there is no spawner and there are no sandboxes: functions are plain processes.

    DATA_DIR/          root's, locked as long as `up` runs
      state/           the gateway's: functions, code, logs
      images/ porter/  root's: the files of images, and what is mounted into them
      volumes/         root's: the disks behind each sandbox's /tmp
    /run/lambent/ID/   root's, gone afterwards; in it gateway/spawner.sock, which only the gateway can reach
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and (_interrupt := signal.getsignal(signal.SIGINT)) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports is no reason for a traceback

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import resource
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from gateway import listening
from gateway.child import Plan
from gateway.clock import SystemClock
from gateway.settings import SettingError, Settings, load, unknown, variable, words
from gateway.supervisor import Supervisor, in_a_fork
from gateway.voice import ERROR, say

LOCK_WITHIN_S: Final = 3.0  #: an orphaned spawner takes a fraction of a second to end
RUN_DIR: Final = Path("/run/lambent")
STATE: Final = "state"
VOLUMES: Final = "volumes"
CODE: Final = "code"
LOGS: Final = "logs"
_READABLE: Final = ("gateway", "sandbox", "uvloop", "aiohttp", "botocore")


class Refused(Exception):
    """`up` cannot start here; the message says why and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -P -m gateway.up [--demo]``, with every setting in the environment. The process's exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        settings = load({}, os.environ)
        say.become(level=settings.log_level, form=settings.log_format)
        for line in unknown(os.environ):
            say(line)
        root = os.geteuid() == 0
        if not settings.data_dir.exists():
            _look_at_port(settings)
        lock = take(settings.data_dir)
        try:
            return _supervise(settings, lock, root=root, demo="--demo" in arguments)
        finally:
            os.close(lock)
    except (Refused, SettingError) as error:
        say(str(error), ERROR)
        return 1


def _look_at_port(settings: Settings) -> None:
    """Before a data directory is made that would be left behind: who only forgot another Lambent has one. Raises Refused."""
    try:
        listening.listener(settings.host, settings.port).close()
    except OSError as error:
        if (told := listening.reason(error, settings.host, settings.port)) is not None:
            raise Refused(told) from error


def owner_of(data_dir: Path) -> str:
    """The label of all that belongs to this data directory. From its path, so that it can be found when all else is gone."""
    return hashlib.sha256(os.path.realpath(data_dir).encode()).hexdigest()[:12]


def take(data_dir: Path) -> int:
    """Make the data directory and lock it; the lock is held as long as the descriptor is open. Raises Refused.

    The spawner has it too, so that of a supervisor that was killed holds it until it has cleaned up: that is waited for.

    The directory itself is locked: a file in it belongs to the gateway, which is less trusted than this process.
    """
    try:
        data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        fd = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(
            data_dir, "it is not a directory" if isinstance(error, FileExistsError) else str(error.strerror)
        ) from error
    if not os.access(data_dir, os.W_OK):
        os.close(fd)
        read_only = os.statvfs(data_dir).f_flag & os.ST_RDONLY
        raise _unusable(data_dir, "it is on a read-only file system" if read_only else "this user may not write there")
    if not _locked(fd):
        os.close(fd)
        raise Refused(
            f"data_dir: {data_dir} is in use by another `lambent up`. Stop that one, or give this one its own --data-dir."
        )
    return fd


def _unusable(data_dir: Path, reason: str) -> Refused:
    return Refused(f"data_dir: cannot use {data_dir}: {reason}. Another one can be given with --data-dir.")


def _locked(fd: int) -> bool:
    """Lock it; False where somebody else has it for too long."""
    give_up_at_s = SystemClock.monotonic() + LOCK_WITHIN_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if SystemClock.monotonic() >= give_up_at_s:
                return False
            time.sleep(0.02)


def _supervise(settings: Settings, lock: int, *, root: bool, demo: bool) -> int:
    owner = owner_of(settings.data_dir)
    environment = {**os.environ, **settings.environment()}
    notify_path = environment.pop("NOTIFY_SOCKET", None)
    driver = _driver(settings, root=root)
    _allow_many_files()
    python = (sys.executable, "-P", "-m")
    gateway = (*python, "gateway.app", "--owner", owner)
    if root:
        uid, why_not = choose_user(settings)
        prepare(settings.data_dir / STATE, 0o700)
        prepare(settings.data_dir / STATE / CODE, 0o755)
        give(settings.data_dir / STATE, uid)
        prepare(settings.data_dir / VOLUMES, 0o700)
        runs_as = f"user {name_of(uid)}" if why_not is None else f"root without any capability ({why_not})"
        with _Meeting(owner, uid if why_not is None else 0, settings.data_dir) as meeting:
            plans = [
                Plan(
                    name="spawner",
                    command=(
                        *python,
                        f"sandbox.{driver}.spawner",
                        json.dumps(
                            {
                                "listen_fd": meeting.fd,
                                "owner": owner,
                                "code_dir": str(settings.data_dir / STATE / CODE),
                                "volume_dir": str(settings.data_dir / VOLUMES),
                                "run_dir": str(meeting.directory),
                                "uid_base": settings.uid_base + 1,
                                "max_sandboxes": settings.max_sandboxes,
                                "cpu": settings.cpu,
                                "network": settings.network,
                                "network_allow": words(settings.network_allow),
                                "network_range": settings.network_range,
                                "log_level": settings.log_level,
                                "log_format": settings.log_format,
                                "engine": settings.docker_host,
                                "runtime_images": settings.runtime_images,
                                **_ways(settings, driver),
                                "images_max_mb": settings.images_max_mb,
                            }
                        ),
                    ),
                    environment=environment,
                    fds=(meeting.fd, meeting.lock, lock),
                    orphan_signal=signal.SIGTERM,
                    leaves=True,
                ),
                Plan(
                    name="gateway",
                    command=(*gateway, "--spawner", str(meeting.path), "--runs-as", runs_as),
                    environment=environment,
                    uid=uid if why_not is None else None,
                    powerless=why_not is not None,
                    grace_s=settings.drain_s + 10,
                ),
            ]
            return _run(plans, settings, owner, environment, notify_path, demo=demo, root=True)
    prepare(settings.data_dir / STATE, 0o700)
    plans = [Plan(name="gateway", command=gateway, environment=environment, grace_s=settings.drain_s + 10)]
    return _run(plans, settings, owner, environment, notify_path, demo=demo, root=False)


def _ways(settings: Settings, driver: str) -> dict[str, str]:
    """What only the docker driver asks for."""
    names = ("docker_runtime_api", "docker_mounts", "docker_freeze")
    return {name: getattr(settings, name) for name in names} if driver == "docker" else {}


def _driver(settings: Settings, *, root: bool) -> str:
    """Which of the packages below `sandbox` makes sandboxes. Raises Refused."""
    if settings.driver != "docker":
        return "native"
    if not root:
        raise Refused("driver: docker needs root, to enter the containers that the engine makes. Start it with sudo.")
    if importlib.util.find_spec("aiodocker") is None:
        raise Refused("driver: docker needs the package aiodocker: pip install 'lambent[docker]'")
    return "docker"


def _run(
    plans: list[Plan],
    settings: Settings,
    owner: str,
    environment: dict[str, str],
    notify_path: str | None,
    *,
    demo: bool,
    root: bool,
) -> int:
    if demo:
        command = (sys.executable, "-P", "-m", "gateway", "demo")
        plans.append(Plan(name="demo", command=command, environment=environment, once=True))

    def ready(words: dict[str, str]) -> None:
        """From now on the endpoint is known: a gateway that is started again takes the same port, and the demo finds it."""
        endpoint = words["gateway"]
        notify(notify_path, f"READY=1\nSTATUS=Serving at {endpoint}\nX_LAMBENT_ENDPOINT={endpoint}")
        environment[variable("port")] = endpoint.rpartition(":")[2]
        environment[variable("endpoint")] = endpoint

    def ending() -> None:
        notify(notify_path, "STOPPING=1\nSTATUS=Letting what runs finish")

    def sweep() -> Sequence[str]:
        from sandbox.native import leftovers

        return leftovers.sweep(owner)

    supervisor = Supervisor(plans, sweep=sweep if root else lambda: (), say=say, ready=ready, ending=ending)
    exit_code = supervisor.run()
    if root and not supervisor.was_up:
        for fact in in_a_fork(lacking, limit_s=5) or ():
            say(fact, ERROR)
    return exit_code


def lacking() -> list[str]:
    """What this host does not let sandboxes have, and what would change that; it mostly is why nothing came up."""
    from sandbox.native import probe

    return [str(fact) for fact in probe.host() if fact.level is probe.Level.MISSING and not fact.name.startswith("runtime ")]


def choose_user(settings: Settings) -> tuple[int, str | None]:
    """The user id for the gateway, and why it cannot be used, if it cannot: the gateway is then root without capabilities."""
    if settings.user is None:
        try:
            uid = pwd.getpwnam("lambent").pw_uid
        except KeyError:
            uid = settings.uid_base
    elif settings.user.isdigit():
        uid = int(settings.user)
    else:
        try:
            uid = pwd.getpwnam(settings.user).pw_uid
        except KeyError:
            raise SettingError(f"user: there is no user {settings.user!r} on this machine") from None
    if uid == 0:
        return 0, "as --user says"
    barred = in_a_fork(lambda: barred_from(uid, _needed(settings.data_dir)), limit_s=5)
    if barred is None:
        raise Refused(f"cannot find out within 5 s what user {name_of(uid)} may read")
    return (0, f"user {name_of(uid)} cannot read {barred[0]}") if barred else (uid, None)


def _needed(data_dir: Path) -> list[str]:
    """Files and directories that stand for all that the gateway reads."""
    found = [str(data_dir), sys.executable, os.path.realpath(sys.executable), os.path.realpath(os.__file__)]
    for name in _READABLE:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            found.append(spec.origin)
    return found


def barred_from(uid: int, paths: Iterable[str]) -> list[str]:
    """Become `uid` and say which of `paths` it cannot read. For a forked child only: there is no way back."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    return [path for path in paths if not os.access(path, os.R_OK if os.path.isfile(path) else os.X_OK)]


def prepare(directory: Path, mode: int) -> Path:
    """The directory, made if it is missing."""
    try:
        directory.mkdir(mode=mode, exist_ok=True)
    except OSError as error:
        raise Refused(f"data_dir: cannot make {directory}: {error.strerror}") from error
    return directory


def give(directory: Path, uid: int) -> None:
    """Make `directory` and all in it belong to `uid`, where it does not yet: the user may have changed since the last start."""
    if directory.stat().st_uid == uid:
        return
    for _, directories, files, fd in os.fwalk(directory):
        for name in (*directories, *files):
            os.chown(name, uid, uid, dir_fd=fd, follow_symlinks=False)
    os.chown(directory, uid, uid)  # last, so that a walk that was cut short is taken up again


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _allow_many_files() -> None:
    """A sandbox costs a handful of descriptors in the gateway and in the spawner; the usual 1,024 would be its limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 20
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Meeting:
    """The socket on which the spawner awaits the gateway, in a directory that only the gateway's user may enter.

    The supervisor keeps it open, so that a gateway that connects while the spawner is being restarted just waits.

    Its directory is locked too: a data directory can be removed under a Lambent that runs, and then its lock is of no use to who
    makes it anew, and would take the other's sandboxes for leftovers.
    """

    def __init__(self, owner: str, uid: int, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.lock = -1
        self.directory = RUN_DIR / owner
        self._private = self.directory / "gateway"
        self.path = self._private / "spawner.sock"
        self._uid = uid
        self._socket: socket.socket | None = None

    @property
    def fd(self) -> int:
        assert self._socket is not None
        return self._socket.fileno()

    def __enter__(self) -> _Meeting:
        try:
            self.lock = self._taken()
            for directory, mode in ((RUN_DIR, 0o755), (self.directory, 0o711), (self._private, 0o700)):
                directory.mkdir(exist_ok=True)
                directory.chmod(mode)
            self.path.unlink(missing_ok=True)
            os.chown(self._private, self._uid, self._uid)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._socket.bind(str(self.path))
            os.chown(self.path, self._uid, self._uid, follow_symlinks=False)
            self._socket.listen(8)
        except OSError as error:
            raise Refused(f"cannot make {self.path}: {error}") from error
        return self

    def _taken(self) -> int:
        """The directory, locked. Who had it before removes it at the end, so what was locked may be there no more."""
        while True:
            self.directory.mkdir(parents=True, exist_ok=True)
            try:
                fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            if not _locked(fd):
                os.close(fd)
                raise Refused(
                    f"data_dir: another `lambent up` still runs with {self._data_dir}, although that was removed or replaced "
                    "under it. Stop that one first."
                )
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), self.directory.stat()):
                    return fd
            os.close(fd)

    def __exit__(self, *_: object) -> None:
        from sandbox.native import leftovers

        assert self._socket is not None
        self._socket.close()
        for line in leftovers.clear(self.directory):
            say(f"left: {line}")
        os.close(self.lock)


def notify(path: str | None, state: str) -> None:
    """Tell systemd, where it asked for it (Type=notify)."""
    if path is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        try:
            notifier.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
        except OSError as error:
            say(f"cannot notify systemd: {error}")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _interrupt)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
