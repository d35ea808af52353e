"""The supervisor with stub children: real processes and signals, but nothing of gateway or spawner in them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence

import pytest

from gateway.supervisor import delay_s, in_a_fork

pytestmark = pytest.mark.slow

# Says on stderr what happens to it; `how` is what it does. The last two arguments are --status-fd N.
STUB = textwrap.dedent("""
    import os, signal, sys
    name, how, fd = sys.argv[1], sys.argv[2], int(sys.argv[-1])
    def out(line):
        os.write(2, f"{name} {os.getpid()} {line}\\n".encode())
    def end(*_):
        out("told to end")
        if how != "stubborn":
            out("ends")
            os._exit(0)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, lambda *_: out("interrupted"))
    out(f"starts, {signal.getsignal(signal.SIGHUP).name} for SIGHUP, {signal.getsignal(signal.SIGQUIT).name} for SIGQUIT")
    if how == "early":
        os.write(fd, b"failed port 9000 is in use\\n")
        sys.exit(1)
    if how == "mute":
        os.kill(os.getpid(), signal.SIGSEGV)
    os.write(fd, f"ready text of {name}\\n".encode())
    while True:
        signal.pause()
""")

PARENT = textwrap.dedent("""
    import sys
    from gateway.child import Plan
    from gateway.supervisor import Supervisor
    from gateway.voice import say
    stub = sys.argv[1]
    plans = []
    for argument in sys.argv[2:]:
        name, how = argument.split("=")
        command = (sys.executable, "-I", "-S", "-c", stub, name, how)
        if how == "once":
            command = (sys.executable, "-I", "-S", "-c", "import os; os.write(2, b'errand runs\\\\n')")
        plans.append(Plan(name=name, command=command, environment={}, grace_s=0.3, once=how == "once", leaves=name == "spawner"))
    sweep = lambda: (say("sweeping"), ["thing 1"])[1]
    sys.exit(Supervisor(plans, sweep=sweep, say=say, ready=lambda words: say(f"all ready {words}")).run())
""")


class Run:
    """A supervisor with its stubs, seen through the one pipe that is everybody's stderr."""

    def __init__(self, *plans: str, before: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*before, sys.executable, "-c", PARENT, STUB, *plans],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.seen: list[str] = []

    def until(self, wanted: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.seen.append(line.rstrip())
            if wanted in line:
                return line.rstrip()
        raise AssertionError(f"{wanted!r} never came: {self.seen}")

    def pid_of(self, name: str) -> int:
        return int(next(line for line in reversed(self.seen) if line.startswith(f"{name} ")).split()[1])

    def rest(self) -> int:
        """Read until everybody who holds the pipe has ended; the exit code."""
        assert self.process.stderr is not None
        self.seen.extend(line.rstrip() for line in self.process.stderr)
        return self.process.wait()


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*plans: str, before: Sequence[str] = ()) -> Run:
        runs.append(Run(*plans, before=before))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait()
        assert run.process.stderr is not None
        run.process.stderr.close()


def test_starts_all_then_tells_what_they_said(start: Callable[..., Run]) -> None:
    run = start("spawner=well", "gateway=well")
    assert run.until("all ready").endswith("{'spawner': 'text of spawner', 'gateway': 'text of gateway'}")
    assert run.seen[0] == "lambent: sweeping", "leftovers of an earlier run go before anything starts"
    assert run.seen[1] == "lambent: removed what was left by an earlier run: thing 1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ends_the_gateway_before_the_spawner_and_cleans_up(start: Callable[..., Run], number: signal.Signals) -> None:
    run = start("spawner=well", "gateway=well")
    run.until("all ready")
    run.process.send_signal(number)
    assert run.rest() == 0
    said = [line for line in run.seen if "ends" in line or "told" in line or "sweeping" in line]
    assert [line.split()[0] for line in said[1:]] == ["gateway", "gateway", "spawner", "spawner", "lambent:"]


@pytest.mark.parametrize(
    ("number", "before"),
    [(signal.SIGHUP, ("nohup",)), (signal.SIGINT, ("/bin/sh", "-c", 'trap "" INT QUIT; exec "$@"', "sh"))],
)
def test_a_signal_that_is_ignored_where_it_was_started_ends_nothing(
    start: Callable[..., Run], number: signal.Signals, before: Sequence[str]
) -> None:
    run = start("gateway=well", before=before)
    run.until("all ready")
    run.process.send_signal(number)
    os.kill(run.pid_of("gateway"), signal.SIGKILL)  # of two signals the one with the lower number is seen first, if not both
    assert run.until("starting it again")
    assert run.until("gateway").endswith("SIG_DFL for SIGHUP, SIG_DFL for SIGQUIT"), "functions inherit it"
    assert not any("told to end" in line for line in run.seen)
    run.process.terminate()
    assert run.rest() == 0


def test_ctrl_c_in_the_terminal_reaches_the_supervisor_alone(start: Callable[..., Run]) -> None:
    run = start("gateway=well")
    run.until("all ready")
    os.kill(run.process.pid, signal.SIGINT)
    run.rest()
    assert not any("interrupted" in line for line in run.seen)
    assert os.getpgid(0) != run.pid_of("gateway")


def test_a_child_that_is_killed_is_started_again(start: Callable[..., Run]) -> None:
    run = start("spawner=well", "gateway=well")
    run.until("all ready")
    first = run.pid_of("gateway")
    os.kill(first, signal.SIGKILL)
    assert run.until("starting it again") == "lambent: gateway was killed by SIGKILL; starting it again in 0.1 s"
    run.until("gateway")
    assert run.pid_of("gateway") != first
    assert "lambent: sweeping" not in run.seen[2:], "the spawner still serves: nothing is swept away under it"
    run.process.terminate()
    assert run.rest() == 0


def test_what_a_dead_spawner_left_is_removed_before_the_next_starts(start: Callable[..., Run]) -> None:
    run = start("spawner=well", "gateway=well")
    run.until("all ready")
    os.kill(run.pid_of("spawner"), signal.SIGKILL)
    run.until("sweeping")
    assert run.until("removed what was left by the spawner")
    assert "starts" in run.until("spawner")


def test_back_off_grows_with_each_failure(start: Callable[..., Run]) -> None:
    run = start("gateway=well")
    run.until("all ready")
    for wait in ("0.1", "0.2", "0.4"):
        os.kill(run.pid_of("gateway"), signal.SIGKILL)
        assert run.until("starting it again").endswith(f"in {wait} s")
        run.until("gateway")


def test_back_off_has_a_ceiling() -> None:
    assert [delay_s(n) for n in (1, 2, 7, 8, 1000)] == [0.1, 0.2, 6.4, 10.0, 10.0]


def test_early_failure_ends_everything_with_its_reason(start: Callable[..., Run]) -> None:
    run = start("spawner=well", "gateway=early")
    assert run.rest() == 1
    assert "lambent: port 9000 is in use" in run.seen
    assert not any("again" in line for line in run.seen)
    assert any(line.startswith("spawner") and line.endswith("ends") for line in run.seen) or not any(
        line.startswith("spawner") for line in run.seen
    ), "the other one was ended, too, unless it had not come to life yet"


def test_early_death_without_a_word_is_told(start: Callable[..., Run]) -> None:
    run = start("gateway=mute")
    assert run.rest() == 1
    assert "lambent: gateway was killed by SIGSEGV before it was ready" in run.seen


def test_a_child_that_does_not_end_is_killed_and_that_is_a_failure(start: Callable[..., Run]) -> None:
    run = start("spawner=well", "gateway=stubborn")
    run.until("all ready")
    run.process.terminate()
    assert run.rest() == 1
    assert "lambent: gateway did not end within 0.3 s and is killed" in run.seen
    assert any(line.startswith("spawner") and line.endswith("ends") for line in run.seen)


def test_second_signal_reaches_the_child_that_drains(start: Callable[..., Run]) -> None:
    run = start("gateway=stubborn")
    run.until("all ready")
    run.process.terminate()
    run.until("told to end")
    run.process.terminate()
    run.until("told to end")
    assert run.rest() == 1


def test_children_die_with_a_supervisor_that_is_killed(start: Callable[..., Run]) -> None:
    run = start("spawner=well", "gateway=stubborn")
    run.until("all ready")
    run.process.kill()
    run.rest()  # returns only when nobody holds the pipe any more


def test_errand_runs_once_when_all_are_ready(start: Callable[..., Run]) -> None:
    run = start("gateway=well", "errand=once")
    run.until("errand runs")
    assert any("all ready" in line for line in run.seen)
    run.process.terminate()
    assert run.rest() == 0
    assert run.seen.count("errand runs") == 1


def test_fork_gives_back_lines() -> None:
    assert in_a_fork(lambda: ["a", "b\nc"], 5) == ["a", "b c"]
    assert in_a_fork(list, 5) == []


def test_fork_tells_what_was_raised() -> None:
    def broken() -> list[str]:
        raise OSError(5, "no such luck")

    assert in_a_fork(broken, 5) == ["OSError: [Errno 5] no such luck"]


def test_fork_that_hangs_is_killed() -> None:
    def hang() -> list[str]:
        while True:
            signal.pause()

    assert in_a_fork(hang, 0.05) is None


def test_supervisor_imports_little() -> None:
    """It is root and lives as long as the machine does: no event loop and no command line library in it."""
    heavy = ("asyncio", "click", "rich", "aiohttp", "uvloop", "botocore")
    code = f"import gateway.up, sys; print(*(module for module in {heavy} if module in sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.strip() == ""
