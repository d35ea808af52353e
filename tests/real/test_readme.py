"""What the README tells a user to type, typed: the commands, boto3 and the AWS CLI, on real sandboxes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.bench.instance import Instance
from tests.unit.node.harness import needs_node

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(120)]

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def block(language: str, marker: str) -> str:
    return next(text for kind, text in BLOCKS if kind == language and marker in text)


#: What the README has a user export for the AWS CLI, with the endpoint to be filled in.
ACCOUNT = block("sh", "export AWS_ENDPOINT_URL_LAMBDA").splitlines()[0].replace("http://127.0.0.1:9000", "{}") + "\n"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "app.py").write_text(block("python", "def handler"))
    return tmp_path


def run(here: Path, up: Instance, *command: str) -> str:
    """Output of a program; fails with what it wrote. Bytecode is not: the directory is deployed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LAMBENT_ENDPOINT": up.endpoint,
        "AWS_PAGER": "",
    }
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_commands(here: Path, lambent_up: Instance) -> None:
    script = block("sh", "lambent deploy hello").replace(" -f\n", "\n")
    shown = run(here, lambent_up, "bash", "-euc", script)
    assert "Hello, Ada!" in shown
    assert "REPORT RequestId" in shown
    assert shown.rstrip().endswith("removed hello")


def test_boto3(here: Path, lambent_up: Instance) -> None:
    script = block("python", "boto3.client").replace("http://127.0.0.1:9000", lambent_up.endpoint)
    assert "Hello, world!" in run(here, lambent_up, sys.executable, "-c", script)


def test_aws_cli(here: Path, lambent_up: Instance) -> None:
    script = block("sh", "aws lambda create-function").replace("http://127.0.0.1:9000", lambent_up.endpoint)
    assert "Hello, world!" in run(here, lambent_up, "bash", "-euc", script)
    assert "Hello, world!" in (here / "answer.json").read_text()


@needs_node
def test_streaming(here: Path, lambent_up: Instance) -> None:
    (here / "talk").mkdir()
    (here / "talk" / "index.mjs").write_text(block("js", "streamifyResponse"))
    shown = run(here, lambent_up, "bash", "-euc", ACCOUNT.format(lambent_up.endpoint) + block("sh", "lambent deploy talk"))
    assert shown.count("one\ntwo\nthree\n") == 2
    run(here, lambent_up, "lambent", "remove", "talk")


def test_extension(here: Path, lambent_up: Instance) -> None:
    (here / "extensions").mkdir()
    (here / "extensions" / "agent").write_text(block("bash", "Lambda-Extension-Name"))
    script = ACCOUNT.format(lambent_up.endpoint) + block("sh", "publish-layer-version")
    run(here, lambent_up, "bash", "-euc", script)
    log = run(here, lambent_up, "lambent", "logs", "hello")
    assert "EXTENSION\tName: agent\tState: Ready\tEvents: [INVOKE, SHUTDOWN]" in log
    assert 'agent: {"eventType":"INVOKE"' in log
    run(here, lambent_up, "lambent", "remove", "hello")


@needs_node
def test_node(here: Path, lambent_up: Instance) -> None:
    (here / "node").mkdir()
    (here / "node" / "index.mjs").write_text(block("js", "export const handler"))
    url = run(here, lambent_up, "lambent", "deploy", "node").strip()
    assert run(here, lambent_up, "curl", "-sS", f"{url}?name=Ada") == "Hello, Ada!\n"
    run(here, lambent_up, "lambent", "remove", "node")
