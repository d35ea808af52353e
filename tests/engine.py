"""A real Docker Engine for tests: Debian's dockerd, started by hand on its own socket and data root, without any network.

Nothing of the machine's own engine is used or touched. The base images are made once by `deploy/images/build` (debootstrap) and
kept between runs in $LAMBENT_CACHE, which is /var/cache/lambent unless told otherwise.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_S = 30.0
NEEDED = {"dockerd": "docker.io", "debootstrap": "debootstrap"}


@functools.cache
def why_no_engine() -> str | None:
    """Why no engine can be started here, or None where one can."""
    if os.geteuid() != 0:
        return "a Docker Engine of the tests' own needs root"
    lacking = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    if lacking:
        return f"no Docker Engine can be started: apt-get install {' '.join(lacking)}"
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        return "no Docker Engine can be started: this kernel has no overlay file system (modprobe overlay)"
    return None


class DockerEngine:
    """`start` it, do to it what happens to engines, `close` it."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="lambent-engine-"))  # short: a socket's path has 108 bytes
        self.socket = self.directory / "docker.sock"
        self.log = self.directory / "log"
        self.data = self.directory / "data"
        self._process: subprocess.Popen[bytes] | None = None

    def _take_cache(self) -> list[int]:
        """Images that were made once stay. The engine's process holds the lock; one beside it has a data root of its own."""
        kept = Path(os.environ.get("LAMBENT_CACHE", "/var/cache/lambent")) / "engine"
        kept.mkdir(parents=True, exist_ok=True)
        lock = os.open(kept, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return []
        self.data = kept / "data"
        return [lock]

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, keep: bool = False) -> None:
        """Returns when it answers; without `keep` the containers that it still has are removed.

        Raises TimeoutError, with the end of its log, when it does not come up.
        """
        locks = self._take_cache()
        # Where nobody reaps orphans the dead containerd of the last start would be taken for a living one.
        (self.directory / "exec/containerd/containerd.pid").unlink(missing_ok=True)
        arguments = {
            "host": self.url,
            "data-root": self.data,
            "exec-root": self.directory / "exec",
            "pidfile": self.directory / "pid",
            "bridge": "none",
            "storage-driver": "overlay2",
        }
        # A test run that is killed takes it along.
        command = ["setpriv", "--pdeathsig", "TERM", "dockerd", *(f"--{key}={value}" for key, value in arguments.items())]
        command += ["--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=locks
            )
        for lock in locks:
            os.close(lock)
        give_up = time.monotonic() + START_S
        while not self.answers():
            if time.monotonic() > give_up or self._process.poll() is not None:
                raise TimeoutError(f"dockerd does not come up: {self.log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.05)
        if not keep and (left := self.docker("ps", "--all", "--quiet").split()):  # of a run that was killed
            self.docker("rm", "--force", "--volumes", *left)

    def answers(self) -> bool:
        with contextlib.suppress(OSError), contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(1)
            connection.connect(str(self.socket))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status == 200
        return False

    def docker(self, *arguments: str, stdin: str | None = None) -> str:
        """The command line client, as a user has it; what it prints. Raises CalledProcessError."""
        environment = {**os.environ, "DOCKER_HOST": self.url, "DOCKER_BUILDKIT": "0", "HOME": str(self.directory)}
        done = subprocess.run(
            ["docker", *arguments], env=environment, input=stdin, capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout.strip()

    def build(self, runtime: str, architecture: str = "x86_64") -> str:
        """The image of a runtime, by the recipe that users have; its name."""
        environment = {**os.environ, "DOCKER_HOST": self.url, "HOME": str(self.directory)}
        done = subprocess.run(
            [str(ROOT / "deploy/images/build"), runtime, architecture],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip()

    def containers(self, label: str = "lambent.owner") -> list[str]:
        return self.docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={label}").split()

    def sandboxes(self, owner: str) -> list[str]:
        """Names of the containers in which one Lambent runs functions, or could."""
        names = self.docker("ps", "--all", "--format", "{{.Names}}", "--filter", f"label=lambent.owner={owner}").split()
        return [name for name in names if "-lobby-" not in name]

    def stop(self) -> None:
        """As an operator stops it: all containers end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """As a crash does: its containers run on. The containerd below it dies with it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def hang(self) -> None:
        """It takes connections, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
                if left := self.docker("ps", "--all", "--quiet").split():
                    self.docker("rm", "--force", "--volumes", *left)
                self.docker("image", "prune", "--force")
        self.stop()
        for command in Path("/proc").glob("[0-9]*/cmdline"):  # shims of a containerd that was killed and did not come again
            with contextlib.suppress(OSError):
                if f"{self.directory}/exec/".encode() in command.read_bytes():
                    os.kill(int(command.parent.name), signal.SIGKILL)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        ours = (f"{self.directory}/", f"{self.data}/")
        for mount in sorted((one for one in mounts if f"{one}/".startswith(ours)), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)
