"""A response that is handed on while it comes: order, pace, length, and every way in which it does not come to its end.

Each test runs on asyncio's loop and on uvloop, which serves in production.
"""

from __future__ import annotations

import asyncio
import json

from sandbox.runtime_api.session import State
from tests.streams import Taker
from tests.unit.test_runtime_api_server import (
    EVENT,
    ID,
    MIB,
    NEXT,
    Client,
    Recorder,
    on_both_loops,
    response,
    serving,
    settle,
    until,
)

HEAD = (
    f"POST /2018-06-01/runtime/invocation/{ID}/response HTTP/1.1\r\nHost: x\r\n"
    "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n"
).encode()
PLAIN = b"Content-Type: text/plain\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def invoked(owner: Recorder, client: Client, taker: Taker) -> None:
    """An event is with the runtime; its answer goes to `taker`."""
    await client.send(NEXT)
    await until(lambda: owner.api.session.state is State.READY)
    owner.api.invoke(ID, EVENT, taker)
    assert (await client.answer())[0] == 200


@on_both_loops
async def test_each_piece_is_there_before_the_next_is_sent() -> None:
    async with serving() as (owner, connect):
        client, taker = await connect(), Taker()
        await invoked(owner, client, taker)
        await client.send(HEAD + PLAIN)
        await until(lambda: taker.content_type == "text/plain")
        for number in range(3):
            await client.send(chunk(b"piece %d" % number))
            await until(lambda number=number: len(taker.pieces) == number + 1)  # type: ignore[misc]
        assert owner.answers() == []
        await client.send(END)
        assert await client.answer() == (202, b'{"status":"OK"}')
        assert taker.data == b"piece 0piece 1piece 2"
        assert owner.answers() == [b""], "all of it is with the taker"
        await client.send(NEXT)
        await until(lambda: owner.api.session.state is State.READY)


@on_both_loops
async def test_what_came_at_once_is_one_piece() -> None:
    async with serving() as (owner, connect):
        client, taker = await connect(), Taker()
        await invoked(owner, client, taker)
        await client.send(HEAD + b"\r\n" + b"".join(chunk(b"%d," % number) for number in range(100)) + END)
        assert (await client.answer())[0] == 202
        assert taker.pieces == [b"".join(b"%d," % number for number in range(100))]
        assert taker.content_type == ""


@on_both_loops
async def test_a_whole_answer_of_known_length_is_handed_on_too() -> None:
    async with serving() as (owner, connect):
        client, taker = await connect(), Taker()
        await invoked(owner, client, taker)
        await client.send(response(b"x" * (7 * MIB), "Content-Type: application/json"))
        assert (await client.answer())[0] == 202
        assert (taker.size, taker.content_type) == (7 * MIB, "application/json"), "6 MB is the limit of what is collected"


@on_both_loops
async def test_who_asks_for_no_stream_gets_it_collected() -> None:
    async with serving() as (owner, connect):
        client = await connect()
        await client.send(NEXT)
        await until(lambda: owner.api.session.state is State.READY)
        owner.api.invoke(ID, EVENT)
        await client.answer()
        await client.send(HEAD + PLAIN + chunk(b"a") + chunk(b"b") + END)
        assert (await client.answer())[0] == 202
        assert owner.answers() == [b"ab"]


@on_both_loops
async def test_trailers_tell_of_an_error_after_what_came_before() -> None:
    async with serving() as (owner, connect):
        client, taker = await connect(), Taker()
        await invoked(owner, client, taker)
        trailers = b"Lambda-Runtime-Function-Error-Type: Function.Late\r\nLambda-Runtime-Function-Error-Body: eyJhIjoxfQ==\r\n"
        await client.send(HEAD + PLAIN + chunk(b"half"))
        await until(lambda: taker.pieces)
        await client.send(b"0\r\n" + trailers + b"\r\n")
        assert (await client.answer())[0] == 202
        assert taker.data == b"half"
        assert owner.news[-1] == ("answer", b'{"a":1}', "application/json", "Function.Late")


@on_both_loops
async def test_a_taker_that_is_full_makes_the_runtime_wait() -> None:
    async with serving() as (owner, connect):
        client, taker = await connect(), Taker(full_at=1)
        await invoked(owner, client, taker)
        size = 32 * MIB
        writing = asyncio.get_running_loop().create_task(client.send(HEAD + PLAIN + chunk(b"x" * size) + END))
        await until(lambda: taker.pieces)
        await settle(200)
        held = taker.size
        assert held < MIB, "no more than one read"
        assert not writing.done(), "the sockets' buffers are full"
        assert owner.api.held
        taker.resume()
        await writing
        assert (await client.answer())[0] == 202
        assert taker.size == size
        assert not owner.api.held


@on_both_loops
async def test_the_connection_is_read_again_after_an_answer_that_ended_while_its_taker_was_full() -> None:
    async with serving() as (owner, connect):
        client, taker = await connect(), Taker(full_at=1)
        await invoked(owner, client, taker)
        await client.send(HEAD + PLAIN + chunk(b"all") + END)
        assert (await client.answer())[0] == 202
        await client.send(NEXT)
        await until(lambda: owner.api.session.state is State.READY)
        taker.resume()  # late, and harmless
        taker.pause()
        owner.api.invoke(ID, EVENT)
        assert (await client.answer())[0] == 200


@on_both_loops
async def test_too_much_is_cut_and_both_sides_hear_of_it() -> None:
    async with serving() as (owner, connect):
        client, taker = await connect(), Taker(limit_bytes=10)
        await invoked(owner, client, taker)
        await client.send(HEAD + PLAIN + chunk(b"12345"))
        await until(lambda: taker.pieces)
        await client.send(chunk(b"67890") + chunk(b"1") + chunk(b"x" * 100_000) + END)
        status, body = await client.answer()
        assert (status, json.loads(body)["errorMessage"]) == (413, "Exceeded maximum allowed payload size (10 bytes).")
        assert taker.data == b"1234567890"
        kind, payload, _, error_type = owner.news[-1]
        assert (kind, error_type) == ("answer", "Function.ResponseSizeTooLarge")
        assert "(10 bytes)" in json.loads(payload)["errorMessage"]
        await client.send(NEXT)
        await until(lambda: owner.api.session.state is State.READY)


@on_both_loops
async def test_an_answer_that_says_itself_that_it_is_too_long_is_not_begun() -> None:
    async with serving() as (owner, connect):
        client, taker = await connect(), Taker(limit_bytes=2_000_000)
        await invoked(owner, client, taker)
        await client.send(response(b"x" * 2_000_001))
        assert (await client.answer())[0] == 413
        assert taker.content_type is None


@on_both_loops
async def test_a_stream_that_breaks_off_cannot_come_again() -> None:
    async with serving() as (owner, connect):
        client, taker = await connect(), Taker()
        await invoked(owner, client, taker)
        await client.send(HEAD + PLAIN + chunk(b"half") + b"5\r\nab")
        await until(lambda: taker.data == b"halfab")
        await client.close()
        await until(lambda: owner.api.session.state is State.CUT)
        assert "torn" in owner.news
        again = await connect()
        await again.send(response(b"all of it"))
        assert (await again.answer())[0] == 403
        assert taker.data == b"halfab"
        await again.send(NEXT)
        await until(lambda: owner.news[-1] == ("next", State.CUT))


@on_both_loops
async def test_an_invalid_mode_is_refused_before_anything_is_begun() -> None:
    async with serving() as (owner, connect):
        client, taker = await connect(), Taker()
        await invoked(owner, client, taker)
        await client.send(response(b"x", "Lambda-Runtime-Function-Response-Mode: other"))
        assert (await client.answer())[0] == 400
        assert taker.content_type is None
        assert owner.news[-1][3] == "Runtime.InvalidResponseModeHeader"


@on_both_loops
async def test_an_error_instead_of_a_response_is_no_stream() -> None:
    async with serving() as (owner, connect):
        client, taker = await connect(), Taker()
        await invoked(owner, client, taker)
        await client.send(response(b'{"errorType":"E"}').replace(b"/response", b"/error"))
        assert (await client.answer())[0] == 202
        assert taker.content_type is None
        assert owner.news[-1][1] == b'{"errorType":"E"}'


@on_both_loops
async def test_nothing_counts_after_the_runtime_was_dismissed() -> None:
    async with serving() as (owner, connect):
        client, taker = await connect(), Taker()
        await invoked(owner, client, taker)
        await client.send(HEAD + PLAIN + chunk(b"before"))
        await until(lambda: taker.pieces)
        owner.api.dismiss(late=True)
        await client.send(chunk(b"after") + END)
        assert (await client.answer())[0] == 410
        assert taker.data == b"before"
        assert owner.answers() == []


@on_both_loops
async def test_a_stream_of_very_many_small_pieces() -> None:
    """Sizes and data that come apart, again and again, are no head that comes in crumbs."""
    async with serving() as (owner, connect):
        client, taker = await connect(), Taker()
        await invoked(owner, client, taker)
        await client.send(HEAD + PLAIN)
        for _ in range(30):
            await client.send(b"1\r\nx\r\n" * 1000, step=4003)
        await client.send(END)
        assert (await client.answer())[0] == 202
        assert taker.data == b"x" * 30_000
