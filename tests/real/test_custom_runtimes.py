"""Programs that bring their own runtime: AWS's public clients for Python and Node.js, unchanged, and a shell script with curl."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.real.product import Product
from tests.unit.node.harness import nodes

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]

SHELL = """#!/bin/sh
set -eu
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
echo "init of $_HANDLER"
while true; do
  event=$(curl -sS -D /tmp/headers "$api/invocation/next")
  id=$(sed -n 's/^lambda-runtime-aws-request-id: *//Ip' /tmp/headers | tr -d '\\r')
  echo "event of ${#event} bytes"
  case "$event" in
    *fail*) curl -sS -X POST -H 'Lambda-Runtime-Function-Error-Type: Runtime.Shell' \\
      -d '{"errorType": "Shell.Failed", "errorMessage": "as asked"}' "$api/invocation/$id/error" >/dev/null ;;
    *exit*) exit 7 ;;
    *) printf '{"got": %s, "id": "%s"}' "$event" "$id" |
      curl -sS -X POST --data-binary @- "$api/invocation/$id/response" >/dev/null ;;
  esac
done
"""
PYTHON_FUNCTION = """
def handler(event, context):
    print("printed")
    if event == "fail":
        raise ValueError("as asked")
    if event == "exit":
        raise SystemExit(7)
    return {"got": event, "id": context.aws_request_id}
"""
NODE_FUNCTION = """
exports.handler = async (event, context) => {
  console.log('printed')
  if (event === 'fail') throw new RangeError('as asked')
  if (event === 'exit') process.exit(7)
  return {got: event, id: context.awsRequestId}
}
"""
NODE_STREAM = """
exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, {statusCode: 201, headers: {'x-made': 'by aws-lambda-ric'}})
  for (let i = 0; i < 3; i++) stream.write(`piece ${i}\\n`)
  stream.end()
})
"""


def tree(directory: Path, below: str, wanted: tuple[str, ...] = ("",)) -> dict[str, bytes]:
    """The files of an installed package, for a function's."""
    return {
        f"{below}/{path.relative_to(directory)}": path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and str(path.relative_to(directory)).startswith(wanted)
    }


def in_shell() -> Mapping[str, str | bytes]:
    if not Path("/usr/bin/curl").exists():
        pytest.skip("no curl in /usr/bin, where a sandbox would see it")
    return {"bootstrap": SHELL}


def in_python() -> Mapping[str, str | bytes]:
    """The client is partly compiled, so it wants the Python that it was installed for, where a sandbox sees that."""
    seen = Path(f"/usr/bin/python3.{sys.version_info.minor}")
    if not seen.exists():
        pytest.skip(f"no {seen}, where a sandbox would see it")
    packages = Path(sysconfig.get_paths()["platlib"])
    parts = tree(packages / "awslambdaric", "awslambdaric") | tree(packages / "simplejson", "simplejson")
    parts |= {path.name: path.read_bytes() for path in packages.glob("runtime_client*.so")}
    if (packages / "snapshot_restore_py").is_dir():
        parts |= tree(packages / "snapshot_restore_py", "snapshot_restore_py")
    return parts | {"bootstrap": f"#!/bin/sh\nexec {seen} -m awslambdaric app.handler\n", "app.py": PYTHON_FUNCTION}


def in_node(code: str = NODE_FUNCTION) -> Mapping[str, str | bytes]:
    """The client is partly compiled; `tests/check` has npm build it."""
    if not Path("/usr/bin/node").exists():
        pytest.skip("no node in /usr/bin, where a sandbox would see it")
    found = Path(sys.prefix) / "aws-lambda-ric/node_modules/aws-lambda-ric"
    if not (found / "dist/rapid-client.node").exists():
        pytest.skip(f"aws-lambda-ric is not built in {found}: tests/check does that, where npm is")
    parts = tree(found, "node_modules/aws-lambda-ric", ("bin/", "dist/", "package.json"))
    return parts | {
        "bootstrap": "#!/bin/sh\nexec /usr/bin/node node_modules/aws-lambda-ric/bin/index.mjs app.handler\n",
        "app.js": code,
    }


#: what makes the package, what it prints, the error that a failure is, and what a log says of it
CLIENTS = {
    "shell": (in_shell, "event of 8 bytes", ("Shell.Failed", "as asked"), ""),
    "awslambdaric": (in_python, "printed", ("ValueError", "as asked"), "[ERROR] ValueError: as asked"),
    "aws-lambda-ric": (in_node, "printed", ("RangeError", "as asked"), "ERROR\tInvoke Error \t"),
}


@pytest.mark.parametrize(("make", "printed", "error", "logged"), CLIENTS.values(), ids=CLIENTS)
def test_a_custom_runtime(product: Product, make: Any, printed: str, error: tuple[str, str], logged: str) -> None:
    name = product.deploy(make(), Runtime="provided.al2023", MemorySize=256, Timeout=20)
    for event in ({"a": 1}, [1, 2, 3], {"a": 1}):
        answer = product.invoke(name, event)
        assert answer.function_error is None, (answer.payload, answer.log)
        assert answer.value == {"got": event, "id": answer.request_id}
    assert printed in answer.log
    failed = product.invoke(name, "fail")
    assert failed.function_error == "Unhandled"
    assert (failed.value["errorType"], failed.value["errorMessage"]) == error
    assert logged in failed.log
    ended = product.invoke(name, "exit")
    assert ended.value["errorType"] == "Runtime.ExitError"
    assert ended.value["errorMessage"].endswith("Error: Runtime exited with error: exit status 7")
    assert product.invoke(name, 5).value["got"] == 5


def test_awss_client_for_node_streams(product: Product) -> None:
    name = product.deploy(in_node(NODE_STREAM), Runtime="provided.al2023", MemorySize=256, Timeout=20)
    product.publish_url(name, InvokeMode="RESPONSE_STREAM")
    status, headers, body = product.fetch(product.url_path(name))
    assert (status, headers["x-made"], body) == (201, "by aws-lambda-ric", b"piece 0\npiece 1\npiece 2\n")


def test_ours_streams_like_awss(product: Product) -> None:
    if not nodes:
        pytest.skip("no Node.js that AWS has is installed")
    code = NODE_STREAM.replace("aws-lambda-ric", "lambent")
    name = product.deploy({"app.js": code}, Runtime=list(nodes)[-1], Timeout=20)
    product.publish_url(name, InvokeMode="RESPONSE_STREAM")
    status, headers, body = product.fetch(product.url_path(name))
    assert (status, headers["x-made"], body) == (201, "by lambent", b"piece 0\npiece 1\npiece 2\n")
    events = product.client.invoke_with_response_stream(FunctionName=name, Payload=b"{}")["EventStream"]
    pieces = b"".join(event["PayloadChunk"]["Payload"] for event in events if "PayloadChunk" in event)
    assert pieces.endswith(bytes(8) + b"piece 0\npiece 1\npiece 2\n")
