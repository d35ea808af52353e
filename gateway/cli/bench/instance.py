"""A Lambent of one's own, for as long as a measurement (or a test session) takes."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.cli.api import Api
from gateway.clock import SystemClock
from gateway.settings import PREFIX, variable

READY_WITHIN_S = 60.0


class NotReady(Exception):
    """It ended or said nothing in time; the message holds what it wrote."""


class Instance:
    """`lambent up` with `settings`, from the start until `close`. What it writes goes to the file `log`.

    It tells that it is ready as it would tell systemd, so nothing is polled; `notified` is where. `wrapper` is a command that
    ends by becoming the one given to it, as env does. Raises NotReady.
    """

    def __init__(self, data_dir: Path, settings: Mapping[str, object], wrapper: Sequence[str] = ()) -> None:
        self.data_dir = data_dir
        self._own = tempfile.TemporaryDirectory(prefix="lambent-up-")
        self.log = Path(self._own.name) / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment.update({variable(name): str(value) for name, value in {"port": 0, **settings}.items()})
        environment["LAMBENT_DATA_DIR"] = str(data_dir)
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(os.path.join(self._own.name, "notify"))
        environment["NOTIFY_SOCKET"] = os.path.join(self._own.name, "notify")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*wrapper, sys.executable, "-P", "-m", "gateway.up"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                self.endpoint = self._endpoint(self.notified)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def api(self) -> Api:
        """A new connection to it."""
        return Api(self.endpoint)

    def status(self) -> Any:
        api = self.api
        try:
            return api.call("GET", "/_lambent/status").json()
        finally:
            api.close()

    @property
    def gateway_pid(self) -> int:
        """The process that answers requests; another one after it was restarted."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        [pid] = [int(pid) for pid in children if b"gateway.app" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return pid

    @property
    def gateway_clock(self) -> int:
        """The clock of that process's processor time, all its threads', for `time.clock_gettime`: see clock_getcpuclockid(3)."""
        return (~self.gateway_pid << 3) | 2

    def close(self) -> int:
        """Stop it as an operator would, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait()
        self.notified.close()
        self._own.cleanup()
        return code

    def _endpoint(self, notified: socket.socket) -> str:
        clock = SystemClock()
        deadline_s = clock.monotonic() + READY_WITHIN_S
        pidfd = os.pidfd_open(self.process.pid)
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(notified, selectors.EVENT_READ)
                selector.register(pidfd, selectors.EVENT_READ)
                while (left_s := deadline_s - clock.monotonic()) > 0:
                    ready = {key.fileobj for key, _ in selector.select(left_s)}
                    if notified in ready:
                        told = dict(line.partition("=")[::2] for line in notified.recv(4096).decode().splitlines())
                        if told.get("READY") == "1":
                            return told["X_LAMBENT_ENDPOINT"]
                    elif pidfd in ready:
                        break
        finally:
            os.close(pidfd)
        raise NotReady(f"`lambent up` did not get ready:\n{self.log.read_text(errors='replace')}")
