"""What the Node.js runtime does with handlers of every kind. Expected texts are those of AWS's own client, aws-lambda-ric."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.node.harness import every_node, needs_node, nodes, running

pytestmark = [pytest.mark.slow, needs_node]

OLD = next((runtime for runtime in nodes if runtime < "nodejs24.x"), None)
callbacks = pytest.mark.skipif(OLD is None, reason="no Node.js older than 24, where AWS has callbacks, is installed")
ASYNC_ECHO = "exports.handler = async (event) => event"


@every_node
def test_events_go_round_on_every_version(runtime: str, tmp_path: Path) -> None:
    with running(tmp_path, ASYNC_ECHO, runtime=runtime) as function:
        for number in range(3):
            answer = function.invoke({"number": number, "text": "Ünïcode ✓"}, f"id-{number}")
            assert answer.path == f"/invocation/id-{number}/response"
            assert answer.headers["content-type"] == "application/json"
            assert answer.json == {"number": number, "text": "Ünïcode ✓"}
        function.asks_next()


MODULES = {
    "common.js": ({"index.js": ASYNC_ECHO}, "index.handler"),
    "cjs": ({"index.cjs": ASYNC_ECHO}, "index.handler"),
    "mjs": ({"index.mjs": "export const handler = async (event) => event"}, "index.handler"),
    "mjs default": ({"index.mjs": "export default async (event) => event"}, "index.default"),
    "type=module": (
        {"package.json": '{"type": "module"}', "index.js": "export const handler = async (event) => event"},
        "index.handler",
    ),
    "top-level await": (
        {"index.mjs": "const echo = await Promise.resolve((x) => x); export const handler = async (event) => echo(event)"},
        "index.handler",
    ),
    "import and require": (
        {
            "index.mjs": "import {echo} from './lib/echo.js'; export const handler = async (event) => echo(event)",
            "lib/echo.js": "exports.echo = require('../other').echo",
            "other.js": "exports.echo = (event) => event",
        },
        "index.handler",
    ),
    "nested": ({"src/a/index.js": "exports.one = {two: async (event) => event}"}, "src/a/index.one.two"),
    "folder": ({"fn/index.js": ASYNC_ECHO}, "fn.handler"),
    "package": ({"node_modules/fn/index.js": ASYNC_ECHO}, "fn.handler"),
    "js before mjs": ({"index.js": ASYNC_ECHO, "index.mjs": "export const handler = async () => 'wrong'"}, "index.handler"),
}


@pytest.mark.parametrize(("files", "handler"), MODULES.values(), ids=MODULES)
def test_modules_are_found(files: dict[str, str], handler: str, tmp_path: Path) -> None:
    with running(tmp_path, files, handler) as function:
        assert function.invoke({"a": [1]}).json == {"a": [1]}


@pytest.mark.skipif("nodejs24.x" not in nodes, reason="Node.js 24, from which on AWS takes TypeScript, is not installed")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("index.ts", "exports.handler = async (event: object) => event"),
        ("index.mts", "export const handler = async (e: object) => e"),
    ],
)
def test_typescript(name: str, text: str, tmp_path: Path) -> None:
    with running(tmp_path, {name: text}, runtime="nodejs24.x") as function:
        assert function.invoke({"a": 1}).json == {"a": 1}


NEVER_SETTLED = (
    "The Lambda runtime client detected an unexpected Node.js exit code. This is most commonly caused by a Promise that was "
    "never settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes"
)
# what the handler is, and what it answers; an exception's answer is its type and message
HANDLERS: dict[str, tuple[str, Any]] = {
    "promise": ("exports.handler = (event) => new Promise((resolve) => setTimeout(resolve, 1, 'later'))", "later"),
    "thenable": ("exports.handler = () => ({then: (resolve) => resolve(5)})", 5),
    "undefined": ("exports.handler = async () => {}", None),
    "function": ("exports.handler = async () => () => 1", ("TypeError", "Wrong arguments")),
    "callback": ("exports.handler = (event, context, callback) => callback(null, event)", {"in": 1}),
    "callback after timer": ("exports.handler = (event, context, callback) => { setTimeout(callback, 1, null, 'x') }", "x"),
    "callback waits for timers": (
        "exports.handler = (e, c, callback) => { const o = {}; setTimeout(() => { o.late = 1 }, 5); callback(null, o) }",
        {"late": 1},
    ),
    "callback does not wait": (
        "exports.handler = (e, c, done) => { c.callbackWaitsForEmptyEventLoop = false; setTimeout(done, 6e4); done(null, {}) }",
        {},
    ),
    "only the first callback counts": ("exports.handler = (e, c, callback) => { callback(null, 1); callback(null, 2) }", 1),
    "sync": ("exports.handler = () => 'not looked at'", None),
    "sync with something left": ("exports.handler = () => { setTimeout(() => {}, 2); return 'not looked at' }", None),
    "succeed": ("exports.handler = (event, context) => context.succeed('s')", "s"),
    "done": ("exports.handler = (event, context) => context.done(null, 'd')", "d"),
    "fail": ("exports.handler = (event, context) => context.fail(new TypeError('f'))", ("TypeError", "f")),
    "fail without error": ("exports.handler = (event, context) => context.fail()", ("string", "handled")),
    "callback with error": ("exports.handler = (e, c, callback) => callback(new RangeError('r'))", ("RangeError", "r")),
    "callback with text": ("exports.handler = (e, c, callback) => callback('oh')", ("string", "oh")),
    "rejected": ("exports.handler = async () => { throw new Error('no') }", ("Error", "no")),
    "rejected with nothing": ("exports.handler = () => Promise.reject()", ("string", "handled")),
    "rejected with an object": ("exports.handler = async () => { throw {a: 1} }", ("object", "[object Object]")),
    "thrown": ("exports.handler = () => { throw new SyntaxError('now') }", ("SyntaxError", "now")),
    "named": ("class A extends Error { name = 'Mine' }; exports.handler = async () => { throw new A('m') }", ("Mine", "m")),
    "unserialisable": (
        "exports.handler = async () => { const a = {}; a.a = a; return a }",
        ("Error", "Unable to stringify response body"),
    ),
    "big number": ("exports.handler = async () => 1n", ("Error", "Unable to stringify response body")),
    "promise never settled": (
        "exports.handler = async () => new Promise(() => {})",
        ("Runtime.NodeJsExit", NEVER_SETTLED),
    ),
}  # fmt: skip


@callbacks
@pytest.mark.parametrize(("text", "expected"), HANDLERS.values(), ids=HANDLERS)
def test_handlers(text: str, expected: Any, tmp_path: Path) -> None:
    """Each one twice: an error or a timer that is left does not spoil what follows."""
    with running(tmp_path, text, runtime=OLD) as function:
        for number in range(2):
            answer = function.invoke({"in": 1}, f"id-{number}")
            if isinstance(expected, tuple):
                assert answer.path == f"/invocation/id-{number}/error"
                assert answer.headers["lambda-runtime-function-error-type"] == expected[0]
                assert (answer.json["errorType"], answer.json["errorMessage"]) == expected
                assert isinstance(answer.json["trace"], list)
            else:
                assert answer.path == f"/invocation/id-{number}/response"
                assert answer.json == expected
        function.asks_next()


@pytest.mark.skipif("nodejs24.x" not in nodes, reason="Node.js 24, where AWS has no callbacks, is not installed")
def test_callbacks_are_refused_where_aws_has_none(tmp_path: Path) -> None:
    with running(tmp_path, "exports.handler = (event, context, callback) => callback()", runtime="nodejs24.x") as function:
        error = function.asked("POST /2018-06-01/runtime/init/error")
        assert error.json["errorType"] == "Runtime.CallbackHandlerDeprecated"
        function.accept()
        assert function.ends() == 129


def test_an_error_is_told_and_logged_with_its_trace(tmp_path: Path) -> None:
    code = "exports.handler = async () => {\n  const e = new TypeError('bad\\nthing'); e.code = 'E1'; e.more = 2; throw e\n}"
    with running(tmp_path, code) as function:
        error = function.invoke()
        assert set(error.json) == {"errorType", "errorMessage", "trace"}
        assert error.json["trace"][0] == "TypeError: bad"
        assert error.json["trace"][2].startswith("    at ")
        cause = json.loads(error.headers["lambda-runtime-function-xray-error-cause"])
        assert cause["working_directory"] == str(tmp_path / "task")
        assert cause["exceptions"][0]["type"] == "TypeError"
        frame = next(each for each in cause["exceptions"][0]["stack"] if each["path"].endswith("/task/index.js"))
        assert frame["line"] == 2
        assert f"{tmp_path}/task/index.js" in cause["paths"]
        function.asks_next()
        line = function.log()
        match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)\tid-1\tERROR\tInvoke Error \t(\{.*\})\n", line)
        assert match is not None
        logged = json.loads(match[2])
        assert list(logged) == ["errorType", "errorMessage", "code", "more", "stack"]
        assert logged["stack"] == error.json["trace"]


# the files, the handler, the error's type and message, and a part of what is logged
BROKEN: dict[str, tuple[dict[str, str], str, str, str]] = {
    "no file": ({}, "index.handler", "Runtime.ImportModuleError",
                "Error: Cannot find module 'index'\nRequire stack:\n- /var/runtime/index.mjs"),
    "missing module": ({"index.js": "require('nothing-like-it')"}, "index.handler", "Runtime.ImportModuleError",
                       "Error: Cannot find module 'nothing-like-it'\nRequire stack:\n- {task}/index.js"),
    "missing package": ({"index.mjs": "import 'nothing-like-it'"}, "index.handler", "Error",
                        "Cannot find package 'nothing-like-it' imported from {task}/index.mjs"),
    "syntax": ({"index.js": "exports.handler = ("}, "index.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
    "syntax of a module": ({"index.mjs": "export const = 1"}, "index.handler", "Runtime.UserCodeSyntaxError", "SyntaxError: "),
    "thrown": ({"index.js": "throw new RangeError('at init')"}, "index.handler", "RangeError", "at init"),
    "rejected": ({"index.mjs": "await Promise.reject(new Error('top'))"}, "index.handler", "Error", "top"),
    "nobody waits": ({"index.mjs": "Promise.reject(new Error('alone')); await new Promise((r) => setTimeout(r, 50))"},
                     "index.handler", "Runtime.UnhandledPromiseRejection", "Error: alone"),
    "no export": ({"index.js": ""}, "index.handler", "Runtime.HandlerNotFound", "index.handler is undefined or not exported"),
    "no function": ({"index.js": "exports.handler = 5"}, "index.handler", "Runtime.HandlerNotFound",
                    "index.handler is not a function"),
    "no dot": ({"index.js": ""}, "index", "Runtime.MalformedHandlerName", "Bad handler"),
    "above": ({"index.js": ""}, "../index.handler", "Runtime.MalformedHandlerName",
              "'../index.handler' is not a valid handler name. Use absolute paths when specifying root directories in handler"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "handler", "kind", "message"), BROKEN.values(), ids=BROKEN)
def test_init_errors(files: dict[str, str], handler: str, kind: str, message: str, tmp_path: Path) -> None:
    with running(tmp_path, files, handler) as function:
        error = function.request()
        assert error.path == "/init/error"
        assert error.headers["lambda-runtime-function-error-type"] == kind
        assert error.json["errorType"] == kind
        assert error.json["errorMessage"].startswith(message.replace("{task}", str(tmp_path / "task")))
        function.accept()
        rejected = kind == "Runtime.UnhandledPromiseRejection"
        assert function.ends() == (128 if rejected else 129)
        title = "Unhandled Promise Rejection" if rejected else "Uncaught Exception"
        assert f'Z\tundefined\tERROR\t{title} \t{{"errorType":"{kind}"' in function.log()


@pytest.mark.parametrize(
    ("text", "kind", "message", "title", "code"),
    [
        ("setTimeout(() => { throw new TypeError('t') }, 1)", "TypeError", "t", "Uncaught Exception", 129),
        ("Promise.reject(new Error('r'))", "Runtime.UnhandledPromiseRejection", "Error: r", "Unhandled Promise Rejection", 128),
        ("Promise.reject('text')", "Runtime.UnhandledPromiseRejection", "text", "Unhandled Promise Rejection", 128),
    ],
)
def test_what_nobody_catches_ends_the_invocation_and_the_process(
    text: str, kind: str, message: str, title: str, code: int, tmp_path: Path
) -> None:
    code_text = f"exports.handler = async () => {{ {text}; await new Promise((r) => setTimeout(r, 60000)) }}"
    with running(tmp_path, code_text) as function:
        error = function.invoke({}, "id-7")
        assert error.path == "/invocation/id-7/error"
        assert (error.json["errorType"], error.json["errorMessage"]) == (kind, message)
        assert function.ends() == code
        assert f"\tid-7\tERROR\t{title} \t" in function.log()


def test_an_exception_between_invocations_ends_the_process(tmp_path: Path) -> None:
    code = "process.once('SIGUSR2', () => { throw new Error('idle') }); exports.handler = async () => 1"
    with running(tmp_path, code) as function:
        function.asks_next()
        function.process.send_signal(signal.SIGUSR2)
        assert function.ends() == 129
        assert "ERROR\tUncaught Exception \t" in function.log()


def test_the_context(tmp_path: Path) -> None:
    code = """exports.handler = async (event, context) => ({...context, left: context.getRemainingTimeInMillis(),
        trace: process.env._X_AMZN_TRACE_ID, main: require.main === undefined, argv: process.argv})"""
    headers = {
        "Lambda_Runtime_Invoked_Function_Arn": "arn:aws:lambda:us-east-1:000000000000:function:hello:live",
        "Lambda_Runtime_Trace_Id": "Root=1-2-3",
        "Lambda_Runtime_Client_Context": '{"custom": {"a": "ö"}, "client": {"app_title": "t"}}',
        "Lambda_Runtime_Cognito_Identity": '{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}',
        "Lambda_Runtime_Aws_Tenant_Id": "tenant",
    }
    with running(tmp_path, code) as function:
        found = function.invoke({}, "id-9", **headers).json
        assert found["awsRequestId"] == "id-9"
        assert found["functionName"] == "hello"
        assert found["functionVersion"] == "$LATEST"
        assert found["memoryLimitInMB"] == "128"
        assert found["logGroupName"] == "/aws/lambda/hello"
        assert found["logStreamName"].startswith("2026/11/21/[$LATEST]")
        assert found["invokedFunctionArn"] == headers["Lambda_Runtime_Invoked_Function_Arn"]
        assert found["clientContext"] == {"custom": {"a": "ö"}, "client": {"app_title": "t"}}
        assert found["identity"] == {"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}
        assert found["tenantId"] == "tenant"
        assert found["left"] > 1e11
        assert found["trace"] == "Root=1-2-3"
        assert found["main"]
        assert found["argv"][1] == "/var/runtime/index.mjs"
        plain = function.invoke({}, "id-10").json
        assert not {"clientContext", "identity", "tenantId", "trace"} & set(plain)
        bad = function.invoke({}, "id-11", Lambda_Runtime_Client_Context="{")
        assert bad.json["errorMessage"].startswith("Cannot parse ClientContext as json: SyntaxError")


def test_an_event_that_is_no_json_is_the_functions_error(tmp_path: Path) -> None:
    with running(tmp_path, ASYNC_ECHO) as function:
        assert function.invoke(b"{").json["errorType"] == "SyntaxError"
        assert function.invoke({"a": 1}).json == {"a": 1}


def test_events_and_answers_of_six_megabytes(tmp_path: Path) -> None:
    with running(tmp_path, ASYNC_ECHO) as function:
        text = "x" * (6 * 1024 * 1024 - 2)
        assert function.invoke(text).json == text
        function.asks_next()


def test_an_event_that_comes_byte_by_byte_and_chunked(tmp_path: Path) -> None:
    with running(tmp_path, ASYNC_ECHO) as function:
        function.asks_next()
        whole = (
            b"HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: id-1\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'3\r\n{"a\r\n6;x=y\r\n": [1]\r\n1\r\n}\r\n0\r\n\r\n'
        )
        for position in range(len(whole)):
            function.connection.sendall(whole[position : position + 1])
        assert function.request().json == {"a": [1]}


def test_the_end_of_the_api_is_the_end_of_the_runtime(tmp_path: Path) -> None:
    with running(tmp_path, ASYNC_ECHO) as function:
        function.asks_next()
        function.connection.close()
        assert function.ends() == 1
        assert "[ERROR] Runtime API: the connection ended" in function.log()


def test_exit_in_a_handler_has_the_handlers_code(tmp_path: Path) -> None:
    with running(tmp_path, "exports.handler = async () => process.exit(5)") as function:
        function.asks_next()
        function.send_event({})
        assert function.ends() == 5
