"""The log of a process of Lambent's own (gateway, spawner, supervisor): lines for people, or JSON for machines.

Whoever logs something about a request passes its id as ``extra={"request_id": ...}``, in the same way the ``function`` and the
``sandbox`` that it is about. Both forms show the id, so that the id in an answer leads to the entry that explains it, and to the
function's own log, which has it too. Standard library only: the spawner is root and the supervisor small.
"""

from __future__ import annotations

import datetime
import json
import logging
from typing import Final, Literal, TextIO

Level = Literal["debug", "info", "warning", "error"]
Form = Literal["text", "json"]

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
#: Attribute of a record, and its name in JSON.
_FIELDS: Final = (("request_id", "requestId"), ("function", "function"), ("sandbox", "sandbox"))


def configure(*, level: Level, form: Form, stream: TextIO, process: str, prefix: str = "") -> None:
    """Send everything that this process logs from `level` on to `stream`. What was configured before is replaced.

    `process` is said in JSON. `prefix` stands before lines for people, where they come between those of another process.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(process) if form == "json" else ConsoleFormatter(prefix))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    # Says each socket that it accepts at debug level, which is not what somebody who debugs a function wants to read.
    logging.getLogger("asyncio").setLevel(max(LEVELS[level], logging.INFO))


class ConsoleFormatter(logging.Formatter):
    """``19:03:58.042 warning  what happened [request id]``, in the host's own time."""

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self._prefix = prefix

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created).astimezone()
        text = f"{time:%H:%M:%S}.{int(record.msecs):03d} {record.levelname.lower():8} {self._prefix}{record.getMessage()}"
        request_id = getattr(record, "request_id", None)
        if request_id is not None:
            text += f" [{request_id}]"
        for more in self._details(record):
            text += f"\n{more}"
        return text

    def _details(self, record: logging.LogRecord) -> list[str]:
        details = []
        if record.exc_info:
            details.append(self.formatException(record.exc_info))
        if record.stack_info:
            details.append(self.formatStack(record.stack_info))
        return details


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``process``, ``logger``, ``message``, and ``requestId``, ``function``,
    ``sandbox`` and ``exception`` where there are."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        entry = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for attribute, name in _FIELDS:
            if (value := getattr(record, attribute, None)) is not None:
                entry[name] = str(value)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace").decode()  # a message may quote bytes that are no text
