"""Which entries of a log in JSON are kept: AWS's levels for the function's own lines and for the platform's events. [P]

A line of the function's counts as what its member `level` says; one without, or one that is no JSON, counts as INFO. The levels
of events are those of AWS's table "System log level event mapping". What the platform says in words (a time-out) is always kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

LEVELS: Final = {"TRACE": 0, "DEBUG": 1, "INFO": 2, "WARN": 3, "ERROR": 4, "FATAL": 5}
_OTHER_NAMES: Final = {"WARNING": 3, "CRITICAL": 5}
_INFO: Final = LEVELS["INFO"]
_GOOD: Final = frozenset({"success", "registered", "ready", "subscribed"})


class Kept:
    """The rule of one function: its least levels, INFO where they are not said."""

    def __init__(self, application: str | None, system: str | None) -> None:
        self._application = LEVELS.get(application or "INFO", _INFO)
        self._system = LEVELS.get(system or "INFO", _INFO)

    def is_kept(self, line: bytes) -> bool:
        """A line from inside the sandbox, where the platform's events about Init come too."""
        entry = _entry(line)
        if entry is None:
            return self._application <= _INFO
        if _is_event(entry):
            return event_level(entry["type"], entry["record"]) >= self._system
        return level_of(entry) >= self._application

    def is_kept_of_platform(self, line: str) -> bool:
        """A line that the platform wrote."""
        entry = _entry(line.encode("utf-8", "replace"))
        return entry is None or not _is_event(entry) or event_level(entry["type"], entry["record"]) >= self._system


def _entry(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):
        return None
    try:
        entry: dict[str, Any] = orjson.loads(line)
    except ValueError:
        return None
    return entry


def _is_event(entry: dict[str, Any]) -> bool:
    return str(entry.get("type")).startswith("platform.") and isinstance(entry.get("record"), dict)


def level_of(entry: Mapping[str, Any]) -> int:
    """The place in `LEVELS` of what a function wrote."""
    level = str(entry.get("level")).upper()
    return LEVELS.get(level, _OTHER_NAMES.get(level, _INFO))


def event_level(kind: str, record: Mapping[str, Any]) -> int:
    """The place in `LEVELS` of one of the platform's events, for instance ``platform.report``."""
    good = str(record.get("status", record.get("state", "success"))).lower() in _GOOD
    match kind:
        case "platform.logsDropped":
            level = "WARN"
        case "platform.initStart" | "platform.restoreStart":
            level = "INFO" if record.get("runtimeVersion") else "DEBUG"
        case "platform.initRuntimeDone" | "platform.restoreRuntimeDone" | "platform.runtimeDone":
            level = "DEBUG" if good else "WARN"
        case "platform.initReport" if good:
            level = "DEBUG" if record.get("initializationType") == "on-demand" else "INFO"
        case _:
            level = "INFO" if good else "WARN"
    return LEVELS[level]
