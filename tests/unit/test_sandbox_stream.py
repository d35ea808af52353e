"""A sandbox whose answer is taken while it comes: what ends it, and what its caller gets to know. Under virtual time."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import pytest

from sandbox import sandbox as module
from sandbox.fake_driver import FakeRuntime
from sandbox.lifecycle import State
from sandbox.outcome import Outcome, Status
from tests.sandboxes import SPEC, Rig, echo, rig, work
from tests.streams import Taker

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


async def stream(runtime: FakeRuntime, request_id: str, *pieces: bytes, pause_s: float = 0.0) -> None:
    """The head and these pieces of a streamed response; what comes after is the caller's business."""
    path = f"/2018-06-01/runtime/invocation/{request_id}/response"
    mode = "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n"
    await runtime.send(f"POST {path} HTTP/1.1\r\nHost: h\r\n{mode}\r\n".encode())
    for piece in pieces:
        await runtime.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await runtime.sleep(pause_s)


async def does_as_told(runtime: FakeRuntime) -> None:
    """Streams "one" and "two", a second apart, and ends as the event says."""
    while True:
        request_id, payload = await runtime.next()
        if payload == b"{}":
            await runtime.respond(request_id, b"whole")
            continue
        if payload == b'"fails"':
            await runtime.fail(request_id, b'{"errorType":"Early"}')
            continue
        await stream(runtime, request_id, b"one", b"two", pause_s=1)
        match payload:
            case b'"exits"':
                runtime.exit(3)
            case b'"hangs"':
                await runtime.hang()
            case b'"breaks"':
                await runtime.disconnect()
                await runtime.hang()
            case b'"goes on"':
                await runtime.disconnect()
                continue
        await runtime.send(b"0\r\n\r\n")
        await runtime.receive()


async def run(made: Rig, taker: Taker, payload: bytes = b'"streams"', timeout_s: float = 10.0) -> Outcome:
    outcome = await made.user.begin(work(payload, timeout_s, stream=taker))
    await made.user.idle()
    return outcome


async def test_pieces_come_while_the_function_still_runs() -> None:
    async with rig(does_as_told) as made:
        taker = Taker()
        outcome = made.user.begin(work(b'"streams"', 10, stream=taker))
        await asyncio.sleep(0.5)
        assert (taker.data, outcome.done()) == (b"one", False)
        ended = await outcome
        assert (ended.status, ended.payload, taker.data) == (Status.SUCCESS, b"", b"onetwo")
        assert ended.duration_s == pytest.approx(2, abs=0.01)
        await made.user.idle()
        assert made.sandbox.state is State.READY


async def test_the_next_invocation_is_as_usual() -> None:
    async with rig(does_as_told) as made:
        await run(made, Taker())
        assert (await made.user.run()).payload == b"whole"
        taker = Taker()
        assert (await run(made, taker, b"{}")).payload == b""
        assert taker.data == b"whole"


@pytest.mark.parametrize("connected", [True, False])
async def test_a_whole_answer_in_one_piece_with_next_may_come_as_a_whole(connected: bool) -> None:
    async with rig(echo, connected=connected) as made:
        taker = Taker()
        outcome = await run(made, taker, b"1")
        assert (outcome.payload or taker.data) == b"1"


async def test_an_error_before_the_first_byte() -> None:
    async with rig(does_as_told) as made:
        taker = Taker()
        outcome = await run(made, taker, b'"fails"')
        assert (outcome.status, outcome.payload, taker.content_type) == (Status.ERROR, b'{"errorType":"Early"}', None)


async def test_timeout_in_the_middle() -> None:
    async with rig(does_as_told) as made:
        taker = Taker()
        outcome = await run(made, taker, b'"hangs"', timeout_s=3)
        assert (outcome.status, taker.data) == (Status.TIMEOUT, b"onetwo")
        assert json.loads(outcome.payload)["errorType"] == "Sandbox.Timedout"
        assert now() == pytest.approx(3, abs=0.01)
        assert (await made.user.run()).payload == b"whole"


async def test_exit_in_the_middle() -> None:
    async with rig(does_as_told) as made:
        taker = Taker()
        outcome = await run(made, taker, b'"exits"')
        assert (outcome.status, outcome.error_type, taker.data) == (Status.FAILURE, "Runtime.ExitError", b"onetwo")
        assert "exit status 3" in json.loads(outcome.payload)["errorMessage"]
        assert (await made.user.run()).payload == b"whole"


@pytest.mark.parametrize("payload", [b'"breaks"', b'"goes on"'])
async def test_a_connection_that_breaks_in_the_middle(payload: bytes) -> None:
    async with rig(does_as_told) as made:
        taker = Taker()
        outcome = await run(made, taker, payload)
        assert (outcome.error_type, taker.data) == ("Runtime.TruncatedResponse", b"onetwo")
        assert now() <= 2 + module.TORN_GRACE_S + 0.01
        assert (await made.user.run()).payload == b"whole"


async def test_stop_in_the_middle() -> None:
    async with rig(does_as_told) as made:
        taker = Taker()
        outcome = made.user.begin(work(b'"hangs"', 10, stream=taker))
        await asyncio.sleep(0.5)
        await made.sandbox.stop()
        assert (await outcome).error_type == "Sandbox.Failure"
        assert taker.data == b"one"
        taker.resume()  # whoever took it may still do that


async def test_the_last_words_of_a_runtime_that_ended_wait_for_a_slow_taker() -> None:
    size = 300_000

    async def ends(runtime: FakeRuntime) -> None:
        request_id, _ = await runtime.next()
        await stream(runtime, request_id, b"x" * size)
        runtime.exit(1)

    async with rig(ends) as made:
        taker = Taker(full_at=1)
        outcome = made.user.begin(work(b"1", 60, stream=taker))
        await asyncio.sleep(5)
        assert not outcome.done()
        taker.resume()
        assert (await outcome).error_type == "Runtime.ExitError"
        assert taker.size == size


async def test_a_taker_that_never_takes_meets_the_deadline() -> None:
    async def endless(runtime: FakeRuntime) -> None:
        request_id, _ = await runtime.next()
        while True:
            await stream(runtime, request_id, *(b"x" * 100_000 for _ in range(1000)))

    async with rig(endless) as made:
        taker = Taker(full_at=1)
        outcome = await run(made, taker, b"1", timeout_s=3)
        assert outcome.status is Status.TIMEOUT
        assert taker.size < 1_000_000


async def test_who_logs_in_json_knows_when_an_answer_began_and_how_much_was_streamed() -> None:
    async def late(runtime: FakeRuntime) -> None:
        for whole in (False, True):
            request_id, _ = await runtime.next()
            await runtime.sleep(2)
            if whole:
                await runtime.respond(request_id, b"whole")
            else:
                await stream(runtime, request_id, b"one", b"two", pause_s=1)
                await runtime.send(b"0\r\n\r\n")
                await runtime.receive()
        await runtime.next()

    async with rig(late, spec=dataclasses.replace(SPEC, log_format="JSON")) as made:
        outcome = await run(made, Taker(), timeout_s=10)
        assert made.sandbox.first_byte_s == pytest.approx(2, abs=0.01)
        assert outcome.duration_s == pytest.approx(4, abs=0.01)
        assert made.sandbox.streamed_bytes == 6
        assert (await made.user.run(b"1", 10)).payload == b"whole"
        assert made.sandbox.first_byte_s in (None, pytest.approx(2, abs=0.01))
        assert made.sandbox.streamed_bytes == 0, "what the one before streamed is not this one's"
