"""What an environment tells its extensions: which events, in which order, with what in them, and what never waits for them.

On the fake driver, with real sockets to a real listener, under virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sandbox.fake_driver import Answer, FakeExtension, FakeRuntime
from sandbox.outcome import Outcome, Status
from tests.sandboxes import SPEC, Rig, work
from tests.streams import Taker
from tests.unit.test_sandbox_extensions import rig
from tests.unit.test_sandbox_stream import stream

pytestmark = pytest.mark.looptime

ALL = ["platform", "function", "extension"]
INIT = [
    "platform.initStart",
    "platform.telemetrySubscription",
    "platform.initRuntimeDone",
    "platform.extension",
    "platform.initReport",
]


class Listener:
    """An extension that listens; subscribed by TCP, so that every event comes on its own."""

    def __init__(
        self, types: list[str] | None = None, *, logs: bool = False, events: tuple[str, ...] = ("INVOKE",), **more: Any
    ) -> None:
        self.types = ALL if types is None else types
        self.logs = logs
        self.subscribed_to = events
        self.more = more
        self.ahead_bytes = 1 << 24  # that are taken for it before it reads
        self.came: list[dict[str, Any]] = []
        self.answers: list[Answer] = []
        self.port = 0
        self.takes = asyncio.Event()
        self.takes.set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            with contextlib.suppress(ConnectionError):
                await self.takes.wait()
                async for line in reader:
                    self.came.append(json.loads(line))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=self.ahead_bytes)
        server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, min(self.ahead_bytes, 1 << 20))
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            self.takes.set()
            await asyncio.gather(*tasks)

    async def __call__(self, extension: FakeExtension) -> None:
        identifier = await extension.register("agent", *self.subscribed_to)
        await self.subscribe(extension, identifier)
        while True:
            await extension.print(b"asks\n")
            if (await extension.next_event(identifier))["eventType"] == "SHUTDOWN":
                return

    async def subscribe(self, inside: FakeRuntime, identifier: str) -> None:
        wanted = {
            "schemaVersion": "2021-03-18" if self.logs else "2025-01-29",
            "types": self.types,
            "buffering": {"timeoutMs": 25},
            "destination": {"protocol": "TCP", "port": self.port},
            **self.more,
        }
        self.answers.append(await inside.subscribe(identifier, wanted, logs=self.logs))

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.came]

    def record(self, kind: str) -> Any:
        [found] = [event["record"] for event in self.came if event["type"] == kind]
        return found


async def does_as_told(runtime: FakeRuntime) -> None:
    await runtime.print(b"loads\n")
    while True:
        request_id, payload = await runtime.next()
        await runtime.print(b"works\nand ")
        match payload:
            case b'"hangs"':
                await runtime.hang()
            case b'"exits"':
                runtime.exit(3)
            case b'"fails"':
                await runtime.fail(request_id, b'{"errorType":"Oops"}', "Function.Oops")
                continue
            case b'"streams"':
                await stream(runtime, request_id, b"one", b"two", pause_s=1)
                await runtime.send(b"0\r\n\r\n")
                await runtime.receive()
                continue
            case b'"floods"':
                for _ in range(100):
                    await runtime.print(b"x" * 9_999 + b"\n")
        await runtime.sleep(0.25)
        await runtime.respond(request_id, payload)
        await runtime.sleep(0.5)


@contextlib.asynccontextmanager
async def told(listener: Listener, **spec: Any) -> AsyncIterator[Rig]:
    async with listener.listening(), rig(does_as_told, agent=listener, spec=spec) as made:
        await asyncio.sleep(1)
        yield made


async def run(made: Rig, payload: bytes = b"1", **more: Any) -> Outcome:
    outcome = await made.user.begin(work(payload, 3, **more))
    await made.user.idle()
    await asyncio.sleep(1)
    return outcome


async def test_an_invocation_from_the_beginning() -> None:
    listener = Listener()
    async with told(listener) as made:
        assert listener.answers[0].status == 200
        assert listener.answers[0].body == b'"OK"'
        assert [kind for kind in listener.kinds() if kind.startswith("platform.")] == INIT
        await run(made)
        kinds = listener.kinds()[len(INIT) + 2 :]
        assert [kind for kind in kinds if kind.startswith("platform.")] == [
            "platform.start",
            "platform.runtimeDone",
            "platform.report",
        ]
        outputs = [(event["type"], event["record"]) for event in listener.came if not event["type"].startswith("platform.")]
        assert sorted(outputs[:2]) == [("extension", "asks"), ("function", "loads")]
        assert sorted(outputs[2:]) == [("extension", "asks"), ("function", "and "), ("function", "works")]
        assert all(event["time"].startswith("2026-11-21T09:37:0") and event["time"].endswith("Z") for event in listener.came)


async def test_records() -> None:
    listener = Listener(["platform"])
    async with told(listener) as made:
        outcome = await run(made)
        start = listener.record("platform.initStart")
        assert start.pop("runtimeVersionArn").startswith("arn:aws:lambda:us-east-1::runtime:")
        assert start == {
            "initializationType": "on-demand",
            "phase": "init",
            "runtimeVersion": "python:3.11.v1",
            "functionName": "hello",
            "functionVersion": "$LATEST",
            "instanceId": SPEC.log_stream,
            "instanceMaxMemory": 128 << 20,
        }
        assert listener.record("platform.telemetrySubscription") == {
            "name": "agent",
            "state": "Subscribed",
            "types": ["platform"],
        }
        assert listener.record("platform.extension") == {"name": "agent", "state": "Ready", "events": ["INVOKE"]}
        done = listener.record("platform.initRuntimeDone")
        assert done == {"initializationType": "on-demand", "phase": "init", "status": "success"}
        assert listener.record("platform.initReport").keys() == {*done, "metrics"}
        request_id = listener.record("platform.start")["requestId"]
        tracing = {"type": "X-Amzn-Trace-Id", "value": "Root=1-5759e988-bd862e3fe1be46a994272793"}
        assert listener.record("platform.start") == {"requestId": request_id, "version": "$LATEST", "tracing": tracing}
        done = listener.record("platform.runtimeDone")
        assert {key: done[key] for key in ("requestId", "status", "tracing")} == {
            "requestId": request_id,
            "status": "success",
            "tracing": tracing,
        }
        assert done["metrics"]["producedBytes"] == 1
        spans = {span["name"]: span["durationMs"] for span in done["spans"]}
        assert spans == {
            "responseLatency": pytest.approx(250, abs=1),
            "responseDuration": pytest.approx(0, abs=1),
            "runtimeOverhead": pytest.approx(500, abs=1),
        }
        report = listener.record("platform.report")
        assert (report["requestId"], report["status"], report["tracing"]) == (request_id, "success", tracing)
        assert report["metrics"].keys() == {"durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"}
        assert report["metrics"]["memorySizeMB"] == 128
        assert [span["name"] for span in report["spans"]] == ["extensionOverhead"]
        assert outcome.init_s is not None


async def test_what_is_printed_stands_between_start_and_report_of_its_invocation() -> None:
    listener = Listener(["platform", "function"])
    async with told(listener) as made:
        before = len(listener.came)
        for _ in range(3):
            await run(made)
        assert listener.kinds()[before:] == 3 * [
            "platform.start",
            "function",
            "platform.runtimeDone",
            "function",  # what was begun, and ends with the invocation
            "platform.report",
        ]


async def test_a_start_is_told_in_time_and_not_again_at_the_end() -> None:
    """The invocation goes on for a quarter of a second, and then waits half of one to ask for the next."""
    listener = Listener(["platform"])
    async with told(listener) as made:
        outcome = asyncio.get_running_loop().create_task(run(made))
        await asyncio.sleep(0.1)
        assert listener.kinds()[len(INIT) :] == ["platform.start"]
        await outcome
        assert listener.kinds()[len(INIT) :] == ["platform.start", "platform.runtimeDone", "platform.report"]


async def test_many_invocations_are_told_in_their_order() -> None:
    async def quick(runtime: FakeRuntime) -> None:
        while True:
            await runtime.respond(*await runtime.next())

    listener = Listener(["platform"])
    async with listener.listening(), rig(quick, agent=listener) as made:
        await asyncio.sleep(1)
        ids = []
        for _ in range(100):
            asked = work(b"1", 3)
            ids.append(asked.request_id)
            await made.user.begin(asked)
            await made.user.idle()
        await asyncio.sleep(1)
        told_of = [(event["type"], event["record"]["requestId"]) for event in listener.came[len(INIT) :]]
        kinds = ("platform.start", "platform.runtimeDone", "platform.report")
        assert told_of == [(kind, request_id) for request_id in ids for kind in kinds]


async def test_spans_of_a_stream() -> None:
    listener = Listener(["platform"])
    async with told(listener) as made:
        taker = Taker()
        await run(made, b'"streams"', stream=taker)
        done = listener.record("platform.runtimeDone")
        spans = {span["name"]: span["durationMs"] for span in done["spans"]}
        assert spans["responseLatency"] == pytest.approx(0, abs=2)
        assert spans["responseDuration"] == pytest.approx(2000, abs=2)
        assert (done["metrics"]["producedBytes"], taker.data) == (6, b"onetwo")


@pytest.mark.parametrize(
    ("payload", "status", "error_type"),
    [
        (b'"fails"', "error", "Function.Oops"),
        (b'"exits"', "failure", "Runtime.ExitError"),
        (b'"hangs"', "timeout", "Sandbox.Timedout"),
    ],
)
async def test_what_goes_wrong(payload: bytes, status: str, error_type: str) -> None:
    listener = Listener(["platform"], events=("INVOKE", "SHUTDOWN"))
    async with told(listener) as made:
        outcome = await run(made, payload)
        assert outcome.status.value == status
        for kind in ("platform.runtimeDone", "platform.report"):
            record = listener.record(kind)
            assert (record["status"], record["errorType"]) == (status, error_type), "told before the listener is gone"
        if status != "error":
            listener.came.clear()
            assert (await run(made)).status is Status.SUCCESS
            assert listener.record("platform.initStart")["phase"] == "invoke", "suppressed init, and a listener anew"
            assert listener.record("platform.initReport")["status"] == "success"
            assert listener.record("platform.report")["status"] == "success"


async def test_the_logs_api_has_its_own_events() -> None:
    listener = Listener(["platform"], logs=True, events=("INVOKE", "SHUTDOWN"))
    async with told(listener) as made:
        assert listener.answers[0].body == b'"OK"'
        assert listener.kinds() == ["platform.logsSubscription", "platform.extension"]
        await run(made)
        assert listener.kinds()[2:] == ["platform.start", "platform.runtimeDone", "platform.end", "platform.report"]
        await run(made, b'"exits"')
        faults = [event["record"] for event in listener.came if event["type"] == "platform.fault"]
        assert len(faults) == 1
        assert "exit status 3" in faults[0]


async def test_the_first_logs_schema_has_no_runtime_done() -> None:
    listener = Listener(["platform"], logs=True, schemaVersion="2020-08-15")
    async with told(listener) as made:
        await run(made)
        assert "platform.runtimeDone" not in listener.kinds()


async def test_json_lines_are_objects_where_the_function_logs_json() -> None:
    async def logs(runtime: FakeRuntime) -> None:
        await runtime.print(b'{"level":"INFO"}\n{"no JSON\nplain\n')
        while True:
            await runtime.respond(*await runtime.next())

    for log_format, first in (("JSON", {"level": "INFO"}), ("Text", '{"level":"INFO"}')):
        listener = Listener(["function"])
        async with listener.listening(), rig(logs, agent=listener, spec={"log_format": log_format}):
            await asyncio.sleep(1)
            assert [event["record"] for event in listener.came] == [first, '{"no JSON', "plain"]


async def test_who_may_subscribe_and_when() -> None:
    refused: list[Answer] = []
    listener = Listener(["platform"])

    async def agent(extension: FakeExtension) -> None:
        wanted = {"schemaVersion": "2022-07-01", "types": ["platform"], "destination": {"protocol": "TCP", "port": listener.port}}
        identifier = await extension.register("agent", "INVOKE")
        refused.append(await extension.subscribe("", wanted))
        refused.append(await extension.subscribe("x", wanted))
        refused.append(await extension.subscribe("00000000-0000-4000-8000-000000000000", wanted))
        refused.append(await extension.subscribe(identifier, {}))
        await listener.subscribe(extension, identifier)
        await listener.subscribe(extension, identifier)  # the same again changes nothing
        refused.append(await extension.subscribe(identifier, {**wanted, "schemaVersion": "2020-08-15"}, logs=True))
        await extension.next_event(identifier)
        refused.append(await extension.subscribe(identifier, wanted))
        while True:
            await extension.next_event(identifier)

    async with listener.listening(), rig(does_as_told, agent=agent) as made:
        await run(made)
        assert [answer.status for answer in listener.answers] == [200, 200]
        assert listener.kinds().count("platform.telemetrySubscription") == 1
        assert [(answer.status, json.loads(answer.body)["errorType"]) for answer in refused] == [
            (403, "Extension.MissingExtensionIdentifier"),
            (403, "Extension.InvalidExtensionIdentifier"),
            (403, "Extension.UnknownExtensionIdentifier"),
            (400, "ValidationError"),
            (400, "Logs.ValidationError"),
            (403, "Telemetry.SubscriptionClosed"),
        ]


async def test_an_internal_extension_may_subscribe() -> None:
    listener = Listener()

    async def agent(inside: FakeRuntime, identifier: str) -> None:
        await listener.subscribe(inside, identifier)
        while True:
            await inside.next_event(identifier)

    async def runtime(inside: FakeRuntime) -> None:
        other = FakeRuntime(inside._handle, inside.spec, inside.environment)
        running = asyncio.get_running_loop().create_task(agent(other, await other.register("inside", "INVOKE")))
        try:
            await inside.sleep(0.1)
            await does_as_told(inside)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await other.disconnect()

    async with listener.listening(), rig(runtime) as made:
        await run(made)
        assert "platform.initStart" in listener.kinds()
        assert [event["record"] for event in listener.came if event["type"] == "function"] == ["loads", "works", "and "]


async def test_without_extensions_nobody_can_subscribe_and_nothing_is_kept() -> None:
    answers: list[Answer] = []

    async def runtime(inside: FakeRuntime) -> None:
        answers.append(await inside.subscribe("00000000-0000-4000-8000-000000000000", {}))
        await does_as_told(inside)

    async with rig(runtime) as made:
        await run(made)
        assert answers[0].status == 202
        assert made.sandbox._telemetry is None


async def test_where_nobody_is_subscribed_after_init_nothing_is_noted() -> None:
    late: list[Answer] = []

    async def agent(extension: FakeExtension) -> None:
        identifier = await extension.register("agent", "INVOKE")
        while True:
            await extension.next_event(identifier)
            wanted = {"schemaVersion": "2022-07-01", "types": ["platform"], "destination": {"protocol": "TCP", "port": 80}}
            late.append(await extension.subscribe(identifier, wanted))

    async with rig(does_as_told, agent=agent) as made:
        await asyncio.sleep(1)
        assert made.sandbox._telemetry is None
        assert (await run(made)).status is Status.SUCCESS
        assert [json.loads(answer.body)["errorType"] for answer in late] == ["Telemetry.SubscriptionClosed"]


async def test_a_listener_that_does_not_take_delays_nobody() -> None:
    listener = Listener(buffering={"maxItems": 1000, "timeoutMs": 25})
    async with told(listener) as made:
        await run(made)
        listener.takes.clear()
        for _ in range(3):
            outcome = await run(made, b'"floods"')
            assert outcome.status is Status.SUCCESS
            assert outcome.duration_s == pytest.approx(0.25, abs=0.01)


async def test_a_flood_is_bounded_and_told() -> None:
    listener = Listener()
    listener.takes.clear()
    listener.ahead_bytes = 1 << 16
    async with told(listener) as made:
        for _ in range(5):
            await run(made, b'"floods"')
        telemetry = made.sandbox._telemetry
        assert telemetry is not None
        held = sum(subscriber._bytes for subscriber in telemetry._subscribers.values())
        assert held < 300_000
        listener.takes.set()
        await asyncio.sleep(5)
        dropped = [event["record"] for event in listener.came if event["type"] == "platform.logsDropped"]
        assert dropped
        lost = sum(record["droppedRecords"] for record in dropped)
        floods = sum(event["type"] == "function" and "xxx" in event["record"] for event in listener.came)
        assert lost + floods >= 5 * 100
        assert all(record["droppedBytes"] > 0 and "fallen behind" in record["reason"] for record in dropped)
        assert b"platform.logsDropped" not in made.user.log, "AWS has no line for it"


@pytest.mark.parametrize("types", [["platform", "function"], ["function"]])
async def test_what_was_dropped_is_in_a_log_in_json_too(types: list[str]) -> None:
    listener = Listener(types)
    listener.takes.clear()
    listener.ahead_bytes = 1 << 16
    async with told(listener, log_format="JSON") as made:
        for _ in range(5):
            await run(made, b'"floods"')
        listener.takes.set()
        await asyncio.sleep(5)
        heard = [json.loads(line) for line in made.user.log.splitlines() if b"platform.logsDropped" in line]
        assert heard
        assert all(event["record"]["droppedRecords"] > 0 for event in heard)
