"""The contract of `sandbox.driver`, clause by clause, for every driver, the fake included.

Functions are run through `Sandbox`, as everywhere; what a clause says of the handle is asked of the handle.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import signal
import termios
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.driver import ExitStatus, Handle
from sandbox.environment import compose
from sandbox.errors import SandboxError, SandboxGone
from sandbox.outcome import Outcome, Status
from tests.conformance import places
from tests.conformance.function import EXTENSION
from tests.conformance.places import Place
from tests.sandboxes import User, work

QUIET_S = 0.1  #: what has not moved for that long stands still; real processes live in real time
ENTERED: dict[str, Callable[..., contextlib.AbstractAsyncContextManager[Place]]] = {
    "fake": places.fake, "plain": places.plain, "native": places.native, "docker": places.docker,
    # all that there is for where a machine refuses the quick ways, at once
    "docker-least": functools.partial(places.docker, docker_runtime_api="bridge", docker_mounts="spread", docker_freeze="pause"),
}  # fmt: skip
REAL = [pytest.param(name, marks=[pytest.mark.slow]) for name in ("plain",)] + [
    pytest.param("native", marks=[pytest.mark.real, pytest.mark.slow]),
    *(
        pytest.param(name, marks=[pytest.mark.real, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(60)])
        for name in ("docker", "docker-least")
    ),
]


@pytest.fixture(params=["fake", *REAL])
async def place(request: pytest.FixtureRequest, tmp_path: Path, owner: str) -> AsyncIterator[Place]:
    """A started driver. When the test is over and the driver closed, nothing of any sandbox is left (clause 8)."""
    more = [request.getfixturevalue("docker_engine")] if request.param.startswith("docker") else []
    async with ENTERED[request.param](tmp_path, owner, *more) as found:
        support = found.driver.support(found.key)
        if not support.available:
            pytest.skip(support.detail)
        yield found
    assert found.left() == []
    await asyncio.get_running_loop().shutdown_default_executor()


async def do(user: User, what: str, timeout_s: float = 10, **more: Any) -> Outcome:
    return await user.run(json.dumps({"do": what, **more}).encode(), timeout_s)


async def ask(user: User, what: str, **more: Any) -> Any:
    outcome = await do(user, what, **more)
    assert outcome.status is Status.SUCCESS, outcome
    return json.loads(outcome.payload)


async def until(condition: Callable[[], object]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0.002)


async def stands_still(user: User) -> bool:
    """Whether the function writes no more, once what was on its way has come."""
    await asyncio.sleep(QUIET_S / 4)
    before = len(user.log)
    await asyncio.sleep(QUIET_S)
    return len(user.log) == before


def in_pipe(handle: Handle) -> int:
    count = bytearray(4)
    fcntl.ioctl(handle.log_fd, termios.FIONREAD, count, True)
    return int.from_bytes(count, "little")


def _has(handle: Handle, size: int) -> bool:
    return in_pipe(handle) >= size


async def running(place: Place) -> Handle:
    """A handle without a `Sandbox`, whose runtime has begun its Init."""
    handle = await place.driver.create(place.key)
    await handle.specialise(place.spec, compose(place.spec, handle.runtime_api))
    await until(lambda: in_pipe(handle) >= len(b"init\n"))
    return handle


# 1. create


async def test_a_stem_is_alive_and_knows_its_addresses(place: Place) -> None:
    handle = await place.driver.create(place.key)
    assert handle.id
    assert ":" in handle.runtime_api
    assert handle.memory_bytes() >= 0
    await handle.stop()


async def test_many_at_once_are_different(place: Place) -> None:
    handles = await asyncio.gather(*(place.driver.create(place.key) for _ in range(6)))
    assert len({handle.id for handle in handles}) == 6
    await asyncio.gather(*(handle.stop() for handle in handles))
    assert place.left() == []


async def test_cancelled_create_leaves_nothing(place: Place) -> None:
    for steps in range(4):
        creating = asyncio.get_running_loop().create_task(place.driver.create(place.key))
        for _ in range(steps):
            await asyncio.sleep(0)
        creating.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await (await creating).stop()
    await until(lambda: place.left() == [])


async def test_stop_while_others_are_created(place: Place) -> None:
    first = await place.driver.create(place.key)
    second, _, third = await asyncio.gather(place.driver.create(place.key), first.stop(), place.driver.create(place.key))
    await asyncio.gather(second.stop(), third.stop())


# 2. sockets and descriptors


async def test_listener_and_log_are_ready_and_do_not_block(place: Place) -> None:
    handle = await place.driver.create(place.key)
    assert handle.listener.getblocking() is False
    with pytest.raises(BlockingIOError):
        handle.listener.accept()
    assert os.get_blocking(handle.log_fd) is False
    await handle.stop()


async def test_a_tcp_socket_reaches_what_listens_inside(place: Place) -> None:
    """The Runtime API's own listener does; whoever else listens on that address here is another."""
    loop = asyncio.get_running_loop()
    handle = await place.driver.create(place.key)
    host, port = handle.runtime_api.split(":")
    for _ in range(2):
        with await handle.tcp_socket() as sock:
            assert not sock.getblocking()
            await loop.sock_connect(sock, (host, int(port)))
            accepted, peer = await loop.sock_accept(handle.listener)
            with accepted:
                assert peer == sock.getsockname()
    await handle.stop()
    with pytest.raises(SandboxGone):
        await handle.tcp_socket()


async def test_stop_closes_them(place: Place) -> None:
    async with place.sandbox() as (handle, _):
        listener, connection, log_fd = handle.listener, handle.connection, handle.log_fd
        log = os.readlink(f"/proc/self/fd/{log_fd}")
    assert listener.fileno() == -1
    assert connection is None or connection.fileno() == -1
    with contextlib.suppress(FileNotFoundError):
        assert os.readlink(f"/proc/self/fd/{log_fd}") != log


# 3. specialise


async def test_function_runs(place: Place) -> None:
    async with place.sandbox() as (_, user):
        assert await ask(user, "echo", text="é") == {"do": "echo", "text": "é"}
        assert await ask(user, "calls") == 2
        assert user.log.startswith(b"init\n")


async def test_what_comes_of_specialise_is_seen_on_the_runtime_api(place: Place) -> None:
    handle = await place.driver.create(place.key)
    exits: list[ExitStatus] = []
    handle.on_exit = exits.append
    await handle.specialise(place.spec, compose(place.spec, handle.runtime_api))
    await until(lambda: in_pipe(handle) >= len(b"init\n"))
    assert exits == []
    await handle.stop()


@pytest.mark.parametrize("pause_s", [0.0, QUIET_S], ids=["at once", "later"])
async def test_a_rehearsal_is_not_seen(place: Place, pause_s: float) -> None:
    """Not by the function either, be it told to begin while the stem rehearses or when it has; nor where the stem was reset."""
    handle = await place.driver.create(place.key)
    for begun in (b"init\n", b"init\n" * 2):
        handle.rehearse()
        handle.rehearse()
        await asyncio.sleep(pause_s)
        assert in_pipe(handle) == len(begun) - len(b"init\n")
        await handle.specialise(place.spec, compose(place.spec, handle.runtime_api))
        handle.rehearse()  # it is no stem any more
        await until(functools.partial(_has, handle, len(begun)))
        await handle.reset()
    await handle.stop()


# 4. exits, and going as a whole


@pytest.mark.parametrize(
    ("what", "status", "message"),
    [
        ({"do": "exit", "code": 3}, ExitStatus(code=3), "exit status 3"),
        ({"do": "exit", "code": 0}, ExitStatus(code=0), "exited without providing a reason"),
        ({"do": "kill", "signal": signal.SIGKILL.value}, ExitStatus(signal=9), "signal: killed"),
        ({"do": "kill", "signal": signal.SIGTERM.value}, ExitStatus(signal=15), "signal: terminated"),
        ({"do": "kill", "signal": signal.SIGSEGV.value}, ExitStatus(signal=11), "signal: segmentation fault"),
    ],
)
async def test_exit_is_told_once_with_its_status(place: Place, what: dict[str, Any], status: ExitStatus, message: str) -> None:
    async with place.sandbox() as (handle, user):
        exits: list[ExitStatus] = []
        tell = handle.on_exit

        def told(status: ExitStatus) -> None:
            exits.append(status)
            tell(status)

        handle.on_exit = told
        outcome = await user.run(json.dumps(what).encode(), 10)
        assert outcome.status is Status.FAILURE
        assert message in json.loads(outcome.payload)["errorMessage"]
        assert await ask(user, "calls") == 1, "it began again"
        assert exits == [status]


async def test_what_was_written_is_readable_before_the_exit_is_told(place: Place) -> None:
    async with place.sandbox() as (handle, user):
        there: list[int] = []
        tell = handle.on_exit

        def told(status: ExitStatus) -> None:
            there.append(in_pipe(handle) + user.log.count(b"last words\n"))
            tell(status)

        handle.on_exit = told
        await do(user, "exit", code=1)
        assert there != [0]
        assert user.log.count(b"last words\n") == 1


async def test_going_as_a_whole_is_told_once(place: Place) -> None:
    async with place.sandbox() as (handle, user):
        outcome = user.begin(work(b'{"do": "hang"}'))
        await asyncio.sleep(0)
        place.break_one(handle)
        assert (await outcome).status is Status.FAILURE
        await until(lambda: user.news[-1].startswith("gone: "))
        assert user.news[0] == "settled"
        assert len(user.news) == 2
        with pytest.raises(SandboxError):
            await handle.reset()
        handle.freeze()
        handle.thaw()


async def test_nothing_is_told_once_stop_was_called(place: Place) -> None:
    handle = await running(place)
    told: list[object] = []
    handle.on_exit = handle.on_gone = told.append
    await handle.stop()
    assert told == []


# 5. freeze and thaw


async def test_frozen_does_not_move_and_thawed_does(place: Place) -> None:
    async with place.sandbox() as (handle, user):
        await ask(user, "tick" if place.freezes_all else "echo")
        handle.freeze()
        handle.freeze()
        await until(place.asleep)
        assert await stands_still(user)
        handle.thaw()
        handle.thaw()
        if place.freezes_all:
            before = len(user.log)
            await until(lambda: len(user.log) > before)
        assert await ask(user, "echo") == {"do": "echo"}


async def test_frozen_sandbox_takes_work(place: Place) -> None:
    async with place.sandbox() as (_, user):
        for number in range(3):
            user.sandbox.freeze()
            assert await ask(user, "echo", n=number) == {"do": "echo", "n": number}


async def test_large_event_to_a_frozen_sandbox(place: Place) -> None:
    async with place.sandbox() as (_, user):
        user.sandbox.freeze()
        text = "x" * 5_000_000
        assert (await ask(user, "echo", text=text))["text"] == text


# 6. reset


async def test_reset_keeps_tmp_and_nothing_else(place: Place) -> None:
    async with place.sandbox() as (_, user):
        await ask(user, "write", text="kept")
        assert await ask(user, "calls") == 2
        outcome = await do(user, "hang", timeout_s=0.2)
        assert outcome.status is Status.TIMEOUT
        assert await ask(user, "read") == "kept"
        assert await ask(user, "calls") == 2
        assert user.log.count(b"init\n") == 2


async def test_reset_kills_children_too(place: Place) -> None:
    async with place.sandbox() as (_, user):
        await ask(user, "tick")
        await until(lambda: b"tick" in user.log)
        assert (await do(user, "hang", timeout_s=0.2)).status is Status.TIMEOUT
        assert await stands_still(user)
        assert await ask(user, "calls") == 1


async def test_exits_that_reset_causes_are_not_told(place: Place) -> None:
    handle = await running(place)
    exits: list[ExitStatus] = []
    handle.on_exit = exits.append
    for begun in (b"init\n" * 2, b"init\n" * 3):
        await handle.reset()
        await handle.reset()  # there is nothing to kill any more
        await handle.specialise(place.spec, compose(place.spec, handle.runtime_api))
        await until(functools.partial(_has, handle, len(begun)))
    assert exits == []
    await handle.stop()


async def test_reset_of_what_is_frozen(place: Place) -> None:
    handle = await running(place)
    handle.freeze()
    async with asyncio.timeout(5):
        await handle.reset()
    await handle.specialise(place.spec, compose(place.spec, handle.runtime_api))
    await until(lambda: in_pipe(handle) >= 2 * len(b"init\n"))
    await handle.stop()


# 7. stop


@pytest.mark.parametrize("state", ["stem", "running", "frozen", "reset"])
async def test_stop_in_every_state_twice_and_at_once(place: Place, state: str) -> None:
    handle = await (place.driver.create(place.key) if state == "stem" else running(place))
    if state == "frozen":
        handle.freeze()
    if state == "reset":
        await handle.reset()
    async with asyncio.timeout(5):
        await asyncio.gather(handle.stop(), handle.stop())
        await handle.stop()
    assert place.left() == []


async def test_stop_while_it_is_specialised(place: Place) -> None:
    handle = await place.driver.create(place.key)
    specialising = asyncio.get_running_loop().create_task(handle.specialise(place.spec, compose(place.spec, handle.runtime_api)))
    await asyncio.sleep(0)
    await handle.stop()
    with contextlib.suppress(SandboxError):
        await specialising
    assert place.left() == []


async def test_stop_while_it_is_reset(place: Place) -> None:
    handle = await running(place)
    resetting = asyncio.get_running_loop().create_task(handle.reset())
    await asyncio.sleep(0)
    await handle.stop()
    with contextlib.suppress(SandboxError):
        await resetting
    assert place.left() == []


async def test_cancelled_stop_stops(place: Place) -> None:
    handle = await place.driver.create(place.key)
    stopping = asyncio.get_running_loop().create_task(handle.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await stopping
    await until(lambda: place.left() == [])
    await handle.stop()


async def test_nothing_runs_after_the_stop(place: Place) -> None:
    async with place.sandbox() as (_, user):
        await ask(user, "tick")
        await until(lambda: b"tick" in user.log)
    assert place.left() == []


async def test_after_its_end_calls_do_no_harm(place: Place) -> None:
    async with place.sandbox() as (handle, _):
        pass
    with pytest.raises(SandboxGone):
        await handle.specialise(place.spec, {})
    with pytest.raises(SandboxGone):
        await handle.reset()
    handle.rehearse()
    handle.freeze()
    handle.thaw()
    handle.ration()
    assert handle.memory_bytes() >= 0
    assert handle.memory_peak_bytes() >= 0
    await handle.stop()


# 3, 4, 5 and 8 where there are extensions


async def extended(place: Place, do: str = "", text: str = EXTENSION) -> Handle:
    """A handle whose extension has begun, and whose runtime waits."""
    spec = dataclasses.replace(place.spec, opt_path=place.opt(text), extensions=("agent",), environment={"DO": do})
    handle = await place.driver.create(place.key)
    await handle.specialise(spec, compose(spec, handle.runtime_api))
    return handle


def in_extension_pipe(handle: Handle) -> int:
    count = bytearray(4)
    fcntl.ioctl(handle.extension_log_fd, termios.FIONREAD, count, True)
    return int.from_bytes(count, "little")


async def test_extensions_begin_before_the_runtime_and_write_to_a_pipe_of_their_own(place: Place) -> None:
    handle = await extended(place)
    await until(lambda: in_extension_pipe(handle) == len(b"agent\n"))
    await asyncio.sleep(QUIET_S)
    assert in_pipe(handle) == 0
    handle.start_runtime()
    await until(lambda: in_pipe(handle) == len(b"init\n"))
    assert in_extension_pipe(handle) == len(b"agent\n")
    handle.start_runtime()  # there is none that waits any more
    await handle.stop()


async def test_the_end_of_an_extension_is_told_by_its_name_after_its_words(place: Place) -> None:
    told: list[tuple[str, ExitStatus, int]] = []
    handle = await place.driver.create(place.key)
    handle.on_extension_exit = lambda name, status: told.append((name, status, in_extension_pipe(handle)))
    spec = dataclasses.replace(place.spec, opt_path=place.opt(EXTENSION), extensions=("agent",), environment={"DO": "exit"})
    await handle.specialise(spec, compose(spec, handle.runtime_api))
    await until(lambda: told)
    assert told == [("agent", ExitStatus(code=5), len(b"agent\n"))]
    await handle.stop()


async def test_why_an_extension_could_not_begin(place: Place) -> None:
    if place.driver.name == "fake":
        pytest.skip("its scripts always begin")
    handle = await extended(place, text="no program")
    told: list[ExitStatus] = []
    handle.on_extension_exit = lambda name, status: told.append(status)
    await until(lambda: told)
    assert told[0].launch_error == "fork/exec /opt/extensions/agent: exec format error"
    await handle.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_signals_reach_whom_they_are_for(place: Place, number: int) -> None:
    handle = await extended(place)
    told: list[tuple[str, ExitStatus]] = []
    handle.on_exit = lambda status: told.append(("runtime", status))
    handle.on_extension_exit = lambda name, status: told.append((name, status))
    handle.start_runtime()
    await until(lambda: in_pipe(handle) > 0 and in_extension_pipe(handle) > 0)
    handle.signal(number, "nobody")
    handle.signal(number, "agent")
    await until(lambda: told)
    assert told == [("agent", ExitStatus(signal=number))]
    handle.signal(number)
    await until(lambda: len(told) == 2)
    assert told[1] == ("runtime", ExitStatus(signal=number))
    handle.signal(number)
    handle.signal(number, "agent")
    await handle.stop()


async def test_all_are_killed_at_the_moment_that_was_asked_for(place: Place) -> None:
    handle = await extended(place)
    told: set[str] = set()
    handle.on_exit = lambda status: told.add(f"runtime {status.signal}")
    handle.on_extension_exit = lambda name, status: told.add(f"{name} {status.signal}")
    handle.start_runtime()
    await until(lambda: in_pipe(handle) > 0 and in_extension_pipe(handle) > 0)
    began_s = place.clock.monotonic()
    handle.kill_at(began_s + 0.1)
    await until(lambda: len(told) == 2)
    assert told == {"runtime 9", "agent 9"}
    assert place.clock.monotonic() - began_s >= 0.1
    await handle.stop()


async def test_a_reset_calls_the_kill_off(place: Place) -> None:
    handle = await extended(place)
    await until(lambda: in_extension_pipe(handle) > 0)
    handle.kill_at(place.clock.monotonic() + 0.1)
    await handle.reset()
    told: list[object] = []
    handle.on_exit = told.append
    await handle.specialise(place.spec, compose(place.spec, handle.runtime_api))
    await until(lambda: in_pipe(handle) > 0)
    await asyncio.sleep(0.2)
    assert told == []
    await handle.stop()


async def test_extensions_freeze_too(place: Place) -> None:
    handle = await extended(place, "tick")
    handle.start_runtime()
    await until(lambda: in_pipe(handle) > 0 and in_extension_pipe(handle) > 0)
    handle.freeze()
    await until(place.asleep)
    await asyncio.sleep(QUIET_S / 4)
    before = in_extension_pipe(handle)
    await asyncio.sleep(QUIET_S)
    assert in_extension_pipe(handle) == before
    handle.thaw()
    await until(lambda: in_extension_pipe(handle) > before)
    await handle.stop()
    assert place.left() == []


# 10. close


async def test_close_stops_whatever_there_is(place: Place) -> None:
    stem = await place.driver.create(place.key)
    busy, frozen = await running(place), await running(place)
    frozen.freeze()
    async with asyncio.timeout(5):
        await place.driver.close()
    assert place.left() == []
    for handle in (stem, busy, frozen):
        with pytest.raises(SandboxGone):
            await handle.reset()
        await handle.stop()


# Memory, where it is real.


async def test_memory_is_told(place: Place) -> None:
    async with place.sandbox() as (handle, user):
        outcome = await do(user, "echo")
        assert outcome.max_memory_bytes >= handle.memory_bytes() // 2 > 0


async def test_more_memory_than_it_may_have_is_killed(place: Place) -> None:
    async with place.sandbox() as (handle, user):
        statuses: list[ExitStatus] = []
        tell = handle.on_exit

        def told(status: ExitStatus) -> None:
            statuses.append(status)
            tell(status)

        handle.on_exit = told
        outcome = await do(user, "eat", bytes=400 << 20)
        assert "signal: killed" in json.loads(outcome.payload)["errorMessage"]
        assert [status.oom for status in statuses] == [True]
        assert await ask(user, "calls") == 1
