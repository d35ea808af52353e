"""How the supervisor speaks: ``lambent: what happened`` for people, JSON where the log is to be JSON.

It has not much to say, and most of it to somebody at a terminal, so there is no time before a line. Until the settings are known
it is for people.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import Protocol, TextIO

from sandbox.process_log import LEVELS, Form, JsonFormatter, Level

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR


class Say(Protocol):
    """Takes one line. `level` is one of logging's."""

    def __call__(self, line: str, level: int = WARNING) -> None: ...


def utter(stream: TextIO | None, text: str) -> None:
    """Write `text` to the file of `stream`; nothing where nobody reads it any more (``lambent up 2>&1 | tee log``, and tee was
    ended): what Lambent does is worth more than what it says of that.

    It goes past the buffer. What that could not get rid of it would try again at exit, which then fails.
    """
    if stream is not None:
        with contextlib.suppress(OSError):
            os.write(stream.fileno(), text.encode(stream.encoding, "backslashreplace"))


class Voice:
    """Says on standard error what is at least as important as `least`."""

    def __init__(self) -> None:
        self._least = INFO
        self._json: JsonFormatter | None = None

    def become(self, *, level: Level, form: Form) -> None:
        self._least = LEVELS[level]
        self._json = JsonFormatter("supervisor") if form == "json" else None

    def __call__(self, line: str, level: int = WARNING) -> None:
        if level < self._least:
            return
        text = f"lambent: {line}"
        if self._json is not None:
            text = self._json.format(logging.LogRecord("gateway.supervisor", level, "", 0, line, None, None))
        utter(sys.__stderr__, f"{text}\n")


say = Voice()
