"""The records of platform events, as the Telemetry API's schema has them (versions up to 2025-01-29). [P]

Times in records are UTC with milliseconds; durations are milliseconds. Spans of platform.runtimeDone are responseLatency (from
the event to the first byte of the answer), responseDuration (from there to its last) and runtimeOverhead (until the runtime
asked for its next event); the one of platform.report is extensionOverhead (from there until its extensions had).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from sandbox.outcome import MIB, Outcome, Work, billed_ms
from sandbox.platform_lines import runtime_version
from sandbox.runtime_api.extensions import Extension
from sandbox.spec import FunctionSpec

Record = dict[str, Any]


class Stamps:
    """Times as texts, ``2022-10-12T00:03:50.000Z``: what changes once a second is rendered once a second (1.2 -> 0.2 us)."""

    __slots__ = ("_prefix", "_second")

    def __init__(self) -> None:
        self._second = -1
        self._prefix = ""

    def at(self, wall_s: float) -> bytes:
        """`wall_s` is since the epoch."""
        ms = int(wall_s * 1000)
        second, ms = divmod(ms, 1000)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).isoformat()[:-6]
        return b"%b.%03dZ" % (self._prefix.encode(), ms)


def init_start(spec: FunctionSpec, phase: str) -> Record:
    version, arn = runtime_version(spec.runtime, spec.region)
    return {
        "initializationType": spec.initialization_type,
        "phase": phase,
        "runtimeVersion": version,
        "runtimeVersionArn": arn,
        "functionName": spec.name,
        "functionVersion": spec.version,
        "instanceId": spec.log_stream,
        "instanceMaxMemory": spec.memory_mb * MIB,
    }


def init_runtime_done(spec: FunctionSpec, phase: str, status: str, error_type: str | None) -> Record:
    record = {"initializationType": spec.initialization_type, "phase": phase, "status": status}
    if error_type is not None:
        record["errorType"] = error_type
    return record


def init_report(spec: FunctionSpec, phase: str, status: str, error_type: str | None, duration_s: float) -> Record:
    return {**init_runtime_done(spec, phase, status, error_type), "metrics": {"durationMs": _ms(duration_s)}}


# The three of every invocation are written out: a dictionary for each would cost more than all else that telemetry does for it.


def tracing(work: Work) -> bytes:
    """The member of all three that tells of the trace; empty without one."""
    if not work.trace_id:
        return b""
    return b',"tracing":{"type":"X-Amzn-Trace-Id","value":%b}' % orjson.dumps(work.trace_id)


def start(spec: FunctionSpec, work: Work, trace: bytes) -> bytes:
    return b'{"requestId":"%b","version":"%b"%b}' % (work.request_id.encode(), spec.version.encode(), trace)


def runtime_done(work: Work, outcome: Outcome, produced_bytes: int, spans: bytes, trace: bytes) -> bytes:
    return b'{"requestId":"%b","status":"%b","metrics":{"durationMs":%.3f,"producedBytes":%d},"spans":[%b]%b%b}' % (
        work.request_id.encode(),
        outcome.status.value.encode(),
        outcome.duration_s * 1000,
        produced_bytes,
        spans,
        _error(outcome),
        trace,
    )


def report(spec: FunctionSpec, work: Work, outcome: Outcome, spans: bytes, trace: bytes) -> bytes:
    init = b"" if outcome.init_s is None else b',"initDurationMs":%.3f' % (outcome.init_s * 1000)
    return (
        b'{"requestId":"%b","metrics":{"durationMs":%.3f,"billedDurationMs":%d,"memorySizeMB":%d,"maxMemoryUsedMB":%d%b},'
        b'"spans":[%b],"status":"%b"%b%b}'
    ) % (
        work.request_id.encode(),
        outcome.duration_s * 1000,
        billed_ms(outcome),
        spec.memory_mb,
        -(-outcome.max_memory_bytes // MIB),
        init,
        spans,
        outcome.status.value.encode(),
        _error(outcome),
        trace,
    )


def spans(began: bytes, latency_s: float, answered_from: bytes, duration_s: float, answered: bytes, overhead_s: float) -> bytes:
    """Of platform.runtimeDone: each from when on, and how long."""
    return (
        b'{"name":"responseLatency","start":"%b","durationMs":%.3f},{"name":"responseDuration","start":"%b","durationMs":%.3f},'
        b'{"name":"runtimeOverhead","start":"%b","durationMs":%.3f}'
    ) % (began, latency_s * 1000, answered_from, duration_s * 1000, answered, overhead_s * 1000)


def extension_overhead(began: bytes, duration_s: float) -> bytes:
    """The span of platform.report."""
    return b'{"name":"extensionOverhead","start":"%b","durationMs":%.3f}' % (began, duration_s * 1000)


def _error(outcome: Outcome) -> bytes:
    return b"" if outcome.error_type is None else b',"errorType":%b' % orjson.dumps(outcome.error_type)


def extension(about: Extension) -> Record:
    record: Record = {"name": about.name, "state": about.state.value, "events": list(about.events)}
    if about.error_type:
        record["errorType"] = about.error_type
    return record


def subscribed(name: str, types: list[str]) -> Record:
    return {"name": name, "state": "Subscribed", "types": types}


def dropped(records: int, size_bytes: int) -> Record:
    reason = "Consumer seems to have fallen behind as it has not acknowledged receipt of logs."
    return {"reason": reason, "droppedRecords": records, "droppedBytes": size_bytes}


def _ms(duration_s: float) -> float:
    return round(max(duration_s, 0.0) * 1000, 3)
