"""`lambent up`: starts gateway and spawner, restarts what dies, cleans up after both, and ends them in order.

It is root where the rest is not, and it is what is left when the rest has crashed, so it does as little as it can: one
thread, no event loop, no library, a `poll` over its own signals and the children's status pipes, and it reads no request.
What could hang (removing what a dead spawner left) runs in a forked child with a time limit.

    starting ── every child ready ──► running ── SIGTERM, SIGINT, SIGHUP ──► ending ──► exit 0
       └─────── one fails first ────────────────── exit 1 with its reason ──────┘

A child that fails before `up` was ever ready ends `up`: its reason (port in use, no capability) would come again. Later a
child that dies is started again, after 0.1 s and then twice as long each time up to 10 s; after a minute of life the count is
forgotten. Children end in the opposite order of their start: the gateway drains while the spawner still serves it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterator, Sequence

from gateway.child import Child, Plan
from gateway.clock import Clock, SystemClock
from gateway.voice import ERROR, INFO, Say

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 10.0
FORGIVEN_AFTER_S = 60.0
SWEEP_LIMIT_S = 30.0
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_MAY_BE_IGNORED = (signal.SIGINT, signal.SIGHUP)  # who was started by nohup, or by a script in the background, is not meant


def delay_s(failures: int) -> float:
    """How long to wait before the start after that many failures in a row."""
    return float(min(FIRST_DELAY_S * 2 ** min(failures - 1, 20), LONGEST_DELAY_S))


class Keeper:
    """Keeps one child alive: what there is to know about it between two of its lives."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.child: Child | None = None
        self.ready = False  #: in this life
        self.was_ready = False  #: in any life
        self.failures = 0
        self.started_s = 0.0
        self.start_at_s: float | None = None
        self.kill_at_s: float | None = None

    def deadline(self) -> float | None:
        return self.kill_at_s if self.child is not None else self.start_at_s


class Supervisor:
    """Runs `plans` until told to stop.

    `sweep` removes what a dead spawner left and returns what it found; it runs in forked children. `say` takes a line
    for the user. `ready` is called once, when all children are, with the text that each gave with its ``ready``, by name;
    `ending` once, when they are about to be ended.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        *,
        sweep: Callable[[], Sequence[str]],
        say: Say,
        ready: Callable[[dict[str, str]], None] = lambda _: None,
        ending: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        self._keepers = [Keeper(plan) for plan in plans]
        self._sweep = sweep
        self._say = say
        self._ready = ready
        self._tell_ending = ending
        self._clock = clock or SystemClock()
        self._poll = select.poll()
        self._ending = False
        self.was_up = False  #: all children were ready at the same time, once at least
        self._exit_code = 0

    def run(self) -> int:
        """Blocks until everything has ended; the process's exit code."""
        with _signals() as signals:
            self._poll.register(signals, select.POLLIN)
            self._clean_up("left by an earlier run")
            for keeper in self._keepers:
                if not keeper.plan.once:
                    self._start(keeper)
            while not (self._ending and all(keeper.child is None for keeper in self._keepers)):
                for fd, _ in self._poll.poll(self._patience_ms()):
                    if fd == signals:
                        self._heed(os.read(signals, 512))
                    else:
                        self._hear(fd)
                self._bury()
                self._keep_time()
            self._clean_up("left by the spawner")
        return self._exit_code

    def _patience_ms(self) -> int | None:
        deadlines = [deadline for keeper in self._keepers if (deadline := keeper.deadline()) is not None]
        if not deadlines:
            return None
        return max(0, int((min(deadlines) - self._clock.monotonic()) * 1000) + 1)

    def _start(self, keeper: Keeper) -> None:
        keeper.start_at_s = None
        keeper.ready = False
        keeper.started_s = self._clock.monotonic()
        try:
            keeper.child = Child(keeper.plan)
        except OSError as error:
            self._died(keeper, f"cannot be started: {error}", None)
            return
        self._poll.register(keeper.child.status_fd, select.POLLIN)

    def _heed(self, received: bytes) -> None:
        """Signals to us. Every one that ends is passed on, so that a second Ctrl-C makes the gateway stop draining."""
        if any(number in received for number in _ENDING):
            if self._ending:
                for keeper in self._keepers:
                    if keeper.child is not None and keeper.kill_at_s is not None:
                        keeper.child.kill(signal.SIGTERM)
            self._end(0)

    def _hear(self, fd: int) -> None:
        keeper = next(k for k in self._keepers if k.child is not None and k.child.status_fd == fd)
        child = keeper.child
        assert child is not None
        if not child.listen():
            self._poll.unregister(fd)
        if not keeper.ready and child.status is not None and child.status.startswith("ready"):
            keeper.ready = keeper.was_ready = True
            self._announce()

    def _announce(self) -> None:
        lasting = [keeper for keeper in self._keepers if not keeper.plan.once]
        if self.was_up or self._ending or not all(keeper.ready for keeper in lasting):
            return
        self.was_up = True
        words = {k.plan.name: (k.child.status or "").removeprefix("ready").strip() for k in lasting if k.child is not None}
        self._ready(words)
        for keeper in self._keepers:
            if keeper.plan.once:
                self._start(keeper)

    def _bury(self) -> None:
        for keeper in self._keepers:
            if keeper.child is not None and (how := keeper.child.ended()) is not None:
                child, keeper.child = keeper.child, None
                child.listen()
                with contextlib.suppress(KeyError):
                    self._poll.unregister(child.status_fd)
                child.close()
                keeper.kill_at_s = None
                self._died(keeper, how, child)
                if self._ending:
                    self._end(self._exit_code)

    def _died(self, keeper: Keeper, how: str, child: Child | None) -> None:
        name = keeper.plan.name
        reason = ""
        if child is not None and child.status is not None and child.status.startswith("failed"):
            reason = child.status.removeprefix("failed").strip()
        if self._ending:
            if keeper.ready and child is not None and not child.succeeded:
                self._say(f"{name} {how} instead of ending properly")
                self._exit_code = self._exit_code or 1
            return
        if keeper.plan.once:
            if child is None or not child.succeeded:
                self._say(f"{name} {how}{': ' + reason if reason else ''}")
            return
        if not self.was_up:
            self._say(reason or f"{name} {how} before it was ready", ERROR)
            self._end(1)
            return
        now = self._clock.monotonic()
        if now - keeper.started_s >= FORGIVEN_AFTER_S:
            keeper.failures = 0
        keeper.failures += 1
        wait_s = delay_s(keeper.failures)
        keeper.start_at_s = now + wait_s
        self._say(f"{name} {how}{': ' + reason if reason else ''}; starting it again in {wait_s:g} s")
        if keeper.plan.leaves:
            self._clean_up(f"left by the {name}")

    def _end(self, exit_code: int) -> None:
        """Tell the last child that still runs to end; called again whenever one has ended."""
        if not self._ending:
            self._ending = True
            self._exit_code = exit_code
            self._tell_ending()
        for keeper in self._keepers:
            keeper.start_at_s = None
        for keeper in reversed(self._keepers):
            if keeper.child is not None:
                if keeper.kill_at_s is None:
                    keeper.kill_at_s = self._clock.monotonic() + keeper.plan.grace_s
                    keeper.child.kill(signal.SIGTERM)
                return

    def _keep_time(self) -> None:
        now = self._clock.monotonic()
        for keeper in self._keepers:
            if keeper.child is not None and keeper.kill_at_s is not None and now >= keeper.kill_at_s:
                self._say(f"{keeper.plan.name} did not end within {keeper.plan.grace_s:g} s and is killed")
                keeper.kill_at_s = now + keeper.plan.grace_s
                keeper.child.kill(signal.SIGKILL)
            elif keeper.child is None and keeper.start_at_s is not None and now >= keeper.start_at_s:
                self._start(keeper)

    def _clean_up(self, whose: str) -> None:
        found = in_a_fork(self._sweep, SWEEP_LIMIT_S)
        if found is None:
            self._say(f"cleaning up what was {whose} did not end within {SWEEP_LIMIT_S:g} s")
        elif found:
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            self._say(f"removed what was {whose}: {', '.join(found[:5])}{more}", INFO)


def in_a_fork(work: Callable[[], Sequence[str]], limit_s: float) -> list[str] | None:
    """The lines that `work` returns, run in a forked child; None when it took longer than `limit_s` and was killed.

    What it raises comes back as a line. Only for a process without threads.
    """
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            lines: Sequence[str]
            try:
                lines = work()
            except Exception as error:
                lines = [f"{type(error).__name__}: {error}"]
            data = "\n".join(line.replace("\n", " ") for line in lines).encode()
            while data:
                data = data[os.write(theirs, data) :]
        finally:
            os._exit(0)
    os.close(theirs)
    heard = b""
    clock = SystemClock()
    give_up_at_s = clock.monotonic() + limit_s
    poll = select.poll()
    poll.register(ours, select.POLLIN)
    finished = False
    while not finished and (left_s := give_up_at_s - clock.monotonic()) > 0:
        if poll.poll(int(left_s * 1000) + 1):
            data = os.read(ours, 65536)
            heard += data
            finished = not data
    os.close(ours)
    if not finished:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return heard.decode(errors="replace").splitlines() if finished else None


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """A descriptor from which the numbers of the signals can be read that end us or tell of a child's end."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    os.set_blocking(theirs, False)
    ignored = [number for number in _MAY_BE_IGNORED if signal.getsignal(number) is signal.SIG_IGN]
    heard = [number for number in (*_ENDING, signal.SIGCHLD) if number not in ignored]
    before = {number: signal.signal(number, lambda *_: None) for number in heard}
    old = signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(ours)
        os.close(theirs)
