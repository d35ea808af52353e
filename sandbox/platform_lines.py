r"""The platform's lines about Init in a function's log, as AWS writes them. [P]

Text, as in logs that users of AWS posted: ``INIT_START Runtime Version: python:3.11.v7\tRuntime Version ARN: …`` when the first
Init begins; ``TELEMETRY\tName: …\tState: Subscribed\tTypes: [Platform, Function]`` (``LOGS`` for the Logs API) when an extension
subscribes; ``EXTENSION\tName: …\tState: Ready\tEvents: [INVOKE, SHUTDOWN]`` for each extension when an Init is over;
``INIT_REPORT Init Duration: … ms\tPhase: init\tStatus: timeout`` only about one that failed. With LogFormat JSON the events of
the Telemetry API instead, and about every Init: ``platform.initStart``, ``platform.telemetrySubscription``,
``platform.initRuntimeDone``, ``platform.extension``, ``platform.initReport``, and ``platform.logsDropped`` when a
subscriber has fallen behind (made by `telemetry`). Which of them are kept is the log level's, and AWS counts the two of an Init
that went well as DEBUG. All without a line feed.
"""

from __future__ import annotations

import functools
import hashlib
import re
from datetime import UTC, datetime
from typing import Any

import orjson

from sandbox.runtime_api.extensions import Extension
from sandbox.spec import FunctionSpec


def init_start(spec: FunctionSpec, wall_s: float) -> str:
    """The first Init begins; `wall_s` is since the epoch."""
    version, arn = runtime_version(spec.runtime, spec.region)
    if spec.log_format == "JSON":
        record = {
            "initializationType": spec.initialization_type,
            "phase": "init",
            "runtimeVersion": version,
            "runtimeVersionArn": arn,
            "functionName": spec.name,
            "functionVersion": spec.version,
            "instanceId": spec.log_stream,
            "instanceMaxMemory": spec.memory_mb << 20,
        }
        return _event("platform.initStart", wall_s, record)
    return f"INIT_START Runtime Version: {version}\tRuntime Version ARN: {arn}"


def init_runtime_done(spec: FunctionSpec, wall_s: float, phase: str, status: str, error_type: str | None) -> str:
    """The runtime has asked for its first event, or will not; with LogFormat JSON only."""
    return _event("platform.initRuntimeDone", wall_s, _of_init(spec, phase, status, error_type))


def init_report(spec: FunctionSpec, wall_s: float, duration_s: float, phase: str, status: str, error_type: str | None) -> str:
    """An Init is over; `phase` is ``init`` or ``invoke``, `status` ``error`` or ``timeout``, and ``success`` with JSON only."""
    if spec.log_format == "JSON":
        record = {**_of_init(spec, phase, status, error_type), "metrics": {"durationMs": round(duration_s * 1000, 3)}}
        return _event("platform.initReport", wall_s, record)
    type_field = f"\tError Type: {error_type}" if error_type else ""
    return f"INIT_REPORT Init Duration: {duration_s * 1000:.2f} ms\tPhase: {phase}\tStatus: {status}{type_field}"


def extension(spec: FunctionSpec, wall_s: float, about: Extension) -> str:
    """How far an extension came when an Init was over."""
    if spec.log_format == "JSON":
        record: dict[str, Any] = {"name": about.name, "state": about.state.value, "events": list(about.events)}
        if about.error_type:
            record["errorType"] = about.error_type
        return _event("platform.extension", wall_s, record)
    error = f"\tError Type: {_one_line(about.error_type)}" if about.error_type else ""
    return f"EXTENSION\tName: {_one_line(about.name)}\tState: {about.state}\tEvents: [{', '.join(about.events)}]{error}"


def subscribed(spec: FunctionSpec, wall_s: float, name: str, types: list[str], *, logs: bool) -> str:
    """An extension has subscribed to `types`, by the Telemetry API or, with `logs`, by the Logs API."""
    if spec.log_format == "JSON":
        kind = "platform.logsSubscription" if logs else "platform.telemetrySubscription"
        return _event(kind, wall_s, {"name": name, "state": "Subscribed", "types": types})
    words = ", ".join(one.capitalize() for one in types)
    return f"{'LOGS' if logs else 'TELEMETRY'}\tName: {_one_line(name)}\tState: Subscribed\tTypes: [{words}]"


@functools.lru_cache(maxsize=256)
def runtime_version(runtime: str, region: str) -> tuple[str, str]:
    """(version, ARN) of a runtime: AWS's form, with a version and a hash of our own, as these runtimes are not AWS's builds."""
    language, _, rest = re.sub(r"^([a-z]+)\.?", r"\1:", runtime).partition(":")
    version = f"{language}:{rest.removesuffix('.x') or 'al1'}.v1"
    return version, f"arn:aws:lambda:{region}::runtime:{hashlib.sha256(version.encode()).hexdigest()}"


def _of_init(spec: FunctionSpec, phase: str, status: str, error_type: str | None) -> dict[str, Any]:
    record = {"initializationType": spec.initialization_type, "phase": phase, "status": status}
    if error_type:
        record["errorType"] = error_type
    return record


def _one_line(text: str) -> str:
    """What an extension calls itself or its error must not look like lines of the platform's."""
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


def _event(kind: str, wall_s: float, record: dict[str, Any]) -> str:
    time = datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"time": time, "type": kind, "record": record}).decode()
