"""Logs over HTTP, as `lambent logs` reads them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.observe.log_files import LogEvent, Position
from tests.wire.edge import Client, Edge, function, serving

API = {"Host": "127.0.0.1:9000"}


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with serving(tmp_path, function()) as edge:
        yield edge


def lines(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body.splitlines()]


async def test_what_was_written(edge: Edge) -> None:
    stream = edge.logs.open("echo", "/aws/lambda/echo", "s")
    stream.platform("START")
    stream.output(b"\xffhello\n")
    answer = await edge.request("GET", "/_lambent/logs/echo", API)
    assert (answer.status, answer["Content-Type"]) == (200, "application/x-ndjson")
    found = lines(answer.body)
    assert [(entry["stream"], entry["message"]) for entry in found] == [("s", "START"), ("s", "\ufffdhello")]
    later = found[-1]["timestamp"] + 1
    assert (await edge.request("GET", f"/_lambent/logs/echo?since={later}", API)).body == b""
    assert (await edge.request("GET", f"/_lambent/logs/echo?since={found[0]['timestamp']}", API)).body == answer.body


async def test_function_without_a_log_and_log_without_a_function(edge: Edge) -> None:
    answer = await edge.request("GET", "/_lambent/logs/echo", API)
    assert (answer.status, answer.body) == (200, b"")
    edge.logs.open("gone", "g", "s").output(b"x\n")
    assert len(lines((await edge.request("GET", "/_lambent/logs/gone", API)).body)) == 1
    for nobody in ("nobody", "n" * 252, "n" * 5000):
        missing = await edge.request("GET", f"/_lambent/logs/{nobody}", API)
        assert (missing.status, missing["x-amzn-ErrorType"]) == (404, "ResourceNotFoundException")


@pytest.mark.parametrize("since", ["x", "-1", "1.5", "9" * 20, "%D9%A2"])
async def test_since_that_is_no_time(edge: Edge, since: str) -> None:
    assert (await edge.request("GET", f"/_lambent/logs/echo?since={since}", API)).status == 400


async def follow(edge: Edge) -> Client:
    client = await edge.connect()
    client.write("GET", "/_lambent/logs/echo?follow=1", API)
    await client.reader.readuntil(b"\r\n\r\n")
    return client


async def entry(client: Client) -> str:
    size = int(await client.reader.readline(), 16)
    data = await client.reader.readexactly(size + 2)
    return "|".join(line["message"] for line in lines(data[:-2]))


async def test_follow(edge: Edge) -> None:
    stream = edge.logs.open("echo", "g", "s")
    stream.output(b"before\n")
    async with contextlib.aclosing(await follow(edge)) as client:
        assert await entry(client) == "before"
        for n in range(3):
            stream.output(b"%d\n" % n)
            assert await entry(client) == str(n)


async def test_drain_ends_followers_and_does_not_wait_for_them(edge: Edge) -> None:
    async with contextlib.aclosing(await follow(edge)) as client:
        edge.logs.open("echo", "g", "s").output(b"last\n")
        assert await entry(client) == "last"
        await edge.server.drain(60)
        assert await client.reader.read() == b"0\r\n\r\n"


async def test_follower_that_leaves_is_forgotten(edge: Edge) -> None:
    before = asyncio.all_tasks()
    async with contextlib.aclosing(await follow(edge)):
        pass
    if handling := asyncio.all_tasks() - before - {asyncio.current_task()}:
        await asyncio.wait(handling)
    assert repr(edge.server) == "<EdgeServer accepting, 0 running>"


async def test_an_error_in_the_middle_breaks_off(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the client can tell: an answer that ended properly would be the whole log."""
    stream = edge.logs.open("echo", "g", "s")
    stream.output(b"before\n")
    async with contextlib.aclosing(await follow(edge)) as client:
        assert await entry(client) == "before"

        def broken(*_: object) -> None:
            raise OSError("the disk is gone")

        monkeypatch.setattr(edge.logs, "read_from", broken)
        stream.output(b"after\n")
        assert await client.reader.read() == b""


async def test_reader_that_never_reads_costs_one_piece_of_memory(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[int] = []
    read_from = edge.logs.read_from

    def counted(function_name: str, position: Position) -> tuple[list[LogEvent], Position]:
        events, after = read_from(function_name, position)
        pieces.append(sum(len(event.message) for event in events))
        return events, after

    monkeypatch.setattr(edge.logs, "read_from", counted)
    stream = edge.logs.open("echo", "g", "s")
    async with contextlib.aclosing(await follow(edge)) as client:
        cast("asyncio.Transport", client.writer.transport).pause_reading()
        for _ in range(250):
            stream.output((b"x" * 99 + b"\n") * 1000)
            await asyncio.to_thread(edge.logs.flush)
        assert edge.logs.taken - edge.logs.written == 0
        # 25 MB were written; what was read of it is what fits into the socket's buffers, and one piece
        assert sum(pieces) < 12_000_000
        client.writer.transport.abort()
