"""How the supervisor speaks: ``lambent: what happened`` for people, JSON where the log is to be JSON.

It has not much to say, and most of it to somebody at a terminal, so there is no time before a line. Until the settings are known
it is for people.
"""

from __future__ import annotations

import logging
import sys
from typing import Protocol

from sandbox.process_log import LEVELS, Form, JsonFormatter, Level

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR


class Say(Protocol):
    """Takes one line. `level` is one of logging's."""

    def __call__(self, line: str, level: int = WARNING) -> None: ...


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
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


say = Voice()
