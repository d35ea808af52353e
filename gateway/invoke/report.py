r"""The platform's lines about an invocation in a function's log, as AWS writes them. [P]

Text: ``START RequestId: ID Version: V``, ``END RequestId: ID`` and, with tabs and a tab at its end, ``REPORT RequestId:
ID\tDuration: …``. JSON (LogFormat JSON): ``platform.start`` and ``platform.report`` instead, as the Telemetry API names them, and
with the system level DEBUG ``platform.runtimeDone``. Its spans are responseLatency and responseDuration; a report is there
when the answer is, before the runtime asks for its next event, so how long that takes (runtimeOverhead) is known to the Telemetry
API only.

One that ended by a time-out, by a failure, or in an Init within it has that at the end of its REPORT: ``Status: timeout``, or
``Status: error\tError Type: …`` (as in logs that users of AWS have posted since 2025; for an error that a handler raised, they
have none).

Of a function that is traced (TracingConfig Active), an invocation that its caller has sampled has a line after REPORT, as on AWS:
``XRAY TraceId: 1-…\tSegmentId: …\tSampled: true``. Nobody is sent the trace.

Billed is each begun millisecond, of Init too, as AWS has done for zip functions since August 2025.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson

from gateway.records import FunctionVersion
from sandbox.outcome import MIB, Outcome, Status, billed_ms

_TIMEOUT, _FAILURE = Status.TIMEOUT, Status.FAILURE
BROKEN: Final = (_TIMEOUT, _FAILURE)


class Answer(Protocol):
    """How an answer came, asked for only where it is told; a sandbox knows it until its next invocation."""

    @property
    def first_byte_s(self) -> float | None:
        """Since the event; None if it came in one piece."""

    @property
    def streamed_bytes(self) -> int:
        """As much of it as the outcome's payload does not have."""


def start(request_id: str, version: FunctionVersion, now_wall_s: float, trace_id: str = "") -> str:
    """`trace_id` is the invocation's trace header, whoever is traced."""
    if version.logging.log_format == "JSON":
        record: dict[str, Any] = {"requestId": request_id, "version": version.version}
        if version.tracing_mode == "Active" and ";Sampled=1" in trace_id:
            record["tracing"] = _tracing(trace_id)
        return _event("platform.start", now_wall_s, record)
    return f"START RequestId: {request_id} Version: {version.version}"


def end(
    request_id: str,
    version: FunctionVersion,
    outcome: Outcome,
    now_wall_s: float,
    *,
    in_init: bool = False,
    trace_id: str = "",
    answered_s: float | None = None,
    answer: Answer | None = None,
) -> str:
    """The lines after an invocation's own output, the platform's remarks on its end before END; without the last line feed.

    `in_init`: it ended before its function was initialised. `trace_id`: the function's trace header, if it is traced.
    `answered_s`: how long the runtime took, where that is less than the outcome has because of extensions.
    """
    duration_ms = outcome.duration_s * 1000
    billed = billed_ms(outcome)
    used_mb = -(-outcome.max_memory_bytes // MIB)
    remarks = "".join(f"{line}\n" for line in outcome.log_lines) if outcome.log_lines else ""
    if version.logging.log_format == "JSON":
        done = ""
        if version.logging.system_level == "DEBUG":
            began_s = now_wall_s - outcome.duration_s
            taken_s = outcome.duration_s if answered_s is None else answered_s
            done = _json_runtime_done(request_id, outcome, began_s, taken_s, trace_id, answer) + "\n"
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


def _json_runtime_done(
    request_id: str, outcome: Outcome, began_wall_s: float, taken_s: float, trace_id: str, answer: Answer | None
) -> str:
    produced_bytes = (answer.streamed_bytes if answer is not None else 0) or len(outcome.payload)
    metrics = {"durationMs": _ms(taken_s), "producedBytes": produced_bytes}
    record: dict[str, Any] = {"requestId": request_id, "status": outcome.status.value, "metrics": metrics}
    if outcome.status not in BROKEN:
        begun_s = answer.first_byte_s if answer is not None else None
        latency_s = taken_s if begun_s is None else min(begun_s, taken_s)
        record["spans"] = [
            {"name": "responseLatency", "start": _time(began_wall_s), "durationMs": _ms(latency_s)},
            {"name": "responseDuration", "start": _time(began_wall_s + latency_s), "durationMs": _ms(taken_s - latency_s)},
        ]
    if outcome.error_type is not None:
        record["errorType"] = outcome.error_type
    if trace_id:
        record["tracing"] = _tracing(trace_id)
    return _event("platform.runtimeDone", began_wall_s + taken_s, record)


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
        record["tracing"] = _tracing(trace_id)
    return _event("platform.report", now_wall_s, record)


def _event(kind: str, now_wall_s: float, record: dict[str, Any]) -> str:
    return orjson.dumps({"time": _time(now_wall_s), "type": kind, "record": record}).decode()


def _time(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _ms(duration_s: float) -> float:
    return round(duration_s * 1000, 3)


def _tracing(trace_id: str) -> dict[str, str]:
    return {"type": "X-Amzn-Trace-Id", "value": trace_id}
