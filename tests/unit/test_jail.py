"""A jail whose init says several things in one breath."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.clock import SystemClock
from sandbox.docker.cgroups import ContainerGroup
from sandbox.guest import messages
from sandbox.native.channel import Message
from sandbox.native.jail import Ended, Jail

STEM: Message = {"event": "stem"}
EXIT: Message = {"event": "exit", "signal": 9}


class Told:
    def __init__(self) -> None:
        self.exits: list[Message] = []
        self.gone: list[str] = []
        self.is_gone = asyncio.Event()

    def went(self, reason: str) -> None:
        self.gone.append(reason)
        self.is_gone.set()


@pytest.fixture
def init() -> int:
    """A process that waits to be killed; the jail reaps it."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    return pid


@pytest.fixture
async def told(init: int) -> AsyncIterator[tuple[Jail, Told, socket.socket]]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    found = Told()
    jail = Jail("a-1", 1, here, found.exits.append, found.went)
    jail.adopt(init)
    yield jail, found, there
    await jail.stop()
    there.close()


def say(there: socket.socket, *news: Message) -> None:
    for message in news:
        with socket.socket() as made:
            messages.send(there, message, [made.fileno()] if message is STEM else [])


async def test_a_stem_whose_runtime_ended_is_none(told: tuple[Jail, Told, socket.socket]) -> None:
    jail, found, there = told
    say(there, STEM, EXIT)
    with pytest.raises(Ended, match="ended before it was given a function"):
        await jail.stem()
    await found.is_gone.wait()
    assert found.gone == ["the runtime process ended before it was given a function"]
    assert found.exits == []


async def test_the_exit_of_the_runtime_before_a_reset_is_not_that_of_the_one_after(
    told: tuple[Jail, Told, socket.socket],
) -> None:
    jail, found, there = told
    say(there, STEM)
    (connection,) = await jail.stem()
    os.close(connection)
    jail.specialise({"op": "specialise"}, [])
    resetting = asyncio.get_running_loop().create_task(jail.reset())
    await asyncio.sleep(0)
    say(there, EXIT, STEM)
    os.close(await resetting)
    assert [message["signal"] for message in found.exits] == [9]
    resetting = asyncio.get_running_loop().create_task(jail.reset())
    await asyncio.sleep(0)
    say(there, STEM, EXIT)
    with pytest.raises(Ended, match="ended before it was given a function"):
        await resetting
    assert len(found.exits) == 1


async def test_an_extension_may_end_while_the_runtime_waits(told: tuple[Jail, Told, socket.socket]) -> None:
    jail, found, there = told
    say(there, STEM, {**EXIT, "extension": "agent"})
    os.close((await jail.stem())[0])
    assert [message["extension"] for message in found.exits] == ["agent"]
    os.kill(jail.pid, 0)


async def test_who_has_ended_is_nobody(told: tuple[Jail, Told, socket.socket]) -> None:
    jail, _, _ = told
    os.close(jail.pidfd())
    await jail.stop()
    with pytest.raises(Ended):
        jail.pidfd()


class Group(ContainerGroup):
    """Says what is asked of it; `kills` is whether this kernel can kill a group."""

    kills = True

    def __init__(self) -> None:
        super().__init__(directories={}, memory=None, memory_v2=False, freezer=Path("/nonexistent"))
        self.asked: list[str] = []
        self._news = asyncio.Event()

    async def until(self, what: str) -> None:
        while self.asked[-1] != what:
            self._news.clear()
            await self._news.wait()

    def kill(self) -> bool:
        self.asked.append("kill")
        self._news.set()
        return self.kills

    def may_hurry(self) -> None:
        self.asked.append("may hurry")

    def hurry(self, on: bool) -> None:
        self.asked.append("hurry" if on else "no hurry")
        self._news.set()


@pytest.mark.looptime
async def test_those_that_a_jail_kills_in_time_come_first_and_not_for_long(init: int) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    group = Group()
    jail = Jail("a-1", 1, here, lambda _: None, lambda _: None)
    jail.group = group
    jail.adopt(init)
    began_s = asyncio.get_running_loop().time()
    jail.kill_at(SystemClock.monotonic() + 2)
    await asyncio.sleep(1.9)
    assert group.asked == ["may hurry"]
    await group.until("hurry")
    assert group.asked == ["may hurry", "kill", "hurry"], "never before the kill: they would run"
    assert asyncio.get_running_loop().time() - began_s == pytest.approx(2, abs=0.1)
    await asyncio.sleep(0.02)
    assert group.asked[3:] == ["no hurry"]

    jail.kill_at(SystemClock.monotonic())
    await group.until("hurry")
    await jail.stop()
    assert group.asked[4:] == ["may hurry", "kill", "hurry", "no hurry"], "what a stop has to kill must not wait for others"
    there.close()


async def test_a_kill_that_was_called_off_hurries_nobody(init: int) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    group = Group()
    jail = Jail("a-1", 1, here, lambda _: None, lambda _: None)
    jail.group = group
    jail.adopt(init)
    jail.kill_at(SystemClock.monotonic() + 60)
    await jail.stop()
    assert group.asked == ["may hurry"]
    there.close()


async def test_where_the_kernel_kills_no_groups_init_does_it_and_nothing_is_hurried(init: int) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    group = Group()
    group.kills = False
    jail = Jail("a-1", 1, here, lambda _: None, lambda _: None)
    jail.group = group
    jail.adopt(init)
    jail.kill_at(SystemClock.monotonic())
    await group.until("kill")
    assert messages.receive(there)[0] == {"op": "kill"}
    await jail.stop()
    assert group.asked == ["may hurry", "kill"]
    there.close()
