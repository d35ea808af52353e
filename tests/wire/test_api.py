# ruff: noqa: E501 (recorded texts are kept whole)
"""The API as HTTP: what boto3 never sends, operations that are not there, and the AWS CLI as people use it.

Not validated against AWS: the texts of SerializationException (they are those of other AWS services), of UnknownOperationException
and of 501, which AWS never answers.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from gateway.edge import model
from tests.wire.control_plane import ARN, REGION, ROLE, Served, described, package


def send(
    served: Served, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One request as it is."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(served.endpoint).netloc)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
    finally:
        connection.close()
        served.run(served.connections_gone())


FUNCTIONS = "/2015-03-31/functions"


def test_unknown_paths(served: Served) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/2015-03-31/nothing"),
        ("PATCH", FUNCTIONS),
        ("GET", FUNCTIONS + "/a/b/c"),
        ("POST", "//"),
        ("GET", "/%ff/%00"),
    ):
        status, headers, body = send(served, method, path)
        assert (status, headers["x-amzn-errortype"]) == (404, "UnknownOperationException")
        assert json.loads(body)["message"] == f"There is no operation {method} {path}."


def test_every_operation_answers_by_name(served: Served) -> None:
    """All operations of the service model are routed; those without a rule say so, and never that they succeeded."""
    rules = served.control.rules
    for operation in model.operations().values():
        path = "/" + "/".join("x" if segment.startswith("{") else segment for segment in operation.segments)
        if operation.literals:
            path += "?" + urllib.parse.urlencode(operation.literals)
        if operation.name in rules:
            continue
        status, headers, body = send(served, operation.method, path, b"{}")
        assert (status, headers["x-amzn-errortype"]) == (501, "NotImplementedException"), operation.name
        assert json.loads(body)["message"] == f"The operation {operation.name} is not implemented yet."


def test_an_error_looks_as_on_aws(served: Served) -> None:
    status, headers, body = send(served, "GET", f"{FUNCTIONS}/nobody")
    assert status == 404
    assert headers["content-type"] == "application/json"
    assert headers["x-amzn-errortype"] == "ResourceNotFoundException"
    assert len(headers["x-amzn-requestid"]) == 36
    assert body == b'{"Type":"User","Message":"Function not found: %snobody"}' % ARN.encode()


def test_slashes_at_the_end(served: Served) -> None:
    """Older SDKs send them."""
    assert send(served, "GET", FUNCTIONS + "/")[0] == 200
    assert send(served, "GET", f"{FUNCTIONS}/nobody/")[0] == 404


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "InvalidRequestContentException"),
        (b"\xff\xfe", "InvalidRequestContentException"),
        (b"[]", "SerializationException"),
        (b'"text"', "SerializationException"),
        (b'{"Timeout": "abc", "Role": "r"}', "SerializationException"),
        (b'{"Timeout": [1]}', "SerializationException"),
        (b'{"Environment": []}', "SerializationException"),
        (b'{"Environment": {"Variables": "a"}}', "SerializationException"),
        (b'{"Architectures": "x86_64"}', "SerializationException"),
        (b'{"Code": {"ZipFile": "&&&"}}', "SerializationException"),
        (b'{"Code": {"ZipFile": "%s&"}}' % (b"A" * 300_000), "SerializationException"),
        (b'{"Publish": "yes"}', "SerializationException"),
        (b"{}", "ValidationException"),
        (b"", "ValidationException"),
        (b'{"FunctionName": null, "Role": null, "Code": null}', "ValidationException"),
    ],
)
def test_bodies_that_cannot_be_read(served: Served, body: bytes, code: str) -> None:
    status, headers, _ = send(served, "POST", FUNCTIONS, body)
    assert (status, headers["x-amzn-errortype"]) == (400, code)


def test_what_is_missing_is_named(served: Served) -> None:
    found = json.loads(send(served, "POST", FUNCTIONS, b"{}")[2])["message"]
    assert found == "3 validation errors detected: " + "; ".join(
        f"Value null at '{member}' failed to satisfy constraint: Member must not be null"
        for member in ("functionName", "role", "code")
    )


def test_members_that_nobody_knows_are_ignored(served: Served, name: str) -> None:
    given = {**described(), "FunctionName": name, "Code": {"ZipFile": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA=="}, "Future": {"a": [1]}}
    status, _, body = send(served, "POST", FUNCTIONS, json.dumps(given).encode())
    assert (status, json.loads(body)["message"]) == (400, "Uploaded file must be a non-empty zip")


def test_requests_that_are_too_large(served: Served) -> None:
    """Recorded 25 November 2025; refused by its length alone, and when the length is not known, on the way."""
    text = "Request must be smaller than 70167211 bytes for the CreateFunction operation"
    status, headers, body = send(served, "POST", FUNCTIONS, headers={"Content-Length": "70167212"})
    assert (status, headers["x-amzn-errortype"], json.loads(body)["message"]) == (413, "RequestEntityTooLargeException", text)
    assert headers["connection"] == "close"
    status, headers, body = send(served, "PUT", f"{FUNCTIONS}/f/configuration", headers={"Content-Length": "70167212"})
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestEntityTooLargeException")


def test_requests_that_turn_out_too_large(served: Served) -> None:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(served.endpoint).netloc)
    piece = bytes(1024 * 1024)
    try:
        connection.putrequest("PUT", f"{FUNCTIONS}/f/configuration")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        try:
            for _ in range(32):
                connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        except ConnectionError:
            pass  # it has answered and closed; what it said may be lost with that
        else:
            assert connection.getresponse().status == 413
    finally:
        connection.close()
        served.run(served.connections_gone())


def test_large_packages_in_any_json(served: Served, name: str) -> None:
    """The text that is taken out of the body before it is parsed is found wherever a client puts it, and nothing else is."""
    import base64

    code = base64.b64encode(package({"index.py": "x = 1", "data": bytes(300_000)})).decode()
    decoy = json.dumps(
        {
            "FunctionName": f"{name}-0",
            "Runtime": "python3.12",
            "Role": ROLE,
            "Handler": "a.b",
            "Description": '"ZipFile": "',
            "Tags": {"ZipFile": ""},
        }
    )
    spaced = f' {{"Code" : {{ "ZipFile" :\n"{code}" }} , {decoy[1:]}'
    escaped = f'{{"Code":{{"ZipFile":"{code.replace("/", chr(92) + "/")}"}},{decoy[1:]}'.replace(f"{name}-0", f"{name}-1")
    last = f'{decoy[:-1]},"Code":{{"ZipFile":"{code}"}}}}'.replace(f"{name}-0", f"{name}-2")
    for text in (spaced, escaped, last):
        status, _, body = send(served, "POST", FUNCTIONS, text.encode())
        assert status == 201, body
        assert json.loads(body)["Description"] == '"ZipFile": "'


def test_a_signature_is_not_asked_for(served: Served) -> None:
    assert send(served, "GET", FUNCTIONS)[0] == 200
    assert send(served, "GET", FUNCTIONS, headers={"Authorization": "AWS4-HMAC-SHA256 nonsense"})[0] == 200


@pytest.mark.slow
def test_the_aws_cli(served: Served, name: str, tmp_path: Path) -> None:
    """As the README shows it: nothing but --endpoint-url."""

    def cli(*arguments: str) -> Any:
        environment = {
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": REGION,
            "PATH": "/usr/bin:/bin",
        }
        command = [sys.executable, "-m", "awscli", "lambda", *arguments, "--endpoint-url", served.endpoint, "--output", "json"]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    (tmp_path / "function.zip").write_bytes(package())
    created = cli(
        "create-function",
        "--function-name",
        name,
        "--runtime",
        "python3.12",
        "--handler",
        "index.handler",
        "--role",
        ROLE,
        "--zip-file",
        "fileb://function.zip",
    )
    assert created["FunctionArn"] == ARN + name
    assert cli("wait", "function-active-v2", "--function-name", name) is None
    assert cli("publish-version", "--function-name", name)["Version"] == "1"
    assert (
        cli("create-alias", "--function-name", name, "--name", "live", "--function-version", "1")["AliasArn"]
        == f"{ARN}{name}:live"
    )
    assert [one["FunctionName"] for one in cli("list-functions")["Functions"]].count(name) == 1
    assert cli("delete-function", "--function-name", name) in (None, {"StatusCode": 204})
    served.run(served.connections_gone())


@pytest.mark.slow
def test_everything_survives_kill_9(tmp_path: Path) -> None:
    """A gateway that is killed right after its answers, twice, and knows everything again."""
    import boto3
    from botocore.config import Config

    code = "import pathlib, signal, sys; from tests.wire.control_plane import Served; print(Served(pathlib.Path(sys.argv[1])).endpoint, flush=True); signal.pause()"

    def started() -> tuple[subprocess.Popen[str], Any]:
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        client = boto3.client(
            "lambda",
            endpoint_url=process.stdout.readline().strip(),
            region_name=REGION,
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=Config(retries={"total_max_attempts": 1}),
        )
        return process, client

    def killed(process: subprocess.Popen[str], client: Any) -> None:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        client.close()

    def everything(client: Any) -> dict[str, Any]:
        answers = [
            client.get_function_configuration(FunctionName="f"),
            client.list_versions_by_function(FunctionName="f"),
            client.list_aliases(FunctionName="f"),
            client.list_function_url_configs(FunctionName="f"),
            client.get_policy(FunctionName="f"),
            client.get_policy(FunctionName="f", Qualifier="live"),
            client.list_tags(Resource=ARN + "f"),
            client.get_function_concurrency(FunctionName="f"),
            client.list_functions(),
        ]
        return {
            str(number): {key: value for key, value in answer.items() if key != "ResponseMetadata"}
            for number, answer in enumerate(answers)
        }

    process, client = started()
    client.create_function(
        FunctionName="f", **described(Publish=True, Tags={"a": "b"}, Environment={"Variables": {"KEY": "täg"}})
    )
    client.get_waiter("function_active_v2").wait(FunctionName="f", WaiterConfig={"Delay": 0})
    client.update_function_configuration(FunctionName="f", Timeout=60, LoggingConfig={"LogFormat": "JSON"})
    client.get_waiter("function_updated_v2").wait(FunctionName="f", WaiterConfig={"Delay": 0})
    client.publish_version(FunctionName="f")
    client.create_alias(
        FunctionName="f", Name="live", FunctionVersion="1", RoutingConfig={"AdditionalVersionWeights": {"2": 0.1}}
    )
    client.create_function_url_config(FunctionName="f", AuthType="NONE", Cors={"AllowOrigins": ["*"], "MaxAge": 5})
    client.create_function_url_config(FunctionName="f", AuthType="AWS_IAM", Qualifier="live")
    for qualifier in ({}, {"Qualifier": "live"}):
        client.add_permission(
            FunctionName="f",
            StatementId="s",
            Action="lambda:InvokeFunctionUrl",
            Principal="*",
            FunctionUrlAuthType="NONE",
            **qualifier,
        )
    client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=5)
    client.create_function(FunctionName="gone", **described(Code={"ZipFile": package({"gone": "1"})}))
    client.delete_function(FunctionName="gone")
    before = everything(client)
    client.create_function(FunctionName="last", **described(Code={"ZipFile": package({"last": "1"})}))
    killed(process, client)

    process, client = started()
    last = client.get_function(FunctionName="last")
    assert last["Configuration"]["State"] == "Active"
    client.delete_function(FunctionName="last")
    assert everything(client) == before
    assert len(list((tmp_path / "code").iterdir())) == 2
    client.delete_function(FunctionName="f")
    killed(process, client)

    process, client = started()
    assert client.list_functions()["Functions"] == []
    assert list((tmp_path / "code").iterdir()) == []
    killed(process, client)
