"""How sandboxes end: while they are made, twice, frozen, in the middle of the worst; the spawner is then as it was before.

What is counted is what a spawner could lose little by little: descriptors, children that nobody reaped, cgroups, user ids, and
the disks behind /tmp. Each test begins and ends with the same account.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from sandbox.environment import compose
from sandbox.errors import SandboxError
from sandbox.guest import messages
from sandbox.native.cgroups import Cgroups
from sandbox.native.driver import HOST_ARCHITECTURE, NativeHandle
from sandbox.spec import Architecture, StemKey
from tests import leftovers
from tests.processes import children, descriptors, of_spawner
from tests.real.spawned import PYTHON, SPARES, Spawned, spawned

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]

KEY = StemKey(PYTHON, HOST_ARCHITECTURE or Architecture.X86_64)
MOST = 64  #: sandboxes that the spawner of these tests grants
REST_WITHIN_S = 10.0
STEADY = 5  #: equal accounts in a row
STOP_WITHIN_S = 5.0  #: with all processors busy


@dataclasses.dataclass(frozen=True)
class Account:
    """What a spawner has; two are equal when nothing was lost between them."""

    descriptors: int
    children: int
    unreaped: int
    cgroups: int  #: beyond the spares, less those that are to be made again
    disks: int

    @classmethod
    def of(cls, host: Spawned) -> Account:
        born, bases = children(host.pid), Cgroups(host.owner).bases
        return cls(
            descriptors=descriptors(host.pid),
            children=len(born),
            unreaped=sum(child.state == "Z" for child in born),
            cgroups=max(sum(entry.is_dir() for entry in os.scandir(base / "sandboxes")) for base in bases) - SPARES,
            disks=sum(str(host.directory) in file for _, file in leftovers.loops()),
        )


@pytest.fixture
async def host(tmp_path: Path, owner: str) -> AsyncIterator[Spawned]:
    """A spawner that has made a sandbox before, so that what stays (a zygote, spares) is there; accounts must match."""
    async with spawned(tmp_path, owner, MOST) as spawner:
        await (await spawner.driver.create(KEY)).stop()
        assert await until(lambda: Account.of(spawner).disks == SPARES), "spare disks"
        assert await until(lambda: Account.of(spawner).cgroups == 0), "spare cgroups"
        before = await steady(spawner)
        assert (before.children, before.unreaped, before.cgroups) == (1, 0, 0)
        yield spawner
        await rest(spawner, before)


async def until(right: Callable[[], bool]) -> bool:
    """Whether it became right in time."""
    deadline_s = time.monotonic() + REST_WITHIN_S
    while not right():
        if time.monotonic() > deadline_s:
            return False
        await asyncio.sleep(0.01)
    return True


async def steady(host: Spawned) -> Account:
    """Its account when nothing is under way: threads that make disks hold a descriptor for a moment."""
    accounts = [Account.of(host)]

    def same() -> bool:
        accounts.append(Account.of(host))
        return len(accounts) > STEADY and len(set(accounts[-STEADY:])) == 1

    assert await until(same)
    return accounts[-1]


async def rest(host: Spawned, before: Account) -> None:
    await until(lambda: Account.of(host) == before)
    assert Account.of(host) == before


async def all_ids_are_free(host: Spawned) -> None:
    """As many sandboxes as ever are granted at once, and no more: no user id was lost, and none is given out twice."""
    made = await asyncio.gather(*(host.driver.create(KEY) for _ in range(MOST)))
    try:
        with pytest.raises(SandboxError, match="no more than"):
            await host.driver.create(KEY)
    finally:
        await asyncio.gather(*(handle.stop() for handle in made))


async def running(host: Spawned, code: str) -> NativeHandle:
    """A sandbox that runs `code`, whose first line of output was waited for. Nobody serves its Runtime API: it is raw."""
    spec = host.spec(code)
    handle = await host.driver.create(KEY)
    await handle.specialise(spec, compose(spec, handle.runtime_api))
    await readable(handle.log_fd)
    return handle


async def readable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(fd, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(fd)


async def in_time(work: Awaitable[None]) -> None:
    async with asyncio.timeout(STOP_WITHIN_S):
        await work


async def test_many_at_once_and_all_end(host: Spawned) -> None:
    handles = await asyncio.gather(*(host.driver.create(KEY) for _ in range(50)))
    assert len({handle.id for handle in handles}) == 50
    _, inits = of_spawner(host.pid)
    assert len(inits) == 50
    await asyncio.gather(*(handle.stop() for handle in handles))
    assert of_spawner(host.pid)[1] == []


async def test_user_ids_come_back(host: Spawned) -> None:
    for _ in range(2):
        await all_ids_are_free(host)


async def test_a_cancelled_create_leaves_nothing(host: Spawned) -> None:
    """Cancelled at moments from before the spawner heard of it until after it has answered."""

    async def cancelled(after_s: float) -> bool:
        task = asyncio.get_running_loop().create_task(host.driver.create(KEY))
        await asyncio.sleep(after_s)
        task.cancel()
        try:
            handle = await task
        except asyncio.CancelledError:
            return True
        await handle.stop()
        return False

    before = Account.of(host)
    assert await cancelled(0)
    for step in range(40):
        await cancelled(step * 0.0004)
    await rest(host, before)
    assert any(await asyncio.gather(*(cancelled(step * 0.002) for step in range(MOST))))
    await rest(host, before)
    await all_ids_are_free(host)


async def test_stopped_while_others_are_made(host: Spawned) -> None:
    async def brief() -> None:
        handle = await host.driver.create(KEY)
        await handle.stop()

    await asyncio.gather(*(brief() for _ in range(MOST)))


async def test_stopped_twice_at_once_and_after(host: Spawned) -> None:
    handle = await host.driver.create(KEY)
    await asyncio.gather(handle.stop(), handle.stop())
    await handle.stop()
    handle.freeze()
    handle.thaw()
    assert (handle.memory_bytes(), handle.memory_peak_bytes()) == (0, 0)


async def test_a_stop_that_nobody_awaits_happens(host: Spawned) -> None:
    handle = await host.driver.create(KEY)
    stopping = asyncio.get_running_loop().create_task(handle.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await stopping
    assert await until(lambda: of_spawner(host.pid)[1] == [])
    await handle.stop()


async def test_creates_while_the_zygote_dies(host: Spawned) -> None:
    """Each either comes about or fails, and what a dying zygote had forked and not told of yet is found and ended."""
    failed = 0
    for delay_ms in (0, 1, 2, 3, 5, 8, 12):
        creating = [asyncio.get_running_loop().create_task(host.driver.create(KEY)) for _ in range(12)]
        await asyncio.sleep(delay_ms / 1000)
        (zygote,), _ = of_spawner(host.pid)
        os.kill(zygote, signal.SIGKILL)
        outcomes = await asyncio.gather(*creating, return_exceptions=True)
        made = [outcome for outcome in outcomes if isinstance(outcome, NativeHandle)]
        errors = [outcome for outcome in outcomes if not isinstance(outcome, NativeHandle)]
        assert all(isinstance(error, SandboxError) for error in errors), errors
        failed += len(errors)
        assert await until(lambda made=made: len(of_spawner(host.pid)[1]) == len(made))  # type: ignore[misc]
        for handle in made:
            await handle.stop()
        again = await host.driver.create(KEY)
        await again.stop()
    assert failed
    await all_ids_are_free(host)


async def test_a_gateway_that_goes_while_its_sandboxes_are_made(tmp_path: Path, owner: str) -> None:
    """Nobody is there to be told of them: they end like those that were made before."""
    host = Spawned(tmp_path, owner, MOST)
    await host.start()
    try:
        for seen in (0, 1, 5):  # answers that it still reads
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as gateway:
                gateway.settimeout(30)
                gateway.connect(str(tmp_path / "spawner.sock"))
                for number in range(20):
                    messages.send(gateway, {"n": number, "op": "create", "id": f"g{seen}-{number}", "runtime": PYTHON})
                for _ in range(1 + seen):  # the first is its hello
                    _, fds = await asyncio.to_thread(messages.receive, gateway)
                    for fd in fds:
                        os.close(fd)
            assert await until(lambda: of_spawner(host.pid)[1] == [] and Account.of(host).cgroups == 0)
        await host.driver.start()  # the next gateway
        await all_ids_are_free(host)
        assert [child for child in children(host.pid) if child.state == "Z"] == []
    finally:
        await host.close()


async def test_an_init_that_is_killed(host: Spawned) -> None:
    handle = await host.driver.create(KEY)
    gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    handle.on_gone = gone.set_result
    handle.freeze()
    (init,) = of_spawner(host.pid)[1]
    assert await until(lambda: Account.of(host).cgroups == 1)
    os.kill(init, signal.SIGKILL)
    assert await gone
    assert await until(lambda: Account.of(host).cgroups == 0)
    # What comes from the hot path before the news does, does nothing.
    handle.thaw()
    handle.freeze()
    assert handle.memory_bytes() >= 0
    await handle.stop()


async def test_writes_to_what_is_gone_do_nothing(host: Spawned) -> None:
    """A sandbox's cgroup can go before its gateway has heard of it: freezing it then is no error of the gateway's."""
    handle = await host.driver.create(KEY)
    (init,) = of_spawner(host.pid)[1]
    assert await until(lambda: Account.of(host).cgroups == 1)
    os.kill(init, signal.SIGKILL)
    deadline_s = time.monotonic() + REST_WITHIN_S
    while Account.of(host).cgroups and time.monotonic() < deadline_s:
        time.sleep(0.01)  # noqa: ASYNC251  the loop must not hear of it
    handle.freeze()
    handle.thaw()
    assert (handle.memory_bytes(), handle.memory_peak_bytes()) == (0, 0)
    await handle.stop()


TICKS = """
import os, signal, sys, threading, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCONT):
    signal.signal(number, lambda *_: os.write(1, b"signal\\n"))
while True:
    os.write(1, b"%d\\n" % time.monotonic_ns())
    time.sleep(0.0005)
"""


async def test_a_frozen_sandbox_is_killed_without_running(host: Spawned) -> None:
    """It writes the time twice a millisecond; not once after it was frozen, also not on its way to its end."""
    handle = await running(host, TICKS)
    pipe = os.dup(handle.log_fd)
    try:
        handle.freeze()
        await asyncio.sleep(0.2)  # freezing is asynchronous
        assert _drain(pipe)
        frozen_ns = time.monotonic_ns()
        await asyncio.sleep(0.1)
        await in_time(handle.stop())
        after = _drain(pipe)
    finally:
        os.close(pipe)
    assert after == b""
    assert time.monotonic_ns() - frozen_ns > 100_000_000


def _drain(fd: int) -> bytes:
    found = b""
    with contextlib.suppress(BlockingIOError):
        while data := os.read(fd, 65536):
            found += data
    return found


STUBBORN = {
    "closed every descriptor": "import os, time\nprint('x', flush=True)\nos.closerange(0, 1024)\ntime.sleep(3600)\n",
    "filled its pipe": "import os\nwhile True:\n os.write(1, b'x' * 65536)\n",
    "a fork storm": ("import os\nprint('x', flush=True)\nwhile True:\n try:\n  os.fork()\n except OSError:\n  pass\n"),
    "stopped itself": "import os, signal\nprint('x', flush=True)\nos.kill(os.getpid(), signal.SIGSTOP)\n",
    "ignores all signals": (
        "import signal, time\n"
        "for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n signal.signal(number, signal.SIG_IGN)\n"
        "print('x', flush=True)\nwhile True: time.sleep(3600)\n"
    ),
    "many threads": (
        "import threading, time\n"
        "for _ in range(300): threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()\n"
        "print('x', flush=True)\ntime.sleep(3600)\n"
    ),
    "a traced child": (
        "import ctypes, os, signal, time\n"
        "child = os.fork()\n"
        "if child == 0:\n ctypes.CDLL(None).ptrace(0, 0, 0, 0)\n os.kill(os.getpid(), signal.SIGTRAP)\n"
        "os.waitpid(child, 0)\nprint('x', flush=True)\ntime.sleep(3600)\n"
    ),
    "writes to /tmp": "print('x', flush=True)\nwhile True:\n with open('/tmp/x', 'wb') as f: f.write(b'x' * (16 << 20))\n",
}


@pytest.mark.parametrize("what", STUBBORN)
async def test_whatever_it_does_it_ends_in_time(host: Spawned, what: str) -> None:
    for frozen in (False, True):
        handle = await running(host, STUBBORN[what])
        await asyncio.sleep(0.05)  # let it get going
        if frozen:
            handle.freeze()
        await in_time(handle.stop())


async def test_the_spawner_ends_with_everything_under_way(tmp_path: Path, owner: str) -> None:
    """SIGTERM in the middle of creates: it ends properly and soon, and whoever waits for a sandbox is told."""
    host = Spawned(tmp_path, owner, MOST)
    await host.start()
    try:
        await host.driver.start()
        ready = await host.driver.create(KEY)
        creating = [asyncio.get_running_loop().create_task(host.driver.create(KEY)) for _ in range(20)]
        await asyncio.sleep(0.01)
        async with asyncio.timeout(STOP_WITHIN_S):
            assert await host.end() == 0
        outcomes = await asyncio.gather(*creating, return_exceptions=True)
        assert leftovers.labelled([owner], [tmp_path / "volumes"]) == []
        for outcome in [ready, *outcomes]:
            assert isinstance(outcome, SandboxError | NativeHandle), outcome
            if isinstance(outcome, NativeHandle):
                await outcome.stop()
    finally:
        await host.close()
