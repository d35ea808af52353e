"""What is said of invocations that did not end with the runtime's own answer. Oracles: recorded on AWS, 2025-11-24."""

from __future__ import annotations

import json

import pytest

from sandbox import failures
from sandbox.driver import ExitStatus
from sandbox.outcome import Status
from tests.sandboxes import WALL_S


@pytest.mark.parametrize(
    ("status", "error_type", "message"),
    [
        (ExitStatus(code=0), "Runtime.ExitError", "Runtime exited without providing a reason"),
        (ExitStatus(code=127), "Runtime.ExitError", "Runtime exited with error: exit status 127"),
        (ExitStatus(signal=9), "Runtime.ExitError", "Runtime exited with error: signal: killed"),
        (ExitStatus(signal=9, oom=True), "Runtime.ExitError", "Runtime exited with error: signal: killed"),
        (ExitStatus(signal=11), "Runtime.ExitError", "Runtime exited with error: signal: segmentation fault"),
        (ExitStatus(signal=6), "Runtime.ExitError", "Runtime exited with error: signal: aborted"),
        (ExitStatus(signal=15), "Runtime.ExitError", "Runtime exited with error: signal: terminated"),
        (ExitStatus(signal=4), "Runtime.ExitError", "Runtime exited with error: signal: illegal instruction"),
        (ExitStatus(signal=64), "Runtime.ExitError", "Runtime exited with error: signal: signal 64"),
        (
            ExitStatus(code=253, launch_error="Couldn't find valid bootstrap(s)"),
            "Runtime.InvalidEntrypoint",
            "Couldn't find valid bootstrap(s)",
        ),
    ],
)
def test_exits(status: ExitStatus, error_type: str, message: str) -> None:
    failure = failures.exited(status)
    assert failure.status is Status.FAILURE
    assert json.loads(failure.payload("id-1")) == {"errorType": error_type, "errorMessage": f"RequestId: id-1 Error: {message}"}
    assert failure.log_lines("id-1") == (f"RequestId: id-1 Error: {message}", error_type)


def test_time_out_is_as_recorded() -> None:
    failure = failures.timed_out(1.0)
    expected = b'{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: id-1 Error: Task timed out after 1.00 seconds"}'
    assert failure.payload("id-1") == expected
    assert failure.status is Status.TIMEOUT
    assert failure.log_lines("id-1") == ()
    assert (
        failures.timed_out_line("id-1", 3, WALL_S + 0.0456) == "2026-11-21T09:37:00.045Z id-1 Task timed out after 3.00 seconds"
    )


def test_too_large_is_as_recorded() -> None:
    assert failures.too_large() == (
        b'{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).",'
        b'"errorType":"Function.ResponseSizeTooLarge"}'
    )


def test_extensions_that_end() -> None:
    """The first three were seen in logs of AWS's."""
    for status, announced, expected in (
        (ExitStatus(code=0), None, ("Extension.Crash", "exit code 0")),
        (ExitStatus(code=255), None, ("Extension.Crash", "exit status 255")),
        (ExitStatus(code=0), "Extension.InitError", ("Extension.InitError", "exit code 0")),
        (ExitStatus(signal=9), None, ("Extension.Crash", "signal: killed")),
        (ExitStatus(code=1), "Extension.ExitError", ("Extension.ExitError", "exit status 1")),
        (ExitStatus(code=253, launch_error="no"), None, ("Extension.LaunchError", "no")),
    ):
        failure = failures.extension_exited(status, announced)
        assert (failure.error_type, failure.message) == expected
