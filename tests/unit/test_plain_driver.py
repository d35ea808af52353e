"""Plain processes: the driver's contract with real functions, as any user may run them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.clock import SystemClock
from sandbox.driver import ExitStatus
from sandbox.environment import compose
from sandbox.errors import DriverUnavailable, RuntimeUnavailable, SandboxGone
from sandbox.native import interpreters, processes
from sandbox.native.plain import HOST_ARCHITECTURE, PlainDriver, PlainHandle
from sandbox.outcome import Outcome, Status
from sandbox.sandbox import Sandbox
from sandbox.spec import Architecture, FunctionSpec, StemKey
from sandbox.testing import PlainLog
from tests.sandboxes import SPEC, User, work

RUNTIME = f"python3.{sys.version_info.minor}"
ARCHITECTURE = HOST_ARCHITECTURE or Architecture.X86_64
KEY = StemKey(RUNTIME, ARCHITECTURE)
ECHO = "def handler(event, context):\n    return event\n"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")]


@dataclasses.dataclass
class Bench:
    """A driver, and functions for it."""

    driver: PlainDriver
    directory: Path

    def spec(self, files: str | dict[str, str], **changes: Any) -> FunctionSpec:
        code = self.directory / f"code{len(list(self.directory.iterdir()))}"
        for name, text in ({"app.py": files} if isinstance(files, str) else files).items():
            path = code / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
            path.chmod(0o755 if name == "bootstrap" else 0o644)
        usual: dict[str, Any] = {"runtime": RUNTIME, "architecture": ARCHITECTURE, "code_path": str(code), "timeout_s": 10}
        return dataclasses.replace(SPEC, **{**usual, **changes})

    @contextlib.asynccontextmanager
    async def opened(self, files: str | dict[str, str], **changes: Any) -> AsyncIterator[User]:
        spec = self.spec(files, **changes)
        sandbox = await Sandbox.open(await self.driver.create(spec.stem), spec.stem, clock=SystemClock())
        user = User(sandbox)
        try:
            await sandbox.init(spec, PlainLog(user.write_log))
            yield user
        finally:
            await sandbox.stop()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Nothing of what was made may be left: no process, no directory."""
    before = below_us()
    (tmp_path / "sandboxes").mkdir()
    (tmp_path / "code").mkdir()
    driver = PlainDriver(directory=tmp_path / "sandboxes")
    await driver.start()
    try:
        yield Bench(driver, tmp_path / "code")
    finally:
        await driver.close()
        await asyncio.get_running_loop().shutdown_default_executor()
    assert not list((tmp_path / "sandboxes").iterdir())
    assert below_us() <= before


def below_us() -> set[int]:
    """Every process that this one started, but for the session's own Lambent, whose sandboxes come and go."""
    found: set[int] = set()
    for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        if b"gateway.up" not in Path(f"/proc/{child}/cmdline").read_bytes():
            found.update((int(child), *processes.descendants(int(child))))
    return found


def answer(outcome: Outcome) -> Any:
    return json.loads(outcome.payload)


async def until(condition: Callable[[], bool]) -> None:
    """Processes have no news for who is not their parent, so this looks again and again."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def look() -> None:
        if condition():
            done.set()
        else:
            loop.call_later(0.005, look)

    look()
    await asyncio.wait_for(done.wait(), 5)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("found", interpreters.find_interpreters(), ids=lambda found: found.runtime)
async def test_a_function_on_every_interpreter(bench: Bench, found: interpreters.Interpreter) -> None:
    source = """
    import os, sys
    print("at Init")

    def handler(event, context):
        print("called", event)
        return [list(sys.version_info[:2]), os.getcwd(), sys.path[0], os.environ["LAMBDA_TASK_ROOT"], context.function_name]
    """
    async with bench.opened(source, runtime=found.runtime) as user:
        outcome = await user.run(b"1")
        code = user.sandbox.spec.code_path if user.sandbox.spec else ""
        assert answer(outcome) == [list(found.version[:2]), code, code, code, "hello"]
        assert outcome.status is Status.SUCCESS
        assert outcome.max_memory_bytes > 5 << 20
        assert user.log == b"at Init\ncalled 1\n"
        assert answer(await user.run(b"2"))
    assert os.listdir(code) == ["app.py"]


async def test_a_program_of_the_functions_own(bench: Bench) -> None:
    start = f"""\
    #!/bin/sh
    export IGNORED=$(sed -n 's/SigIgn://p' /proc/$$/status)
    exec {sys.executable} program.py
    """
    program = """
    import json, os, urllib.request
    base = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/invocation/"
    while True:
        event = urllib.request.urlopen(base + "next")
        url = base + event.headers["Lambda-Runtime-Aws-Request-Id"] + "/response"
        body = json.dumps([json.load(event), os.environ["_HANDLER"], os.getcwd(), int(os.environ["IGNORED"], 16)]).encode()
        urllib.request.urlopen(urllib.request.Request(url, body))
    """
    async with bench.opened({"bootstrap": start, "program.py": program}, runtime="provided.al2023") as user:
        assert user.sandbox.spec is not None
        # No signal is ignored, though an interpreter, which ignores SIGPIPE, has started it.
        assert answer(await user.run(b"5")) == [5, "app.handler", user.sandbox.spec.code_path, 0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"other": ""}, "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"),
        ({"bootstrap": "#!/nonexistent\n"}, "fork/exec /var/task/bootstrap: no such file or directory"),
        ({"bootstrap": "nothing that runs"}, "fork/exec /var/task/bootstrap: exec format error"),
    ],
)
async def test_a_program_that_cannot_be_started(bench: Bench, files: dict[str, str], message: str) -> None:
    async with bench.opened(files, runtime="provided.al2023") as user:
        outcome = await user.run()
        assert answer(outcome)["errorType"] == "Runtime.InvalidEntrypoint"
        assert message in answer(outcome)["errorMessage"]


async def test_what_a_fork_would_come_too_late_for(bench: Bench) -> None:
    """Variables that an interpreter reads at its start, modules of its own, a wrapper: each gets a fresh interpreter."""
    source = """
    import os, sys, uuid
    def handler(event, context):
        return [os.environ.get("PYTHONHASHSEED"), sys.flags.hash_randomization, uuid.__file__, os.environ.get("WRAPPED")]
    """
    wrapper = '#!/bin/sh\nexport WRAPPED=yes\nexec "$@"\n'
    async with bench.opened(source, environment={"PYTHONHASHSEED": "0"}) as user:
        assert answer(await user.run())[:2] == ["0", 0]
    async with bench.opened({"app.py": source, "uuid.py": ""}) as user:
        assert user.sandbox.spec is not None
        assert answer(await user.run())[2] == user.sandbox.spec.code_path + "/uuid.py"
    environment = {"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/bootstrap"}
    async with bench.opened({"app.py": source, "bootstrap": wrapper}, environment=environment) as user:
        assert answer(await user.run())[3] == "yes"
    async with bench.opened(source, environment={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/absent"}) as user:
        assert answer(await user.run())["errorMessage"].endswith("Error: Runtime exited with error: exit status 127")


async def test_the_environment_names_what_there_is(bench: Bench) -> None:
    source = """
    import os, resource, tempfile
    def handler(event, context):
        limits = [resource.getrlimit(name)[0] for name in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)]
        with tempfile.NamedTemporaryFile() as file:
            return [dict(os.environ), limits, file.name, os.getsid(0) == os.getpid(), os.listdir("/proc/self/fd")]
    """
    async with bench.opened(source, environment={"PATH": "/own", "A": "é"}, tmp_mb=600) as user:
        environ, limits, temporary, leads, fds = answer(await user.run())
    assert (environ["PATH"], environ["A"]) == ("/own", "é")
    assert environ["TMPDIR"] == environ["HOME"] == str(Path(temporary).parent)
    assert "/var/task" not in " ".join(environ.values())
    assert limits == [1024, 0, 600 << 20]
    assert leads
    assert len(fds) <= 6  # the streams, the connection, and what looks: the temporary file and the directory
    assert not Path(temporary).parent.exists()


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("os._exit(7)", ExitStatus(code=7)),
        ("os.kill(os.getpid(), 15)", ExitStatus(signal=15)),
        ("os.abort()", ExitStatus(signal=6)),
    ],
)
async def test_an_end_is_reported_once_after_all_that_was_written(bench: Bench, ending: str, status: ExitStatus) -> None:
    handle = await bench.driver.create(KEY)
    ends: list[tuple[ExitStatus, bytes]] = []
    handle.on_exit = lambda status: ends.append((status, os.read(handle.log_fd, 1000)))
    for _ in range(2):
        spec = bench.spec(f"import os; print('last words', end=''); {ending}")
        await handle.specialise(spec, compose(spec, handle.runtime_api))
        await until(lambda: bool(ends))
        assert ends == [(status, b"last words")]
        ends.clear()
        handle.freeze()
        handle.thaw()
        await handle.reset()
    assert not ends
    await handle.stop()


async def test_a_frozen_function_does_not_run(bench: Bench) -> None:
    source = """
    import threading, time
    count = 0

    def run():
        global count
        while True:
            count += 1
            time.sleep(0.001)

    threading.Thread(target=run, daemon=True).start()

    def handler(event, context):
        return count
    """
    async with bench.opened(source) as user:
        first = answer(await user.run())
        user.sandbox.freeze()
        user.sandbox.freeze()
        handle: Any = user.sandbox._handle
        (runtime,) = processes.descendants(handle._process.pid)
        await until(lambda: Path(f"/proc/{runtime}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        assert answer(await user.run()) >= first
        user.sandbox.freeze()


async def test_reset_kills_everything_and_the_function_begins_again(bench: Bench) -> None:
    source = """
    import os, pathlib, subprocess, time
    daemon = "import os, time; os.setsid(); os.fork() and os._exit(0); print(os.getpid(), flush=True); time.sleep(1000)"
    path = pathlib.Path(os.environ["TMPDIR"], "pids")

    def handler(event, context):
        if event == "hang":
            child = subprocess.Popen(["sleep", "1000"])
            import sys
            out = subprocess.Popen([sys.executable, "-S", "-c", daemon], stdout=subprocess.PIPE).stdout.readline()
            path.write_text(f"{os.getpid()} {child.pid} {int(out)}")
            time.sleep(1000)
        return path.read_text()
    """
    async with bench.opened(source) as user:
        outcome = await user.run(b'"hang"', timeout_s=1.0)
        assert answer(outcome)["errorType"] == "Sandbox.Timedout"
        pids = [int(pid) for pid in answer(await user.run(b'"look"')).split()]
        assert len(set(pids)) == 3
        assert not any(map(alive, pids))


async def test_stop_leaves_no_daemon(bench: Bench) -> None:
    source = """
    import os, time

    def handler(event, context):
        read, write = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(write, b"%d" % os.getpid())
                time.sleep(1000)
            os._exit(0)
        os.wait()
        return int(os.read(read, 20))
    """
    async with bench.opened(source) as user:
        daemon = answer(await user.run())
        assert alive(daemon)
        user.sandbox.freeze()
    assert not alive(daemon)


async def test_memory_is_the_sum_of_all_processes_and_limited(bench: Bench) -> None:
    source = """
    import os, time
    kept = []

    def handler(event, context):
        kept.append(bytearray(event << 20))
        if event > 100:
            time.sleep(1000)
    """
    async with bench.opened(source, memory_mb=100) as user:
        small = user.sandbox.memory_bytes()
        assert 5 << 20 < small < 60 << 20
        assert (await user.run(b"30")).max_memory_bytes > small + (28 << 20)
        assert user.sandbox.memory_bytes() > small + (28 << 20)
        outcome = await user.run(b"120")
        assert answer(outcome)["errorType"] == "Runtime.ExitError"
        assert answer(outcome)["errorMessage"].endswith("signal: killed")
        assert outcome.max_memory_bytes > 100 << 20
        assert answer(await user.run(b"1")) is None
    assert user.sandbox.memory_bytes() == 0


async def test_one_file_cannot_exceed_tmp(bench: Bench) -> None:
    source = """
    import os

    def handler(event, context):
        with open(os.environ["TMPDIR"] + "/file", "wb") as file:
            file.truncate(event)
    """
    async with bench.opened(source, tmp_mb=1) as user:
        assert (await user.run(b"1048576")).status is Status.SUCCESS
        assert answer(await user.run(b"1048577"))["errorType"] == "OSError"


async def test_a_function_that_kills_its_keeper_is_gone(bench: Bench) -> None:
    source = """
    import os, time

    def handler(event, context):
        if event == "kill":
            os.kill(os.getppid(), 9)
            time.sleep(1000)
        return os.getpid()
    """
    async with bench.opened(source) as user:
        pid = answer(await user.run())
        outcome = await user.begin(work(b'"kill"'))
        assert outcome.status is Status.FAILURE
        await until(lambda: user.news[-1] == "gone: its keeper ended")
        await until(lambda: not alive(pid))


async def test_handles_after_their_end(bench: Bench) -> None:
    handle = await bench.driver.create(KEY)
    spec = bench.spec(ECHO)
    await asyncio.gather(handle.stop(), handle.stop())
    await handle.stop()
    handle.freeze()
    handle.thaw()
    assert handle.memory_bytes() == handle.memory_peak_bytes() == 0
    assert repr(handle) == f"<PlainHandle {handle.id} {RUNTIME} stopped>"
    with pytest.raises(SandboxGone):
        await handle.specialise(spec, {})
    with pytest.raises(SandboxGone):
        await handle.reset()


async def test_cancelled_at_any_step_nothing_is_left(bench: Bench) -> None:
    for steps in range(0, 12, 2):
        task = asyncio.get_running_loop().create_task(bench.driver.create(KEY))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await task).stop()
        assert repr(bench.driver) == "<PlainDriver 0 sandboxes>"


async def test_stopped_while_it_is_told_to_begin(bench: Bench) -> None:
    handle = await bench.driver.create(KEY)
    spec = bench.spec(ECHO)
    task = asyncio.get_running_loop().create_task(handle.specialise(spec, compose(spec, handle.runtime_api)))
    await asyncio.sleep(0)
    await handle.stop()
    with pytest.raises(SandboxGone):
        await task


async def test_close_stops_what_is_left_and_refuses_more(bench: Bench) -> None:
    handles: list[PlainHandle] = list(await asyncio.gather(*(bench.driver.create(KEY) for _ in range(4))))
    assert len({handle.id for handle in handles}) == len({handle.runtime_api for handle in handles}) == 4
    making = asyncio.get_running_loop().create_task(bench.driver.create(KEY))
    await asyncio.sleep(0)
    await bench.driver.close()
    with pytest.raises(DriverUnavailable):
        await making
    with pytest.raises(DriverUnavailable):
        await bench.driver.create(KEY)
    assert all("stopped" in repr(handle) for handle in handles)


async def test_what_this_host_does_not_have_is_refused(bench: Bench) -> None:
    other = Architecture.ARM64 if ARCHITECTURE is Architecture.X86_64 else Architecture.X86_64
    for key in (StemKey("nodejs22.x", ARCHITECTURE), StemKey(RUNTIME, other)):
        assert not bench.driver.support(key).available
        with pytest.raises(RuntimeUnavailable):
            await bench.driver.create(key)
    assert bench.driver.support(KEY).available
    assert "every right of user" in bench.driver.isolation


async def test_an_interpreter_that_does_not_come_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = dataclasses.replace(bench.driver.interpreter(RUNTIME), executable=Path("/bin/false"))
    monkeypatch.setitem(bench.driver._serving, RUNTIME, broken)
    with pytest.raises(DriverUnavailable, match="its keeper ended"):
        await bench.driver.create(KEY)
    monkeypatch.setitem(bench.driver._serving, RUNTIME, dataclasses.replace(broken, executable=Path("/nonexistent")))
    with pytest.raises(DriverUnavailable, match="No such file"):
        await bench.driver.create(KEY)


async def test_directories_of_dead_drivers_are_removed_and_those_of_the_living_are_not(bench: Bench, tmp_path: Path) -> None:
    dead = tmp_path / "sandboxes" / f"lambent-{os.geteuid()}-dead"
    (dead / "p1").mkdir(parents=True)
    (dead / "lock").touch()
    await bench.driver.create(KEY)
    another = PlainDriver(directory=tmp_path / "sandboxes")
    await another.start()
    assert not dead.exists()
    assert (bench.driver._directory or dead).exists()
    await another.close()


async def test_everything_dies_with_the_gateway(bench: Bench) -> None:
    """Which is how it looks to a keeper when its end of the control socket closes by itself."""
    source = """
    import os, time

    def handler(event, context):
        if os.fork() == 0:
            time.sleep(1000)
        return os.getppid()
    """
    async with bench.opened(source) as user:
        keeper = answer(await user.run())
        below = processes.descendants(keeper)
        assert len(below) == 2
        handle: Any = user.sandbox._handle
        handle._control.shutdown(2)
        await until(lambda: not any(map(alive, [keeper, *below])))
        await until(lambda: user.news[-1] == "gone: its keeper ended")
