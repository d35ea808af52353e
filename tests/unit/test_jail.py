"""A jail whose init says several things in one breath."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator

import pytest

from sandbox.docker.cgroups import NONE
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
    jail = Jail("a-1", 1, NONE, here, found.exits.append, found.went)
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
