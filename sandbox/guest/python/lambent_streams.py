"""What a function writes: standard output and error that keep nothing back, and the log in AWS's format.

A process may be frozen, killed or may kill itself at any time, and what it had printed until then has to be there, a half line
included. So the streams have no buffer; each `write` is one system call.
"""

from __future__ import annotations

import contextlib
import io
import logging
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from _typeshed import ReadableBuffer

_NO_BREAK_SPACE = "\u00a0"  # what AWS indents the trace with in the log, so that log viewers keep it


class Pipe(io.FileIO):
    """A file that is written whole and at once, so that nothing printed is lost when the process is killed.

    A raw file may take a part only (a signal, a freeze, a pipe made non-blocking), which text streams above it don't notice.
    """

    def seekable(self) -> bool:
        return False  # whatever the descriptor is while a stream is made: it may become another

    def write(self, data: ReadableBuffer) -> int:
        with memoryview(data) as view:
            whole = view.nbytes
        size = super().write(data)
        if size == whole:
            return whole
        rest = memoryview(data).cast("B")
        while True:
            if size is None:
                select.select([], [self], [])
            else:
                rest = rest[size:]
            if not rest:
                return whole
            size = super().write(rest)


class LogSink:
    """Where records and errors go: the descriptor itself, so also when the function has replaced or closed sys.stdout."""

    def __init__(self, fd: int) -> None:
        self._pipe = Pipe(fd, "wb", closefd=False)
        self.describe = describe  #: gives the text of an error document

    def log(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the function closed its standard output
            self._pipe.write(text.encode("utf-8", "backslashreplace"))

    def log_error(self, error: dict[str, object]) -> None:
        flush()
        self.log(self.describe(error))


def describe(error: dict[str, object]) -> str:
    """An error document as AWS has it in a log of text."""
    lines = ["[ERROR] {}: {}".format(error["errorType"], error["errorMessage"]), "Traceback (most recent call last):"]
    if not error["errorMessage"]:
        lines[0] = "[ERROR] {}".format(error["errorType"])
    stack = error["stackTrace"]
    assert isinstance(stack, list)
    for line in (line for element in stack for line in element.splitlines()):
        text = line.lstrip(" ")
        lines.append(_NO_BREAK_SPACE * (len(line) - len(text)) + text)
    return "\n".join(lines) + "\n"


class LambdaLoggerHandler(logging.Handler):
    def __init__(self, log_sink: LogSink) -> None:
        super().__init__()
        self.log_sink = log_sink

    def emit(self, record: logging.LogRecord) -> None:
        self.log_sink.log(self.format(record))


class LambdaLoggerFilter(logging.Filter):
    aws_request_id = ""
    tenant_id = None  # type: str | None

    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = self.aws_request_id
        record.tenant_id = self.tenant_id
        return True


def set_up() -> LogSink:
    """Put our streams in the place of sys.stdout and sys.stderr, and AWS's handler on the root logger."""
    for name, fd, errors in (("stdout", 1, "surrogateescape"), ("stderr", 2, "backslashreplace")):
        present = getattr(sys, name)
        stream = io.TextIOWrapper(
            Pipe(fd, "wb", closefd=False),
            encoding=getattr(present, "encoding", None) or "utf-8",
            errors=getattr(present, "errors", None) or errors,
            newline="\n",
            write_through=True,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    log_sink = LogSink(1)
    handler = LambdaLoggerHandler(log_sink)
    logging.Formatter.converter = time.gmtime
    form = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
    handler.setFormatter(logging.Formatter(form, "%Y-%m-%dT%H:%M:%S"))
    handler.addFilter(LambdaLoggerFilter())
    logging.getLogger().addHandler(handler)
    return log_sink


def flush() -> None:
    """Of no use for our own streams, which keep nothing back; but the function may have put others in their place."""
    _flush_stream(sys.stdout)
    _flush_stream(sys.stderr)


def _flush_stream(stream: TextIO) -> None:
    try:
        stream.flush()
    except Exception:  # closed, or no stream at all
        return
