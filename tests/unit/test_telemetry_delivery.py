"""Batches on their way to a listener: what makes one, what becomes of it, and of what a listener can't or won't take.

Real sockets, real listeners; time is virtual where only time passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sandbox.errors import SandboxGone
from sandbox.telemetry.delivery import HttpSender, Rejected, TcpSender
from sandbox.telemetry.subscriber import Subscriber
from sandbox.telemetry.subscription import Category, Subscription

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def subscription(port: int = 80, **changes: Any) -> Subscription:
    usual: dict[str, Any] = {
        "logs": False,
        "schema": "2022-07-01",
        "types": frozenset(Category),
        "max_items": 1000,
        "max_bytes": 262_144,
        "timeout_s": 1.0,
        "port": port,
        "path": "/here",
    }
    return Subscription(**{**usual, **changes})


async def dial() -> socket.socket:
    made = socket.socket()
    made.setblocking(False)
    return made


@contextlib.asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*tasks)  # their senders are closed


async def request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line.split(": ")[1]) for line in head.split("\r\n") if line.startswith("Content-Length"))
    return head, await reader.readexactly(length)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"


async def test_http_keeps_its_connection() -> None:
    connections = 0
    bodies: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            head, body = await request(reader)
            assert head.startswith("POST /here HTTP/1.1\r\nHost: sandbox.localdomain:")
            assert "Content-Type: application/json\r\n" in head
            bodies.append(json.loads(body))
            writer.write(OK)

    async with listening(serve) as port:
        sender = HttpSender(subscription(port), dial)
        await sender.send([b'{"a":1}', b'{"b":2}'])
        await sender.send([b'{"c":3}'])
        sender.close()
    assert (connections, bodies) == (1, [[{"a": 1}, {"b": 2}], [{"c": 3}]])


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nOK\r\n0\r\n\r\n",
    ],
)
async def test_listeners_that_close_after_each_answer(answer: bytes) -> None:
    taken = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await request(reader)
        taken += 1
        writer.write(answer)

    async with listening(serve) as port:
        sender = HttpSender(subscription(port, method="PUT"), dial)
        for _ in range(3):
            await sender.send([b"1"])
        sender.close()
    assert taken == 3


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 404 No\r\n\r\n", b"no HTTP\r\n\r\n", b""]
)
async def test_listeners_that_fail(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(answer)

    async with listening(serve) as port:
        sender = HttpSender(subscription(port), dial)
        with pytest.raises((Rejected, ConnectionResetError)):
            await sender.send([b"1"])
        sender.close()
    with pytest.raises(ConnectionRefusedError):
        await sender.send([b"1"])


async def test_cancelled_it_leaves_no_connection() -> None:
    """The second time on the connection of the first."""
    silent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK)
        await request(reader)
        silent.set()
        assert await reader.read() == b"", "it is closed"

    async with listening(serve) as port:
        sender = HttpSender(subscription(port), dial)
        await sender.send([b"1"])
        sending = asyncio.get_running_loop().create_task(sender.send([b"2"]))
        await silent.wait()
        sending.cancel()
        await asyncio.wait({sending})
        sender.close()


async def test_no_way_in_is_as_no_listener() -> None:
    async def nowhere() -> socket.socket:
        raise SandboxGone

    for sender in (HttpSender(subscription(), nowhere), TcpSender(subscription(path=None), nowhere)):
        with pytest.raises(OSError, match="no way to the listener"):
            await sender.send([b"1"])


async def test_tcp_sends_lines() -> None:
    came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set_result(await reader.readexactly(12))

    async with listening(serve) as port:
        sender = TcpSender(subscription(port, path=None), dial)
        await sender.send([b"{1}", b"{2}"])
        await sender.send([b"{3}"])
        assert await came == b"{1}\n{2}\n{3}\n"
        sender.close()


async def test_tcp_waits_for_a_slow_listener() -> None:
    going_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await going_on.wait()
        while await reader.read(1 << 20):
            pass

    async with listening(serve) as port:
        sender = TcpSender(subscription(port, path=None), dial)
        sending = asyncio.get_running_loop().create_task(sender.send([b"x" * 1_000_000] * 20))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(sending), 0.1)
        going_on.set()
        await sending
        sender.close()


# Batches, under virtual time.


class Recorder:
    """A sender that takes what it is given when `open` is set, and fails as often as `failures` says."""

    separator = ","

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.times: list[float] = []
        self.failures = 0
        self.open = asyncio.Event()
        self.open.set()
        self.closed = False

    async def send(self, batch: list[bytes]) -> None:
        self.times.append(asyncio.get_running_loop().time())
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise ConnectionRefusedError
        self.batches.append(batch)

    def close(self) -> None:
        self.closed = True


@contextlib.asynccontextmanager
async def subscribed(collect: Callable[[], None] = lambda: None, **changes: Any) -> AsyncIterator[tuple[Subscriber, Recorder]]:
    recorder = Recorder()
    subscriber = Subscriber(
        "e", subscription(**changes), recorder, lambda records, size: b"dropped %d %d" % (records, size), collect
    )
    running = asyncio.get_running_loop().create_task(subscriber.run())
    yield subscriber, recorder
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert recorder.closed


@pytest.mark.looptime
async def test_a_batch_is_sent_when_it_is_old() -> None:
    async with subscribed(timeout_s=0.5) as (subscriber, recorder):
        subscriber.put(b"1")
        await asyncio.sleep(0.3)
        subscriber.put(b"2")
        await asyncio.sleep(0.3)
        assert (recorder.batches, recorder.times) == ([[b"1", b"2"]], [0.5])
        await asyncio.sleep(5)
        assert len(recorder.batches) == 1, "nothing is not sent"


@pytest.mark.looptime
async def test_a_batch_is_sent_when_it_is_full() -> None:
    async with subscribed() as (subscriber, recorder):
        for _ in range(1000):
            subscriber.put(b"1")
        await asyncio.sleep(0.01)
        assert len(recorder.batches[0]) == 1000
    async with subscribed() as (subscriber, recorder):
        subscriber.put(b"x" * 262_144)
        await asyncio.sleep(0.01)
        assert len(recorder.batches) == 1


@pytest.mark.looptime
async def test_events_that_come_together_count_each() -> None:
    async with subscribed() as (subscriber, recorder):
        for _ in range(334):
            subscriber.put(b"1,2,3", 3)
        await asyncio.sleep(0.01)
        assert [len(batch) for batch in recorder.batches] == [333], "and not the 1,002 that all would be"
        recorder.open.clear()
        for _ in range(334):
            subscriber.put(b"1,2,3", 3)
        await asyncio.sleep(0.01)
        for _ in range(334):
            subscriber.put(b"1,2,3", 3)
        recorder.open.set()
        await asyncio.sleep(5)
        assert [len(batch) for batch in recorder.batches] == [333, 333, 333 + 1]
        assert recorder.batches[2][-1] == b"dropped 9 15"


@pytest.mark.looptime
async def test_a_full_batch_makes_room_in_the_same_step() -> None:
    """What comes in one turn of the loop is more than one batch holds; nobody has fallen behind."""
    async with subscribed() as (subscriber, recorder):
        for _ in range(1500):
            subscriber.put(b"1")
        await asyncio.sleep(5)
        assert [len(batch) for batch in recorder.batches] == [1000, 500]


@pytest.mark.looptime
async def test_what_is_expected_is_made_when_the_batch_goes() -> None:
    made: list[float] = []

    def collect() -> None:
        made.append(asyncio.get_running_loop().time())
        subscriber.put(b"%d" % len(made))

    async with subscribed(collect=collect) as (subscriber, recorder):
        subscriber.expect()
        await asyncio.sleep(0.5)
        subscriber.expect()
        await asyncio.sleep(5)
        assert (made, recorder.batches) == ([1.0], [[b"1"]])
        recorder.open.clear()
        subscriber.flush()
        await asyncio.sleep(0.1)
        subscriber.expect()  # while one is under way
        recorder.open.set()
        await asyncio.sleep(5)
        assert recorder.batches[1:] == [[b"2"], [b"3"]]


@pytest.mark.looptime
async def test_who_falls_behind_is_told_what_it_missed() -> None:
    async with subscribed() as (subscriber, recorder):
        recorder.open.clear()
        for _ in range(3):
            for _ in range(1000):
                subscriber.put(b"12")
            await asyncio.sleep(0.01)
        assert recorder.batches == []
        recorder.open.set()
        await asyncio.sleep(0.01)
        assert [len(batch) for batch in recorder.batches] == [1000, 1001]
        assert recorder.batches[1][-1] == b"dropped 1000 2000"
        await asyncio.sleep(5)
        assert len(recorder.batches) == 2


@pytest.mark.looptime
async def test_who_wants_no_platform_events_is_not_told_of_drops() -> None:
    async with subscribed(types=frozenset({Category.FUNCTION})) as (subscriber, recorder):
        recorder.open.clear()
        subscriber.put(b"x" * 262_144)
        await asyncio.sleep(0.01)
        subscriber.put(b"y" * 262_144)
        subscriber.put(b"z")
        recorder.open.set()
        await asyncio.sleep(0.01)
        assert [len(batch) for batch in recorder.batches] == [1, 1]


@pytest.mark.looptime
async def test_a_failed_batch_comes_again_ever_more_slowly() -> None:
    async with subscribed(timeout_s=0.025) as (subscriber, recorder):
        recorder.failures = 9
        subscriber.put(b"1")
        await asyncio.sleep(60)
        waits = [later - earlier for earlier, later in zip(recorder.times, recorder.times[1:], strict=False)]
        assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5])
        assert recorder.batches == [[b"1"]]


@pytest.mark.looptime
async def test_flush_sends_at_once_and_nothing_twice() -> None:
    async with subscribed() as (subscriber, recorder):
        subscriber.flush()
        subscriber.put(b"1")
        subscriber.flush()
        await asyncio.sleep(0.001)
        assert recorder.times == [0.0]
        await asyncio.sleep(5)
        assert recorder.batches == [[b"1"]]
