"""The platform's lines about Init."""

from __future__ import annotations

import dataclasses
import json

import pytest

from sandbox import platform_lines
from sandbox.runtime_api.extensions import Extension
from tests.sandboxes import SPEC, WALL_S

JSON = dataclasses.replace(SPEC, log_format="JSON")


def test_init_report() -> None:
    report = platform_lines.init_report(SPEC, WALL_S, 1.23604, "init", "timeout", None)
    assert report == "INIT_REPORT Init Duration: 1236.04 ms\tPhase: init\tStatus: timeout"
    report = platform_lines.init_report(SPEC, WALL_S, 0.1, "invoke", "error", "Runtime.ExitError")
    assert report.endswith("\tPhase: invoke\tStatus: error\tError Type: Runtime.ExitError")
    document = json.loads(platform_lines.init_report(JSON, WALL_S, 0.1, "invoke", "error", "Runtime.ExitError"))
    assert (document["time"], document["type"]) == ("2026-11-21T09:37:00.000Z", "platform.initReport")
    assert document["record"] == {
        "initializationType": "on-demand",
        "phase": "invoke",
        "status": "error",
        "metrics": {"durationMs": 100.0},
        "errorType": "Runtime.ExitError",
    }


def test_the_runtimes_part_of_init() -> None:
    document = json.loads(platform_lines.init_runtime_done(JSON, WALL_S, "invoke", "error", "Runtime.ExitError"))
    assert (document["time"], document["type"]) == ("2026-11-21T09:37:00.000Z", "platform.initRuntimeDone")
    assert document["record"] == {
        "initializationType": "on-demand",
        "phase": "invoke",
        "status": "error",
        "errorType": "Runtime.ExitError",
    }


def test_subscriptions() -> None:
    """As in logs of AWS that users posted in 2023 and 2024."""
    line = platform_lines.subscribed(SPEC, WALL_S, "datadog-agent", ["platform", "function", "extension"], logs=False)
    assert line == "TELEMETRY\tName: datadog-agent\tState: Subscribed\tTypes: [Platform, Function, Extension]"
    line = platform_lines.subscribed(SPEC, WALL_S, "cloudwatch\nagent", ["platform"], logs=True)
    assert line == "LOGS\tName: cloudwatch agent\tState: Subscribed\tTypes: [Platform]"
    for logs, kind in ((False, "platform.telemetrySubscription"), (True, "platform.logsSubscription")):
        document = json.loads(platform_lines.subscribed(JSON, WALL_S, "agent", ["platform"], logs=logs))
        assert (document["type"], document["record"]) == (
            kind,
            {"name": "agent", "state": "Subscribed", "types": ["platform"]},
        )


@pytest.mark.parametrize(
    ("runtime", "version"),
    [
        ("python3.13", "python:3.13.v1"),
        ("nodejs22.x", "nodejs:22.v1"),
        ("provided.al2023", "provided:al2023.v1"),
        ("provided", "provided:al1.v1"),
        ("java21", "java:21.v1"),
        ("java8.al2", "java:8.al2.v1"),
        ("dotnet8", "dotnet:8.v1"),
        ("ruby3.3", "ruby:3.3.v1"),
    ],
)
def test_runtime_versions(runtime: str, version: str) -> None:
    found, arn = platform_lines.runtime_version(runtime, "eu-west-1")
    assert found == version
    assert arn.startswith("arn:aws:lambda:eu-west-1::runtime:")
    assert len(arn.rpartition(":")[2]) == 64


def test_what_an_extension_calls_itself_is_one_line() -> None:
    extension = Extension("a\nREPORT RequestId: forged", external=False)
    extension.error_type = "x\ny"
    line = platform_lines.extension(SPEC, WALL_S, extension)
    assert line == "EXTENSION\tName: a REPORT RequestId: forged\tState: Started\tEvents: []\tError Type: x y"
