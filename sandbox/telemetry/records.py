"""The records of platform events, as the Telemetry API's schema has them (versions up to 2025-01-29). [P]

Times in records are UTC with milliseconds; durations are milliseconds. Spans of platform.runtimeDone are responseLatency (from
the event to the first byte of the answer), responseDuration (from there to its last) and runtimeOverhead (until the runtime
asked for its next event).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sandbox.outcome import MIB, Outcome, Work, billed_ms
from sandbox.platform_lines import runtime_version
from sandbox.runtime_api.extensions import Extension
from sandbox.spec import FunctionSpec

Record = dict[str, Any]


def stamp(wall_s: float) -> str:
    """``2022-10-12T00:03:50.000Z``; `wall_s` is since the epoch."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


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


def start(spec: FunctionSpec, work: Work) -> Record:
    record: Record = {"requestId": work.request_id, "version": spec.version}
    if work.trace_id:
        record["tracing"] = _tracing(work)
    return record


def runtime_done(work: Work, outcome: Outcome, produced_bytes: int, spans: list[Record]) -> Record:
    record: Record = {
        "requestId": work.request_id,
        "status": outcome.status.value,
        "metrics": {"durationMs": _ms(outcome.duration_s), "producedBytes": produced_bytes},
        "spans": spans,
    }
    if outcome.error_type is not None:
        record["errorType"] = outcome.error_type
    if work.trace_id:
        record["tracing"] = _tracing(work)
    return record


def report(spec: FunctionSpec, work: Work, outcome: Outcome) -> Record:
    metrics: Record = {
        "durationMs": _ms(outcome.duration_s),
        "billedDurationMs": billed_ms(outcome),
        "memorySizeMB": spec.memory_mb,
        "maxMemoryUsedMB": -(-outcome.max_memory_bytes // MIB),
    }
    if outcome.init_s is not None:
        metrics["initDurationMs"] = _ms(outcome.init_s)
    record: Record = {"requestId": work.request_id, "metrics": metrics, "status": outcome.status.value}
    if outcome.error_type is not None:
        record["errorType"] = outcome.error_type
    if work.trace_id:
        record["tracing"] = _tracing(work)
    return record


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


def span(name: str, began_wall_s: float, duration_s: float) -> Record:
    return {"name": name, "start": stamp(began_wall_s), "durationMs": _ms(duration_s)}


def _tracing(work: Work) -> Record:
    return {"type": "X-Amzn-Trace-Id", "value": work.trace_id}


def _ms(duration_s: float) -> float:
    return round(max(duration_s, 0.0) * 1000, 3)
