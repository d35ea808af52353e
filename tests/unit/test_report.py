r"""The platform's lines, against those recorded from AWS.

Recorded (request ids replaced): ``REPORT RequestId: …\tDuration: 3.01 ms\tBilled Duration: 4 ms\tMemory Size: 128 MB\t``
``Max Memory Used: 36 MB\tInit Duration: 110.10 ms\t``, before AWS began to bill Init in August 2025, and a warm one of 2.90 ms.
"""

from __future__ import annotations

import json

import pytest

from gateway.invoke import report
from sandbox.outcome import Outcome, Status
from tests.sim.records import version

ID = "8c3b2a10-0f5e-4f43-9a43-2f1c5d7e9b01"
WALL_S = 1_795_253_820.25


def outcome(duration_s: float, *, init_s: float | None = None, used_bytes: int = 36 << 20) -> Outcome:
    return Outcome(status=Status.SUCCESS, payload=b"", duration_s=duration_s, init_s=init_s, max_memory_bytes=used_bytes)


def test_start() -> None:
    assert report.start(ID, version(), WALL_S) == f"START RequestId: {ID} Version: $LATEST"


def test_a_warm_invocation_has_no_init() -> None:
    assert report.end(ID, version(), outcome(0.00290), WALL_S) == (
        f"END RequestId: {ID}\n"
        f"REPORT RequestId: {ID}\tDuration: 2.90 ms\tBilled Duration: 3 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t"
    )


def test_the_first_invocation_reports_and_is_billed_its_init() -> None:
    assert report.end(ID, version(), outcome(0.00301, init_s=0.1101), WALL_S).partition("\n")[2] == (
        f"REPORT RequestId: {ID}\tDuration: 3.01 ms\tBilled Duration: 115 ms\tMemory Size: 128 MB\tMax Memory Used: 36 MB\t"
        "Init Duration: 110.10 ms\t"
    )


@pytest.mark.parametrize(
    ("duration_s", "billed_ms"), [(0.0, 1), (0.0000001, 1), (0.001, 1), (0.0010001, 2), (3.0, 3000), (1.1 + 2.2, 3300)]
)
def test_each_begun_millisecond_is_billed_and_no_more(duration_s: float, billed_ms: int) -> None:
    assert f"\tBilled Duration: {billed_ms} ms\t" in report.end(ID, version(), outcome(duration_s), WALL_S)


@pytest.mark.parametrize(("used_bytes", "used_mb"), [(0, 0), (1, 1), (36 << 20, 36), ((36 << 20) + 1, 37)])
def test_each_begun_megabyte_counts(used_bytes: int, used_mb: int) -> None:
    assert f"\tMax Memory Used: {used_mb} MB\t" in report.end(ID, version(), outcome(0.1, used_bytes=used_bytes), WALL_S)


def test_what_the_platform_has_to_say_of_an_end_stands_before_it() -> None:
    late = outcome(3.0)
    late.log_lines = (f"2026-11-21T09:37:03.000Z {ID} Task timed out after 3.00 seconds", "")
    assert report.end(ID, version(), late, WALL_S).split("\n")[:3] == [*late.log_lines, f"END RequestId: {ID}"]


TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


def test_a_traced_invocation_has_a_line_after_its_report() -> None:
    assert report.end(ID, version(), outcome(0.001), WALL_S, trace_id=TRACE).splitlines()[-1] == (
        "XRAY TraceId: 1-5759e988-bd862e3fe1be46a994272793\tSegmentId: 53995c3f42cd8ad8\tSampled: true\t"
    )
    record = json.loads(report.end(ID, version(log_format="JSON"), outcome(0.001), WALL_S, trace_id=TRACE))["record"]
    assert record["tracing"] == {"type": "X-Amzn-Trace-Id", "value": TRACE}


def test_the_json_format_has_the_telemetry_apis_events_instead() -> None:
    structured = version(log_format="JSON")
    assert json.loads(report.start(ID, structured, WALL_S)) == {
        "time": "2026-11-21T09:37:00.250Z",
        "type": "platform.start",
        "record": {"requestId": ID, "version": "$LATEST"},
    }
    failed = outcome(0.00301, init_s=0.1101)
    failed.status, failed.error_type = Status.TIMEOUT, "Sandbox.Timedout"
    line = report.end(ID, structured, failed, WALL_S)
    assert json.loads(line)["record"] == {
        "requestId": ID,
        "status": "timeout",
        "errorType": "Sandbox.Timedout",
        "metrics": {
            "durationMs": 3.01,
            "billedDurationMs": 115,
            "memorySizeMB": 128,
            "maxMemoryUsedMB": 36,
            "initDurationMs": 110.1,
        },
    }


class Answer:
    """How one came."""

    def __init__(self, first_byte_s: float | None, streamed_bytes: int) -> None:
        self.first_byte_s, self.streamed_bytes = first_byte_s, streamed_bytes


def runtime_done(result: Outcome, answer: Answer, *, answered_s: float | None = None, trace_id: str = "") -> dict[str, object]:
    structured = version(log_format="JSON", system_level="DEBUG")
    first, report_line = report.end(
        ID, structured, result, WALL_S, trace_id=trace_id, answer=answer, answered_s=answered_s
    ).splitlines()
    assert json.loads(report_line)["type"] == "platform.report"
    event: dict[str, object] = json.loads(first)
    assert event["type"] == "platform.runtimeDone"
    return event


def test_with_the_level_debug_the_log_has_the_spans_of_the_answer() -> None:
    event = runtime_done(outcome(0.25), Answer(0.1, 7_000_000), trace_id=TRACE)
    assert event["time"] == "2026-11-21T09:37:00.250Z"
    assert event["record"] == {
        "requestId": ID,
        "status": "success",
        "metrics": {"durationMs": 250.0, "producedBytes": 7_000_000},
        "spans": [
            {"name": "responseLatency", "start": "2026-11-21T09:37:00.000Z", "durationMs": 100.0},
            {"name": "responseDuration", "start": "2026-11-21T09:37:00.100Z", "durationMs": 150.0},
        ],
        "tracing": {"type": "X-Amzn-Trace-Id", "value": TRACE},
    }


def test_an_answer_in_one_piece_took_no_time_to_come() -> None:
    whole = outcome(0.25)
    whole.payload = b"null"
    record = runtime_done(whole, Answer(None, 0))["record"]
    assert isinstance(record, dict)
    assert [span["durationMs"] for span in record["spans"]] == [250.0, 0.0]
    assert record["metrics"]["producedBytes"] == 4


def test_the_runtime_is_done_before_its_extensions_are() -> None:
    event = runtime_done(outcome(0.25), Answer(None, 0), answered_s=0.05)
    assert event["time"] == "2026-11-21T09:37:00.050Z"
    record = event["record"]
    assert isinstance(record, dict)
    assert record["metrics"]["durationMs"] == 50.0
    assert [span["durationMs"] for span in record["spans"]] == [50.0, 0.0]


def test_what_broke_has_no_spans() -> None:
    late = outcome(3.0)
    late.status, late.error_type = Status.TIMEOUT, "Sandbox.Timedout"
    record = runtime_done(late, Answer(None, 0))["record"]
    assert isinstance(record, dict)
    assert "spans" not in record


def test_the_start_of_a_traced_invocation_says_so() -> None:
    record = json.loads(report.start(ID, version(log_format="JSON", tracing_mode="Active"), WALL_S, TRACE))["record"]
    assert record["tracing"] == {"type": "X-Amzn-Trace-Id", "value": TRACE}
    for other in (version(log_format="JSON"), version(log_format="JSON", tracing_mode="Active")):
        untraced = TRACE.replace("Sampled=1", "Sampled=0") if other.tracing_mode == "Active" else TRACE
        assert "tracing" not in json.loads(report.start(ID, other, WALL_S, untraced))["record"]
