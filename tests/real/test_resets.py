# ruff: noqa: E501 (one case a line)
"""Inits that fail, environments that are reset: AWS's answer, every line of the log in its order, what extensions are told."""

from __future__ import annotations

import re
import signal

import pytest

from tests.real import expected
from tests.real.extensions import PYTHON, deploy, said
from tests.real.product import Product, eventually

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]

INIT_ERRORS: dict[str, tuple[str, expected.Checked]] = {
    "import": ("import nothing_of_that_name\n", expected.fails_to_start("Runtime.ImportModuleError", "Unable to import module 'app': .*")),
    "syntax": ("def handler(:\n", expected.fails_to_start("Runtime.UserCodeSyntaxError", r"Syntax error in module 'app': .*\(app.py, line 1\)")),
    "raise": ("raise ValueError('no')\n", expected.fails_to_start("ValueError", "no")),
    "exit 7": ("import os\nos._exit(7)\n", expected.exits("with error: exit status 7")),
    "exit 0": ("import sys\nsys.exit(0)\n", expected.exits("without providing a reason")),
    "crash": (f"import os\nos.kill(os.getpid(), {signal.SIGSEGV:d})\n", expected.ends_by("segmentation fault")),
    "out of memory": ("x = [b'x' * (1 << 20) for _ in range(1000)]\n", expected.ends_by("killed")),
}  # fmt: skip


@pytest.mark.parametrize("extension", [False, True], ids=["alone", "with an extension"])
@pytest.mark.parametrize(("code", "check"), INIT_ERRORS.values(), ids=INIT_ERRORS)
def test_init_errors_of_every_kind(product: Product, code: str, check: expected.Checked, extension: bool) -> None:
    """Each with AWS's answer, its two lines about Init, START after them, the type in REPORT, and the same again afterwards."""
    name = deploy(product, code, {"agent": PYTHON}) if extension else product.deploy(code)
    answer = product.invoke(name)
    check(answer)
    error_type = answer.value["errorType"]
    told_as = error_type if error_type.startswith("Runtime.") else "Runtime.Unknown"
    log = [line for line in product.log(name) if line.startswith(("INIT", "START", "END", "REPORT"))]
    init = rf"INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: {{}}\tStatus: error\tError Type: {told_as}"
    wanted = [
        "INIT_START .*",
        init.format("init"),
        init.format("invoke"),
        rf"START RequestId: {answer.request_id} Version: \$LATEST",
        f"END RequestId: {answer.request_id}",
        (
            rf"REPORT RequestId: {answer.request_id}\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\t"
            rf"Max Memory Used: \d+ MB\tStatus: error\tError Type: {told_as}"
        ),
    ]
    assert len(log) == len(wanted), log
    for line, pattern in zip(log, wanted, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)
    if extension:
        assert "EXTENSION\tName: agent\tState: " in "\n".join(product.log(name))
    again = product.invoke(name)
    check(again)
    assert any(line.startswith(f"REPORT RequestId: {again.request_id}") for line in product.log(name))


RESETS: dict[str, tuple[str, str, expected.Checked, str]] = {
    "time-out": ("time.sleep(100)", "timeout", expected.TIMED_OUT, "timeout"),
    "exit 3": ("os._exit(3)", "failure", expected.exits("with error: exit status 3"), "error\tError Type: Runtime.ExitError"),
    "exit 0": ("os._exit(0)", "failure", expected.exits("without providing a reason"), "error\tError Type: Runtime.ExitError"),
    "crash": ("os.kill(os.getpid(), 11)", "failure", expected.ends_by("segmentation fault"), "error\tError Type: Runtime.ExitError"),
    "out of memory": ("x = bytearray(1 << 30)", "failure", expected.ends_by("killed"), "error\tError Type: Runtime.ExitError"),
}  # fmt: skip


@pytest.mark.parametrize(("do", "reason", "check", "status"), RESETS.values(), ids=RESETS)
def test_an_environment_that_is_reset(product: Product, do: str, reason: str, check: expected.Checked, status: str) -> None:
    """The caller's answer, every line of the log, what extensions are told, and that it goes on in place with its /tmp."""
    code = (
        "import os, time\n"
        "def handler(event, context):\n"
        "    if event == 'break':\n        open('/tmp/kept', 'w').close()\n        print('works', flush=True)\n"
        f"        {do}\n"
        "    return [os.path.exists('/tmp/kept'), context.log_stream_name]\n"
    )
    name = deploy(product, code, {"agent": PYTHON}, Timeout=1)
    first = product.invoke(name)
    broken = product.invoke(name, "break")
    check(broken)
    eventually(lambda: product.sandboxes(name).keys() <= {"idle", "frozen"})  # else another one serves the next
    after = product.invoke(name)
    assert after.value == [True, first.value[1]], "the same sandbox"
    assert "Init Duration" not in after.log, "it is part of the invocation"
    error = broken.value["errorMessage"]
    lines = [line for line in product.log(name) if not line.startswith("{")]
    if reason == "timeout":
        why = [rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z {broken.request_id} Task timed out after 1.00 seconds"]
    else:
        why = [re.escape(error), "Runtime.ExitError"]
    measured = r"Duration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\t"
    ready = re.escape("EXTENSION\tName: agent\tState: Ready\tEvents: [INVOKE, SHUTDOWN]")

    def of(request_id: str, *between: str, end: str) -> list[str]:
        start = rf"START RequestId: {request_id} Version: \$LATEST"
        return [start, *between, f"END RequestId: {request_id}", rf"REPORT RequestId: {request_id}\t{measured}{end}"]

    wanted = [
        "INIT_START .*",
        ready,
        *of(first.request_id, end=r"Init Duration: [\d.]+ ms\t"),
        *of(broken.request_id, "works", *why, end=f"Status: {status}"),
        ready,
        *of(after.request_id, end=""),
    ]
    assert len(lines) == len(wanted), lines
    for line, pattern in zip(lines, wanted, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)
    events = [one for one in said(product, name, "agent") if "eventType" in one]
    assert [one["eventType"] for one in events] == ["INVOKE", "INVOKE", "SHUTDOWN", "INVOKE"]
    assert [one["shutdownReason"] for one in events if "shutdownReason" in one] == [reason]
