"""`lambent top` from what a gateway tells: rates, percentiles, order, and what a pipe gets."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import random
import signal
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli import top
from gateway.cli.main import main
from gateway.cli.percentile import percentile_s
from gateway.tally import DURATION_FINE_S, DURATION_S, Histogram
from tests.unit.stub import Stub

PAGE = "GET /_lambent/top"


def told(uptime_s: float, *functions: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "1", "endpoint": "http://h:1", "driver": "native", "isolation": "i", "owner": "o", "uptime_s": uptime_s,
        "sandboxes": {"idle": 2, "frozen": 1}, "stems": {"python3.12": 2}, "waiting": 1, "running": 3, "concurrency_limit": 1000,
        "memory": {"used_bytes": 300 << 20, "budget_bytes": 1000 << 20}, "bounds_s": [0.001, 0.01, 0.1],
        "late": {"bounds_s": [0.001, 0.01], "counts": [[0, round(uptime_s * 10)], [1, 2]]}, "functions": list(functions),
    }  # fmt: skip


def function(name: str, invocations: int = 0, durations: list[list[int]] | None = None, **more: Any) -> dict[str, Any]:
    counts = {"invocations": invocations, "errors": 0, "throttles": 0, "cold_starts": 0, "durations": durations or []}
    return {"name": name, "sandboxes": {}, "running": 0, "waiting": 0, "memory_bytes": 0, **counts, **more}


@given(st.lists(st.floats(0.00013, 800), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_percentiles_are_true_to_a_fifth_at_worst(values: list[float], share: float) -> None:
    histogram = Histogram(DURATION_FINE_S)
    for value in values:
        histogram.add(value)
    found = percentile_s(DURATION_FINE_S, dict(enumerate(histogram.counts)), share)
    rank = max(0, -int(-share * len(values) // 1) - 1)
    right = sorted(values)[rank]
    assert found is not None
    assert right / 1.21 <= found <= right * 1.21


def test_percentiles_of_many_are_true_to_a_tenth() -> None:
    chance = random.Random(1)
    values = [chance.lognormvariate(-5, 1) for _ in range(20_000)]
    histogram = Histogram(DURATION_FINE_S)
    for value in values:
        histogram.add(value)
    for share in (0.5, 0.99):
        found = percentile_s(DURATION_FINE_S, dict(enumerate(histogram.counts)), share)
        assert found == pytest.approx(sorted(values)[int(share * len(values))], rel=0.1)


def test_percentiles_at_the_edges() -> None:
    assert percentile_s([1, 2], {}, 0.5) is None
    assert percentile_s([1, 2], {2: 5}, 0.5) == 2, "beyond the last bound nothing is known"
    assert percentile_s([1, 2], {0: 4}, 0.5) == 0.5


def test_the_finer_bounds_hold_those_of_the_metrics() -> None:
    assert set(DURATION_S) <= set(DURATION_FINE_S)
    assert list(DURATION_FINE_S) == sorted(set(DURATION_FINE_S))
    assert DURATION_FINE_S[-1] == 900, "AWS's longest time-out"
    assert all(upper / lower <= 1.2001 for lower, upper in itertools.pairwise(DURATION_FINE_S))


def test_rates_and_percentiles_are_of_what_came_between_two_looks() -> None:
    before = told(10, function("a", 100, [[0, 100]], errors=5))
    now = told(12, function("a", 150, [[0, 100], [1, 50]], errors=6), function("new", 4, [[2, 4]]))
    a, new = top.rows(now, before, "calls")
    assert (a.calls, a.calls_per_s, a.errors) == (150, 25, 1)
    assert a.p50_ms is not None
    assert 1 < a.p50_ms < 10, "the hundred fast ones were before"
    assert (new.calls_per_s, new.errors) == (2, 0)


def test_how_late_the_event_loop_is() -> None:
    now, before = told(12), told(10)
    assert top.late_p99_ms(now, None) == pytest.approx(4.51, rel=0.1), "two of 122 were later than a millisecond"
    assert top.late_p99_ms(now, before) == pytest.approx(0.99), "and none since the last look"
    assert top.late_p99_ms(before, now) == top.late_p99_ms(before, None), "another gateway, which counts from 0"
    assert "event loop   p99 0.99 ms late" in top.page(now, before, "calls", 100, None).plain
    assert json.loads(top.document(now))["late_p99_ms"] == top.late_p99_ms(now, None)


def test_at_the_first_look_there_are_no_rates() -> None:
    [row] = top.rows(told(10, function("a", 100, [[0, 100]], errors=5)), None, "calls")
    assert (row.calls, row.calls_per_s, row.errors, row.p50_ms) == (100, None, 5, 0.5)


@pytest.mark.parametrize("uptime_s", [3, 40])
def test_counts_that_begin_again(uptime_s: float) -> None:
    """The gateway was restarted, or the function deleted and made anew."""
    before = told(20, function("a", 100, [[0, 100]]))
    [row] = top.rows(told(uptime_s, function("a", 7, [[0, 7]])), before, "calls")
    assert row.calls == 7
    assert row.calls_per_s is None or row.calls_per_s >= 0
    assert row.errors == 0


def test_a_function_without_counts_of_its_own() -> None:
    bare = {"name": "a", "sandboxes": {"warm": 1}, "running": 1, "waiting": 0, "memory_bytes": 128 << 20}
    rest = {"name": "(rest)", "invocations": 9, "errors": 0, "throttles": 0, "cold_starts": 0, "durations": [[0, 9]]}
    found = {row.name: row for row in top.rows(told(10, bare, rest), None, "calls")}
    assert (found["a"].calls, found["a"].warm, found["a"].memory_mb, found["a"].p50_ms) == (None, 1, 128, None)
    assert (found["(rest)"].calls, found["(rest)"].warm) == (9, 0)


@pytest.mark.parametrize(
    ("sort", "order"), [("calls", "bac"), ("memory", "cab"), ("name", "abc"), ("queue", "abc"), ("p99", "acb"), ("errors", "cba")]
)
def test_order(sort: str, order: str) -> None:
    a = function("a", 5, [[2, 5]], waiting=3, memory_bytes=2)
    b = function("b", 9, [[0, 9]], memory_bytes=1 << 19)
    c = function("c", 2, [[1, 2]], memory_bytes=3 << 20, errors=1)
    a["memory_bytes"] = 2 << 20
    b["waiting"] = 1
    assert "".join(row.name for row in top.rows(told(10, a, b, c), None, sort)) == order


def run(stub: Stub | None, *arguments: str) -> Any:
    endpoint = "http://127.0.0.1:9" if stub is None else stub.endpoint
    return CliRunner().invoke(main, ["top", *arguments], env={"LAMBENT_ENDPOINT": endpoint})


def test_a_pipe_gets_it_once(stub: Stub) -> None:
    stub.on(PAGE, told(4000, function("hello", 100, [[0, 100]], sandboxes={"warm": 2, "frozen": 1}, memory_bytes=129 << 20)))
    result = run(stub)
    assert result.exit_code == 0, result.output
    head, row = result.stdout.splitlines()[0], result.stdout.splitlines()[-1].split()
    assert head == "Lambent 1 at http://h:1, up 1 h 6 min"
    assert row == ["hello", "100", "0.50", "0.99", "0", "0", "0", "0", "0", "2", "1", "0", "129"]
    assert "\x1b" not in result.stdout
    assert stub.asked == [PAGE]


def test_json_is_for_programs(stub: Stub) -> None:
    stub.on(PAGE, told(10, function("hello", 100, [[0, 100]])))
    document = json.loads(run(stub, "--json").stdout)
    assert document["running"] == 3
    [one] = document["functions"]
    assert (one["name"], one["calls"], one["p50_ms"]) == ("hello", 100, 0.5)
    assert "calls_per_s" not in one


@pytest.mark.slow
def test_on_a_terminal_it_stays_until_ctrl_c(stub: Stub) -> None:
    stub.on(PAGE, told(10, function("hello", 100, [[0, 100]])))
    stub.on(PAGE, told(10.2, function("hello", 300, [[0, 300]])))
    ours, theirs = pty.openpty()
    environment = {**os.environ, "LAMBENT_ENDPOINT": stub.endpoint, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"}
    # Whoever runs the tests in the background may have them ignore what Ctrl-C sends, and all that they start.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "gateway", "top", "--interval", "0.2"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while b"1,000" not in shown:  # calls a second
            shown += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # nobody has the other end any more
            while more := os.read(ours, 65536):
                shown += more
    os.close(ours)
    assert process.returncode == 0
    assert b"\x1b[?1049h" in shown, "a screen of its own"
    assert shown.rstrip().endswith(b"\x1b[?1049l"), "and the old one is back"


def test_nobody_there() -> None:
    result = run(None)
    assert (result.exit_code, "nothing answers" in result.stderr) == (1, True)


def test_no_more_rows_than_fit(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    now = told(10, *(function(f"f{number:03}", 1000 - number) for number in range(100)))
    Console(width=120).print(top.page(now, told(8), "calls", 120, 5, "nothing answers"))
    shown = capsys.readouterr().out
    assert "95 functions more" in shown
    assert "the last 2.0 s" in shown
    assert "nothing answers" in shown
    assert "f004" in shown
    assert "f005" not in shown


@pytest.mark.parametrize("width", [200, 120, 80, 60])
def test_lines_fit_and_what_matters_most_stays(width: int) -> None:
    names = ["short", "a-name-that-is-longer-than-anybody-wants-to-read-in-a-table-of-functions"]
    shown = top.page(told(10, *(function(name, 12_345, [[0, 9]], errors=3) for name in names)), None, "calls", width, None).plain
    lines = shown.splitlines()
    assert max(map(len, lines)) <= max(width, 70)
    [heading] = [line for line in lines if line.startswith("function")]
    for column in ("p50 ms", "p99 ms", "queue", "warm", "frozen", "cold", "MB"):
        assert column in heading
    assert ("starts" in heading) is (width >= 120)
    assert len({len(line) for line in lines[-2:]}) == 1, "columns stand below each other"
