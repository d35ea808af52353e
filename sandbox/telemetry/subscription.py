"""What an extension asks to be told, from the body of its PUT: checked, and with the defaults filled in. [P]

Ranges, defaults and the form of the errors are the developer guide's: ``ValidationError`` (``Logs.ValidationError`` of the Logs
API), with everything that is wrong in one message. One page of the guide has the ranges of maxItems and timeoutMs mixed up; these
are those of the schema in AWS's runtime interface emulator. `method` and `encoding` of an HTTP destination are the Logs API's.
"""

from __future__ import annotations

import dataclasses
import enum
import urllib.parse
from collections.abc import Mapping
from typing import Any, Final

import orjson

from sandbox.runtime_api import wire
from sandbox.runtime_api.session import Refused

HOSTS: Final = frozenset({"sandbox.localdomain", "sandbox"})
RESERVED_PORT: Final = 9001

TELEMETRY_SCHEMAS: Final = ("2022-07-01", "2022-12-13", "2025-01-29")
LOGS_SCHEMAS: Final = ("2020-08-15", "2021-03-18")  #: the second has platform.runtimeDone


class Category(enum.StrEnum):
    """What an event is about; extensions subscribe to these."""

    PLATFORM = "platform"
    FUNCTION = "function"
    EXTENSION = "extension"


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    default: int
    least: int
    most: int


BUFFERING: Final[Mapping[str, Range]] = {
    "maxItems": Range(10_000, 1_000, 10_000),
    "maxBytes": Range(262_144, 262_144, 1_048_576),
    "timeoutMs": Range(1_000, 25, 30_000),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A valid one. `path` is None for TCP; `logs` says that it came by the Logs API, which has other events."""

    logs: bool
    schema: str
    types: frozenset[Category]
    max_items: int
    max_bytes: int
    timeout_s: float
    port: int
    path: str | None = None
    method: str = "POST"

    @property
    def runtime_done(self) -> bool:
        """Whether it wants platform.runtimeDone."""
        return not self.logs or self.schema != LOGS_SCHEMAS[0]


def parse(body: bytes, *, logs: bool) -> Subscription:
    """Raises Refused with all that is wrong."""
    wrong: list[str] = []
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is not JSON: {error}", logs=logs) from None
    if not isinstance(document, dict):
        raise invalid("the body is not a JSON object", logs=logs)
    schemas = LOGS_SCHEMAS if logs else TELEMETRY_SCHEMAS
    schema = document.get("schemaVersion", schemas[0] if logs else None)
    if not isinstance(schema, str) or schema not in schemas:
        schema = ""
        wrong.append(f"schemaVersion should be one of {', '.join(schemas)}")
    types = _types(document.get("types"), wrong)
    buffering = _buffering(document.get("buffering"), wrong)
    port, path, method = _destination(document.get("destination"), wrong)
    if wrong:
        raise invalid("; ".join(wrong), logs=logs)
    return Subscription(
        logs=logs,
        schema=schema,
        types=types,
        max_items=buffering["maxItems"],
        max_bytes=buffering["maxBytes"],
        timeout_s=buffering["timeoutMs"] / 1000,
        port=port,
        path=path,
        method=method,
    )


def invalid(message: str, *, logs: bool) -> Refused:
    """The 400 that AWS answers."""
    return Refused(wire.error_answer(400, "Logs.ValidationError" if logs else "ValidationError", message))


def closed(*, logs: bool) -> Refused:
    """It comes after Init: from then on AWS takes no subscriptions."""
    api = "Logs" if logs else "Telemetry"
    return Refused(wire.error_answer(403, f"{api}.SubscriptionClosed", f"{api} API subscription is closed already"))


def _types(given: Any, wrong: list[str]) -> frozenset[Category]:
    known = [category.value for category in Category]
    if not isinstance(given, list) or not given:
        wrong.append("types should not be empty")
        return frozenset()
    if any(one not in known for one in given):
        wrong.append(f"types should be of {', '.join(known)}")
        return frozenset()
    return frozenset(Category(one) for one in given)


def _buffering(given: Any, wrong: list[str]) -> dict[str, int]:
    found = {name: range_.default for name, range_ in BUFFERING.items()}
    if given is None:
        return found
    if not isinstance(given, dict):
        wrong.append("buffering should be an object")
        return found
    for name, range_ in BUFFERING.items():
        value = given.get(name)
        if value is None:
            continue
        if type(value) is not int or not range_.least <= value <= range_.most:
            wrong.append(f"buffering.{name} should be an integer between {range_.least} and {range_.most}")
        else:
            found[name] = value
    return found


def _destination(given: Any, wrong: list[str]) -> tuple[int, str | None, str]:
    """Port, path (None for TCP) and method."""
    nowhere = 0, None, "POST"
    if not isinstance(given, dict):
        wrong.append("destination is not provided")
        return nowhere
    protocol = given.get("protocol")
    if protocol == "TCP":
        port = given.get("port")
        if type(port) is not int or not _is_free(port):
            wrong.append(f"destination.port should be an integer between 1 and 65535, and not {RESERVED_PORT}")
            return nowhere
        return port, None, "POST"
    if protocol != "HTTP":
        wrong.append("destination.protocol should be HTTP or TCP")
        return nowhere
    method = given.get("method", "POST")
    if method not in ("POST", "PUT"):
        wrong.append("destination.method should be POST or PUT")
    if given.get("encoding", "JSON") != "JSON":
        wrong.append("destination.encoding should be JSON")
    return *_uri(given.get("URI"), wrong), str(method)


def _uri(given: Any, wrong: list[str]) -> tuple[int, str | None]:
    if not isinstance(given, str) or not given:
        wrong.append("URI is not provided")
        return 0, None
    try:
        parts = urllib.parse.urlsplit(given)
        port = parts.port
    except ValueError:
        wrong.append("URI is not valid")
        return 0, None
    if parts.scheme != "http" or not given.isascii() or not given.isprintable() or " " in given:
        wrong.append("URI should be one of http")
    if parts.hostname not in HOSTS:
        wrong.append("URI host should be sandbox.localdomain")
    if port is None:
        wrong.append("URI port is not provided")
    elif not _is_free(port):
        wrong.append(f"URI port {port} is reserved")
    return port or 0, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _is_free(port: int) -> bool:
    return 1 <= port <= 65_535 and port != RESERVED_PORT
