"""A sandbox with extensions: who waits for whom, what the log says, how it ends. On the fake driver, under virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from sandbox.driver import ExitStatus
from sandbox.environment import for_extensions
from sandbox.fake_driver import ExtensionScript, FakeDriver, FakeExtension, FakeRuntime, Script
from sandbox.lifecycle import State
from sandbox.outcome import Outcome, Status
from sandbox.sandbox import Sandbox
from sandbox.testing import PlainLog
from tests.sandboxes import KEY, SPEC, WALL_S, LoopClock, Rig, User, echo, work

pytestmark = pytest.mark.looptime


def now() -> float:
    return asyncio.get_running_loop().time()


class Agent:
    """An external extension that keeps to the rules and notes what it is told; each event takes it `busy_s`."""

    def __init__(self, *subscribed: str, name: str = "agent", busy_s: float = 0.0, shutdown_s: float = 0.0) -> None:
        self.subscribed = subscribed
        self.name = name
        self.busy_s = busy_s
        self.shutdown_s = shutdown_s
        self.events: list[tuple[float, dict[str, Any]]] = []

    async def __call__(self, extension: FakeExtension) -> None:
        identifier = await extension.register(self.name, *self.subscribed)
        await extension.print(b"agent registered\n")
        while True:
            event = await extension.next_event(identifier)
            self.events.append((now(), event))
            if event["eventType"] == "SHUTDOWN":
                await extension.sleep(self.shutdown_s)
                return
            await extension.sleep(self.busy_s)
            await extension.print(b"agent done\n")

    @property
    def told(self) -> list[str]:
        return [event["eventType"] for _, event in self.events]


@contextlib.asynccontextmanager
async def rig(
    script: Script,
    scripts: Mapping[str, ExtensionScript] | None = None,
    *,
    spec: dict[str, Any] | None = None,
    **more: ExtensionScript,
) -> AsyncIterator[Rig]:
    """A sandbox with external extensions that do `scripts`."""
    driver = FakeDriver(script)
    driver.extensions = {**(scripts or {}), **more}
    handle = await driver.create(KEY)
    user = User(await Sandbox.open(handle, KEY, clock=LoopClock()))
    try:
        wanted = dataclasses.replace(SPEC, extensions=tuple(driver.extensions), **(spec or {}))
        await user.sandbox.init(wanted, PlainLog(user.write_log))
        yield Rig(driver, handle, user)
    finally:
        await user.sandbox.stop()
        await driver.close()


def document(outcome: Outcome) -> dict[str, str]:
    found = json.loads(outcome.payload)
    assert isinstance(found, dict)
    return found


# Init.


async def test_extensions_register_before_the_runtime_begins_and_init_ends_when_all_ask() -> None:
    order: list[str] = []

    async def slow(extension: FakeExtension) -> None:
        await extension.sleep(1)
        order.append("registers")
        identifier = await extension.register("slow")
        await extension.sleep(2)
        order.append("asks")
        await extension.next_event(identifier)

    async def runtime(inside: FakeRuntime) -> None:
        order.append("runtime")
        await echo(inside)

    async with rig(runtime, slow=slow) as made:
        assert order == ["registers", "runtime", "asks"]
        outcome = await made.user.run(b"1")
        assert outcome.payload == b"1"
        assert outcome.init_s == pytest.approx(3, abs=0.01)
    assert made.user.log == b"EXTENSION\tName: slow\tState: Ready\tEvents: []\n"


async def test_what_extensions_write_is_in_the_functions_log() -> None:
    agent = Agent("INVOKE", "SHUTDOWN")
    async with rig(echo, agent=agent) as made:
        await made.user.run()
    expected = b"agent registered\nEXTENSION\tName: agent\tState: Ready\tEvents: [INVOKE, SHUTDOWN]\nagent done\n"
    assert made.user.log == expected
    assert re.fullmatch(
        rb"INIT_START Runtime Version: python:3\.11\.v1\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:[0-9a-f]{64}\n",
        made.user.begun,
    )


async def test_an_extensions_environment() -> None:
    seen: dict[str, str] = {}

    async def looking(extension: FakeExtension) -> None:
        seen.update(extension.environment)
        await Agent()(extension)

    async with rig(echo, agent=looking):
        assert seen == for_extensions(seen)
        assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "hello"
        assert "AWS_LAMBDA_RUNTIME_API" in seen
        assert not {"_HANDLER", "LAMBDA_TASK_ROOT", "AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_STREAM_NAME"} & set(seen)


async def test_lines_in_json() -> None:
    async with rig(echo, spec={"log_format": "JSON"}, agent=Agent("INVOKE")) as made:
        lines = [json.loads(line) for line in made.user.log.splitlines() if line.startswith(b"{")]
    kinds = ["platform.initStart", "platform.initRuntimeDone", "platform.extension", "platform.initReport"]
    assert [line["type"] for line in lines] == kinds
    assert lines[0]["record"]["instanceMaxMemory"] == 128 << 20
    done = {"initializationType": "on-demand", "phase": "init", "status": "success"}
    assert lines[1]["record"] == done
    assert lines[2]["record"] == {"name": "agent", "state": "Ready", "events": ["INVOKE"]}
    assert set(lines[3]["record"]) == {*done, "metrics"}


async def test_lines_in_json_of_an_init_that_fails_twice() -> None:
    """Each has its own two; where the runtime was done in time and an extension was not, both ends differ."""

    async def never(extension: FakeExtension) -> None:
        await extension.register("never", "INVOKE")
        await extension.hang()

    async with rig(echo, spec={"log_format": "JSON"}, never=never) as made:
        await made.user.run()
        lines = [json.loads(line) for line in made.user.log.splitlines() if line.startswith(b"{")]
    told = [(line["type"].removeprefix("platform."), line["record"].get("phase"), line["record"].get("status")) for line in lines]
    assert [one for one in told if one[0].startswith("initR")] == [
        ("initRuntimeDone", "init", "success"),
        ("initReport", "init", "timeout"),
        ("initRuntimeDone", "invoke", "success"),
        ("initReport", "invoke", "timeout"),
    ]


@pytest.mark.parametrize("registers", [False, True])
async def test_an_extension_that_never_gets_there_takes_init_its_ten_seconds(registers: bool) -> None:
    async def never(extension: FakeExtension) -> None:
        if registers:
            await extension.register("never", "INVOKE")
        await extension.hang()

    async with rig(echo, never=never) as made:
        assert now() == pytest.approx(10, abs=0.01)
        outcome = await made.user.run()
        assert (outcome.status, outcome.error_type) == (Status.TIMEOUT, "Sandbox.Timedout")
        assert outcome.duration_s == pytest.approx(3, abs=0.01)
        state, events = ("Registered", "INVOKE") if registers else ("Started", "")
        line = f"EXTENSION\tName: never\tState: {state}\tEvents: [{events}]\n"
        assert made.user.log.decode() == (
            f"{line}INIT_REPORT Init Duration: 10000.00 ms\tPhase: init\tStatus: timeout\n"
            f"{line}INIT_REPORT Init Duration: 3000.00 ms\tPhase: invoke\tStatus: timeout\n"
        )


@pytest.mark.parametrize(
    ("code", "how"), [(0, "exit code 0"), (255, "exit status 255")], ids=["exits properly", "exits with a status"]
)
async def test_an_extension_that_ends_in_init(code: int, how: str) -> None:
    async def ending(extension: FakeExtension) -> None:
        await extension.print(b"cannot\n")
        extension.exit(code)

    async with rig(echo, ending=ending) as made:
        assert made.sandbox.state is State.READY
        outcome = await made.user.run(request_id="id")
        assert outcome.status is Status.FAILURE
        assert document(outcome) == {"errorType": "Extension.Crash", "errorMessage": f"RequestId: id Error: {how}"}
        assert outcome.log_lines == (f"RequestId: id Error: {how}", "Extension.Crash")
        report = "INIT_REPORT Init Duration: 0.00 ms\tPhase: {}\tStatus: error\tError Type: Extension.Crash\n"
        line = "cannot\nEXTENSION\tName: ending\tState: Started\tEvents: []\n"
        assert made.user.log.decode() == line + report.format("init") + line + report.format("invoke")


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize(("call", "error_type"), [("init/error", "Extension.InitError"), ("exit/error", "Extension.ExitError")])
async def test_an_extension_that_says_that_it_fails(call: str, error_type: str, ends: bool) -> None:
    async def failing(extension: FakeExtension) -> None:
        identifier = await extension.register("failing", "INVOKE")
        headers = {"Lambda-Extension-Function-Error-Type": "Extension.NoKey"}
        for _ in range(2):  # it may say so again
            answer = await extension.extension(call, b"{}", headers, identifier=identifier)
            assert (answer.status, answer.body) == (202, b'{"status":"OK"}')
        assert (await extension.extension("event/next", identifier=identifier)).status == 403
        if not ends:
            await extension.hang()

    async with rig(echo, failing=failing) as made:
        outcome = await made.user.run(request_id="id")
        how = "exit code 0" if ends else "Extension.NoKey"
        assert document(outcome) == {"errorType": error_type, "errorMessage": f"RequestId: id Error: {how}"}
        state = error_type.partition(".")[2]
        assert f"State: {state}\tEvents: [INVOKE]\tError Type: Extension.NoKey\n".encode() in made.user.log
        assert now() < 2


async def test_more_than_ten() -> None:
    names = {f"agent{number:02}": Agent(name=f"agent{number:02}") for number in range(11)}
    async with rig(echo, names) as made:
        outcome = await made.user.run()
        assert document(outcome)["errorType"] == "Extension.LaunchError"
        assert b"EXTENSION\tName: agent10\tState: LaunchError\tEvents: []\tError Type: TooManyExtensions\n" in made.user.log
        assert not any(agent.events for agent in names.values())


async def test_ten_are_served() -> None:
    names = {f"agent{number}": Agent("INVOKE", name=f"agent{number}") for number in range(10)}
    async with rig(echo, names) as made:
        await made.user.run()
        assert [agent.told for agent in names.values()] == [["INVOKE"]] * 10


# Invoke.


async def test_the_answer_goes_out_at_once_and_the_environment_is_free_when_all_ask_again() -> None:
    agent = Agent("INVOKE", busy_s=1.5)
    async with rig(echo, agent=agent) as made:
        closed: list[tuple[float, Outcome]] = []
        outcome = await made.user.begin(work(b"1"))
        outcome.on_closed = lambda last: closed.append((now(), last))
        assert (outcome.payload, outcome.closed) == (b"1", False)
        assert now() == pytest.approx(0, abs=0.01)
        assert made.user.news == ["settled"]
        await made.user.idle()
        assert now() == pytest.approx(1.5, abs=0.01)
        ((at, last),) = closed
        assert at == pytest.approx(1.5, abs=0.01)
        assert (last.status, last.closed) == (Status.SUCCESS, True)
        assert last.duration_s == pytest.approx(1.5, abs=0.01), "the extension's time is the invocation's"


async def test_the_invoke_event() -> None:
    agent = Agent("INVOKE")
    async with rig(echo, agent=agent) as made:
        for number in range(3):
            await made.user.run(request_id=f"id-{number}")
        ((_, first), *_) = agent.events
        assert [event["requestId"] for _, event in agent.events] == ["id-0", "id-1", "id-2"]
        assert first["deadlineMs"] == pytest.approx((WALL_S + 3) * 1000, abs=20)
        assert first["invokedFunctionArn"] == SPEC.arn


async def test_extensions_without_invoke_are_not_waited_for() -> None:
    agent = Agent("SHUTDOWN")
    async with rig(echo, agent=agent) as made:
        assert (await made.user.run()).closed
        assert agent.told == []


async def test_a_frozen_environment_is_thawed_for_both() -> None:
    agent = Agent("INVOKE")
    async with rig(echo, agent=agent) as made:
        made.sandbox.freeze()
        await made.user.run()
        assert agent.told == ["INVOKE"]


async def test_an_extension_is_held_to_the_functions_timeout() -> None:
    agent = Agent("INVOKE", "SHUTDOWN", busy_s=100)
    async with rig(echo, agent=agent) as made:
        closed: list[Outcome] = []
        outcome = await made.user.begin(work(b"1", request_id="id"))
        outcome.on_closed = closed.append
        assert outcome.status is Status.SUCCESS
        await made.user.idle()
        (last,) = closed
        assert (last.status, last.error_type) == (Status.TIMEOUT, "Sandbox.Timedout")
        assert last.duration_s == pytest.approx(3, abs=0.01)
        assert last.log_lines[0].endswith("Z id Task timed out after 3.00 seconds")
        assert (await made.user.begin(work(b"2"))).payload == b"2", "begun anew in place"


async def test_an_extension_that_dies_while_the_function_runs() -> None:
    async def dying(extension: FakeExtension) -> None:
        identifier = await extension.register("dying", "INVOKE")
        await extension.next_event(identifier)
        extension.exit(1)

    async def slow(runtime: FakeRuntime) -> None:
        request_id, payload = await runtime.next()
        await runtime.sleep(1)
        await runtime.respond(request_id, payload)

    async with rig(slow, dying=dying) as made:
        outcome = await made.user.run(request_id="id")
        assert document(outcome) == {"errorType": "Extension.Crash", "errorMessage": "RequestId: id Error: exit status 1"}
        assert made.sandbox.state is State.READY


async def test_an_extension_that_dies_after_the_answer() -> None:
    async def dying(extension: FakeExtension) -> None:
        identifier = await extension.register("dying", "INVOKE")
        await extension.next_event(identifier)
        await extension.sleep(1)
        extension.kill(11)

    async with rig(echo, dying=dying) as made:
        closed: list[Outcome] = []
        outcome = await made.user.begin(work(b"1", request_id="id"))
        outcome.on_closed = closed.append
        assert outcome.payload == b"1", "the caller has its answer"
        await made.user.idle()
        (last,) = closed
        assert (last.status, last.error_type) == (Status.FAILURE, "Extension.Crash")
        assert last.log_lines == ("RequestId: id Error: signal: segmentation fault", "Extension.Crash")


async def test_an_extension_that_dies_in_between_costs_the_next_invocation_an_init() -> None:
    lives: list[str] = []

    async def short(extension: FakeExtension) -> None:
        lives.append("life")
        identifier = await extension.register("short")
        if len(lives) > 1:
            await extension.next_event(identifier)
        task = asyncio.get_running_loop().create_task(extension.next_event(identifier))
        await extension.sleep(1)
        task.cancel()
        extension.exit(1)

    async with rig(echo, short=short) as made:
        assert (await made.user.run(b"1")).payload == b"1"
        await asyncio.sleep(2)
        assert (await made.user.run(b"2")).payload == b"2"
        assert len(lives) == 2


async def test_extensions_whose_connection_breaks_get_their_event_by_the_next() -> None:
    told: list[str] = []

    async def flaky(extension: FakeExtension) -> None:
        identifier = await extension.register("flaky", "INVOKE")
        headers = f"GET /2020-01-01/extension/event/next HTTP/1.1\r\nLambda-Extension-Identifier: {identifier}\r\n\r\n".encode()
        await extension.send(headers)
        await extension.sleep(1)
        await extension.disconnect()
        await extension.sleep(2)
        while True:
            told.append((await extension.next_event(identifier))["requestId"])

    async with rig(echo, flaky=flaky) as made:
        await asyncio.sleep(2)
        await made.user.run(request_id="while-away")
        assert told == ["while-away"]
        await made.user.run(request_id="after")
        assert told == ["while-away", "after"]


async def test_who_asks_twice_at_once_is_refused() -> None:
    statuses: list[int] = []

    async def twice(extension: FakeExtension) -> None:
        identifier = await extension.register("twice")
        head = f"GET /2020-01-01/extension/event/next HTTP/1.1\r\nLambda-Extension-Identifier: {identifier}\r\n\r\n".encode()
        await extension.send(head)
        reader, writer = await asyncio.open_connection(*extension._handle.runtime_api.split(":"))
        writer.write(head)
        statuses.append(int((await reader.readline()).split()[1]))
        writer.close()
        await extension.hang()

    async with rig(echo, twice=twice) as made:
        await made.user.run()
        assert statuses == [403]


# Internal ones.


async def internal(runtime: FakeRuntime) -> None:
    """A runtime with an extension in it, which has a connection of its own."""
    inside = FakeExtension(runtime._handle, runtime.spec, runtime.environment)
    identifier = await inside.register("inside", "INVOKE")

    async def watch() -> None:
        while True:
            await inside.next_event(identifier)
            await runtime.print(b"inside\n")

    task = asyncio.get_running_loop().create_task(watch())
    try:
        await echo(runtime)
    finally:
        task.cancel()
        await asyncio.wait({task})
        await inside.disconnect()


async def test_internal_extensions() -> None:
    async with rig(internal) as made:
        for number in range(3):
            assert (await made.user.run(b"%d" % number)).payload == b"%d" % number
        assert made.user.log == b"EXTENSION\tName: inside\tState: Ready\tEvents: [INVOKE]\n" + b"inside\n" * 3


@pytest.mark.parametrize("after", [b"", b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n"])
async def test_an_exit_that_overtakes_the_answer_on_a_connection_that_was_the_extensions(after: bytes) -> None:
    """As HTTP clients of one process do that take their connections from one pool."""

    async def pooled(runtime: FakeRuntime) -> None:
        other = FakeExtension(runtime._handle, runtime.spec, runtime.environment)
        identifier = await runtime.register("inside")
        await other.send(
            f"GET /2020-01-01/extension/event/next HTTP/1.1\r\nLambda-Extension-Identifier: {identifier}\r\n\r\n".encode()
        )
        request_id, _ = await runtime.next()
        head = f"POST /2018-06-01/runtime/invocation/{request_id}/response HTTP/1.1\r\nContent-Length: 1\r\n\r\n1"
        await runtime.send(head.encode() + after)
        made.handle.on_exit(ExitStatus(code=0))  # told before the bytes above were read
        await other.disconnect()
        await runtime.disconnect()
        await runtime.hang()

    async with rig(pooled) as made:
        outcome = await made.user.run()
        assert (outcome.status, outcome.payload) == (Status.SUCCESS, b"1")


async def test_registering_after_init_is_refused_also_where_there_are_no_extensions() -> None:
    refusals: list[bytes] = []

    async def late(runtime: FakeRuntime) -> None:
        while True:
            request_id, payload = await runtime.next()
            answer = await runtime.extension("register", b"{}", {"Lambda-Extension-Name": "late"})
            refusals.append(answer.body)
            answer = await runtime.extension("event/next", identifier="8c3b2a10-0f5e-4f43-9a43-2f1c5d7e9b01")
            refusals.append(answer.body)
            await runtime.respond(request_id, payload)

    async with rig(late) as made:
        await made.user.run()
        assert [json.loads(body)["errorType"] for body in refusals] == [
            "Extension.RegistrationClosed",
            "Extension.UnknownExtensionIdentifier",
        ]


async def test_an_internal_extension_that_fails_names_the_error() -> None:
    async def failing(runtime: FakeRuntime) -> None:
        identifier = await runtime.register("inside")
        headers = {"Lambda-Extension-Function-Error-Type": "Extension.NoKey"}
        await runtime.extension("init/error", b"{}", headers, identifier=identifier)
        runtime.exit(1)

    async with rig(failing) as made:
        outcome = await made.user.run(request_id="id")
        assert document(outcome) == {
            "errorType": "Extension.InitError",
            "errorMessage": "RequestId: id Error: Runtime exited with error: exit status 1",
        }


# Reset, and the end.


async def test_time_out_tells_extensions_why() -> None:
    agent = Agent("INVOKE", "SHUTDOWN", shutdown_s=0.5)

    async def hanging(runtime: FakeRuntime) -> None:
        await runtime.next()
        await runtime.hang()

    async with rig(hanging, agent=agent) as made:
        outcome = await made.user.begin(work())
        assert outcome.status is Status.TIMEOUT
        assert now() == pytest.approx(3, abs=0.01), "the shutdown is not on the caller's path"
        await made.user.idle()
        at, event = agent.events[-1]
        assert (event["eventType"], event["shutdownReason"]) == ("SHUTDOWN", "timeout")
        assert event["deadlineMs"] == pytest.approx((WALL_S + 5) * 1000, abs=20)
        assert at == pytest.approx(3, abs=0.01), "the runtime ended by SIGTERM at once"
        assert now() == pytest.approx(3.5, abs=0.01)


async def test_exit_of_the_runtime_is_a_failure_to_extensions() -> None:
    agent = Agent("INVOKE", "SHUTDOWN")

    async def exiting(runtime: FakeRuntime) -> None:
        await runtime.next()
        runtime.exit(3)

    async with rig(exiting, agent=agent) as made:
        assert (await made.user.run()).error_type == "Runtime.ExitError"
        assert agent.events[-1][1]["shutdownReason"] == "failure"


@pytest.mark.parametrize("frozen", [False, True])
async def test_spindown(frozen: bool) -> None:
    agent = Agent("INVOKE", "SHUTDOWN", shutdown_s=0.25)
    async with rig(echo, agent=agent) as made:
        await made.user.run()
        if frozen:
            made.sandbox.freeze()
        await made.sandbox.stop()
        assert now() == pytest.approx(0.25, abs=0.01)
        _at, event = agent.events[-1]
        assert (event["shutdownReason"], event["deadlineMs"]) == ("spindown", pytest.approx((WALL_S + 2) * 1000, abs=20))
    assert made.sandbox.state is State.DEAD


@pytest.mark.parametrize(("catches", "at_s"), [(False, 0.0), (True, 0.6)])
async def test_the_runtime_goes_first_and_has_its_share(catches: bool, at_s: float) -> None:
    agent = Agent("SHUTDOWN")

    async def runtime(inside: FakeRuntime) -> None:
        inside.catches_term = catches
        await echo(inside)

    async with rig(runtime, agent=agent) as made:
        await made.sandbox.stop()
        assert agent.events[-1][0] == pytest.approx(at_s, abs=0.01)
        assert now() == pytest.approx(at_s, abs=0.01)


async def test_who_does_not_end_is_killed_after_two_seconds() -> None:
    agent = Agent("SHUTDOWN", shutdown_s=100)
    async with rig(echo, agent=agent) as made:
        await made.sandbox.stop()
        assert now() == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("after_s", [0.0, 0.7])
async def test_who_is_told_to_hurry_has_no_more_time(after_s: float) -> None:
    agent = Agent("SHUTDOWN", shutdown_s=100)
    async with rig(echo, agent=agent) as made:
        if after_s:
            asyncio.get_running_loop().call_later(after_s, made.sandbox.hurry)
        else:
            made.sandbox.hurry()
        await made.sandbox.stop()
        assert now() == pytest.approx(after_s, abs=0.01)
        assert agent.told == (["SHUTDOWN"] if after_s else [])


async def test_a_busy_extension_gets_its_shutdown_when_it_asks() -> None:
    agent = Agent("INVOKE", "SHUTDOWN", busy_s=1)
    async with rig(echo, agent=agent) as made:
        await made.user.begin(work())
        await made.sandbox.stop()
        assert agent.told == ["INVOKE", "SHUTDOWN"]
        assert now() == pytest.approx(1, abs=0.01)


async def test_who_is_not_subscribed_to_shutdown_is_killed_at_once() -> None:
    agent = Agent("INVOKE")
    async with rig(echo, agent=agent) as made:
        await made.sandbox.stop()
        assert now() == pytest.approx(0, abs=0.01)
        assert agent.told == []


@pytest.mark.parametrize("catches", [False, True])
async def test_internal_ones_have_half_a_second(catches: bool) -> None:
    async def runtime(inside: FakeRuntime) -> None:
        inside.catches_term = catches
        await internal(inside)

    async with rig(runtime) as made:
        await made.sandbox.stop()
        assert now() == pytest.approx(0.5 if catches else 0, abs=0.01)


async def test_without_extensions_the_end_is_at_once() -> None:
    async def runtime(inside: FakeRuntime) -> None:
        inside.catches_term = True
        await echo(inside)
        raise AssertionError("it was not killed")

    async with rig(runtime) as made:
        await made.sandbox.stop()
        assert now() == pytest.approx(0, abs=0.01)


async def test_an_event_cuts_short_the_shutdown_after_a_crash() -> None:
    agent = Agent("SHUTDOWN", shutdown_s=100)

    async def once(runtime: FakeRuntime) -> None:
        request_id, payload = await runtime.next()
        await runtime.respond(request_id, payload)
        await runtime.send(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\n")
        await runtime.sleep(1)
        runtime.exit(1)

    async with rig(once, agent=agent) as made:
        await made.user.run(b"1")
        await asyncio.sleep(1.5)
        assert agent.told == ["SHUTDOWN"]
        began_s = now()
        assert (await made.user.begin(work(b"2"))).payload == b"2"
        assert now() - began_s < 0.1


async def test_a_sandbox_that_goes_as_a_whole_is_not_shut_down() -> None:
    agent = Agent("INVOKE", "SHUTDOWN", busy_s=1)
    async with rig(echo, agent=agent) as made:
        made.handle.vanish()
        await made.sandbox.stop()
        assert now() == pytest.approx(0, abs=0.01)
        assert agent.told == []


async def test_lines_of_extensions_are_whole() -> None:
    async def agent(extension: FakeExtension) -> None:
        identifier = await extension.register("agent", "INVOKE")
        await extension.next_event(identifier)
        await extension.print(b"one\nt")
        await extension.sleep(0.1)
        await extension.print(b"wo\nlast")
        await extension.next_event(identifier)

    lines: list[str] = []
    driver = FakeDriver(echo)
    driver.extensions["agent"] = agent
    sandbox = await Sandbox.open(await driver.create(KEY), KEY, clock=LoopClock())
    user = User(sandbox)
    log = PlainLog(user.write_log)
    log.extension = lines.append
    await sandbox.init(dataclasses.replace(SPEC, extensions=("agent",)), log)
    await user.run()
    assert lines == ["one", "two"]
    await sandbox.stop()
    await driver.close()
    assert lines[2:] == ["last"]
    assert not any(line in user.log for line in (b"one", b"two", b"last"))


async def test_the_last_words_of_an_extension_that_crashes_are_a_line_of_their_own() -> None:
    begun: list[int] = []

    async def agent(extension: FakeExtension) -> None:
        begun.append(len(begun))
        await extension.print(f"begun {len(begun)}\n".encode())
        identifier = await extension.register("agent", "INVOKE")
        await extension.next_event(identifier)
        if len(begun) == 1:
            await extension.print(b"panic: no key")
            extension.exit(2)
        await extension.next_event(identifier)

    lines: list[str] = []
    driver = FakeDriver(echo)
    driver.extensions["agent"] = agent
    sandbox = await Sandbox.open(await driver.create(KEY), KEY, clock=LoopClock())
    user = User(sandbox)
    log = PlainLog(user.write_log)
    log.extension = lines.append
    await sandbox.init(dataclasses.replace(SPEC, extensions=("agent",)), log)
    await user.run()
    assert lines == ["begun 1", "panic: no key"]
    await user.run()
    assert lines == ["begun 1", "panic: no key", "begun 2"]
    await sandbox.stop()
    await driver.close()
