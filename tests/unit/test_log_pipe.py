"""Reading what a sandbox writes: all of it, in order, in bounded pieces, and all that is there when it is asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from sandbox.log_pipe import READ_BYTES, LogPipe


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    yield ends
    for end in ends:
        os.close(end)


async def test_drain_hands_over_what_is_there(pipe: tuple[int, int]) -> None:
    read, write = pipe
    got: list[bytes] = []
    log = LogPipe(read, got.append)
    log.drain()
    assert got == []
    os.write(write, b"one\n")
    os.write(write, b"two\n")
    log.drain()
    assert b"".join(got) == b"one\ntwo\n"
    log.close()


async def test_what_is_written_is_read_without_asking(pipe: tuple[int, int]) -> None:
    read, write = pipe
    got = asyncio.Queue[bytes]()
    log = LogPipe(read, got.put_nowait)
    os.write(write, b"line\n")
    assert await got.get() == b"line\n"
    log.close()


async def test_drain_does_not_follow_a_writer_that_never_stops(pipe: tuple[int, int]) -> None:
    read, write = pipe
    got: list[bytes] = []

    def write_on(data: bytes) -> None:
        got.append(data)
        os.write(write, b"x" * 100)

    log = LogPipe(read, write_on)
    os.write(write, b"x" * 100)
    log.drain()
    assert b"".join(got) == b"x" * 100
    log.sink = got.append
    log.close()
    assert len(b"".join(got)) == 200


async def test_one_read_a_turn(pipe: tuple[int, int]) -> None:
    read, write = pipe
    got: list[bytes] = []
    log = LogPipe(read, got.append)
    os.write(write, b"x" * 65536)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert max(map(len, got)) <= READ_BYTES
    log.close()
    assert sum(map(len, got)) == 65536


async def test_end_of_all_writers() -> None:
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    got: list[bytes] = []
    log = LogPipe(read, got.append)
    os.write(write, b"last")
    os.close(write)
    for _ in range(10):
        await asyncio.sleep(0)
    assert b"".join(got) == b"last"
    log.drain()
    log.close()
    log.close()
    os.close(read)


async def test_closed_reads_no_more(pipe: tuple[int, int]) -> None:
    read, write = pipe
    got: list[bytes] = []
    log = LogPipe(read, got.append)
    log.close()
    os.write(write, b"unheard")
    log.drain()
    await asyncio.sleep(0)
    assert got == []
