"""The function that a fork plays before it gets a real one: this very module is imported as its code, and two events are handled.

What that is good for is said at `lambent_bootstrap.rehearse`. Nothing of it stays but pages.
"""

from __future__ import annotations

import logging
import os
import socket
import sys

from lambent_context import function_facts
from lambent_runtime_client import LambdaRuntimeClient
from lambent_streams import LambdaLoggerFilter, LogSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_BODY = b'{"version": "2.0", "headers": {"host": "localhost"}, "numbers": [null, true, 1, 1.5]}'
_EVENT = b"\r\n".join(
    (
        b"HTTP/1.1 200 OK",
        b"Content-Type: application/json",
        b"Lambda-Runtime-Aws-Request-Id: 1",
        b"Lambda-Runtime-Deadline-Ms: 1",
        b"Lambda-Runtime-Invoked-Function-Arn: 1",
        b"Lambda-Runtime-Trace-Id: 1",
        b"Content-Length: %d" % len(_BODY),
        b"",
        _BODY,
    )
)
_SCRIPT = _EVENT + b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n" + _EVENT


_SOURCE = """import os
TABLE = os.environ.get("TABLE", "none")
class Thing:
    def __init__(self, name): self.name = name
def handler(event, context):
    return {"statusCode": 200, "body": f"{event['version']}"}
"""


_ENVIRONMENT = {f"A_VARIABLE_OF_AN_ENVIRONMENT_{number}": "and a value of usual length" for number in range(30)}
_ENVIRONMENT["TZ"] = ":UTC"  # as functions have it: the C library does not read the same again


class _Over(Exception):
    pass


class _Client(LambdaRuntimeClient):
    def _connect(self) -> None:
        raise _Over


def handler(event: object, context: object) -> object:
    """Uses what functions mostly use."""
    record = logging.LogRecord("", logging.INFO, "", 0, "%s", (1,), None)
    log = logging.getLogger().handlers[-1]
    log.filter(record)
    log.format(record)
    return {"statusCode": 200, "body": event}


def perform(freshen: Callable[[], None], run: Callable[[str, LambdaRuntimeClient, LogSink], None], log_sink: LogSink) -> None:
    """`freshen` and `run` are what `lambent_bootstrap.main` consists of."""
    here, there = socket.socketpair()
    own = sys.modules.pop(__name__)
    path = sys.path[:]
    environment = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(_ENVIRONMENT)
        freshen()
        here.sendall(_SCRIPT)
        here.shutdown(socket.SHUT_WR)
        compile(_SOURCE, "", "exec")  # what is imported below may be compiled already; functions never are
        run(__name__ + ".handler", _Client("", there), log_sink)
    except _Over:
        pass
    finally:
        sys.path[:] = path
        sys.modules[__name__] = own
        os.environ.clear()
        os.environ.update(environment)
        LambdaLoggerFilter.aws_request_id = ""
        function_facts.cache_clear()
        here.close()
