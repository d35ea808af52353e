"""One sandbox, from its function to its end: what comes of an invocation, and every race that `sandbox.sandbox` names.

On the fake driver, with real sockets and pipes, under virtual time.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import socket
from collections.abc import Awaitable, Callable

import pytest

from sandbox import sandbox as module
from sandbox.driver import ExitStatus
from sandbox.environment import Credentials
from sandbox.errors import SandboxError, SandboxGone
from sandbox.fake_driver import MIB, FakeDriver, FakeExtension, FakeRuntime
from sandbox.lifecycle import IllegalEvent, State
from sandbox.outcome import Outcome, Status
from sandbox.sandbox import ApiInside, Sandbox
from sandbox.testing import PlainLog
from tests.sandboxes import KEY, SPEC, LoopClock, User, echo, rig, work

pytestmark = pytest.mark.looptime

INIT_ERROR = b'{"errorMessage":"Runtime startup fails","errorType":"Exception","requestId":"","stackTrace":[]}'


def now() -> float:
    return asyncio.get_running_loop().time()


def script(handle_event: Callable[[FakeRuntime, str, bytes], Awaitable[None]]) -> Callable[[FakeRuntime], Awaitable[None]]:
    """A runtime that says "init", then gives each event to `handle_event`."""

    async def run(runtime: FakeRuntime) -> None:
        await runtime.print(b"init\n")
        while True:
            await handle_event(runtime, *await runtime.next())

    return run


@script
async def usual(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
    """Does what the event says, and echoes it."""
    match payload:
        case b'"hang"':
            await runtime.hang()
        case b'"exit"':
            runtime.exit(3)
        case b'"write"':
            runtime.tmp["file"] = b"kept"
        case b'"read"':
            payload = runtime.tmp.get("file", b"null")
        case b'"error"':
            await runtime.fail(request_id, b'{"errorType":"Oops"}')
            return
        case b'"print"':
            await runtime.print(b"printed\n")
    await runtime.respond(request_id, payload)


def failure(outcome: Outcome) -> dict[str, str]:
    document = json.loads(outcome.payload)
    assert isinstance(document, dict)
    return document


# The usual course.


async def test_an_invocation() -> None:
    async with rig(usual) as made:
        assert made.sandbox.state is State.READY
        assert made.user.news == [], "on_idle is not called for Init"
        outcome = await made.user.run(b'{"a":1}')
        assert (outcome.status, outcome.payload, outcome.content_type) == (Status.SUCCESS, b'{"a":1}', "application/json")
        assert outcome.max_memory_bytes == made.handle.peak_bytes
        assert made.user.news == ["settled", "idle"]
        assert made.sandbox.state is State.READY


class HandClock(LoopClock):
    """Stands still until it is told."""

    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


async def test_the_memory_peak_is_read_when_it_can_have_grown_or_is_old() -> None:
    clock = HandClock()

    async def slow(runtime: FakeRuntime) -> None:
        while True:
            request_id, payload = await runtime.next()
            clock.now_s += json.loads(payload)
            await runtime.respond(request_id, payload)

    async with rig(slow, clock=clock) as made:
        peaks = []
        for took_s, pause_s in ((0.0, 0.0), (0.001, 0.0), (0.003, 0.0), (0.0, 0.01), (0.0, 0.06), (0.0, 0.0)):
            clock.now_s += pause_s
            made.handle.peak_bytes += MIB
            outcome = await made.user.run(json.dumps(took_s).encode())
            peaks.append((made.handle.peak_bytes - outcome.max_memory_bytes) // MIB)
        assert peaks == [0, 1, 0, 1, 0, 1]


async def test_processors_are_rationed_when_init_is_over() -> None:
    begun = asyncio.Event()
    over = asyncio.Event()

    async def script(runtime: FakeRuntime) -> None:
        begun.set()
        await over.wait()
        await echo(runtime)

    async with rig(script, init=False) as found:
        init = asyncio.get_running_loop().create_task(found.sandbox.init(SPEC, PlainLog(found.user.write_log)))
        await begun.wait()
        assert not found.handle.rationed
        over.set()
        await init
        assert found.handle.rationed


async def test_init_duration_is_reported_by_the_first_invocation_only() -> None:
    async def slow(runtime: FakeRuntime) -> None:
        await runtime.sleep(1.5)
        await echo(runtime)

    async with rig(slow) as made:
        assert (await made.user.run()).init_s == pytest.approx(1.5)
        assert (await made.user.run()).init_s is None


async def test_duration_is_from_the_event_to_the_answer() -> None:
    @script
    async def slow(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        await runtime.sleep(0.25)
        await runtime.respond(request_id, payload)
        await runtime.sleep(0.5)

    async with rig(slow) as made:
        outcome = await made.user.run()
        assert outcome.duration_s == pytest.approx(0.25)
        assert now() == pytest.approx(0.75), "free only when it asked for next"


async def test_what_was_printed_before_the_answer_is_logged_before_the_outcome() -> None:
    async with rig(usual) as made:
        logged: list[bytes] = []
        outcome = made.user.begin(work(b'"print"'))
        outcome.add_done_callback(lambda _: logged.append(made.user.log))
        await outcome
        assert logged == [b"init\nprinted\n"]


async def test_output_after_the_answer_is_logged_too() -> None:
    @script
    async def late(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        await runtime.respond(request_id, payload)
        await runtime.print(b"late\n")

    async with rig(late) as made:
        await made.user.run()
        await made.user.run()
        assert made.user.log.count(b"late\n") >= 1


async def test_error_of_the_function_is_its_own_document() -> None:
    async with rig(usual) as made:
        outcome = await made.user.run(b'"error"')
        assert (outcome.status, outcome.payload) == (Status.ERROR, b'{"errorType":"Oops"}')
        assert outcome.error_type == "Function.Failed"
        assert (await made.user.run(b"1")).payload == b"1"


async def test_the_runtime_gets_its_environment() -> None:
    seen: dict[str, str] = {}

    async def looking(runtime: FakeRuntime) -> None:
        seen.update(runtime.environment)
        await echo(runtime)

    driver = FakeDriver(looking)
    handle = await driver.create(KEY)
    sandbox = await Sandbox.open(handle, KEY, clock=LoopClock(), credentials=Credentials("id", "key", "token"))
    await sandbox.init(dataclasses.replace(SPEC, environment={"MINE": "1"}), PlainLog())
    assert seen["AWS_LAMBDA_RUNTIME_API"] == handle.runtime_api
    assert (seen["MINE"], seen["AWS_ACCESS_KEY_ID"], seen["_HANDLER"]) == ("1", "id", "app.handler")
    await sandbox.stop()


@pytest.mark.parametrize("own", [True, False])
async def test_the_runtime_gets_the_lambda_api_until_the_end(own: bool) -> None:
    """At a listener of its own where the driver made one, else where everybody has it."""
    seen: dict[str, str] = {}
    news: list[str] = []

    async def looking(runtime: FakeRuntime) -> None:
        seen.update(runtime.environment)
        await echo(runtime)

    def serve(listener: socket.socket) -> Callable[[], None]:
        news.append("served")
        return lambda: news.append("ended" if listener.fileno() >= 0 else "ended after its listener was closed")

    driver = FakeDriver(looking)
    handle = await driver.create(KEY)
    if not own:
        assert handle.lambda_listener is not None
        handle.lambda_listener.close()
        handle.lambda_listener = None
    sandbox = await Sandbox.open(handle, KEY, clock=LoopClock(), lambda_api=ApiInside("http://127.0.0.1:9000", serve))
    await sandbox.init(SPEC, PlainLog())
    assert seen["AWS_ENDPOINT_URL_LAMBDA"] == (f"http://{handle.lambda_api}" if own else "http://127.0.0.1:9000")
    await sandbox.stop()
    assert news == (["served", "ended"] if own else [])


@pytest.mark.parametrize("connected", [True, False])
async def test_runtimes_with_and_without_a_connection_from_birth(connected: bool) -> None:
    async with rig(usual, connected=connected) as made:
        for _ in range(3):
            assert (await made.user.run(b"1")).payload == b"1"
        assert (await made.user.run(b'"exit"')).status is Status.FAILURE
        assert (await made.user.run(b"2")).payload == b"2"


async def test_frozen_sandbox_is_thawed_for_work() -> None:
    async with rig(usual) as made:
        for _ in range(2):
            made.sandbox.freeze()
            made.sandbox.freeze()
            assert made.sandbox.state is State.FROZEN
            assert not made.handle.thawed.is_set()
            assert (await made.user.run(b"1")).payload == b"1"
            assert made.handle.thawed.is_set()


async def test_large_event_to_a_frozen_sandbox() -> None:
    async with rig(usual) as made:
        made.sandbox.freeze()
        payload = b'"' + b"x" * 6_000_000 + b'"'
        assert (await made.user.run(payload)).payload == payload


async def test_answer_that_is_too_large() -> None:
    @script
    async def large(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        answer = await runtime.respond(request_id, b"x" * (6 * 1024 * 1024 + 101))
        await runtime.print(b"%d\n" % answer.status)

    async with rig(large) as made:
        outcome = await made.user.run()
        assert outcome.status is Status.ERROR
        assert failure(outcome)["errorType"] == outcome.error_type == "Function.ResponseSizeTooLarge"
        await made.user.run()
        assert b"413\n" in made.user.log


async def test_answering_twice_or_for_another_id_changes_nothing() -> None:
    @script
    async def confused(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        statuses = [(await runtime.respond("other-id", b"1")).status]
        statuses.append((await runtime.respond(request_id, payload)).status)
        statuses.append((await runtime.respond(request_id, b"2")).status)
        statuses.append((await runtime.fail(request_id, b"3")).status)
        await runtime.print(json.dumps(statuses).encode())

    async with rig(confused) as made:
        for _ in range(2):
            assert (await made.user.run(b'"right"')).payload == b'"right"'
        assert made.user.news == ["settled", "idle"] * 2
        await made.sandbox.stop()
        assert made.user.log.count(b"[400, 202, 403, 403]") == 2


async def test_much_output_does_not_starve_the_loop() -> None:
    total = 50 * 1024 * 1024
    longest = turns = 0
    sizes: list[int] = []

    @script
    async def chatty(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        await runtime.print(b"x" * total)
        await runtime.respond(request_id, payload)

    async with rig(chatty, init=False) as made:
        await made.sandbox.init(SPEC, PlainLog(lambda data: sizes.append(len(data))))
        outcome = made.user.begin(work())
        while not outcome.done():
            before = len(sizes)
            await asyncio.sleep(0)
            turns += 1
            longest = max(longest, sum(sizes[before:]))
        assert (await outcome).status is Status.SUCCESS
        assert sum(sizes[1:]) == total + len(b"init\n"), "the first is INIT_START"
        assert longest <= 1024 * 1024, "bytes in one turn of the loop"
        assert turns > 100


# Deadlines.


async def test_time_out() -> None:
    async with rig(usual) as made:
        await made.user.run(b'"write"')
        job = work(b'"hang"', timeout_s=1)
        outcome = await made.user.begin(job)
        assert now() == pytest.approx(1, abs=0.002)
        assert outcome.duration_s == pytest.approx(1, abs=0.002)
        assert outcome.status is Status.TIMEOUT
        message = f"RequestId: {job.request_id} Error: Task timed out after 1.00 seconds"
        assert failure(outcome) == {"errorType": "Sandbox.Timedout", "errorMessage": message}
        assert outcome.log_lines == (f"2026-11-21T09:37:01.000Z {job.request_id} Task timed out after 1.00 seconds",)
        assert made.sandbox.state is State.BUSY, "not free before its processes are dead"
        await made.user.idle()
        assert made.user.log == b"init\n", "Init is not run again before the next invocation"
        outcome = await made.user.run(b'"read"')
        assert (outcome.payload, outcome.init_s) == (b"kept", None)
        assert made.user.log == b"init\ninit\n"


async def test_deadline_is_the_works_own() -> None:
    async with rig(usual) as made:
        for timeout_s in (60.0, 0.5, 2.0, 0.25):
            began = now()
            assert (await made.user.begin(work(b'"hang"', timeout_s))).status is Status.TIMEOUT
            assert now() - began == pytest.approx(timeout_s, abs=0.002)
            await made.user.idle()
            await made.user.run(b"1", 60)


async def test_deadline_while_the_answer_is_half_read() -> None:
    @script
    async def half(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        head = f"POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345"
        await runtime.send(head.encode())
        await runtime.sleep(3.5)
        await runtime.send(b"67890")
        await runtime.hang()

    async with rig(half) as made:
        assert (await made.user.run()).status is Status.TIMEOUT
        await asyncio.sleep(10)
        assert made.user.news == ["settled", "idle"]


async def test_deadline_and_answer_in_the_same_tick_settle_once() -> None:
    @script
    async def just(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        await runtime.sleep(3)
        await runtime.respond(request_id, payload)

    async with rig(just) as made:
        assert (await made.user.run()).status in (Status.SUCCESS, Status.TIMEOUT)
        await asyncio.sleep(10)
        assert made.user.news == ["settled", "idle"]


async def test_answered_but_never_free_is_renewed_at_the_deadline() -> None:
    @script
    async def stuck(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        await runtime.respond(request_id, payload)
        if payload == b'"stuck"':
            await runtime.hang()

    async with rig(stuck) as made:
        assert (await made.user.begin(work(b'"stuck"'))).status is Status.SUCCESS
        await made.user.idle()
        assert now() == pytest.approx(3, abs=0.002)
        assert made.user.news == ["settled", "idle"]
        assert (await made.user.run(b"1")).payload == b"1"


# Exits.


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (ExitStatus(code=0), "Runtime exited without providing a reason"),
        (ExitStatus(code=1), "Runtime exited with error: exit status 1"),
        (ExitStatus(signal=signal.SIGKILL), "Runtime exited with error: signal: killed"),
        (ExitStatus(signal=signal.SIGKILL, oom=True), "Runtime exited with error: signal: killed"),
        (ExitStatus(signal=signal.SIGTERM), "Runtime exited with error: signal: terminated"),
        (ExitStatus(signal=signal.SIGABRT), "Runtime exited with error: signal: aborted"),
        (ExitStatus(signal=signal.SIGSEGV), "Runtime exited with error: signal: segmentation fault"),
    ],
)
async def test_exit_while_working(status: ExitStatus, text: str) -> None:
    @script
    async def leaving(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        if payload != b"1":
            await runtime.print(b"last words\n")
            if status.signal is None:
                runtime.exit(status.code or 0)
            runtime.kill(status.signal or 0, status.oom)
        await runtime.respond(request_id, payload)

    async with rig(leaving) as made:
        job = work()
        outcome = await made.user.begin(job)
        assert now() < 0.1, "told at once"
        assert outcome.status is Status.FAILURE
        message = f"RequestId: {job.request_id} Error: {text}"
        assert failure(outcome) == {"errorType": "Runtime.ExitError", "errorMessage": message}
        assert outcome.log_lines == (message, "Runtime.ExitError")
        assert made.user.log == b"init\nlast words\n"
        await made.user.idle()
        assert (await made.user.run(b"1")).payload == b"1"
        assert made.user.news == ["settled", "idle"] * 2


async def test_exit_that_overtakes_the_answer() -> None:
    @script
    async def quick(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        body = b'"sent"'
        head = f"POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
        await runtime.send(head.encode() + body)
        made.handle.on_exit(ExitStatus(code=0))  # told before the bytes above were read
        await runtime.disconnect()
        await runtime.hang()

    async with rig(quick) as made:
        outcome = await made.user.run()
        assert (outcome.status, outcome.payload) == (Status.SUCCESS, b'"sent"')
        assert made.user.news == ["settled", "idle"]


async def test_exit_after_answer_and_next_in_one_breath() -> None:
    @script
    async def quick(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        head = f"POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1\r\nContent-Length: 1\r\n\r\n1"
        await runtime.send(head.encode() + b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n")
        made.handle.on_exit(ExitStatus(code=0))
        await runtime.disconnect()
        await runtime.hang()

    async with rig(quick) as made:
        for _ in range(3):
            assert (await made.user.run()).payload == b"1"
        assert made.user.news == ["settled", "idle"] * 3


async def test_exit_with_a_connection_that_somebody_holds_open() -> None:
    @script
    async def orphaned(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        made.handle.on_exit(ExitStatus(code=1))
        await runtime.hang()

    async with rig(orphaned) as made:
        outcome = await made.user.run()
        assert outcome.error_type == "Runtime.ExitError"
        assert outcome.duration_s == pytest.approx(module.EXIT_GRACE_S, abs=0.002)


async def test_died_in_its_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    for frozen in (False, True):
        lives = 0

        async def dying(runtime: FakeRuntime) -> None:
            nonlocal lives
            lives += 1
            if lives == 1:
                await runtime.request("GET", "/ping")
                waiting = asyncio.get_running_loop().create_task(runtime.next())
                await runtime.sleep(5)
                waiting.cancel()
                runtime.exit(9)
            await echo(runtime)

        async with rig(dying) as made:
            await asyncio.sleep(4)
            if frozen:
                monkeypatch.setattr(made.handle, "freeze", lambda: None)
                made.sandbox.freeze()
            await asyncio.sleep(10)
            assert made.user.news == [], "it stays where it is"
            assert (await made.user.run(b"1")).payload == b"1"
            assert lives == 2


async def test_event_that_comes_while_it_is_being_renewed() -> None:
    async with rig(usual) as made:
        made.handle.on_exit(ExitStatus(code=1))
        assert (await made.user.run(b"1")).payload == b"1"
        assert made.user.log == b"init\ninit\n"


# Torn answers.


def torn(then: Callable[[FakeRuntime, str], Awaitable[None]]) -> Callable[[FakeRuntime], Awaitable[None]]:
    @script
    async def run(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        if payload == b"1":
            await runtime.respond(request_id, payload)
            return
        head = f"POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345"
        await runtime.send(head.encode())
        await runtime.sleep(0.01)
        await runtime.disconnect()
        await then(runtime, request_id)

    return run


async def test_torn_then_exit_is_the_exit() -> None:
    async def then(runtime: FakeRuntime, request_id: str) -> None:
        runtime.kill(signal.SIGKILL)

    async with rig(torn(then)) as made:
        assert failure(await made.user.run())["errorMessage"].endswith("signal: killed")
        assert (await made.user.run(b"1")).payload == b"1"


async def test_torn_then_again_is_the_answer() -> None:
    async def then(runtime: FakeRuntime, request_id: str) -> None:
        assert (await runtime.respond(request_id, b'"again"')).status == 202

    async with rig(torn(then)) as made:
        assert (await made.user.run()).payload == b'"again"'


async def test_torn_then_nothing() -> None:
    """It is renewed at once: a runtime that hangs so would hold its slot until the deadline, for nobody."""

    async def then(runtime: FakeRuntime, request_id: str) -> None:
        await runtime.sleep(1)
        await runtime.print(b"not killed\n")

    async with rig(torn(then)) as made:
        outcome = await made.user.run()
        assert (outcome.status, outcome.error_type) == (Status.FAILURE, "Runtime.TruncatedResponse")
        assert outcome.duration_s == pytest.approx(0.01 + module.TORN_GRACE_S, abs=0.002)
        assert (await made.user.run(b"1")).payload == b"1"
        assert made.user.log == b"init\ninit\n"
        assert made.user.news == ["settled", "idle"] * 2


async def test_torn_then_next_is_lost_and_the_event_is_not_run_again() -> None:
    async def then(runtime: FakeRuntime, request_id: str) -> None:
        """Straight back to `next`."""

    async with rig(torn(then)) as made:
        assert (await made.user.run()).error_type == "Runtime.TruncatedResponse"
        assert (await made.user.run(b"1")).payload == b"1"
        assert made.user.log == b"init\n"


# Init that fails.


async def test_init_error_is_the_first_invocations_answer() -> None:
    async def failing(runtime: FakeRuntime) -> None:
        await runtime.print(b"init\n")
        assert (await runtime.init_error(INIT_ERROR, "Runtime.Unknown")).status == 202
        runtime.exit(1)

    async with rig(failing) as made:
        assert made.sandbox.state is State.READY, "init returns although the function's Init failed"
        report = b"INIT_REPORT Init Duration: 0.00 ms\tPhase: init\tStatus: error\tError Type: Runtime.Unknown\n"
        assert made.user.log == b"init\n" + report
        for _ in range(2):
            outcome = await made.user.run()
            assert (outcome.status, outcome.payload, outcome.init_s) == (Status.ERROR, INIT_ERROR, None)
        assert made.user.log == b"init\n" + report + (b"init\n" + report.replace(b"Phase: init", b"Phase: invoke")) * 2


async def test_runtime_that_does_not_end_after_its_init_error_is_ended() -> None:
    async def lingering(runtime: FakeRuntime) -> None:
        await runtime.init_error(INIT_ERROR)
        await runtime.hang()

    async with rig(lingering) as made:
        assert now() == pytest.approx(module.INIT_ERROR_GRACE_S, abs=0.002)
        outcome = await made.user.begin(work())
        assert outcome.payload == INIT_ERROR
        assert outcome.duration_s == pytest.approx(0, abs=0.01)
        await made.user.idle()


async def test_init_that_fails_once_is_made_good_by_the_first_invocation() -> None:
    lives = 0

    async def second_time_lucky(runtime: FakeRuntime) -> None:
        nonlocal lives
        lives += 1
        if lives == 1:
            runtime.exit(1)
        await runtime.sleep(0.5)
        await echo(runtime)

    async with rig(second_time_lucky) as made:
        assert made.user.log.endswith(b"Phase: init\tStatus: error\tError Type: Runtime.ExitError\n")
        outcome = await made.user.run(b"1")
        assert (outcome.payload, outcome.init_s) == (b"1", None)
        assert outcome.duration_s == pytest.approx(0.5, abs=0.002), "the suppressed Init is part of the invocation"
        assert lives == 2


async def test_exit_in_every_init() -> None:
    async def leaving(runtime: FakeRuntime) -> None:
        runtime.exit(127)

    async with rig(leaving) as made:
        outcome = await made.user.run()
        assert failure(outcome)["errorMessage"].endswith("Error: Runtime exited with error: exit status 127")
        assert outcome.status is Status.FAILURE
        assert b"Phase: invoke\tStatus: error\tError Type: Runtime.ExitError\n" in made.user.log


@pytest.mark.parametrize("who", ["runtime", "extension"])
async def test_an_end_in_the_turn_in_which_init_ends_is_none_of_its_init(who: str) -> None:
    """The first event goes to a new environment, not to the dead one until its time-out."""
    begun: list[int] = []

    async def numbered(runtime: FakeRuntime) -> None:
        begun.append(len(begun))
        number = len(begun)
        while True:
            request_id, _ = await runtime.next()
            await runtime.respond(request_id, str(number).encode())

    async def agent(extension: FakeExtension) -> None:
        identifier = await extension.register("agent")
        while True:
            await extension.next_event(identifier)

    async with rig(numbered, init=False) as made:
        made.driver.extensions = {"agent": agent}

        def end() -> None:
            if who == "runtime":
                made.handle.on_exit(ExitStatus(code=1))
            else:
                made.handle.on_extension_exit("agent", ExitStatus(code=1))

        def write(line: bytes) -> None:
            if b"platform.initReport" in line and len(begun) == 1:
                # Before the turn in which the task of `init` wakes, whose Init is just about to be over.
                asyncio.get_running_loop().call_soon(end)

        extensions = ("agent",) if who == "extension" else ()
        await made.sandbox.init(dataclasses.replace(SPEC, log_format="JSON", extensions=extensions), PlainLog(write))
        assert made.sandbox.state is State.READY
        assert not made.sandbox.initialised
        outcome = await made.user.run()
        assert (outcome.status, outcome.payload) == (Status.SUCCESS, b"2")
        assert made.sandbox.initialised


async def test_silent_exit_after_an_earlier_init_error_is_explained_by_that() -> None:
    lives = 0

    async def failing(runtime: FakeRuntime) -> None:
        nonlocal lives
        lives += 1
        if lives == 1:
            await runtime.init_error(INIT_ERROR)
        runtime.exit(1)

    async with rig(failing) as made:
        assert (await made.user.run()).payload == INIT_ERROR


async def test_no_runtime_at_all() -> None:
    async with rig(echo, init=False) as made:
        message = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"

        async def cannot(runtime: FakeRuntime) -> None:
            made.handle.on_exit(ExitStatus(code=253, launch_error=message))
            await runtime.hang()

        made.driver.script = cannot
        await made.sandbox.init(SPEC, PlainLog(made.user.write_log))
        outcome = await made.user.run()
        assert failure(outcome)["errorType"] == "Runtime.InvalidEntrypoint"
        assert failure(outcome)["errorMessage"].endswith(message)


@pytest.mark.parametrize(("initialization_type", "limit_s"), [("on-demand", 10), ("provisioned-concurrency", 130)])
async def test_init_that_takes_too_long(initialization_type: str, limit_s: float) -> None:
    async def slow(runtime: FakeRuntime) -> None:
        await runtime.print(b"import\n")
        await runtime.hang()

    spec = dataclasses.replace(SPEC, initialization_type=initialization_type)
    async with rig(slow, spec=spec) as made:
        assert now() == pytest.approx(limit_s, abs=0.002)
        outcome = await made.user.run()
        assert outcome.error_type == "Sandbox.Timedout"
        assert outcome.duration_s == pytest.approx(3, abs=0.002), "the second Init is under the function's timeout"
        assert made.user.log == b"".join(
            (
                b"import\n",
                f"INIT_REPORT Init Duration: {limit_s}000.00 ms\tPhase: init\tStatus: timeout\n".encode(),
                b"import\n",
                b"INIT_REPORT Init Duration: 3000.00 ms\tPhase: invoke\tStatus: timeout\n",
            )
        )


# Gone, and stopped.


@pytest.mark.parametrize("when", ["stem", "idle", "frozen"])
async def test_gone_while_nothing_was_in_hand(when: str) -> None:
    async with rig(usual, init=when != "stem") as made:
        if when == "frozen":
            made.sandbox.freeze()
        made.handle.vanish("init was killed")
        assert made.user.news == ["gone: init was killed"]
        assert made.sandbox.state is State.DEAD
        with pytest.raises(SandboxGone):
            made.sandbox.invoke(work(), lambda outcome: None)
        with pytest.raises(SandboxGone):
            await made.sandbox.init(SPEC, PlainLog())
        made.sandbox.freeze()
        assert made.sandbox.memory_bytes() == 0


async def test_gone_with_work_in_hand_settles_first() -> None:
    async with rig(usual) as made:
        outcome = made.user.begin(work(b'"hang"'))
        await asyncio.sleep(1)
        made.handle.vanish("init was killed")
        assert made.user.news == ["settled", "gone: init was killed"]
        assert (await outcome).status is Status.FAILURE
        assert failure(await outcome)["errorType"] == "Sandbox.Failure"
        await asyncio.sleep(10)
        assert made.user.news == ["settled", "gone: init was killed"]


async def test_gone_during_init_is_told_by_init() -> None:
    async def slow(runtime: FakeRuntime) -> None:
        await runtime.hang()

    async with rig(slow, init=False) as made:
        async with asyncio.TaskGroup() as group:
            init = group.create_task(_expect_gone(made.user))
            await asyncio.sleep(1)
            made.handle.vanish("init was killed")
        assert init.result() == "init was killed"
        assert made.user.news == []


async def _expect_gone(user: User) -> str:
    with pytest.raises(SandboxGone) as raised:
        await user.sandbox.init(SPEC, PlainLog(user.write_log))
    return str(raised.value)


async def test_stem_whose_process_ends_is_gone() -> None:
    async with rig(usual, init=False) as made:
        made.handle.on_exit(ExitStatus(code=1))
        assert len(made.user.news) == 1
        assert made.user.news[0].startswith("gone: the runtime process ended before it was given a function")


async def test_stop_during_init() -> None:
    async def slow(runtime: FakeRuntime) -> None:
        await runtime.hang()

    async with rig(slow, init=False) as made, asyncio.TaskGroup() as group:
        init = group.create_task(_expect_gone(made.user))
        await asyncio.sleep(1)
        await made.sandbox.stop()
        assert (await init) == "the sandbox was stopped"
        assert made.user.news == []


async def test_stop_during_the_renewal_after_a_failed_init(monkeypatch: pytest.MonkeyPatch) -> None:
    async def leaving(runtime: FakeRuntime) -> None:
        runtime.exit(1)

    async with rig(leaving, init=False) as made, asyncio.TaskGroup() as group:

        async def never() -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(made.handle, "reset", never)
        init = group.create_task(_expect_gone(made.user))
        await asyncio.sleep(1)
        await made.sandbox.stop()
        await init


async def test_stop_with_work_in_hand_settles_it() -> None:
    async with rig(usual) as made:
        outcome = made.user.begin(work(b'"hang"'))
        stopping = made.sandbox.stop()
        async with asyncio.TaskGroup() as group:
            group.create_task(stopping)
            await outcome
        assert failure(await outcome)["errorMessage"].endswith("Error: the sandbox was stopped")
        assert made.user.news == ["settled"], "nobody is told of what they asked for"
        assert made.sandbox.state is State.DEAD


async def test_stop_twice_at_once_and_cancelled() -> None:
    async with rig(usual) as made:
        async with asyncio.timeout(1):
            first = asyncio.get_running_loop().create_task(made.sandbox.stop())
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait({first})
            assert first.cancelled()
            await asyncio.gather(made.sandbox.stop(), made.sandbox.stop())
        assert made.sandbox.state is State.DEAD
        assert not made.driver.handles


async def test_what_is_left_in_the_pipe_is_logged_at_the_stop() -> None:
    @script
    async def late(runtime: FakeRuntime, request_id: str, payload: bytes) -> None:
        await runtime.respond(request_id, payload)
        await runtime.print(b"last words")
        stop.set()

    stop = asyncio.Event()
    async with rig(late) as made:
        await made.user.begin(work())
        await stop.wait()
        await made.sandbox.stop()
        assert made.user.log.endswith(b"last words")


# Ours.


async def test_specialise_that_fails_is_raised_by_init(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(spec: object, environment: object) -> None:
        raise SandboxError("no such code")

    async with rig(usual, init=False) as made:
        monkeypatch.setattr(made.handle, "specialise", refused)
        with pytest.raises(SandboxError, match="no such code"):
            await made.sandbox.init(SPEC, PlainLog())
        assert made.user.news == []
        assert made.sandbox.state is State.DEAD


@pytest.mark.parametrize("what", ["reset", "specialise"])
async def test_renewal_that_fails_is_the_end(what: str) -> None:
    async def refused(*arguments: object) -> None:
        raise SandboxError("the spawner could not")

    async with rig(usual) as made:
        setattr(made.handle, what, refused)
        outcome = await made.user.begin(work(b'"exit"'))
        assert outcome.error_type == "Runtime.ExitError"
        await made.user.idle()
        if what == "specialise":
            assert (await made.user.begin(work())).error_type == "Sandbox.Failure"
        assert made.user.news[-1] == "gone: the spawner could not"


async def test_open_that_fails_stops_the_handle() -> None:
    driver = FakeDriver(echo)
    handle = await driver.create(KEY)
    handle.listener.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        await Sandbox.open(handle, KEY, clock=LoopClock())
    assert not driver.handles


async def test_misuse_is_said_and_changes_nothing() -> None:
    async with rig(usual) as made:
        outcome = made.user.begin(work(b"1"))
        with pytest.raises(IllegalEvent, match="invoked while busy"):
            made.sandbox.invoke(work(), lambda outcome: None)
        with pytest.raises(IllegalEvent, match="frozen while busy"):
            made.sandbox.freeze()
        with pytest.raises(IllegalEvent, match="specialised while busy"):
            await made.sandbox.init(SPEC, PlainLog())
        assert (await outcome).payload == b"1"
        await made.user.idle()
    async with rig(usual, init=False) as made:
        with pytest.raises(IllegalEvent, match="invoked while starting"):
            made.sandbox.invoke(work(), lambda outcome: None)


async def test_repr_is_one_line_to_debug_from() -> None:
    async with rig(usual) as made:
        assert repr(made.sandbox) == f"<Sandbox {made.handle.id} hello: ready, Ready, no work>"
        outcome = made.user.begin(work(request_id="id-1"))
        assert repr(made.sandbox) == f"<Sandbox {made.handle.id} hello: busy, Running, id-1>"
        await outcome
        await made.user.idle()
