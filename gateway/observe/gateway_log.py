"""The gateway's own log: lines for people, or JSON for machines.

Whoever logs something about a request passes its id as ``extra={"request_id": ...}``; both forms show it, so that the id in an
error answer leads to the entry that explains it.
"""

from __future__ import annotations

import datetime
import logging
from typing import Final, Literal, TextIO

import orjson

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(*, level: Literal["debug", "info", "warning", "error"], form: Literal["text", "json"], stream: TextIO) -> None:
    """Send everything that this process logs from `level` on to `stream`. What was configured before is replaced."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    # Says each socket that it accepts at debug level, which is not what somebody who debugs a function wants to read.
    logging.getLogger("asyncio").setLevel(max(_LEVELS[level], logging.INFO))


class ConsoleFormatter(logging.Formatter):
    """``19:03:58.042 warning  what happened [request id]``, in the host's own time."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created).astimezone()
        text = f"{time:%H:%M:%S}.{int(record.msecs):03d} {record.levelname.lower():8} {record.getMessage()}"
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
    """One JSON object a line: ``time`` (UTC), ``level``, ``logger``, ``message``, and ``requestId`` and ``exception`` where
    there are."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        entry: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = getattr(record, "request_id", None)
        if request_id is not None:
            entry["requestId"] = str(request_id)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(entry).decode()
        except TypeError:  # a message quotes bytes that are no text
            clean = {key: str(value).encode("utf-8", "replace").decode() for key, value in entry.items()}
            return orjson.dumps(clean).decode()
