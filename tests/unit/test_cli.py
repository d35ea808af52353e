"""The commands against a stub of the Lambda API: what they send, what they print, how they fail."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli.detect import oversight
from gateway.cli.main import main
from gateway.edge.eventstream import invoke_complete, payload_chunk
from tests.unit.stub import Stub


def run(stub: Stub | None, *arguments: str, text: str | None = None) -> Result:
    env = {"LAMBENT_ENDPOINT": stub.endpoint if stub is not None else "http://127.0.0.1:9"}
    return CliRunner().invoke(main, arguments, env=env, input=text)


ACTIVE = {"State": "Active", "LastUpdateStatus": "Successful"}
F = "/2015-03-31/functions"
U = "/2021-10-31/functions"


@pytest.mark.parametrize("arguments", [["list"], ["invoke", "x"], ["logs", "x"], ["remove", "x"]])
def test_nobody_there(arguments: list[str]) -> None:
    result = run(None, *arguments)
    assert result.exit_code == 1
    assert "nothing answers at http://127.0.0.1:9. Start it with `lambent up`" in result.stderr


def test_endpoint_that_is_no_address() -> None:
    result = run(None, "list", "--endpoint", "localhost:9000")
    assert result.exit_code == 2
    assert "'localhost:9000' is not an http address" in result.stderr


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://localhost:99999",
        "http://localhost:x",
        "http://[::1",
        "http://a..b",
        "http://" + "a" * 64,
        "http://a b",
        "http://\udcff",
    ],
)
@pytest.mark.parametrize("said", ["option", "environment"])
def test_endpoint_that_there_cannot_be(endpoint: str, said: str) -> None:
    arguments, env = (["--endpoint", endpoint], {}) if said == "option" else ([], {"LAMBENT_ENDPOINT": endpoint})
    result = CliRunner().invoke(main, ["list", *arguments], env=env)
    assert (result.exit_code, "is not an http address" in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize("path", ["/\u00e9", "/a%20b", "/a b"])
def test_endpoint_with_a_path(stub: Stub, path: str) -> None:
    result = run(stub, "list", "--endpoint", stub.endpoint + path)
    assert (result.exit_code, "Traceback" in result.stderr) == (1, False)
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_name_of_bytes_that_are_no_text_is_sent_as_it_is(stub: Stub) -> None:
    result = run(stub, "invoke", "a\udcff", "--qualifier", "\udcfe")
    assert isinstance(result.exception, SystemExit)
    assert stub.requests[0][0] == f"POST {F}/a%FF/invocations?Qualifier=%FE"


def test_something_else_there(stub: Stub) -> None:
    stub.on(f"GET {F}/", b"<html>")
    result = run(stub, "list")
    assert (result.exit_code, "is it Lambent that answers there?" in result.stderr) == (1, True)


def test_invoke_prints_the_answer(stub: Stub) -> None:
    stub.on(f"POST {F}/f/invocations", b'{"n":3}')
    result = run(stub, "invoke", "f", '{"a": 1}')
    assert (result.exit_code, result.stdout) == (0, '{"n":3}\n')
    assert stub.requests[0][1] == b'{"a": 1}'


def test_invoke_with_qualifier_and_log(stub: Stub) -> None:
    log = base64.b64encode("START\nhällo\nEND\n".encode()).decode()
    stub.on(f"POST {F}/f/invocations?Qualifier=live", b"1", X_Amz_Log_Result=log)
    result = run(stub, "invoke", "f", "--qualifier", "live", "--tail")
    assert (result.stdout, result.stderr) == ("1\n", "START\nhällo\nEND\n")
    assert stub.requests[0][2]["X-Amz-Log-Type"] == "Tail"


def test_invoke_takes_the_event_from_a_file_or_a_pipe(stub: Stub, tmp_path: Path) -> None:
    stub.on(f"POST {F}/f/invocations", b"null")
    (tmp_path / "event.json").write_text('{"from": "file"}')
    run(stub, "invoke", "f", f"@{tmp_path / 'event.json'}")
    run(stub, "invoke", "f", "-", text='{"from": "pipe"}')
    assert [json.loads(body) for _, body, _ in stub.requests] == [{"from": "file"}, {"from": "pipe"}]


def test_invoke_of_a_function_that_fails(stub: Stub) -> None:
    stub.on(f"POST {F}/f/invocations", b'{"errorMessage":"no"}', X_Amz_Function_Error="Unhandled")
    result = run(stub, "invoke", "f")
    assert (result.exit_code, result.stdout) == (1, '{"errorMessage":"no"}\n')
    assert "the function failed (Unhandled)" in result.stderr


STREAM = "POST /2021-11-15/functions/f/response-streaming-invocations"


def test_invoke_prints_a_stream(stub: Stub) -> None:
    log = base64.b64encode(b"START\nEND\n").decode()
    events = [payload_chunk(b"one\n"), payload_chunk(b"\xfftwo"), invoke_complete(None, None, log)]
    stub.on(f"{STREAM}?Qualifier=live", b"".join(events))
    result = run(stub, "invoke", "f", "--stream", "--tail", "--qualifier", "live")
    assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, b"one\n\xfftwo", "START\nEND\n")
    assert stub.requests[0][2]["X-Amz-Log-Type"] == "Tail"


def test_a_stream_that_fails(stub: Stub) -> None:
    stub.on(STREAM, payload_chunk(b"half") + invoke_complete("Unhandled", '{"errorType":"E"}', None))
    stub.on(STREAM, payload_chunk(b"half"))
    stub.on(STREAM, b"<html>no events</html>")
    result = run(stub, "invoke", "f", "--stream")
    assert (result.exit_code, result.stdout) == (1, "half")
    assert 'the function failed (Unhandled): {"errorType":"E"}' in result.stderr
    result = run(stub, "invoke", "f", "--stream")
    assert (result.exit_code, "the answer broke off" in result.stderr) == (1, True)
    result = run(stub, "invoke", "f", "--stream")
    assert (result.exit_code, "not an event stream" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ("{", "not JSON"),
        ("@/nowhere", "cannot read /nowhere: No such file or directory"),
        ('"a\udcff"', "not JSON: 'utf-8' codec can't decode byte 0xff"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_invoke_refuses_what_is_no_event(stub: Stub, payload: str, told: str) -> None:
    result = run(stub, "invoke", "f", payload)
    assert result.exit_code == 2
    assert told in result.stderr
    assert stub.requests == []


def test_errors_of_the_api_are_sentences(stub: Stub) -> None:
    result = run(stub, "invoke", "f")
    assert (result.exit_code, result.stderr) == (1, "lambent: Function not found (ResourceNotFoundException)\n")


def test_list_without_functions(stub: Stub) -> None:
    stub.on(f"GET {F}/", {"Functions": []})
    assert "lambent deploy DIR" in run(stub, "list").stdout


def test_list_shows_all_pages_with_urls(stub: Stub) -> None:
    function = {"Runtime": "python3.11", "MemorySize": 128, "Timeout": 3, "LastModified": "2026-05-04T12:00:01.000+0000"}
    stub.on(f"GET {F}/", {"Functions": [{"FunctionName": "a", **function}], "NextMarker": "m"})
    stub.on(f"GET {F}/?Marker=m", {"Functions": [{"FunctionName": "b", **function}]})
    stub.on(f"GET {U}/b/url", {"FunctionUrl": "http://x/"})
    shown = run(stub, "list").stdout
    assert [line.split()[0] for line in shown.splitlines() if "python3.11" in line] == ["a", "b"]
    assert "http://x/" in shown
    assert [f["FunctionName"] for f in json.loads(run(stub, "list", "--json").stdout)] == ["a", "b"]


def test_remove(stub: Stub) -> None:
    stub.on(f"DELETE {F}/a", status=204)
    result = run(stub, "remove", "a", "b")
    assert (result.exit_code, result.stdout) == (1, "removed a\n")
    assert "Function not found" in result.stderr


def test_logs(stub: Stub) -> None:
    lines = (
        b'{"timestamp": 1770000000250, "stream": "s", "message": "START"}\n'
        b'{"timestamp": 1770000000500, "stream": "s", "message": "b\xc3\xa4r"}\n'
    )
    stub.on("GET /_lambent/logs/f?since=1770000000000", lines)
    result = run(stub, "logs", "f", "--since", "2026-02-02T02:40:00+00:00")
    assert result.stdout == "2026-02-02T02:40:00.250Z  START\n2026-02-02T02:40:00.500Z  bär\n"


def test_logs_that_are_followed_say_that_there_will_be_no_more(stub: Stub) -> None:
    stub.on("GET /_lambent/logs/f?follow=1", b'{"timestamp": 1770000000250, "stream": "s", "message": "START"}\n')
    result = run(stub, "logs", "f", "-f")
    assert (result.exit_code, "START" in result.stdout) == (1, True)
    assert f"{stub.endpoint} ended" in result.stderr


def test_demo_leaves_a_function_of_the_users_own_alone(stub: Stub) -> None:
    stub.on("GET /2015-03-31/functions/hello/configuration", {"CodeSha256": "another"})
    stub.on("GET /2021-10-31/functions/hello/url", {"FunctionUrl": "http://u/"})
    assert "stays as it is" in run(stub, "demo").stdout
    assert all(asked.startswith("GET ") for asked in stub.asked)


def test_logs_since_something_else(stub: Stub) -> None:
    assert "neither like 10m nor a date" in run(stub, "logs", "f", "--since", "yesterday").stderr


@pytest.fixture
def function(tmp_path: Path) -> Path:
    directory = tmp_path / "my function"
    directory.mkdir()
    (directory / "app.py").write_text("def handler(event, context):\n    return 1\n")
    return directory


def test_deploy_makes_a_function_and_publishes_it(stub: Stub, function: Path) -> None:
    stub.on("GET /_lambent/status", {"architecture": "x86_64", "runtimes": {"python3.12": {"available": True, "detail": ""}}})
    missing = {"Message": "no", "Type": "User"}
    stub.on(f"GET {F}/my-function/configuration", missing, 404, **{"x-amzn-ErrorType": "ResourceNotFoundException"})
    stub.on(f"GET {F}/my-function/configuration", {"State": "Pending"})
    stub.on(f"GET {F}/my-function/configuration", ACTIVE)
    stub.on(f"POST {F}", {}, 201)
    stub.on(f"POST {U}/my-function/url", {"FunctionUrl": "http://there/", "AuthType": "NONE"}, 201)
    stub.on(f"POST {F}/my-function/policy", {}, 201)
    result = run(stub, "deploy", str(function), "--memory", "256", "--env", "A=1", "--env", "B=x=y")
    assert (result.exit_code, result.stdout) == (0, "http://there/\n"), result.output
    assert result.stderr.startswith("python3.12, handler app.handler (from app.py: def handler)\ncreated my-function (")
    sent = stub.body(f"POST {F}")
    package = zipfile.ZipFile(io.BytesIO(base64.b64decode(sent.pop("Code")["ZipFile"])))
    assert package.namelist() == ["app.py"]
    assert sent == {
        "FunctionName": "my-function",
        "Role": "arn:aws:iam::000000000000:role/lambent",
        "Architectures": ["x86_64"],
        "Runtime": "python3.12",
        "Handler": "app.handler",
        "MemorySize": 256,
        "Environment": {"Variables": {"A": "1", "B": "x=y"}},
    }
    assert stub.body(f"POST {U}/my-function/url") == {"AuthType": "NONE"}
    policies = [json.loads(body) for asked, body, _ in stub.requests if asked.endswith("/policy")]
    assert [policy["Action"] for policy in policies] == ["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"]


def test_deploy_again_changes_what_was_said_only(stub: Stub, function: Path) -> None:
    stub.on(f"GET {F}/f/configuration", ACTIVE)
    stub.on(f"PUT {F}/f/code")
    stub.on(f"PUT {F}/f/configuration")
    stub.on(f"GET {U}/f/url", {"FunctionUrl": "http://there/", "AuthType": "NONE"})
    stub.on(f"POST {F}/f/policy", {}, 409, **{"x-amzn-ErrorType": "ResourceConflictException"})
    result = run(stub, "deploy", str(function), "--name", "f", "--runtime", "python3.9", "--handler", "app.handler")
    assert (result.exit_code, result.stdout) == (0, "http://there/\n"), result.output
    assert stub.body(f"PUT {F}/f/configuration") == {"Runtime": "python3.9", "Handler": "app.handler"}
    assert "updated f" in result.stderr
    assert stub.asked.count(f"POST {F}/f/policy") == 2, "what is there already is no error"


def test_deploy_leaves_a_url_with_authentication_alone(stub: Stub, function: Path) -> None:
    stub.on(f"GET {F}/f/configuration", ACTIVE)
    stub.on(f"PUT {F}/f/code")
    stub.on(f"PUT {F}/f/configuration")
    stub.on(f"GET {U}/f/url", {"FunctionUrl": "http://there/", "AuthType": "AWS_IAM"})
    assert run(stub, "deploy", str(function), "--name", "f").stdout == "http://there/\n"
    assert f"POST {F}/f/policy" not in stub.asked


def test_deploy_says_where_a_handler_comes_from_only_if_it_found_it(stub: Stub, function: Path) -> None:
    stub.on("GET /_lambent/status", {"runtimes": {"python3.12": {"available": True, "detail": ""}}})
    stub.on(f"GET {F}/f/configuration", ACTIVE)
    stub.on(f"PUT {F}/f/code")
    stub.on(f"PUT {F}/f/configuration")
    result = run(stub, "deploy", str(function), "--name", "f", "--handler", "other.handler", "--no-url")
    assert result.stderr.startswith("python3.12, handler other.handler (the runtime from the files)\n"), result.output


@pytest.mark.parametrize(
    ("files", "runtime", "told"),
    [
        ({}, "python3.12", None),
        ({"requirements.txt": "# nothing\n\n"}, "python3.12", None),
        ({"requirements.txt": "six\n"}, "python3.12", "pip install -r "),
        ({"requirements.txt": "six\n", "six-1.dist-info/METADATA": ""}, "python3.12", None),
        ({"requirements.txt": "six\n"}, "provided.al2023", None),
        ({"package.json": '{"dependencies": {"left-pad": "1"}}'}, "nodejs22.x", "npm install --prefix "),
        ({"package.json": '{"dependencies": {"left-pad": "1"}}', "node_modules/left-pad/index.js": ""}, "nodejs22.x", None),
        ({"package.json": '{"type": "module"}'}, "nodejs22.x", None),
        ({"package.json": "[]"}, "nodejs22.x", None),
        ({"package.json": "{"}, "nodejs22.x", None),
    ],
)
def test_deploy_says_when_packages_that_are_named_are_not_there(
    tmp_path: Path, files: dict[str, str], runtime: str, told: str | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = oversight(tmp_path, runtime)
    assert (told is None) == (found is None)
    assert told is None or told in str(found)


def test_a_bootstrap_that_is_not_executable_is_told_of(tmp_path: Path) -> None:
    bootstrap = tmp_path / "bootstrap"
    bootstrap.write_text("#!/bin/sh\n")
    assert "chmod +x" in str(oversight(tmp_path, "provided.al2023"))
    assert oversight(tmp_path, "python3.12") is None
    bootstrap.chmod(0o755)
    assert oversight(tmp_path, "provided.al2023") is None


def test_deploy_without_url(stub: Stub, function: Path) -> None:
    stub.on(f"GET {F}/f/configuration", ACTIVE)
    stub.on(f"PUT {F}/f/code")
    stub.on(f"PUT {F}/f/configuration")
    result = run(stub, "deploy", str(function), "--name", "f", "--no-url")
    assert (result.exit_code, result.stdout) == (0, "")
    assert not any(U in asked for asked in stub.asked)


def test_deploy_says_what_speaks_against_it(stub: Stub, function: Path) -> None:
    stub.on(
        "GET /_lambent/advice/f", ["it cannot run here: install Ruby 3.3", "layer L says that it is for ruby2.7, not for ruby3.3"]
    )
    stub.on(f"GET {F}/f/configuration", ACTIVE)
    stub.on(f"PUT {F}/f/code")
    stub.on(f"PUT {F}/f/configuration")
    result = run(stub, "deploy", str(function), "--name", "f", "--runtime", "ruby3.3", "--handler", "a.b", "--no-url")
    assert result.exit_code == 0, "it is deployed all the same"
    assert "lambent: f: it cannot run here: install Ruby 3.3\n" in result.stderr
    assert "lambent: f: layer L says" in result.stderr


def test_deploy_for_an_architecture(stub: Stub, function: Path) -> None:
    """A new function is for what the gateway's machine is; one that is there stays what it is, unless somebody says another."""
    stub.on("GET /_lambent/status", {"architecture": "arm64", "runtimes": {}})
    missing = {"Message": "no", "Type": "User"}
    stub.on(f"GET {F}/f/configuration", missing, 404, **{"x-amzn-ErrorType": "ResourceNotFoundException"})
    stub.on(f"GET {F}/f/configuration", ACTIVE)
    stub.on(f"POST {F}", {}, 201)
    stub.on(f"PUT {F}/f/code")
    stub.on(f"PUT {F}/f/configuration")
    usual = ("deploy", str(function), "--name", "f", "--no-url")
    assert run(stub, *usual).exit_code == 0
    assert stub.body(f"POST {F}")["Architectures"] == ["arm64"]
    run(stub, *usual)
    run(stub, *usual, "--architecture", "x86_64")
    sent = [json.loads(body).get("Architectures") for asked, body, _ in stub.requests if asked == f"PUT {F}/f/code"]
    assert sent == [None, ["x86_64"]]


def test_deploy_an_image(stub: Stub) -> None:
    stub.on("GET /_lambent/status", {"architecture": "x86_64"})
    missing = {"Message": "no", "Type": "User"}
    stub.on(f"GET {F}/mine/configuration", missing, 404, **{"x-amzn-ErrorType": "ResourceNotFoundException"})
    stub.on(f"GET {F}/mine/configuration", ACTIVE)
    stub.on(f"POST {F}", {}, 201)
    result = run(stub, "deploy", "--image", "registry.example.com/some/mine:1", "--handler", "app.handler", "--no-url")
    assert (result.exit_code, result.stderr) == (0, "created mine (image registry.example.com/some/mine:1)\n"), result.output
    assert stub.body(f"POST {F}") == {
        "FunctionName": "mine",
        "Role": "arn:aws:iam::000000000000:role/lambent",
        "PackageType": "Image",
        "Code": {"ImageUri": "registry.example.com/some/mine:1"},
        "Architectures": ["x86_64"],
        "ImageConfig": {"Command": ["app.handler"]},
    }


def test_deploy_an_image_again_from_a_file(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "image.tar").write_bytes(b"")
    (tmp_path / "layout").mkdir()
    monkeypatch.chdir(tmp_path)
    stub.on(f"GET {F}/f/configuration", ACTIVE)
    stub.on(f"PUT {F}/f/code")
    for ref in ("image.tar", "./layout", "docker-archive:image.tar", "oci:layout:one"):
        assert run(stub, "deploy", "f", "--image", ref, "--no-url").exit_code == 0
    sent = [json.loads(body)["ImageUri"] for asked, body, _ in stub.requests if asked == f"PUT {F}/f/code"]
    assert sent == [
        f"oci-archive:{tmp_path}/image.tar",
        f"oci:{tmp_path}/layout",
        f"docker-archive:{tmp_path}/image.tar",
        f"oci:{tmp_path}/layout:one",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["f", "--image", "./nowhere.tar"], "there is no file ./nowhere.tar"),
        (["f", "--image", "mine", "--runtime", "python3.12"], "--runtime is for directories"),
        (["f", "--image", "mine", "--watch"], "--watch is for directories"),
        (["f", "--image", "mine", "--architecture", "mips"], "'mips' is not one of"),
        ([], "Missing argument 'DIR'"),
        ([__file__], "is a file; an image is deployed with --image"),
    ],
)
def test_deploy_of_what_is_no_image(stub: Stub, arguments: list[str], told: str) -> None:
    result = run(stub, "deploy", *arguments)
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr
    assert stub.requests == []


def test_deploy_of_code_that_is_refused(stub: Stub, function: Path) -> None:
    stub.on(f"GET {F}/f/configuration", {"State": "Failed", "StateReason": "no such layer"})
    stub.on(f"PUT {F}/f/code")
    result = run(stub, "deploy", str(function), "--name", "f")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, "lambent: f cannot be used: no such layer")


def test_deploy_of_an_empty_directory(stub: Stub, tmp_path: Path) -> None:
    result = run(stub, "deploy", str(tmp_path))
    assert result.exit_code == 1
    assert "found no handler" in result.stderr
    assert all(asked == "GET /_lambent/status" for asked in stub.asked)


def test_deploy_of_what_cannot_be_packed(stub: Stub, function: Path) -> None:
    ignore = function / ".lambentignore"
    ignore.write_text("*.md\n\ndata/[b-a].txt\n")
    result = run(stub, "deploy", str(function))
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert f"{ignore}, line 3: 'data/[b-a].txt' is no pattern: bad character range b-a" in result.stderr
    ignore.write_text("")
    (function / os.fsdecode(b"caf\xe9.txt")).write_text("")
    result = run(stub, "deploy", str(function))
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "caf\\xe9.txt': the name is not UTF-8" in result.stderr
    ignore.write_text("caf?.txt\n")
    assert "UTF-8" not in run(stub, "deploy", str(function)).stderr


def test_deploy_of_a_link_to_nothing(stub: Stub, function: Path) -> None:
    (function / "app.py").unlink()
    (function / "app.py").symlink_to("elsewhere.py")
    result = run(stub, "deploy", str(function))
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert f"cannot read {function / 'app.py'}: No such file or directory" in result.stderr


@pytest.mark.parametrize("text", ["A", "=1"])
def test_deploy_with_a_variable_that_is_none(stub: Stub, function: Path, text: str) -> None:
    result = run(stub, "deploy", str(function), "--env", text)
    assert (result.exit_code, "is not of the form K=V" in result.stderr) == (2, True)


def test_up_tells_a_wrong_setting(stub: Stub) -> None:
    result = CliRunner().invoke(main, ["up", "--port", "x"])
    assert (result.exit_code, result.stderr) == (1, "lambent: port: 'x' is not a whole number (from --port)\n")


@pytest.mark.parametrize(("module", "imports"), [("gateway", "click"), ("gateway.up", "hashlib")])
def test_an_early_interrupt_leaves_no_traceback(module: str, imports: str, tmp_path: Path) -> None:
    """Ctrl-C while the command still imports what it needs."""
    (tmp_path / f"{imports}.py").write_text(
        "import os, signal; os.kill(os.getpid(), signal.SIGINT); raise AssertionError('survived')"
    )
    path = f"{tmp_path}{os.pathsep}{os.getcwd()}"
    ended = subprocess.run(
        [sys.executable, "-m", module, "up"], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, "")


def test_an_interpreter_that_may_not_be_run_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    result = run(None, "up")
    assert (result.exit_code, result.stderr) == (1, f"lambent: cannot run {tmp_path}/python: No such file or directory\n")


@pytest.mark.parametrize(
    ("arguments", "code", "last"),
    [
        (["nonsense"], 2, "lambent: No such command 'nonsense'"),
        (["dploy"], 2, "lambent: No such command 'dploy'. (Did you mean 'deploy'?)"),
        (["list", "--nonsense"], 2, "lambent: No such option"),
        (["bench", "warm", "--nonsense"], 2, "lambent: No such option"),
        (["deploy", "/nowhere"], 2, "lambent: Invalid value for 'DIR'"),
        (["top", "--sort", "x"], 2, "lambent: Invalid value for '--sort'"),
    ],
)
def test_every_complaint_begins_alike(arguments: list[str], code: int, last: str) -> None:
    result = run(None, *arguments)
    assert result.exit_code == code
    assert "Error" not in result.output
    assert "Usage: " in result.output
    assert result.output.splitlines()[-1].startswith(last)


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("gateway.cli.list.Api", interrupt)
    assert run(None, "list").exit_code == 130


def test_version_as_an_option() -> None:
    assert CliRunner().invoke(main, ["--version"]).output.startswith("lambent ")


def test_up_refuses_to_be_reachable(stub: Stub) -> None:
    result = CliRunner().invoke(main, ["up", "--host", "0.0.0.0"])
    assert (result.exit_code, "can be reached from outside" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    "command", [[], *([name] for name in ("up", "deploy", "invoke", "list", "logs", "top", "remove", "bench", "version"))]
)
def test_every_command_explains_itself(command: list[str]) -> None:
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) >= 5


@pytest.mark.slow
def test_help_imports_little() -> None:
    """`lambent --help` answers at once: no HTTP server, no AWS client, no table drawing."""
    heavy = ("asyncio", "rich", "aiohttp", "uvloop", "botocore", "http.client")
    code = f"import gateway.__main__, sys; print(*(module for module in {heavy} if module in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == ""
