"""From the parts of an HTTP request to the values of an operation's input, as the service model describes them. [P]

Values keep AWS's member names. Blobs come out as bytes, timestamps as seconds since the epoch, everything else as JSON has it;
what is null or not there is absent. Members that the model does not know are ignored, as AWS does. Raises SerializationException
for a value of the wrong kind and InvalidRequestContentException for a body that is not JSON; limits and patterns are checked
later, by `edge.constraints`.
"""

from __future__ import annotations

import binascii
import datetime
import email.utils
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

import botocore.model
import orjson

from gateway.edge.model import PLACES, Route, place, wire_name
from gateway.errors import InvalidRequestContentException, SerializationException

#: Texts longer than this are taken out of the body before it is read as JSON, when they stand for bytes.
LARGE_TEXT_BYTES: Final = 256 * 1024

#: Stands for a text that was taken out; nobody outside of this process can send it.
_STAND_IN: Final = secrets.token_hex(16)

#: A piece of base64 that is decoded in about a millisecond; a multiple of four.
_PIECE: Final = 1024 * 1024


def parse(route: Route, query: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """The operation's input. `query` is undecoded, `body` complete."""
    shape = route.operation.input
    if shape is None:
        return {}
    given = parse_qs(query, keep_blank_values=True) if query else {}
    found: dict[str, Any] = {}
    payload = shape.serialization.get("payload")
    in_body = {}
    for name, member in shape.members.items():
        key = wire_name(name, member)
        match place(member):
            case "uri":
                found[name] = _from_text(member, route.labels[key], name)
            case "querystring" if key in given:
                texts = given[key]
                if isinstance(member, botocore.model.ListShape):
                    found[name] = [_from_text(member.member, one, name) for one in texts]
                else:
                    found[name] = _from_text(member, texts[-1], name)
            case "header" if key in headers:
                found[name] = _from_text(member, headers[key], name)
            case None if name == payload:
                found[name] = body
            case None:
                in_body[name] = member
    if payload is None and in_body and body:
        found.update(_members(in_body, _read(body, route.operation.blobs)))
    return found


def _read(body: bytes, blobs: tuple[str, ...]) -> Mapping[str, Any]:
    """The body's JSON. Base64 text that stands for bytes may be large and is decoded outside of it, see `_cut`."""
    cut: dict[str, bytes] = {}
    for name in blobs:
        if len(body) >= LARGE_TEXT_BYTES:
            body, blob = _cut(body, name)
            if blob is not None:
                cut[_STAND_IN + name] = blob
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestContentException(f"Could not parse request body into json: {error}") from error
    if not isinstance(found, dict):
        raise SerializationException("Start of structure or map expected")
    return _put_back(found, cut) if cut else found


def _cut(body: bytes, name: str) -> tuple[bytes, bytes | None]:
    """`body` with a stand-in for the one large base64 text that it has under the key `name`, and what that text decodes to.

    Reading 67 MB of JSON takes a quarter of a second in one piece, in which no other thread runs. Searching takes a few
    milliseconds, and decoding is done in pieces between which others have their turn.
    """
    quoted = b'"%s"' % name.encode()
    at = body.find(quoted)
    while at >= 0:
        start = at + len(quoted)
        head = body[start : start + 64]  # colon, quote and whatever space a client puts around them
        skipped = len(head) - len(head.lstrip(b" \t\r\n:"))
        if b":" in head[:skipped] and head[skipped : skipped + 1] == b'"' and body[at - 1 : at] != b"\\":
            start += skipped + 1
            end = body.find(b'"', start)
            if end - start >= LARGE_TEXT_BYTES:
                return b"".join((body[:start], (_STAND_IN + name).encode(), body[end:])), _decode(body[start:end], name)
        at = body.find(quoted, at + 1)
    return body, None


def _put_back(found: dict[str, Any], cut: Mapping[str, bytes]) -> dict[str, Any]:
    """`found` with what was cut out of it where it was."""
    for key, value in found.items():
        if isinstance(value, dict):
            found[key] = _put_back(value, cut)
        elif isinstance(value, str) and value in cut:
            found[key] = cut[value]
    return found


def _members(members: Mapping[str, botocore.model.Shape], given: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, member in members.items():
        value = given.get(wire_name(name, member))
        if value is not None:
            found[name] = _from_json(member, value, name)
    return found


def _from_json(shape: botocore.model.Shape, value: Any, name: str) -> Any:
    match shape:
        case botocore.model.StructureShape():
            if not isinstance(value, dict):
                raise _wrong(value, "structure")
            inner = {key: member for key, member in shape.members.items() if place(member) not in PLACES}
            return _members(inner, value)
        case botocore.model.ListShape():
            if not isinstance(value, list):
                raise _wrong(value, "list")
            return [None if one is None else _from_json(shape.member, one, name) for one in value]
        case botocore.model.MapShape():
            if not isinstance(value, dict):
                raise _wrong(value, "map")
            return {key: None if one is None else _from_json(shape.value, one, name) for key, one in value.items()}
    match shape.type_name, value:
        case "string", str():
            return value
        case "string", bool() | int() | float():  # AWS's front end takes a number for a text
            return orjson.dumps(value).decode()
        case (("integer" | "long"), int()) if not isinstance(value, bool):
            return value
        case (("integer" | "long"), float()) if value.is_integer():
            return int(value)
        case (("double" | "float"), int() | float()) if not isinstance(value, bool):
            return float(value)
        case "boolean", bool():
            return value
        case "blob", bytes():
            return value
        case "blob", str():
            return _decode(value.encode(), name)
        case "timestamp", int() | float() if not isinstance(value, bool):
            return float(value)
        case "timestamp", str():
            return _timestamp(value)
        case kind, _:
            raise _wrong(value, kind)


def _from_text(shape: botocore.model.Shape, text: str, name: str) -> Any:
    """A value from a path, a query or a header."""
    try:
        match shape.type_name:
            case "integer" | "long":
                return int(text)
            case "double" | "float":
                return float(text)
            case "boolean":
                return {"true": True, "false": False}[text.lower()]
            case "timestamp":
                return _timestamp(text)
            case "blob":
                return _decode(text.encode(), name)
            case _:
                return text
    except (ValueError, KeyError):
        raise _wrong(text, shape.type_name) from None


def _timestamp(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        try:
            found = email.utils.parsedate_to_datetime(text)
        except ValueError:
            raise _wrong(text, "timestamp") from None
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()


def _decode(text: bytes, name: str) -> bytes:
    if b"\\" in text:  # some clients escape the slash
        text = text.replace(b"\\/", b"/")
    decoded = bytearray()
    try:
        for start in range(0, len(text), _PIECE):
            decoded += binascii.a2b_base64(memoryview(text)[start : start + _PIECE], strict_mode=True)
    except binascii.Error as error:
        raise SerializationException(f"{name} is not base64: {error}") from None
    return bytes(decoded)


_KINDS: Final = {"structure": "Structure", "integer": "Integer", "string": "String", "boolean": "Boolean", "list": "List"}


def _wrong(value: object, kind: str) -> SerializationException:
    match value:
        case dict():
            return SerializationException("Start of structure or map found where not expected.")
        case list():
            return SerializationException("Start of list found where not expected")
        case bool():
            found = "TRUE_VALUE" if value else "FALSE_VALUE"
        case str():
            found = "STRING_VALUE"
        case _:
            found = "NUMBER_VALUE"
    wanted = _KINDS.get(kind, kind.capitalize())
    return SerializationException(f"{found} can not be converted to {'an' if wanted[0] in 'AEIOU' else 'a'} {wanted}")
