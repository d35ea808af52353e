"""What a function returned as the answer of its function URL: payload format 2.0. [P]

Recorded from AWS in November 2025: JSON without ``statusCode`` is a 200 with content type application/json and the compact JSON
as its body (``["hello",3,true]`` is 16 bytes), a string is its own text without quotes, and ``{statusCode, body}`` without
headers is application/json as well. What cannot be made an answer is the function's fault: 502.

Some headers are the gateway's own business. As AWS does, those that a function sets are passed on under another name
(``x-amzn-Remapped-Date``); what would break the framing of the answer is dropped. Seen on AWS: Connection, Content-Length, Date
and WWW-Authenticate; the rest of the list is API Gateway's.

Not checked against AWS: header values that are no strings (numbers and booleans are written as JSON, null is left out, anything
else is a 502), and a ``body`` that is no string (written as JSON).
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from typing import Any, Final, NamedTuple, NoReturn

import orjson

Headers = list[tuple[str, str]]

JSON_TYPE: Final = ("Content-Type", "application/json")

_CONTENT_TYPE: Final = "content-type"
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LONG_NUMBER: Final = b"0" * 20
_DIGITS_ALIKE: Final = bytes(ord("0") if chr(code).isdecimal() else ord(" ") for code in range(256))
_STRING_OR_SPACE: Final = re.compile(rb'("(?:[^"\\]|\\.)*")|[ \t\r\n]+')
_DROPPED: Final = frozenset(
    {"keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "x-amzn-requestid", "x-amzn-trace-id"}
)
_REMAPPED: Final = frozenset(
    {"authorization", "connection", "content-length", "date", "host", "server", "user-agent", "via", "www-authenticate"}
)


class UnusableResponse(Exception):
    """What the function returned cannot be made an HTTP answer."""


class UrlResponse(NamedTuple):
    """An answer: `headers` has a content type, but nothing about length, connection, date or ids."""

    status: int
    headers: Headers
    body: bytes


def response(payload: bytes) -> UrlResponse:
    """The answer that `payload` stands for. Raises UnusableResponse."""
    strict = True
    try:
        value = orjson.loads(payload)
    except ValueError:
        value, strict = _lenient(payload), False
    if type(value) is dict:
        if "statusCode" in value:
            return _described(value)
    elif type(value) is str:
        return UrlResponse(200, [JSON_TYPE], value.encode("utf-8", "replace"))
    return UrlResponse(200, [JSON_TYPE], _compact(value, payload) if strict else _stripped(payload))


def prelude(document: bytes, content_type: str) -> UrlResponse:
    """The answer, without its body, that a streaming function describes first; `content_type` if it names none itself.

    Raises UnusableResponse.
    """
    try:
        value = orjson.loads(document)
    except ValueError:
        value = _lenient(document)
    if type(value) is not dict:
        raise UnusableResponse("the prelude is not an object")
    headers = _headers(value.get("headers"), ("Content-Type", content_type))
    if value.get("cookies") is not None:
        _add_cookies(headers, value["cookies"])
    return UrlResponse(_status(value.get("statusCode", 200)), headers, b"")


def _described(value: dict[str, Any]) -> UrlResponse:
    status = _status(value["statusCode"])
    headers = _headers(value.get("headers"))
    cookies = value.get("cookies")
    if cookies is not None:
        _add_cookies(headers, cookies)
    return UrlResponse(status, headers, _body(value.get("body"), value.get("isBase64Encoded")))


def _add_cookies(headers: Headers, cookies: Any) -> None:
    if type(cookies) is not list:
        raise UnusableResponse("cookies is not a list")
    for cookie in cookies:
        if type(cookie) is not str or _CONTROL.search(cookie) is not None:
            raise UnusableResponse("a cookie is not a string that can be sent")
        headers.append(("Set-Cookie", cookie))


def _status(value: Any) -> int:
    if type(value) is str:
        value = int(value) if len(value) == 3 and value.isascii() and value.isdigit() else None
    elif type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 200 <= value <= 599:
        raise UnusableResponse("statusCode is not one of HTTP's")
    return value


def _headers(value: Any, usual: tuple[str, str] = JSON_TYPE) -> Headers:
    if value is None:
        return [usual]
    if type(value) is not dict:
        raise UnusableResponse("headers is not an object")
    headers: Headers = []
    typed = False
    for name, content in value.items():
        if type(content) is not str:
            if content is None:
                continue
            if type(content) is bool or type(content) is int or type(content) is float:
                content = json.dumps(content)
            else:
                raise UnusableResponse("a header is neither text nor a number")
        if _CONTROL.search(content) is not None:
            raise UnusableResponse("a header cannot be sent")
        header = _known_header(name) if len(name) <= _KNOWN_CHARACTERS else _header(name)
        if header is _CONTENT_TYPE:
            typed = True
        elif header is not None:
            name = header
        else:
            continue
        headers.append((name, content))
    if not typed:
        headers.append(usual)
    return headers


def _header(name: str) -> str | None:
    """What a header is passed on as: its name, `_CONTENT_TYPE` for that one, None if it is dropped. Raises UnusableResponse."""
    if _TOKEN.fullmatch(name) is None:
        raise UnusableResponse("a header cannot be sent")
    folded = name.lower()
    if folded == _CONTENT_TYPE:
        return _CONTENT_TYPE
    if folded in _REMAPPED:
        return f"x-amzn-Remapped-{name}"
    return None if folded in _DROPPED else name


_known_header: Final = functools.lru_cache(1024)(_header)  # functions use few names, again and again
_KNOWN_CHARACTERS: Final = 64


def _body(value: Any, encoded: Any) -> bytes:
    if value is None:
        return b""
    if type(value) is not str:
        try:
            return orjson.dumps(value)
        except TypeError as error:
            raise UnusableResponse("body is nested too deep, or holds a number beyond 64 bits") from error
    if encoded is True:
        try:
            return base64.b64decode(value)
        except (binascii.Error, ValueError) as error:
            raise UnusableResponse("body is not base64") from error
    return value.encode("utf-8", "replace")


def _lenient(payload: bytes) -> Any:
    """For the little that orjson refuses and JSON allows: escaped lone surrogates, numbers beyond a float."""
    try:
        return json.loads(payload.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UnusableResponse("not JSON") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _compact(value: Any, payload: bytes) -> bytes:
    """`value` without the whitespace between its parts."""
    if _LONG_NUMBER not in payload.translate(_DIGITS_ALIKE):  # a tenth of what a regular expression takes for 1 KB (7 us)
        try:
            return orjson.dumps(value)
        except TypeError:  # nested deeper than orjson writes
            pass
    return _stripped(payload)


def _stripped(payload: bytes) -> bytes:
    """The same for any JSON: slow, but it changes nothing else, so integers beyond 64 bits keep their digits."""
    return _STRING_OR_SPACE.sub(lambda match: match[1] or b"", payload)
