"""Which entries of a log in JSON are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.observe.log_levels import LEVELS, Kept, event_level
from gateway.observe.logs import Logs
from gateway.records import LoggingConfig
from tests.sandboxes import LoopClock


@pytest.mark.parametrize(
    ("line", "level"),
    [
        (b'{"level": "TRACE"}', "TRACE"),
        (b'{"level": "debug", "timestamp": "x"}', "DEBUG"),
        (b'{"level": "WARNING"}', "WARN"),
        (b'{"level": "CRITICAL"}', "FATAL"),
        (b'{"level": 50}', "INFO"),
        (b'{"level": null}', "INFO"),
        (b'{"level": "loud"}', "INFO"),
        (b"{}", "INFO"),
        (b"{broken", "INFO"),
        (b"[1]", "INFO"),
        (b"plain text", "INFO"),
        (b"\xff\xfe", "INFO"),
        (b"", "INFO"),
    ],
)
def test_a_line_is_kept_from_its_level_on(line: bytes, level: str) -> None:
    for least, place in LEVELS.items():
        assert Kept(least, None).is_kept(line) == (place <= LEVELS[level]), least


@pytest.mark.parametrize(
    ("kind", "record", "level"),
    [
        ("initStart", {"runtimeVersion": "python:3.12.v1"}, "INFO"),
        ("initStart", {}, "DEBUG"),
        ("initRuntimeDone", {"status": "success"}, "DEBUG"),
        ("initRuntimeDone", {"status": "error"}, "WARN"),
        ("initReport", {"initializationType": "on-demand"}, "DEBUG"),
        ("initReport", {"initializationType": "provisioned-concurrency"}, "INFO"),
        ("initReport", {"initializationType": "on-demand", "status": "timeout"}, "WARN"),
        ("start", {}, "INFO"),
        ("runtimeDone", {"status": "success"}, "DEBUG"),
        ("runtimeDone", {"status": "failure"}, "WARN"),
        ("report", {"status": "success"}, "INFO"),
        ("report", {"status": "timeout"}, "WARN"),
        ("extension", {"state": "Ready"}, "INFO"),
        ("extension", {"state": "LaunchError"}, "WARN"),
        ("telemetrySubscription", {"state": "Subscribed"}, "INFO"),
        ("logsDropped", {}, "WARN"),
    ],
)
def test_the_platforms_events_have_awss_levels(kind: str, record: dict[str, str], level: str) -> None:
    assert event_level(f"platform.{kind}", record) == LEVELS[level]


def test_a_function_cannot_say_what_the_platform_says_at_its_own_level() -> None:
    """An event about Init comes from inside, where a function may print the like: it is as the system's level says."""
    line = b'{"time": "t", "type": "platform.initStart", "record": {"runtimeVersion": "v"}}'
    assert Kept("ERROR", "INFO").is_kept(line)
    assert not Kept("TRACE", "WARN").is_kept(line)


async def test_a_filtered_log(tmp_path: Path) -> None:
    config = LoggingConfig(log_format="JSON", log_group="g", application_level="WARN", system_level="WARN")
    logs = Logs(directory=tmp_path, clock=LoopClock())
    stream = logs.open("f", "g", "s", config)
    stream.begin()
    stream.platform('{"time": "t", "type": "platform.start", "record": {"requestId": "1"}}')
    stream.output(b'{"level": "WARN", "message": 1}\n{"level": "INFO"}\nprinted\n{"level": "ERR')
    stream.output(b'OR", "message": 2}\n{"level": "FATAL", "message": 3}')
    stream.platform("2026-01-01T00:00:00.000Z id Task timed out after 3.00 seconds\n"
                    '{"time": "t", "type": "platform.report", "record": {"status": "timeout"}}')  # fmt: skip
    stream.output(b'{"level": "INFO"}')
    stream.close()
    logs.flush()
    assert [event.message for event in logs.read("f")] == [
        '{"level": "WARN", "message": 1}',
        '{"level": "ERROR", "message": 2}',
        '{"level": "FATAL", "message": 3}',
        "2026-01-01T00:00:00.000Z id Task timed out after 3.00 seconds",
        '{"time": "t", "type": "platform.report", "record": {"status": "timeout"}}',
    ]
    assert stream.tail().count(b"\n") == 5


async def test_a_log_of_text_is_not_filtered(tmp_path: Path) -> None:
    stream = Logs(directory=tmp_path, clock=LoopClock()).open("f", "g", "s", LoggingConfig(log_group="g"))
    assert type(stream).__name__ == "LogStream"
