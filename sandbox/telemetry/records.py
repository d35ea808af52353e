"""The records of platform events, as the Telemetry API's schema has them (versions up to 2025-01-29). [P]

Times in records are UTC with milliseconds; durations are milliseconds. Those of every invocation are in `invocation.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sandbox.outcome import MIB
from sandbox.platform_lines import runtime_version
from sandbox.runtime_api.extensions import Extension
from sandbox.spec import FunctionSpec

Record = dict[str, Any]
_ENDINGS: Final = tuple(f".{ms:03d}Z" for ms in range(1000))


class Stamps:
    """Times as texts, ``2022-10-12T00:03:50.000Z``: rendered when the second or the millisecond is another than the last time."""

    __slots__ = ("_ms", "_prefix", "_second", "_text")

    def __init__(self) -> None:
        self._ms = self._second = -1
        self._prefix = self._text = ""

    def at(self, wall_s: float) -> str:
        """`wall_s` is since the epoch."""
        ms = int(wall_s * 1000)
        if ms != self._ms:
            self._ms = ms
            second, ms = divmod(ms, 1000)
            if second != self._second:
                self._second = second
                self._prefix = datetime.fromtimestamp(second, UTC).isoformat()[:-6]
            self._text = self._prefix + _ENDINGS[ms]
        return self._text


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
