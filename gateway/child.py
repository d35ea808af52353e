"""A process that the supervisor starts, watches and ends.

A child gets ``--status-fd N``, the write end of a pipe, and says on it one line: ``ready TEXT`` when it can serve, or ``failed
REASON`` when it cannot, for the user's eyes. It is in a process group of its own, so that Ctrl-C in the terminal reaches the
supervisor alone, which then ends everything in order. What nohup and shells have a supervisor in the background ignore (SIGHUP,
SIGINT, SIGQUIT) does to it what it does to any process, because the functions inherit that. It dies with the supervisor, however
that dies (PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
from collections.abc import Callable, Mapping

_PR_SET_SECUREBITS = 28
_SECBITS_NO_ROOT = 0b1111  # NOROOT and NO_SETUID_FIXUP, both locked: user id 0 gives no capability, now or by exec


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to start one child, and how to end it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    fds: tuple[int, ...] = ()  #: passed under the same numbers
    uid: int | None = None  #: user and group to become
    powerless: bool = False  #: stay this user, but without any capability for good
    orphan_signal: signal.Signals = signal.SIGKILL  #: what it gets when the supervisor dies
    grace_s: float = 10.0  #: from SIGTERM to SIGKILL
    once: bool = False  #: started when all others are ready; not restarted
    leaves: bool = False  #: its death leaves things behind that must be swept up


class Child:
    """A running process. `status` is what it said of itself so far, None before it said anything."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.status: str | None = None
        self._heard = b""
        self.status_fd, theirs = os.pipe()
        os.set_blocking(self.status_fd, False)
        try:
            self._process = subprocess.Popen(
                plan.command if plan.once else [*plan.command, "--status-fd", str(theirs)],
                env=dict(plan.environment),
                stdin=subprocess.DEVNULL,
                pass_fds=(*plan.fds, theirs),
                user=plan.uid,
                group=plan.uid,
                extra_groups=[] if plan.uid is not None else None,
                process_group=0,
                preexec_fn=_last_steps(plan, os.getpid()),
            )
        except BaseException:
            os.close(self.status_fd)
            raise
        finally:
            os.close(theirs)

    def __repr__(self) -> str:
        return f"<{self.plan.name} pid {self._process.pid} {self.status or 'starting'}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    def listen(self) -> bool:
        """Read what it says now; False when it will say no more. A process of its own may hold the pipe open after its end."""
        more = True
        with contextlib.suppress(BlockingIOError):
            while more:
                data = os.read(self.status_fd, 4096)
                self._heard += data
                more = bool(data)
        if self.status is None and (b"\n" in self._heard or not more):
            self.status = self._heard.partition(b"\n")[0].decode(errors="replace").strip() or None
        return more

    def ended(self) -> str | None:
        """How it ended, in words, or None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit status {code}"

    @property
    def succeeded(self) -> bool:
        return self._process.returncode == 0

    def kill(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def close(self) -> None:
        os.close(self.status_fd)


def _last_steps(plan: Plan, parent: int) -> Callable[[], None]:
    """What the new process does between becoming its user and exec: the supervisor has no threads, so Python may run here."""

    def heed_signals() -> None:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)

    try:
        from sandbox.guest import syscalls
    except (ImportError, OSError):  # no Linux, or an instruction set that only the native driver would mind
        return heed_signals

    def last_steps() -> None:
        heed_signals()
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, plan.orphan_signal)
        if os.getppid() != parent:
            os._exit(1)
        if plan.powerless or plan.uid is not None:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        if plan.powerless:
            syscalls.drop_bounding_set()
            syscalls.prctl(_PR_SET_SECUREBITS, _SECBITS_NO_ROOT)
            syscalls.set_capabilities(())

    return last_steps
