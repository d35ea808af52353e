"""Messages between processes: whole or not at all, and none ends what the others go through."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest

from sandbox.guest import messages
from sandbox.native.channel import Channel, Message


class Peers:
    """Two channels that are each other's peers, and what the second one hears."""

    def __init__(self) -> None:
        self.here, self.there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.heard: asyncio.Queue[Message] = asyncio.Queue()
        self.ended: list[str] = []
        self.sender = Channel(self.here, lambda _, __: None, lambda: self.ended.append("sender"))
        self.receiver = Channel(
            self.there, lambda message, _: self.heard.put_nowait(message), lambda: self.ended.append("receiver")
        )

    async def next(self) -> Message:
        async with asyncio.timeout(10):
            return await self.heard.get()


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    made = Peers()
    yield made
    assert made.ended == []
    made.sender.close()
    made.receiver.close()


def of_size(size_bytes: int) -> Message:
    return {"m": "x" * (size_bytes - len('{"m":""}'))}


async def test_the_largest_message_arrives_and_a_larger_one_is_refused(peers: Peers) -> None:
    passed = os.open("/dev/null", os.O_RDONLY)
    with pytest.raises(messages.TooLarge, match="163841 bytes, where 163840 are the most"):
        peers.sender.send(of_size(messages.MAX_MESSAGE_BYTES + 1), [passed])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(passed)
    for size_bytes in (messages.MAX_MESSAGE_BYTES, 10):
        peers.sender.send(of_size(size_bytes))
        assert await peers.next() == of_size(size_bytes)


async def test_a_host_can_have_smaller_buffers(peers: Peers) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)  # which the kernel doubles
    channel = Channel(here, lambda _, __: None, lambda: None)
    channel.send(of_size(20_000 - 32))
    with pytest.raises(messages.TooLarge):
        channel.send(of_size(20_000 - 31))
    assert not channel.closed
    channel.close()
    there.close()


async def test_what_the_kernel_does_not_take_is_dropped_alone(peers: Peers) -> None:
    peers.here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
    peers.sender.send(of_size(30_000))
    peers.sender.send({"next": 1})
    assert await peers.next() == {"next": 1}


async def test_what_comes_without_its_end_is_dropped_alone(peers: Peers) -> None:
    with socket.socket() as passed:
        messages.send_encoded(peers.here, messages.encode(of_size(messages.MAX_MESSAGE_BYTES + 1)).encode(), [passed.fileno()])
    peers.sender.send({"next": 1})
    assert await peers.next() == {"next": 1}


def test_an_init_sends_no_larger_message_either() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there, pytest.raises(messages.TooLarge):
        messages.send(here, of_size(messages.MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize("text", ["plain", "größer 😀", 'with "quotes"\n', "a file's byte \udcff"])
async def test_texts_arrive_as_they_were(peers: Peers, text: str) -> None:
    peers.sender.send({"name": text})
    assert await peers.next() == {"name": text}
