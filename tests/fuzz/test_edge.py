"""Any bytes on a connection: HTTP answers or silence, a server that lives on, and no error in its log.

Requests that are valid are changed at random and sent whole, byte by byte, or cut short.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
from pathlib import Path

import pytest

from tests.wire.edge import HOST, URL_ID, Edge, function, serving

SEEDS = (
    f"GET /a/b?c=d%20&e HTTP/1.1\r\nHost: {HOST}\r\nCookie: a=1\r\n\r\n".encode(),
    f"POST /_urls/{URL_ID}/x HTTP/1.1\r\nHost: h\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello".encode(),
    f"POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".encode(),
    b'POST /2015-03-31/functions/echo/invocations?Qualifier=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{"a": 1}\n',
    b"GET /_lambent/logs/echo?since=1 HTTP/1.1\r\nHost: h\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n",
    b"PUT /2015-03-31/functions/echo/code HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n{}\n",
    f"OPTIONS / HTTP/1.1\r\nHost: {HOST}\r\nOrigin: http://a\r\nAccess-Control-Request-Method: GET\r\n\r\n".encode(),
)
WORDS = (
    b"\r\n",
    b"\n",
    b"\x00",
    b"\xff",
    b":",
    b" ",
    b"%",
    b"Content-Length: 99\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: x\r\n",
)


def changed(request: bytes, dice: random.Random) -> bytes:
    data = bytearray(request)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(4):
            case 0:
                data[at:at] = dice.choice(WORDS)
            case 1:
                del data[at : at + dice.randint(1, 8)]
            case 2 if at < len(data):
                data[at] = dice.randrange(256)
            case _:
                data[at:] = data[at : dice.randint(at, len(data))]
    return bytes(data)


async def answers(edge: Edge, data: bytes, dice: random.Random) -> bytes:
    async with contextlib.aclosing(await edge.connect()) as client:
        with contextlib.suppress(ConnectionError):
            if dice.random() < 0.2:
                for byte in data:
                    client.writer.write(bytes([byte]))
                    await client.writer.drain()
            else:
                client.writer.write(data)
            return await client.reader.read()
    return b""


@pytest.mark.parametrize("seed", range(8))
async def test_any_bytes(tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(seed)
    cases = [changed(dice.choice(SEEDS), dice) for _ in range(60)]
    async with serving(tmp_path, function(), body_grace_s=0.05, keep_alive_s=0.05) as edge:
        with caplog.at_level(logging.INFO):
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(answers(edge, case, random.Random(seed + n))) for n, case in enumerate(cases)]
            for case, task in zip(cases, running, strict=True):
                found = task.result()
                assert found == b"" or re.match(rb"HTTP/1\.1 [1-5]\d\d ", found), case
                assert b"Traceback" not in found
            assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert (await edge.request("GET", "/")).status == 200
