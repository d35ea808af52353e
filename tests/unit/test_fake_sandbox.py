"""The fake sandboxes of `sandbox.testing`: their timing, and that they find a user who breaks the rules."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect

import pytest

from sandbox.errors import DriverUnavailable, SandboxError, SandboxGone
from sandbox.outcome import Outcome, Status
from sandbox.sandbox import Sandbox
from sandbox.testing import Behaviour, FakeHost, FakeSandbox, FakeState, PlainLog, Run
from tests.sandboxes import KEY, SPEC, work

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


def nothing(data: bytes) -> None:
    pass


async def ready(host: FakeHost) -> tuple[FakeSandbox, list[str]]:
    sandbox = await host.open(KEY)
    await sandbox.init(SPEC, PlainLog())
    news: list[str] = []
    sandbox.on_idle = lambda sandbox: news.append("idle")
    sandbox.on_gone = lambda sandbox, reason: news.append(reason)
    return sandbox, news


def begin(sandbox: FakeSandbox, timeout_s: float = 3.0) -> asyncio.Future[Outcome]:
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    sandbox.invoke(work(timeout_s=timeout_s), future.set_result)
    return future


def test_has_the_members_of_the_real_one() -> None:
    for name in ("init", "invoke", "freeze", "memory_bytes", "stop"):
        real, fake = inspect.signature(getattr(Sandbox, name)), inspect.signature(getattr(FakeSandbox, name))
        assert real == fake, name
    slots = {"id", "key", "spec", "on_idle", "on_gone"}
    for kind in (Sandbox, FakeSandbox):
        assert slots <= {name for base in kind.__mro__ for name in getattr(base, "__slots__", ())}


async def test_costs_what_its_behaviour_says() -> None:
    behaviour = Behaviour(
        create_s=1, init_s=2, stop_s=4, run=lambda work: Run(run_s=0.5, finish_s=0.25, payload=b"1", memory_bytes=99)
    )
    host = FakeHost(behaviour)
    sandbox, news = await ready(host)
    assert (now(), sandbox.memory_bytes()) == (3, behaviour.idle_bytes)
    outcome = await begin(sandbox)
    assert (now(), outcome.duration_s, outcome.init_s, outcome.payload) == (3.5, 0.5, 2, b"1")
    assert news == []
    await asyncio.sleep(0.25)
    assert (news, sandbox.memory_bytes(), host.memory_bytes()) == (["idle"], 99, 99)
    await begin(sandbox)
    await sandbox.stop()
    assert now() == 8.25
    assert not host.live


async def test_time_out_then_init_again() -> None:
    host = FakeHost(Behaviour(init_s=2, reset_s=0.1, run=lambda work: Run(run_s=10)))
    sandbox, news = await ready(host)
    outcome = await begin(sandbox)
    assert (outcome.status, outcome.duration_s) == (Status.TIMEOUT, 3)
    await asyncio.sleep(0.1)
    assert news == ["idle"]
    host.behaviour.run = lambda work: Run(run_s=0.5)
    assert (await begin(sandbox)).duration_s == 2.5
    await sandbox.stop()


async def test_failing_init_is_repeated_by_the_first_invocation() -> None:
    host = FakeHost(Behaviour(init_s=2, init_fails=lambda spec: True))
    sandbox, _ = await ready(host)
    outcome = await begin(sandbox)
    assert (outcome.init_s, outcome.duration_s) == (None, 2.01)
    await sandbox.stop()


async def test_dies_while_it_runs_and_while_it_does_not() -> None:
    host = FakeHost(Behaviour(run=lambda work: Run(gone=True)))
    sandbox, news = await ready(host)
    assert (await begin(sandbox)).status is Status.FAILURE
    assert news == ["killed while it ran"]
    with pytest.raises(SandboxGone):
        begin(sandbox)
    await sandbox.stop()
    sandbox, news = await ready(host)
    sandbox.freeze()
    sandbox.die()
    sandbox.die()
    assert news == ["init was killed"]
    assert sandbox.memory_bytes() == 0
    await sandbox.stop()
    assert not host.live


async def test_stop_settles_what_is_in_hand_and_may_come_twice() -> None:
    host = FakeHost()
    sandbox, news = await ready(host)
    outcome = begin(sandbox)
    await asyncio.gather(sandbox.stop(), sandbox.stop())
    assert (await outcome).status is Status.FAILURE
    assert news == []
    with pytest.raises(SandboxGone):
        await sandbox.init(SPEC, PlainLog())


async def test_stop_and_death_during_init() -> None:
    host = FakeHost()
    for end in (FakeSandbox.stop, FakeSandbox.die):
        sandbox = await host.open(KEY)
        sandbox.on_gone = lambda sandbox, reason: pytest.fail("init tells it")
        init = asyncio.get_running_loop().create_task(sandbox.init(SPEC, PlainLog()))
        await asyncio.sleep(0.01)
        if (ending := end(sandbox)) is not None:
            await ending
        with pytest.raises(SandboxGone):
            await init
        await sandbox.stop()
    assert not host.live


async def test_ours_to_fail() -> None:
    host = FakeHost(Behaviour(create_error=lambda key: DriverUnavailable()))
    with pytest.raises(DriverUnavailable):
        await host.open(KEY)
    host.behaviour = Behaviour(init_error=lambda spec: SandboxError("no"))
    sandbox = await host.open(KEY)
    with pytest.raises(SandboxError, match="no"):
        await sandbox.init(SPEC, PlainLog())
    assert sandbox.state is FakeState.GONE
    assert host.live, "nobody has stopped it yet"


async def test_finds_a_user_who_breaks_the_rules() -> None:
    host = FakeHost()
    sandbox = await host.open(KEY)
    with pytest.raises(AssertionError):
        begin(sandbox)
    with pytest.raises(AssertionError):
        await sandbox.init(dataclasses.replace(SPEC, runtime="python3.8"), PlainLog())
    await sandbox.init(SPEC, PlainLog())
    with pytest.raises(AssertionError):
        await sandbox.init(SPEC, PlainLog())
    first = begin(sandbox)
    with pytest.raises(AssertionError):
        begin(sandbox)
    with pytest.raises(AssertionError):
        sandbox.freeze()
    assert (await first).status is Status.SUCCESS
    await sandbox.stop()
