"""The other way in: a fresh interpreter that runs the runtime as a script, where a fork would not do."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.unit.guest.harness import ACCEPTED, RUNTIME, every_interpreter, interpreters, run_script

SOURCE = """
import os, sys, socket, json
def handler(event, context):
    print("said", flush=True)
    return {"event": event, "path": sys.path, "socket": socket.__file__, "main": sys.modules["__main__"].__file__,
            "json": json.__file__, "argv": sys.argv, "frozen": sys.dont_write_bytecode}
"""


@pytest.mark.parametrize("runtime", every_interpreter())
def test_a_function_with_modules_named_like_those_of_the_library(runtime: str, tmp_path: Path) -> None:
    """Those that AWS's client has imported too win there and here; all others are the function's own."""
    files = {"app.py": SOURCE, "socket.py": "mine = True", "select/__init__.py": "", "json.py": "mine = True"}
    options = ("-S",) if runtime != "python3.11" else ("-I",)
    with run_script(interpreters[runtime].executable, tmp_path, files, "app.handler", options) as function:
        function.api.expect_next()
        answer = function.api.invoke({"a": 1})
        assert answer.json["event"] == {"a": 1}
        assert answer.json["socket"] == str(tmp_path / "socket.py")
        assert answer.json["json"].endswith("/json/__init__.py")
        assert answer.json["main"] == str(RUNTIME / "lambent_bootstrap.py")
        assert answer.json["path"][0] == str(tmp_path)
        assert not any("-packages" in entry for entry in answer.json["path"] if not entry.startswith("/opt/python"))
        assert function.read() == "said\n"
    assert not (tmp_path / "__pycache__").exists()


def test_the_functions_environment_reaches_the_interpreter(tmp_path: Path) -> None:
    source = """
    import sys
    import extra

    def handler(event, context):
        print("\\u00e9")
        return [extra.__name__, sys.stdout.encoding]
    """
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "extra.py").write_text("")
    extra = {"PYTHONPATH": f"/var/runtime:{tmp_path}/more", "PYTHONIOENCODING": "iso8859-1:replace"}
    newest = list(interpreters.values())[-1].executable
    with run_script(newest, tmp_path, source, "app.handler", (), **extra) as function:
        function.api.expect_next()
        assert function.api.invoke().json == ["extra", "iso8859-1"]
        assert function.read() == "\\xe9\n"


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("raise SystemExit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("raise KeyboardInterrupt", -signal.SIGINT),
    ],
)
def test_ends_while_imported(source: str, status: int, tmp_path: Path) -> None:
    newest = list(interpreters.values())[-1].executable
    with run_script(newest, tmp_path, source, "app.handler") as function:
        assert function.end() == status


def test_traces_hide_the_runtime(tmp_path: Path) -> None:
    newest = list(interpreters.values())[-1].executable
    with run_script(newest, tmp_path, "def handler(event, context):\n    raise ValueError(1)", "app.handler") as function:
        function.api.expect_next()
        function.api.event({})
        stack = function.api.request().json["stackTrace"]
        function.api.sock.sendall(ACCEPTED)
    assert len(stack) == 1
    assert "app.py" in stack[0]


def test_says_what_is_wrong_without_a_runtime_api(tmp_path: Path) -> None:
    newest = list(interpreters.values())[-1].executable
    with run_script(newest, tmp_path, "def handler(event, context): pass", "app.handler", AWS_LAMBDA_RUNTIME_API="") as function:
        function.api.expect_next()
        function.api.sock.close()
        assert function.end() == 1
        assert function.read() == "[ERROR] Runtime API: AWS_LAMBDA_RUNTIME_API is not host:port: ''\n"
