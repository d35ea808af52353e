"""`lambent provision` against a stub of the Lambda API."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result

from gateway.cli.main import main
from tests.unit.stub import Stub

P = "/2019-09-30/functions/f/provisioned-concurrency?Qualifier=live"


def run(stub: Stub, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["provision", *arguments], env={"LAMBENT_ENDPOINT": stub.endpoint})


def config(allocated: int, status: str, **more: str) -> bytes:
    return json.dumps(
        {
            "RequestedProvisionedConcurrentExecutions": 3,
            "AllocatedProvisionedConcurrentExecutions": allocated,
            "AvailableProvisionedConcurrentExecutions": allocated,
            "Status": status,
            **more,
        }
    ).encode()


def test_it_asks_and_waits_until_they_are_ready(stub: Stub) -> None:
    stub.on(f"PUT {P}", config(0, "IN_PROGRESS"))
    stub.on(f"GET {P}", config(3, "READY"))
    result = run(stub, "f:live", "3")
    assert (result.exit_code, result.stdout) == (0, "f:live: 3 of 3 ready, 3 idle, READY\n")
    assert json.loads(stub.requests[0][1]) == {"ProvisionedConcurrentExecutions": 3}


def test_it_need_not_wait(stub: Stub) -> None:
    stub.on(f"PUT {P}", config(0, "IN_PROGRESS"))
    result = run(stub, "f:live", "3", "--no-wait")
    assert (result.exit_code, result.stdout) == (0, "f:live: 0 of 3 ready, 0 idle, IN_PROGRESS\n")


def test_it_says_why_it_failed(stub: Stub) -> None:
    stub.on(f"PUT {P}", config(0, "IN_PROGRESS"))
    stub.on(f"GET {P}", config(1, "FAILED", StatusReason="FUNCTION_ERROR_INIT_FAILURE"))
    result = run(stub, "f:live", "3")
    assert result.exit_code == 1
    assert "f:live: 1 of 3 ready, 1 idle, FAILED: FUNCTION_ERROR_INIT_FAILURE" in result.stderr


def test_none_ends_it_and_no_number_asks(stub: Stub) -> None:
    stub.on(f"DELETE {P}", b"")
    assert run(stub, "f:live", "0").stdout == "f:live is not provisioned any more\n"
    stub.on(f"GET {P}", config(2, "IN_PROGRESS"))
    assert run(stub, "f:live").stdout == "f:live: 2 of 3 ready, 2 idle, IN_PROGRESS\n"


def test_it_wants_a_version_or_an_alias(stub: Stub) -> None:
    for target in ("f", "f:", ":live"):
        result = run(stub, target, "1")
        assert result.exit_code == 2
        assert "NAME:QUALIFIER" in result.stderr
    assert not stub.requests
