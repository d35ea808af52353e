"""Programs that know AWS and nothing of us, unchanged: AWS's own runtime client inside a sandbox, its command line outside."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.real.product import PYTHON, ROLE, Product, eventually, package

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]

HANDLER = """
import json, logging, os, sys, time
print("init", sys.version_info[:2])
runs = 0
def handler(event, context):
    global runs
    runs += 1
    logging.getLogger().warning("logged")
    print("printed")
    if event == "raise":
        raise ValueError("no good")
    if event == "exit":
        os._exit(7)
    if event == "sleep":
        time.sleep(60)
    if event == "set":
        return {1}
    if event == "large":
        return "x" * (7 << 20)
    custom = context.client_context and context.client_context.custom
    return [event, runs, context.aws_request_id, context.invoked_function_arn, custom, context.get_remaining_time_in_millis() > 0]
"""
#: The environment is that of AWS: what it needs is found by PATH and PYTHONPATH alone.
BOOTSTRAP = f"""#!/bin/sh
export PYTHONPATH=/var/task/lib PYTHONUNBUFFERED=1
cd /var/task
exec {PYTHON} -m awslambdaric "$_HANDLER"
"""


def awslambdaric() -> dict[str, bytes]:
    """The package with all that it needs, as pip installed it here."""
    found: dict[str, bytes] = {}
    for name in ("awslambdaric", "simplejson", "snapshot_restore_py", "runtime_client"):
        spec = importlib.util.find_spec(name)
        assert spec is not None, f"{name} is not installed"
        assert spec.origin is not None
        origin = Path(spec.origin)
        files = origin.parent.rglob("*") if origin.name == "__init__.py" else [origin]
        top = origin.parents[1] if origin.name == "__init__.py" else origin.parent
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
                found[f"lib/{file.relative_to(top)}"] = file.read_bytes()
    return found


@pytest.fixture
def provided(product: Product) -> Any:
    """Makes functions that bring AWS's own runtime client."""
    runtimes = product.instance.status()["runtimes"]
    newest = [name for name, found in runtimes.items() if name.startswith("python") and found["available"]][-1]
    if newest != PYTHON and not Path("/usr/bin", PYTHON).exists():
        pytest.skip(f"awslambdaric is installed for {PYTHON}, which sandboxes of provided runtimes do not have on this host")
    files = {"bootstrap": BOOTSTRAP.encode(), "app.py": HANDLER.encode(), **awslambdaric()}

    def deploy(runtime: str, **settings: Any) -> str:
        return product.deploy(files, Runtime=runtime, **{"Timeout": 10, "MemorySize": 512, **settings})

    return deploy


@pytest.mark.parametrize("runtime", ["provided.al2023", "provided.al2"])
def test_awslambdaric(product: Product, provided: Any, runtime: str) -> None:
    name = provided(runtime)
    context = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    first = product.invoke(name, {"a": [1, "ä"]}, ClientContext=context)
    assert first.function_error is None, first
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert first.value == [{"a": [1, "ä"]}, 1, first.request_id, arn, {"a": "b"}, True]
    assert "\nprinted\n" in first.log
    assert f"\t{first.request_id}\tlogged" in first.log
    assert "Init Duration" in first.log
    second = product.invoke(name, "x" * (6 * 1024 * 1024 - 1000))
    assert second.value[1:3] == [2, second.request_id]
    assert "Init Duration" not in second.log
    eventually(lambda: product.sandboxes(name) == {"frozen": 1})
    assert product.invoke(name, None).value[1] == 3


def test_awslambdaric_when_something_goes_wrong(product: Product, provided: Any) -> None:
    name = provided("provided.al2023", Timeout=2)
    raised = product.invoke(name, "raise")
    assert (raised.function_error, raised.value["errorType"], raised.value["errorMessage"]) == (
        "Unhandled",
        "ValueError",
        "no good",
    )
    assert "[ERROR] ValueError: no good" in raised.log
    assert product.invoke(name, "set").value["errorType"] == "Runtime.MarshalError"
    assert product.invoke(name, "large").value["errorType"] == "Function.ResponseSizeTooLarge"
    assert product.invoke(name, "fine").function_error is None
    exited = product.invoke(name, "exit")
    message = f"RequestId: {exited.request_id} Error: Runtime exited with error: exit status 7"
    assert exited.value == {"errorType": "Runtime.ExitError", "errorMessage": message}
    assert product.invoke(name, "fine").value[:2] == ["fine", 1]
    assert product.invoke(name, "sleep").value["errorType"] == "Sandbox.Timedout"
    assert product.invoke(name, "fine").value[:2] == ["fine", 1]
    broken = provided("provided.al2023", Handler="app.nothing")
    assert product.invoke(broken).value["errorType"] == "Runtime.HandlerNotFound"


def test_aws_cli(product: Product, tmp_path: Path) -> None:
    program = shutil.which("aws", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("the AWS CLI (aws) is not installed")
    (tmp_path / "code.zip").write_bytes(package({"app.py": "def handler(e, c):\n    print('printed')\n    return e\n"}))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_LAMBDA": product.instance.endpoint,
        "AWS_PAGER": "",
    }

    def aws(*words: str) -> Any:
        command = [program, "lambda", *words, "--output", "json"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout else None

    name = "from-the-command-line"
    product.made.append(name)
    code = ["--zip-file", "fileb://code.zip"]
    made = aws("create-function", "--function-name", name, "--runtime", PYTHON, "--role", ROLE, "--handler", "app.handler", *code)
    assert made["FunctionName"] == name
    aws("wait", "function-active-v2", "--function-name", name)
    raw = ["--cli-binary-format", "raw-in-base64-out"] if "aws-cli/2" in subprocess.getoutput(f"{program} --version") else []
    told = aws("invoke", "--function-name", name, *raw, "--payload", '{"key": "value"}', "--log-type", "Tail", "answer.json")
    assert (told["StatusCode"], told["ExecutedVersion"]) == (200, "$LATEST")
    assert "\nprinted\n" in base64.b64decode(told["LogResult"]).decode()
    assert json.loads((tmp_path / "answer.json").read_text()) == {"key": "value"}
    assert aws("publish-version", "--function-name", name)["Version"] == "1"
    assert aws("delete-function", "--function-name", name) in (None, {"StatusCode": 204})
