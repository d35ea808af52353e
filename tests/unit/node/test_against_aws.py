"""The same functions through AWS's own public client for Node.js and through ours: the same answers, errors and log lines.

What is compared is what leaves the process. AWS's client has no telemetry descriptor here and so writes carriage returns where it
writes line feeds on AWS; the differences that are meant (see DESIGN.md of the runtime) are not among the cases.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.guest.harness import Request
from tests.unit.guest.test_against_aws import Outcome, drive
from tests.unit.node.harness import MAIN, nodes

OLD = next((runtime for runtime in reversed(nodes) if int(runtime[6:8]) < 24), "")
CLIENT = Path(sys.prefix) / "aws-lambda-ric/node_modules/aws-lambda-ric"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not OLD, reason="no Node.js older than 24, with which AWS's client of version 3 works, is installed"),
    pytest.mark.skipif(
        not (CLIENT / "dist/rapid-client.node").exists(),
        reason=f"aws-lambda-ric is not built in {CLIENT}: tests/check does that, where npm is",
    ),
]

FUNCTION = """
const wait = (ms, value) => new Promise((resolve) => setTimeout(resolve, ms, value))
class Own extends Error { constructor(text) { super(text); this.name = 'Own'; this.code = 'E_OWN'; this.more = {a: 1} } }
class Unnamed extends TypeError {}
exports.handler = (event, context, callback) => eval(event.case)
exports.sure = async (event, context) => eval(event.case)
exports.nested = {deep: {handler: async () => 'deep'}}
exports.number = 5
"""

# Each is what a handler evaluates, with `event`, `context` and `callback` at hand; it may give a promise.
CASES = [
    "wait(0, event)",
    "wait(0)",
    "wait(0, null)",
    "wait(0, 'text é ✓')",
    "wait(0, [1, 1.5, -0, 1e100, NaN, Infinity, undefined, () => 1, new Date(0), new Map([[1, 2]])])",
    "wait(0, {a: undefined, b: {toJSON: () => 'json'}, ['__proto__']: 1})",
    "wait(0, Buffer.from('ab'))",
    "wait(0, () => 1)",
    "wait(0, 10n)",
    "wait(0, {get a() { throw new Error('getter') }})",
    "callback(null, 5)",
    "callback(undefined, {a: 1})",
    "callback()",
    "callback(null)",
    "callback(new Own('called'))",
    "callback('text')",
    "callback(0)",
    "callback(false)",
    "callback('')",
    "callback({a: 1})",
    "callback({name: 'Like', message: 'an error', stack: 'Like: an error\\n    at x'})",
    "callback(null, 1); callback(null, 2)",
    "callback(null, 1); callback(new Error('late'))",
    "setTimeout(callback, 1, null, 'timer')",
    "context.succeed('s')",
    "context.succeed()",
    "context.fail('f')",
    "context.fail(new Own('failed'))",
    "context.fail()",
    "context.fail(null)",
    "context.done(null, 'd')",
    "context.done('error', 'd')",
    "context.done()",
    "setTimeout(context.succeed, 1, 'later')",
    "(context.callbackWaitsForEmptyEventLoop = false, setTimeout(() => {}, 50), callback(null, 'early'))",
    "5",
    "undefined",
    "({then: (resolve) => resolve('thenable')})",
    "({then: (resolve, reject) => reject(new Own('thenable'))})",
    "({then: 5})",
    "(() => { throw new Own('thrown') })()",
    "(() => { throw new Unnamed('unnamed') })()",
    "(() => { throw 'text' })()",
    "(() => { throw null })()",
    "(() => { throw undefined })()",
    "Promise.reject(new Own('rejected'))",
    "Promise.reject(new Error(''))",
    "Promise.reject(new Error('two\\nlines and \\x7f'))",
    "Promise.reject('text')",
    "Promise.reject(5)",
    "Promise.reject(null)",
    "Promise.reject()",
    "Promise.reject(Object.assign(new Error('own name'), {name: 'Custom.Name', cause: new Error('cause'), list: [1]}))",
    "Promise.reject(new AggregateError([new Error('a')], 'many'))",
    "Promise.reject(Object.assign(new Error('no stack'), {stack: undefined}))",
    "new Promise(() => {})",
    "(console.log('to the log', {a: 1}), console.error(new Own('logged')), callback(null, 1))",
    "(console.log(), console.info('%s %d %j %o', 'a', 1, {b: 2}, [3]), console.warn('two\\nlines'), callback())",
    "(console.trace('t'), console.fatal('f'), console.log(null, undefined, 1n, Symbol('x')), callback())",
    "wait(0, [context.functionName, context.functionVersion, context.memoryLimitInMB, context.logGroupName])",
    "wait(0, [context.awsRequestId, context.invokedFunctionArn, context.clientContext, context.identity, context.tenantId])",
    "wait(0, [Object.keys(context).sort(), typeof context.getRemainingTimeInMillis(), process.env._X_AMZN_TRACE_ID])",
    "wait(0, [Object.keys(awslambda), typeof awslambda.HttpResponseStream.from])",
]  # fmt: skip
ASYNC_CASES = [
    "event",
    "wait(1, 'later')",
    "undefined",
    "(() => { throw new Own('thrown') })()",
    "callback",
    "Promise.reject(new Own('rejected'))",
]


def both(directory: Path, events: list[bytes], handler: str = "app.handler", **extra: str) -> tuple[Outcome, Outcome]:
    node = str(nodes[OLD].executable)
    extra = {"AWS_EXECUTION_ENV": f"AWS_Lambda_{OLD}", **extra}
    theirs = drive([node, str(CLIENT / "bin/index.mjs"), handler], directory, events, handler, **extra)
    ours = drive([node, str(MAIN)], directory, events, handler, **extra)
    return theirs, ours


def own_frames(value: Any) -> Any:
    """Without the frames of the runtimes and of Node.js itself, at any depth."""
    if isinstance(value, dict):
        return {key: own_frames(each) for key, each in value.items()}
    if isinstance(value, list):
        return [own_frames(each) for each in value if not is_foreign(each)]
    return value


def is_foreign(line: object) -> bool:
    return isinstance(line, str) and line.startswith("    at ") and "/app." not in line


def comparable(request: Request) -> Any:
    body = json.loads(request.body) if request.body else None
    if request.path.endswith("/error"):
        body = own_frames(body)
    return request.path, body, request.headers["content-type"].partition(";")[0]


def lines(output: str) -> list[str]:
    found = []
    for line in output.replace("\r", "\n").splitlines():
        if line.startswith("Executing '") or is_foreign(line):
            continue
        line = re.sub(r"^\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME", line)
        if (start := line.find('\t{"errorType"')) >= 0:
            line = line[:start] + json.dumps(own_frames(json.loads(line[start:])))
        found.append(line)
    return found


@pytest.mark.parametrize(("handler", "cases"), [("app.handler", CASES), ("app.sure", ASYNC_CASES)], ids=["any", "async"])
def test_answers_errors_and_logs(handler: str, cases: list[str], tmp_path: Path) -> None:
    (tmp_path / "app.js").write_text(FUNCTION)
    theirs, ours = both(tmp_path, [json.dumps({"case": case}).encode() for case in cases], handler)
    assert len(theirs.requests) == len(cases)
    for case, one, other in zip(cases, theirs.requests, ours.requests, strict=True):
        if comparable(one) != comparable(other):
            assert (case, comparable(one)) == (case, comparable(other))
    assert lines(theirs.output) == lines(ours.output)


@pytest.mark.parametrize("level", [None, "DEBUG", "ERROR", "FATAL"])
def test_logs_in_json(level: str | None, tmp_path: Path) -> None:
    (tmp_path / "app.js").write_text(FUNCTION)
    cases = [case for case in CASES if "console" in case or "reject" in case or "throw" in case]
    extra = {"AWS_LAMBDA_LOG_FORMAT": "JSON"} | ({} if level is None else {"AWS_LAMBDA_LOG_LEVEL": level})
    theirs, ours = both(tmp_path, [json.dumps({"case": case}).encode() for case in cases], **extra)
    _, *said = theirs.output.splitlines()  # "Executing …"
    assert [entry(line) for line in said] == [entry(line) for line in ours.output.splitlines()]


def entry(line: str) -> Any:
    if not line.startswith("{"):
        return line
    found = json.loads(line)
    del found["timestamp"]
    if isinstance(found.get("message"), str):
        found["message"] = found["message"].splitlines()
    return own_frames(found)


@pytest.mark.parametrize(
    ("handler", "files"),
    [
        ("app", {"app.js": ""}),
        ("app.absent", {"app.js": ""}),
        ("app.number", {"app.js": FUNCTION}),
        ("app.nested.absent.handler", {"app.js": FUNCTION}),
        ("absent.handler", {}),
        ("../app.handler", {"app.js": FUNCTION}),
        ("app.handler", {"app.js": "require('absent')"}),
        ("app.handler", {"app.mjs": "import 'absent'"}),
        ("app.handler", {"app.mjs": "import {absent} from 'node:fs'"}),
        ("app.handler", {"app.js": "exports.handler = ("}),
        ("app.handler", {"app.mjs": "export const ="}),
        ("app.handler", {"app.js": "throw new RangeError('at init')"}),
        ("app.handler", {"app.js": "throw 'text'"}),
        ("app.handler", {"app.js": "process.exit(3)"}),
        ("app.handler", {"app.js": "import './other.mjs'", "package.json": '{"type": "module"}'}),
        ("app.handler", {"app.js": "exports.handler = async () => 1", "package.json": "{broken"}),
    ],
)  # fmt: skip
def test_functions_that_do_not_start(handler: str, files: dict[str, str], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    theirs, ours = both(tmp_path, [], handler)
    assert theirs.status == ours.status
    assert [broken(one) for one in theirs.requests] == [broken(one) for one in ours.requests]


def broken(request: Request) -> Any:
    """The error without its trace, in which each runtime names its own files, as it does where a module is not found."""
    path, body, content_type = comparable(request)
    body.pop("trace", None)
    body["errorMessage"] = re.sub(r"\n- .*/index\.mjs$", "", body["errorMessage"])
    return path, body, content_type, request.headers["lambda-runtime-function-error-type"]
