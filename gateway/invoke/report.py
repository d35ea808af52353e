r"""The platform's lines about an invocation in a function's log, as AWS writes them. [P]

Text: ``START RequestId: ID Version: V``, ``END RequestId: ID`` and, with tabs and a tab at its end, ``REPORT RequestId:
ID\tDuration: …``. JSON (LogFormat JSON): ``platform.start`` and ``platform.report`` instead, as the Telemetry API names them.

One that ended by a time-out, by a failure, or in an Init within it has that at the end of its REPORT: ``Status: timeout``, or
``Status: error\tError Type: …`` (as in logs that users of AWS have posted since 2025; for an error that a handler raised, they
have none).

Of a function that is traced (TracingConfig Active), an invocation that its caller has sampled has a line after REPORT, as on AWS:
``XRAY TraceId: 1-…\tSegmentId: …\tSampled: true``. Nobody is sent the trace.

Billed is each begun millisecond, of Init too, as AWS has done for zip functions since August 2025.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.records import FunctionVersion
from sandbox.outcome import MIB, Outcome, Status, billed_ms

_TIMEOUT, _FAILURE = Status.TIMEOUT, Status.FAILURE


def start(request_id: str, version: FunctionVersion, now_wall_s: float) -> str:
    if version.logging.log_format == "JSON":
        return _event("platform.start", now_wall_s, {"requestId": request_id, "version": version.version})
    return f"START RequestId: {request_id} Version: {version.version}"


def end(
    request_id: str, version: FunctionVersion, outcome: Outcome, now_wall_s: float, *, in_init: bool = False, trace_id: str = ""
) -> str:
    """The lines after an invocation's own output, the platform's remarks on its end before END; without the last line feed.

    `in_init`: it ended before its function was initialised. `trace_id`: the function's trace header, if it is traced.
    """
    duration_ms = outcome.duration_s * 1000
    billed = billed_ms(outcome)
    used_mb = -(-outcome.max_memory_bytes // MIB)
    remarks = "".join(f"{line}\n" for line in outcome.log_lines) if outcome.log_lines else ""
    if version.logging.log_format == "JSON":
        done = ""
        if version.logging.system_level == "DEBUG":
            done = _json_runtime_done(request_id, outcome, duration_ms, now_wall_s) + "\n"
        return remarks + done + _json_report(request_id, version, outcome, duration_ms, billed, used_mb, now_wall_s, trace_id)
    init = "" if outcome.init_s is None else f"Init Duration: {outcome.init_s * 1000:.2f} ms\t"
    if in_init or outcome.status is _TIMEOUT or outcome.status is _FAILURE:
        init += "Status: timeout" if outcome.status is _TIMEOUT else f"Status: error\tError Type: {outcome.error_type}"
    return (
        f"{remarks}END RequestId: {request_id}\n"
        f"REPORT RequestId: {request_id}\tDuration: {duration_ms:.2f} ms\tBilled Duration: {billed} ms\t"
        f"Memory Size: {version.memory_mb} MB\tMax Memory Used: {used_mb} MB\t{init}{_xray(trace_id) if trace_id else ''}"
    )


def _xray(trace_id: str) -> str:
    fields = dict(field.partition("=")[::2] for field in trace_id.split(";"))
    return f"\nXRAY TraceId: {fields.get('Root', '')}\tSegmentId: {fields.get('Parent', '')}\tSampled: true\t"


def _json_runtime_done(request_id: str, outcome: Outcome, duration_ms: float, now_wall_s: float) -> str:
    metrics = {"durationMs": round(duration_ms, 3), "producedBytes": len(outcome.payload)}
    record: dict[str, Any] = {"requestId": request_id, "status": outcome.status.value, "metrics": metrics}
    if outcome.error_type is not None:
        record["errorType"] = outcome.error_type
    return _event("platform.runtimeDone", now_wall_s, record)


def _json_report(
    request_id: str,
    version: FunctionVersion,
    outcome: Outcome,
    duration_ms: float,
    billed: int,
    used_mb: int,
    now_wall_s: float,
    trace_id: str,
) -> str:
    metrics: dict[str, Any] = {
        "durationMs": round(duration_ms, 3),
        "billedDurationMs": billed,
        "memorySizeMB": version.memory_mb,
        "maxMemoryUsedMB": used_mb,
    }
    if outcome.init_s is not None:
        metrics["initDurationMs"] = round(outcome.init_s * 1000, 3)
    record: dict[str, Any] = {"requestId": request_id, "metrics": metrics, "status": outcome.status.value}
    if outcome.error_type is not None:
        record["errorType"] = outcome.error_type
    if trace_id:
        record["tracing"] = {"type": "X-Amzn-Trace-Id", "value": trace_id}
    return _event("platform.report", now_wall_s, record)


def _event(kind: str, now_wall_s: float, record: dict[str, Any]) -> str:
    time = datetime.fromtimestamp(now_wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"time": time, "type": kind, "record": record}).decode()
