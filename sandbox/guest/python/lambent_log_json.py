"""The log as AWS's Python runtime writes it where LoggingConfig says JSON, and its least level. Loaded only for such functions.

One object a line: what `logging` is given, with `extra` and exceptions, and the function's own errors. What is printed stays as
it is. (AWS's client fails where there is no exception to show, `exc_info=True` out of place; here that is no matter.)
"""

from __future__ import annotations

import json
import logging
import time
import traceback

from lambent_json import dumps
from lambent_streams import LogSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_TIME = "%Y-%m-%dT%H:%M:%SZ"
_LEVELS = {"TRACE": "DEBUG", "FATAL": "CRITICAL"}
_encode = json.JSONEncoder(ensure_ascii=False, default=str).encode  # what is no JSON is shown as text

#: Members that every record has; the others came as `extra`.
_USUAL = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"aws_request_id", "tenant_id", "taskName", "message"}


class JsonFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__(datefmt=_TIME)

    def format(self, record: logging.LogRecord) -> str:
        level = min(50, max(0, record.levelno)) // 10 * 10
        entry = {
            "timestamp": self.formatTime(record, self.datefmt),
            "level": logging.getLevelName(level),
            "message": record.msg if isinstance(record.msg, dict) and not record.args else record.getMessage(),
            "logger": record.name,
        }  # type: dict[str, object]
        location = None
        if record.exc_info and record.exc_info[0] is not None:
            entry["stackTrace"] = traceback.format_tb(record.exc_info[2])
            entry["errorType"] = record.exc_info[0].__name__
            entry["errorMessage"] = str(record.exc_info[1])
            location = f"{record.pathname}:{record.funcName}:{record.lineno}"
        entry["requestId"] = getattr(record, "aws_request_id", None)
        entry["location"] = location
        entry["tenantId"] = getattr(record, "tenant_id", None)
        for name, value in vars(record).items():
            if name not in _USUAL and name not in entry:
                entry[name] = value
        return _encode({name: value for name, value in entry.items() if value is not None}) + "\n"


def _describe(error: dict[str, object]) -> str:
    now = time.strftime(_TIME, time.gmtime())
    return dumps({"timestamp": now, "level": "ERROR", **error}) + "\n"


def apply(environ: Mapping[str, str], log_sink: LogSink) -> None:
    """Give the root logger the level, and where the format is JSON the form, that the environment says."""
    root = logging.getLogger()
    if environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON":
        log_sink.describe = _describe
        for handler in root.handlers:
            handler.setFormatter(JsonFormatter())
    level = environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    level = _LEVELS.get(level, level)
    if isinstance(logging.getLevelName(level), int):
        root.setLevel(level)
