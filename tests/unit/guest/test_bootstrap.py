"""The Python runtime as its platform sees it, under every interpreter of this host, in a fork of a warm one."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.unit.guest.harness import ACCEPTED, ARN, Api, Forker, event_bytes

ECHO = """
def handler(event, context):
    return event
"""
NBSP = "\u00a0"


def test_answers_and_asks_for_the_next_event_in_one_piece(forker: Forker, tmp_path: Path) -> None:
    with forker.start(tmp_path, ECHO) as function:
        function.api.expect_next()
        for number in range(3):
            function.api.pieces.clear()
            function.api.event({"n": number}, f"id-{number}")
            answer = function.api.request()
            assert (answer.method, answer.path) == ("POST", f"/2018-06-01/runtime/invocation/id-{number}/response")
            assert answer.headers["content-type"] == "application/json"
            assert answer.body == b'{"n": %d}' % number
            function.api.expect_next()
            assert len(function.api.pieces) == 1
            function.api.sock.sendall(ACCEPTED)


def test_takes_acknowledgement_and_event_in_any_pieces(forker: Forker, tmp_path: Path) -> None:
    acknowledgements = [
        ACCEPTED,
        b'HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\n{"a":\r\n2\r\n1}\r\n0\r\nTrailer: x\r\n\r\n',
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 Payload Too Large\r\ncontent-length:2\r\n\r\n{}",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ]
    with forker.start(tmp_path, ECHO) as function:
        function.api.expect_next()
        function.api.event(0)
        for number, acknowledgement in enumerate([*acknowledgements, ACCEPTED, ACCEPTED], start=1):
            assert function.api.request().json == number - 1
            function.api.expect_next()
            stream = acknowledgement + event_bytes(str(number).encode())
            for byte in stream if number % 2 else (stream[:70], stream[70:]):
                function.api.sock.sendall(bytes([byte]) if isinstance(byte, int) else byte)


def test_context_is_that_of_aws(forker: Forker, tmp_path: Path) -> None:
    source = """
    def handler(event, context):
        assert 0 < context.get_remaining_time_in_millis()
        return [repr(context), context.memory_limit_in_mb, context.client_context.client.app_title,
                context.client_context.custom, context.identity.cognito_identity_id, context.tenant_id, context.w3c()]
    """
    client = {"custom": {"a": 1}, "env": {}, "client": {"app_title": "t"}, "w3c": {"traceparent": "00-1", "other": "no"}}
    headers = {
        "Lambda_Runtime_Client_Context": json.dumps(client),
        "Lambda_Runtime_Cognito_Identity": '{"cognitoIdentityId":"i","cognitoIdentityPoolId":"p"}',
        "Lambda_Runtime_Aws_Tenant_Id": "blue",
    }
    with forker.start(tmp_path, source) as function:
        function.api.expect_next()
        described, *values = function.api.invoke({}, **headers).json
    assert values == ["128", "t", {"a": 1}, "i", "blue", {"traceparent": "00-1"}]
    client_text = "installation_id=None,app_title=t,app_version_name=None,app_version_code=None,app_package_name=None"
    assert described == (
        "LambdaContext([aws_request_id=id-1,log_group_name=/aws/lambda/f,log_stream_name=2026/01/01/[$LATEST]0,function_name=f,"
        f"memory_limit_in_mb=128,function_version=$LATEST,invoked_function_arn={ARN},"
        f"client_context=ClientContext([custom={{'a': 1}},env={{}},client=Client([{client_text}])]),"
        "identity=CognitoIdentity([cognito_identity_id=i,cognito_identity_pool_id=p]),tenant_id=blue])"
    )


def test_trace_id_is_that_of_the_invocation(forker: Forker, tmp_path: Path) -> None:
    source = """
    import os
    def handler(event, context):
        return os.environ.get("_X_AMZN_TRACE_ID"), os.popen("echo $_X_AMZN_TRACE_ID").read().strip()
    """
    with forker.start(tmp_path, source, environ={"_X_AMZN_TRACE_ID": "of Init", "PATH": "/usr/bin:/bin"}) as function:
        function.api.expect_next()
        assert function.api.invoke(Lambda_Runtime_Trace_Id="Root=1-2").json == ["Root=1-2", "Root=1-2"]
        assert function.api.invoke().json == [None, ""]


def test_error_of_the_handler_is_reported_and_logged_as_recorded(forker: Forker, tmp_path: Path) -> None:
    source = """
    class CustomException(Exception):
        pass

    def handler(event, context):
        raise CustomException("some error occurred")
    """
    with forker.start(tmp_path, source) as function:
        function.api.expect_next()
        for request_id in ("id-1", "id-2"):
            answer = function.api.invoke(request_id=request_id)
            assert answer.path == f"/2018-06-01/runtime/invocation/{request_id}/error"
            assert answer.headers["lambda-runtime-function-error-type"] == "CustomException"
            line = '    raise CustomException("some error occurred")'
            assert answer.json == {
                "errorMessage": "some error occurred",
                "errorType": "CustomException",
                "requestId": request_id,
                "stackTrace": [f'  File "{tmp_path}/app.py", line 6, in handler\n{line}\n'],
            }
            assert function.read() == (
                "[ERROR] CustomException: some error occurred\nTraceback (most recent call last):\n"
                f'{NBSP * 2}File "{tmp_path}/app.py", line 6, in handler\n{NBSP * 4}{line.strip()}\n'
            )


def test_stack_trace_of_a_handler_with_wrong_arguments_is_the_runtimes(forker: Forker, tmp_path: Path) -> None:
    with forker.start(tmp_path, "def handler(event): pass") as function:
        function.api.expect_next()
        document = function.api.invoke().json
    assert document["errorType"] == "TypeError"
    assert [entry.split("\n")[1].strip() for entry in document["stackTrace"]] == [
        "response = request_handler(event, lambda_context)"
    ]


@pytest.mark.parametrize(
    ("handler", "source", "kind", "message"),
    [
        ("nodot", "", "Runtime.MalformedHandlerName", "Bad handler 'nodot': not enough values to unpack (expected 2, got 1)"),
        ("absent.handler", "", "Runtime.ImportModuleError", "Unable to import module 'absent': No module named 'absent'"),
        ("app.handler", "import absent", "Runtime.ImportModuleError", "Unable to import module 'app': No module named 'absent'"),
        ("app.nothing", "", "Runtime.HandlerNotFound", "Handler 'nothing' missing on module 'app'"),
        ("sys.exit", "", "Runtime.BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"),
    ],
)  # fmt: skip
def test_a_function_that_cannot_be_loaded(
    forker: Forker, tmp_path: Path, handler: str, source: str, kind: str, message: str
) -> None:
    with forker.start(tmp_path, source, handler) as function:
        report = function.api.request()
        assert (report.method, report.path) == ("POST", "/2018-06-01/runtime/init/error")
        assert report.headers["lambda-runtime-function-error-type"] == kind
        assert report.json == {"errorMessage": message, "errorType": kind, "requestId": "", "stackTrace": []}
        function.api.sock.sendall(ACCEPTED)
        assert function.end() == 1
        assert function.read() == f"[ERROR] {kind}: {message}\nTraceback (most recent call last):\n"


def test_a_function_with_a_syntax_error(forker: Forker, tmp_path: Path) -> None:
    with forker.start(tmp_path, "def handler(event, context):\n    return (\n") as function:
        document = function.api.request().json
        function.api.sock.sendall(ACCEPTED)
        assert function.end() == 1
    assert document["errorType"] == "Runtime.UserCodeSyntaxError"
    assert document["errorMessage"].startswith("Syntax error in module 'app': ")
    assert document["stackTrace"][0].startswith(f'  File "{tmp_path}/app.py" Line ')


def test_a_function_that_raises_while_it_is_imported(forker: Forker, tmp_path: Path) -> None:
    """The whole trace through importlib, as recorded (python3.13, 2025-11): the runtime's own frames are not in it."""
    with forker.start(tmp_path, 'raise Exception("Runtime startup fails")') as function:
        report = function.api.request()
        function.api.sock.sendall(ACCEPTED)
        assert function.end() == 1
    document = report.json
    stack = document.pop("stackTrace")
    assert document == {"errorMessage": "Runtime startup fails", "errorType": "Exception", "requestId": ""}
    assert [entry.split(", in ")[1].split("\n")[0] for entry in stack] == [
        "import_module",
        "_gcd_import",
        "_find_and_load",
        "_find_and_load_unlocked",
        "_load_unlocked",
        "exec_module",
        "_call_with_frames_removed",
        "<module>",
    ]
    assert "importlib/__init__.py" in stack[0]
    assert "return _bootstrap._gcd_import(name[level:], package, level)\n" in stack[0]
    assert stack[-1] == f'  File "{tmp_path}/app.py", line 1, in <module>\n    raise Exception("Runtime startup fails")\n'


@pytest.mark.parametrize("handler", ["pkg.mod.handler", "pkg/mod.handler", "plain/mod.handler", "plain.mod.handler"])
def test_handlers_in_packages_and_directories(forker: Forker, tmp_path: Path, handler: str) -> None:
    with forker.start(tmp_path, {"pkg/__init__.py": "", "pkg/mod.py": ECHO, "plain/mod.py": ECHO}, handler) as function:
        function.api.expect_next()
        assert function.api.invoke([1]).json == [1]


def test_answers_that_json_cannot_carry_and_events_that_are_none(forker: Forker, tmp_path: Path) -> None:
    source = """
    def handler(event, context):
        return {"set": {1}, "lone": "\\ud800", "raw": event, "blob": b"\\x00\\xff"}[event if isinstance(event, str) else "raw"]
    """
    with forker.start(tmp_path, source) as function:
        function.api.expect_next()
        for case, kind, message in (
            (b'"set"', "Runtime.MarshalError", "Unable to marshal response: Object of type set is not JSON serializable"),
            (b"{", "Runtime.UnmarshalError", "Unable to unmarshal input: Expecting property name enclosed in double quotes"),
            (b"NaN", "Runtime.UnmarshalError", "Unable to unmarshal input: "),
            (b"\xff", "Runtime.UnmarshalError", "Unable to unmarshal input: 'utf-8' codec can't decode byte 0xff"),
        ):
            answer = function.api.invoke(case)
            assert answer.path.endswith("/error")
            assert (answer.json["errorType"], answer.json["stackTrace"]) == (kind, [])
            assert answer.json["errorMessage"].startswith(message)
        answer = function.api.invoke(b'"lone"')
        if answer.path.endswith("/error"):  # where non-ASCII is not escaped, from Python 3.12 on
            assert answer.json["errorType"] == "Runtime.MarshalError"
        else:
            assert answer.body == b'"\\ud800"'
        answer = function.api.invoke(b'"blob"')
        assert (answer.body, answer.headers["content-type"]) == (b"\x00\xff", "application/unknown")
        function.api.event(b"a=b", Content_Type="application/x-www-form-urlencoded")
        answer = function.api.request()  # no JSON, so the handler got, and gave back, the bytes
        assert (answer.body, answer.headers["content-type"]) == (b"a=b", "application/unknown")
        function.api.sock.sendall(ACCEPTED)
        function.api.expect_next()
        assert function.api.invoke(Lambda_Runtime_Client_Context="{").json["errorType"] == "Runtime.LambdaContextUnmarshalError"


@pytest.mark.parametrize(
    ("ending", "status", "written"),
    [
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit(256 + 7)", 7, ""),
        ('sys.exit("bye")', 1, "bye\n"),
        ("exit(4)", 4, ""),
        ("os._exit(5)", 5, ""),
        ("os.abort()", -signal.SIGABRT, ""),
        ("os.kill(os.getpid(), 15)", -signal.SIGTERM, ""),
        ("os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("os.kill(os.getpid(), 11)", -signal.SIGSEGV, ""),
        ("raise KeyboardInterrupt", -signal.SIGINT, None),
        ("raise BaseException('odd')", 1, None),
        ("atexit.register(print, 'last'), sys.exit(6)", 6, "last\n"),
        ("threading.Timer(0.01, print, ['late']).start(), sys.exit(6)", 6, "late\n"),
    ],
)
def test_ends_like_any_python_program(forker: Forker, tmp_path: Path, ending: str, status: int, written: str | None) -> None:
    source = f"import atexit, os, sys, threading\ndef handler(event, context):\n    print('half a line', end='')\n    {ending}\n"
    with forker.start(tmp_path, source) as function:
        function.api.expect_next()
        function.api.event({})
        assert function.end() == status
        output = function.read()
        assert output.startswith("half a line")
        if written is not None:
            assert output == "half a line" + written
        else:
            assert "Traceback" in output
            assert "lambent_bootstrap" not in output
        with pytest.raises((EOFError, ConnectionResetError)):
            function.api.request()


def test_exit_while_imported(forker: Forker, tmp_path: Path) -> None:
    with forker.start(tmp_path, "import sys; sys.exit(9)") as function:
        assert function.end() == 9


def without_time(text: str) -> str:
    return re.sub(r"\t[0-9T:.-]+Z\t", "\t\t", text)


def test_output_is_there_before_the_answer_and_survives_what_functions_do_to_it(forker: Forker, tmp_path: Path) -> None:
    source = """
    import io, logging, sys

    def handler(event, context):
        print("out", event)
        print("err", event, file=sys.stderr)
        sys.stdout.buffer.write(b"raw ")
        logging.error("log")
        context.log("own\\n")
        if event == 1:
            sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "wb", closefd=False)))
        elif event == 3:
            sys.stdout.close()
        elif event == 4:
            sys.stdout = None
    """
    with forker.start(tmp_path, source) as function:
        function.api.expect_next()
        assert function.api.invoke(1).body == b"null"
        assert without_time(function.read()) == "out 1\nerr 1\nraw [ERROR]\t\tid-1\tlog\nown\n"
        assert function.api.invoke(2).body == b"null"
        assert without_time(function.read()) == "err 2\n[ERROR]\t\tid-1\tlog\nown\nraw out 2\n"  # its own stream has a buffer
        assert function.api.invoke(3).body == b"null"
        function.read()
        broken = function.api.invoke(4)
        assert broken.json["errorType"] == "ValueError"  # as on AWS: what a function closes stays closed
        assert "I/O operation on closed file" in function.read()


def test_log_lines_have_awss_form(forker: Forker, tmp_path: Path) -> None:
    source = """
    import logging
    logging.getLogger().setLevel("INFO")
    logging.info("at Init")

    def handler(event, context):
        logging.getLogger("a.b").warning("text %s", 1)
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("broken")
    """
    with forker.start(tmp_path, source) as function:
        function.api.expect_next()
        level, time, request_id, message = function.read().split("\t")
        assert (level, request_id, message) == ("[INFO]", "", "at Init\n")
        assert len(time) == len("2026-01-01T00:00:00.000Z")
        assert time.endswith("Z")
        function.api.invoke(request_id="abc")
        warning, error = function.read().split("\n", 1)
    assert warning.split("\t")[0::2] == ["[WARNING]", "abc"]
    assert warning.split("\t")[3] == "text 1"
    assert error.split("\t")[3].splitlines()[0] == "broken"
    assert error.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_a_copy_of_the_process_does_not_answer(forker: Forker, tmp_path: Path) -> None:
    source = """
    import os

    def handler(event, context):
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        return "parent" if pid else "child"
    """
    with forker.start(tmp_path, source) as function:
        function.api.expect_next()
        for _ in range(2):
            assert function.api.invoke().json == "parent"


def test_goes_on_over_tcp_where_the_function_closes_its_connection(forker: Forker, tmp_path: Path) -> None:
    source = """
    import os

    def handler(event, context):
        os.closerange(3, 100)
        return event
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        address = "{}:{}".format(*listener.getsockname())
        with forker.start(tmp_path, source, runtime_api=address) as function:
            function.api.expect_next()
            function.api.event({"a": 1})
            for _ in range(2):
                sock, _ = listener.accept()
                api = Api(sock)
                with sock:
                    answer = api.request()
                    assert answer.path.endswith("/invocation/id-1/response")
                    assert answer.headers["host"] == address
                    sock.sendall(ACCEPTED)
                    api.expect_next()
                    api.event({"a": 1})


def test_ends_when_the_platform_is_gone(forker: Forker, tmp_path: Path) -> None:
    with forker.start(tmp_path, ECHO) as function:
        function.api.expect_next()
        function.api.sock.close()
        assert function.end() == 1
        assert function.read().startswith("[ERROR] Runtime API: ")


def test_ends_when_the_platform_talks_nonsense(forker: Forker, tmp_path: Path) -> None:
    with forker.start(tmp_path, ECHO) as function:
        function.api.expect_next()
        function.api.sock.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")
        assert function.end() == 1
        assert "something else than HTTP" in function.read()


def test_large_events_and_answers(forker: Forker, tmp_path: Path) -> None:
    event = "ä" * 3_000_000
    with forker.start(tmp_path, ECHO) as function:
        function.api.expect_next()
        assert function.api.invoke(event).json == event


def test_a_fork_is_like_a_fresh_process(forker: Forker, tmp_path: Path) -> None:
    source = """
    import gc, os, random, signal, sys, threading, time, uuid, logging

    def handler(event, context):
        import __main__
        seen = []
        thread = threading.Thread(target=lambda: seen.append(threading.get_native_id()))
        thread.start()
        thread.join()
        return {
            "path": sys.path, "argv": sys.argv, "main": __main__.__name__, "gc": [gc.isenabled(), gc.get_threshold()[0]],
            "random": [random.random(), str(uuid.uuid4())], "pipe": signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN,
            "int": signal.getsignal(signal.SIGINT) == signal.default_int_handler, "zone": time.tzname[0],
            "exit": callable(exit), "handlers": len(logging.getLogger().handlers),
            "level": logging.getLogger().level, "stdout": [sys.stdout.encoding, sys.stdout.errors, sys.stdout.isatty()],
            "rehearsal": "lambent_rehearsal.handler" in repr(sys.modules),
            "thread": threading.main_thread().native_id == threading.get_native_id() == os.getpid() != seen[0],
            "threads": threading.enumerate() == [threading.main_thread()] == [threading.current_thread()],
        }
    """
    facts = []
    for number in range(2):
        directory = tmp_path / str(number)
        with forker.start(directory, source, environ={"TZ": "Asia/Tokyo"}) as function:
            function.api.expect_next()
            facts.append(function.api.invoke().json)
    first, second = facts
    assert first["random"] != second["random"]
    archive, *_ = (Path(entry).name for entry in first["path"] if entry.endswith(".zip"))
    version = archive.removesuffix(".zip").replace("python3", "python3.")
    assert first["path"][0] == str(tmp_path / "0")
    assert first["path"][1:3] == [f"/opt/python/lib/{version}/site-packages", "/opt/python"]
    assert first["path"][3].endswith("sandbox/guest/python")
    assert first["path"][4] == "/var/runtime"
    assert not any("-packages" in entry for entry in first["path"][3:])
    assert len(first["path"]) == 8  # and the standard library: archive, modules, extension modules
    assert first["argv"] == [first["path"][3] + "/lambent_bootstrap.py"]
    assert first["main"] == "lambent_bootstrap"
    assert first["gc"][0] is True
    assert first["gc"][1] >= 700
    assert first["pipe"]
    assert first["int"]
    assert first["exit"]
    assert first["zone"] == "JST"
    assert (first["handlers"], first["level"]) == (1, 30)
    assert first["stdout"] == ["utf-8", "surrogateescape", False]
    assert not first["rehearsal"]
    assert first["thread"]
    assert first["threads"]


def test_error_trackers_can_wrap_the_runtime(forker: Forker, tmp_path: Path) -> None:
    """As Sentry's integration does: by the names of AWS's client, in the module that `__main__` is."""
    source = """
    import sys
    bootstrap = sys.modules["__main__"]
    seen = []

    def wrap(function, name):
        def inner(*args, **kwargs):
            seen.append(name)
            return function(*args, **kwargs)
        return inner

    bootstrap.handle_event_request = wrap(bootstrap.handle_event_request, "event")
    for name in ("post_invocation_result", "post_invocation_error", "post_init_error"):
        setattr(bootstrap.LambdaRuntimeClient, name, wrap(getattr(bootstrap.LambdaRuntimeClient, name), name))

    def handler(event, context):
        if event == "fail":
            raise ValueError
        return seen
    """
    with forker.start(tmp_path, source) as function:
        function.api.expect_next()
        assert function.api.invoke("fail").path.endswith("/error")
        assert function.api.invoke("look").json == ["event", "post_invocation_error", "event"]


def test_what_is_loaded_is_what_a_function_could_bring_under_the_same_name(forker: Forker) -> None:
    loaded = set(forker.loaded)
    assert {"json", "logging", "decimal", "datetime", "uuid", "lambent_bootstrap", "typing"} <= loaded
    assert not {"sys", "builtins", "_thread", "ssl", "_ssl", "__main__"} & loaded
    assert not any("." in name for name in loaded)


def test_errors_that_cannot_be_described(forker: Forker, tmp_path: Path) -> None:
    source = """
    class Bad(Exception):
        def __str__(self):
            raise ValueError

    def handler(event, context):
        if event == "type":
            raise type("T\\u00e9\\n", (Exception,), {})("m")
        if event == "lone":
            raise Exception("\\udcff")
        raise Bad
    """
    with forker.start(tmp_path, source) as function:
        function.api.expect_next()
        assert function.api.invoke("bad").json["errorMessage"] == "<unprintable Bad object>"
        assert function.api.invoke("type").headers["lambda-runtime-function-error-type"] == "T??"
        assert function.api.invoke("lone").json["errorMessage"] == "\udcff"


@pytest.mark.skipif(sys.platform != "linux", reason="pipes are sized with fcntl")
def test_a_pipe_that_takes_little_loses_nothing(forker: Forker, tmp_path: Path) -> None:
    source = """
    import os

    def handler(event, context):
        os.set_blocking(1, False)
        for number in range(2000):
            print("x" * 99)
    """
    with forker.start(tmp_path, source) as function:
        function.api.expect_next()
        function.api.event({})
        read = ""
        while len(read) < 200_000:
            read += function.read()
        assert function.api.request().body == b"null"
        assert read == ("x" * 99 + "\n") * 2000
