"""JSON between events and handlers as AWS's runtime client has it, with the standard library's C code.

AWS's client uses simplejson, which differs from `json` where functions notice it: a Decimal is written digit by digit, a named
tuple (anything with `_asdict`) becomes an object, bytes become text, and NaN is refused in events but written in answers.
`json`'s C encoder has a hook only for types that it does not know, and it takes a named tuple for a list. So `dumps` first
asks marshal, which accepts exact built-in types only and is several times quicker than the encoding itself: what passes goes to
the C encoder, all else to the slow one below, which has simplejson's rules.
"""

from __future__ import annotations

import json
import json.encoder
import marshal
import math
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: AWS writes non-ASCII characters as they are from Python 3.12 on, and escaped before.
ENSURE_ASCII = sys.version_info < (3, 12)


def _refuse(constant: str) -> None:
    raise ValueError("NaN, Infinity and -Infinity are not JSON: " + constant)


def _default(value: object) -> object:
    """What exact built-in types leave over for the fast encoder."""
    if isinstance(value, bytes):
        return str(value, "utf-8")
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_prove_plain = marshal.dumps  # type: Callable[..., bytes]
_decode = json.JSONDecoder(parse_constant=_refuse).decode
_encode = json.JSONEncoder(ensure_ascii=ENSURE_ASCII, default=_default).encode
_quote = json.encoder.encode_basestring_ascii if ENSURE_ASCII else json.encoder.encode_basestring


def loads(data: bytes | bytearray) -> object:
    """Raises ValueError (of which JSONDecodeError and UnicodeDecodeError are kinds) or RecursionError."""
    text = str(data, "utf-8")
    if text[:1] == "\ufeff":
        text = text[1:]
    return _decode(text)


def dumps(value: object) -> str:
    """Raises TypeError, ValueError, RecursionError, or whatever a value's own `_asdict` raises."""
    try:
        _prove_plain(value, 2)
        return _encode(value)
    except (TypeError, ValueError):
        pieces = []  # type: list[str]
        _write(value, pieces.append, set())
        return "".join(pieces)


def _float(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (math.inf, -math.inf):
        return "Infinity" if value > 0 else "-Infinity"
    return float.__repr__(value)


def _key(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return str(key, "utf-8")
    if isinstance(key, float):
        return _float(key)
    if key is True:
        return "true"
    if key is False:
        return "false"
    if key is None:
        return "null"
    if isinstance(key, int):
        return int.__repr__(key)
    raise TypeError("keys must be str, int, float, bool or None, not " + type(key).__name__)


def _asdict(value: object) -> dict[object, object] | None:
    method = getattr(value, "_asdict", None)
    if not callable(method):
        return None
    try:
        fields = method()
    except TypeError:
        return None
    if not isinstance(fields, dict):
        raise TypeError("_asdict() must return a dict, not " + type(fields).__name__)
    return fields


def _is_decimal(value: object) -> bool:
    decimal = sys.modules.get("decimal")  # where nobody imported it, nobody has one
    return decimal is not None and isinstance(value, decimal.Decimal)


def _write(value: object, emit: Callable[[str], None], inside: set[int]) -> None:
    if isinstance(value, str):
        emit(_quote(str.__str__(value)))
    elif isinstance(value, bytes):
        emit(_quote(str(value, "utf-8")))
    elif value is None:
        emit("null")
    elif value is True:
        emit("true")
    elif value is False:
        emit("false")
    elif isinstance(value, int):
        emit(int.__repr__(value))
    elif isinstance(value, float):
        emit(_float(value))
    else:
        _write_container(value, emit, inside)


def _write_container(value: object, emit: Callable[[str], None], inside: set[int]) -> None:
    if id(value) in inside:
        raise ValueError("Circular reference detected")
    fields = _asdict(value)
    if fields is None and isinstance(value, dict):
        fields = value
    inside.add(id(value))
    if fields is not None:
        separator = "{"
        for key, item in fields.items():
            emit(separator + _quote(_key(key)) + ": ")
            _write(item, emit, inside)
            separator = ", "
        emit("}" if fields else "{}")
    elif isinstance(value, (list, tuple)):
        separator = "["
        for item in value:
            emit(separator)
            _write(item, emit, inside)
            separator = ", "
        emit("]" if value else "[]")
    elif _is_decimal(value):
        text = str(value)
        emit("NaN" if "N" in text else text)
    else:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    inside.discard(id(value))
