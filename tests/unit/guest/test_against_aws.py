"""The same functions through AWS's own public client and through ours: the same answers, errors and log lines.

awslambdaric 4.2.2 runs in this test's interpreter. What is compared is what leaves the process; the differences that are meant
(see lambent_bootstrap) are not among the cases.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.guest.harness import ACCEPTED, RUNTIME, Api, Request, environment, write

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"

# Each entry is what `handler` evaluates, with `event` and `context` at hand.
ANSWERS = [
    "event",
    "None",
    "[1, 1.5, -0.0, 1e100, True, None, 'é', 'a\\u2028b', '\\x7f\\x00\\\\\"/']",
    "{1: 2, None: 3, True: 4, 1.5: 5, float('inf'): 6, b'k': 7}",
    "[Decimal('1.10'), Decimal('1E+3'), Decimal('NaN'), Decimal('sNaN'), Decimal('Infinity'), -Decimal('Infinity')]",
    "{'a': Decimal('0.0'), 'b': [Decimal(-1)]}",
    "[float('nan'), float('inf'), -float('inf')]",
    "Point(1, 2)",
    "[Point(1, {'deep': Point(None, 2)})]",
    "HasAsdict()",
    "AsdictFails()",
    "b'bytes'",
    "{'bytes': b'caf\\xc3\\xa9'}",
    "[b'\\xff']",
    "{(1, 2): 3}",
    "{Decimal(1): 3}",
    "{1, 2}",
    "object()",
    "datetime.datetime(2026, 1, 1)",
    "collections.OrderedDict(b=1, a=[collections.defaultdict(int, x=1)])",
    "[Text('x'), Number(3), Color.RED, Level.LOW]",
    "{Text('k'): 1, Number(3): 2, Level.LOW: 3}",
    "(1, (2, [3]))",
    "[[], {}, (), '']",
    "circle()",
    "deep(100)",
    "10 ** 400",
    "range(3)",
    "(item for item in [1])",
    "lambda: 0",
    "[context.memory_limit_in_mb, context.function_name, context.aws_request_id, context.tenant_id]",
    "repr(context)",
    "sorted(vars(context))",
    "[context.client_context.custom, context.client_context.env, context.client_context.client.app_title]",
    "[repr(context.identity), repr(context.client_context)]",
    "1 / 0",
    "undefined",
    "raising('text é')",
    "raising('')",
    "raising('two\\nlines')",
    "raising(KeyError('k'))",
    "raising(Custom('c'))",
    "chained()",
    "nested()",
    "[].pop()",
    "int('x')",
    "asyncio.run(failing())",
    "exec('raise ValueError(1)')",
    "json.loads('{')",
    "sys.path[0] == os.environ['LAMBDA_TASK_ROOT']",
    "os.environ.get('_X_AMZN_TRACE_ID')",
    "os.getcwd() == os.environ['LAMBDA_TASK_ROOT']",
    "print('printed')",
    "logging.warning('warned %s', 1)",
    "logging.getLogger('x').error('e', exc_info=ValueError(1))",
    "logging.info('not shown')",
    "context.log('logged')",
    "[logging.getLogger().level, len(logging.getLogger().handlers), type(logging.getLogger().handlers[0]).__name__]",
]
EVENTS = [
    b"{}",
    b'{"a": [1, 2.5, null, "\\u00e9\\ud83d\\ude00"]}',
    b'"text"',
    b"1e400",
    b" [1] ",
    "\ufeff[1]".encode(),
    b"[1",
    b"",
    b"nope",
    b'{"a": NaN}',
    b"\xff",
    b"1 2",
]
FUNCTION = """
import asyncio, collections, datetime, enum, json, logging, os, sys
from decimal import Decimal

Point = collections.namedtuple("Point", "x y")
class HasAsdict:
    def _asdict(self): return {"from": "asdict", "tuple": (1,)}
class AsdictFails:
    def _asdict(self): return 3
class Text(str): pass
class Number(int): pass
class Color(str, enum.Enum): RED = "red"
class Level(enum.IntEnum): LOW = 1
class Custom(Exception): pass

def circle():
    a = []
    a.append(a)
    return a
def deep(n):
    return [deep(n - 1)] if n else []
def raising(what):
    raise what if isinstance(what, Exception) else RuntimeError(what)
def chained():
    try:
        raise ValueError("first")
    except ValueError as error:
        raise RuntimeError("second") from error
def nested():
    return (lambda: raising("inside"))()
async def failing():
    raise LookupError

def handler(event, context):
    if os.environ.get("EVENTS"):
        return event
    return eval(event["case"])
"""


class Outcome:
    """Everything that one runtime process made of its events."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.output = ""
        self.status = 0


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        yield listener


def drive(command: list[str], directory: Path, events: list[bytes], handler: str, **extra: str) -> Outcome:
    """Give a runtime all events over TCP, then stop it. It may use as many connections as it likes."""
    outcome = Outcome()
    client = json.dumps({"custom": {"c": 1}, "env": {"e": 2}, "client": {"app_title": "t", "unknown": 1}})
    headers = {
        "Lambda_Runtime_Client_Context": client,
        "Lambda_Runtime_Cognito_Identity": '{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}',
        "Lambda_Runtime_Trace_Id": "Root=1-2;Sampled=1",
    }
    with listening() as listener:
        address = "{}:{}".format(*listener.getsockname())
        process = subprocess.Popen(
            command,
            env=environment(directory, handler, address, extra) | {"PATH": os.environ["PATH"]},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        apis: list[Api] = []
        pending = list(enumerate(events))
        try:
            while True:
                request, api = _one_request(listener, apis, process)
                if request is None or api is None:
                    break
                if request.method == "POST":
                    outcome.requests.append(request)
                    api.sock.sendall(ACCEPTED)
                elif pending:
                    number, event = pending.pop(0)
                    api.event(event, f"id-{number}", **headers)
                else:
                    process.kill()
                    break
        finally:
            for each in apis:
                each.sock.close()
            output, _ = process.communicate(timeout=10)
    outcome.output = output.decode()
    outcome.status = process.returncode
    return outcome


def _one_request(listener: socket.socket, apis: list[Api], process: subprocess.Popen[bytes]) -> tuple[Request | None, Api | None]:
    while True:
        for api in apis:
            if api.has_data:
                return api.request(), api
        ready, _, _ = select.select([listener, *(api.sock for api in apis)], [], [], 0.05)
        if not ready and process.poll() is not None:
            return None, None
        if listener in ready:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            apis.append(Api(sock))
            continue
        for api in [api for api in apis if api.sock in ready]:
            try:
                return api.request(), api
            except EOFError:
                api.sock.close()
                apis.remove(api)


def both(directory: Path, events: list[bytes], handler: str = "app.handler", **extra: str) -> tuple[Outcome, Outcome]:
    extra = {"AWS_EXECUTION_ENV": f"AWS_Lambda_python{VERSION}", **extra}
    theirs = drive([sys.executable, "-m", "awslambdaric", handler], directory, events, handler, **extra)
    base: str = getattr(sys, "_base_executable")  # noqa: B009
    ours = drive([base, "-S", str(RUNTIME / "lambent_bootstrap.py")], directory, events, handler, **extra)
    return theirs, ours


def comparable(request: Request) -> Any:
    body: Any = request.body
    if request.path.endswith("/error"):
        body = request.json
        body["stackTrace"] = [entry for entry in body["stackTrace"] if "/importlib/" in entry or "/app.py" in entry]
        return request.path, body  # their error of Init has no content type at all
    return request.path, body, request.headers["content-type"]


def without_place(request: Request) -> Any:
    """What exactly a parser expected where is put in its own words by each."""
    path, body, *content_type = comparable(request)
    if isinstance(body, dict):
        body["errorMessage"] = body["errorMessage"].partition(": ")[0]
    return path, body, content_type


def lines(output: str) -> list[str]:
    """Log lines without times, which differ. AWS's client ends the lines of a trace with a carriage return."""
    text = output.replace("\r", "\n")
    return [re.sub(r"\t[0-9T:.-]+Z\t", "\t", line) for line in text.splitlines() if "LAMBDA_WARNING" not in line and line.strip()]


def test_answers_errors_and_logs(tmp_path: Path) -> None:
    write(tmp_path, FUNCTION)
    events = [json.dumps({"case": case}).encode() for case in ANSWERS]
    theirs, ours = both(tmp_path, events)
    assert len(theirs.requests) == len(ANSWERS)
    for case, one, other in zip(ANSWERS, theirs.requests, ours.requests, strict=True):
        if comparable(one) != comparable(other):
            assert (case, comparable(one)) == (case, comparable(other))
    assert lines(theirs.output) == lines(ours.output)


def test_events(tmp_path: Path) -> None:
    write(tmp_path, FUNCTION)
    theirs, ours = both(tmp_path, EVENTS, EVENTS="1")
    assert len(theirs.requests) == len(EVENTS)
    assert [without_place(one) for one in theirs.requests] == [without_place(one) for one in ours.requests]


@pytest.mark.parametrize(
    ("handler", "source"),
    [
        ("app", ""),
        ("absent.handler", ""),
        ("app.absent", ""),
        ("sys.handler", ""),
        ("app.handler", "import absent"),
        ("app.handler", "from os import absent"),
        ("app.handler", "def handler(:\n"),
        ("app.handler", "raise ValueError('at import')"),
        ("app.handler", "import other"),
        ("app.handler", "import sys; sys.exit(3)"),
        ("app.handler", "import os; os._exit(4)"),
    ],
)
def test_functions_that_do_not_start(tmp_path: Path, handler: str, source: str) -> None:
    write(tmp_path, {"app.py": source, "other.py": "1 / 0"})
    theirs, ours = both(tmp_path, [], handler)
    assert theirs.status == ours.status
    assert [comparable(one) for one in theirs.requests] == [comparable(one) for one in ours.requests]
    assert lines(theirs.output)[-3:] == lines(ours.output)[-3:]


LOGGING = """
import logging

log = logging.getLogger("app")
log.warning("at import")
logging.getLogger().setLevel(logging.getLogger().level or logging.DEBUG)


def handler(event, context):
    log.debug("debug"); log.info("info %s %r", 1, "ä"); log.warning("warn"); log.error("error"); log.critical("critical")
    log.log(35, "between"); log.log(5, "low"); log.info({"a": {"b": [1, None]}}); log.info({"not": object}, extra={"more": 1})
    log.info("extra", extra={"order": 7, "when": {1: 2}, "none": None, "thing": Exception})
    print("printed as it is")
    try:
        {}["missing"]
    except KeyError:
        log.exception("caught\\nin two lines")
    raise ValueError("told")
"""


@pytest.mark.parametrize("level", [None, "TRACE", "INFO", "WARN", "ERROR", "FATAL", "nonsense"])
@pytest.mark.parametrize("form", ["JSON", "Text"])
def test_advanced_logging_controls(form: str, level: str | None, tmp_path: Path) -> None:
    write(tmp_path, LOGGING)
    extra = {"AWS_LAMBDA_LOG_FORMAT": form} | ({} if level is None else {"AWS_LAMBDA_LOG_LEVEL": level})
    theirs, ours = both(tmp_path, [b"{}", b"{}"], **extra)
    assert [comparable(one) for one in theirs.requests] == [comparable(one) for one in ours.requests]
    if form == "Text":
        assert lines(theirs.output) == lines(ours.output)
        return
    pairs = zip(lines(theirs.output), lines(ours.output), strict=True)
    for one, other in pairs:
        if one.startswith("{"):
            assert list(json.loads(one)) == list(json.loads(other))
            assert timeless(one) == timeless(other)
        else:
            assert one == other


def timeless(line: str) -> Any:
    entry = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", entry.pop("timestamp"))
    if "stackTrace" in entry:  # frames of the runtimes themselves are not alike
        entry["stackTrace"] = [frame for frame in entry["stackTrace"] if "/app.py" in frame]
    return entry
