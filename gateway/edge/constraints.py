"""The constraints of the service model, with AWS's words for what violates them. [P]

AWS's front end is a Java program, which shows: member names begin in lower case, maps and lists are written as Java prints them,
patterns are Java's, and the values of an enum come in the order of a Java hash set. Texts as recorded from AWS in November 2025.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import botocore.model

from gateway.errors import ValidationException

#: Enums that AWS checks later and in other words: `control.validate` does.
CHECKED_ELSEWHERE: Final = frozenset({"Runtime"})

#: Recorded orders that are not those of a hash set of the known values: AWS knows more of them than it shows.
_RECORDED_ORDER: Final = {
    "InvokeMode": ("RESPONSE_STREAM", "BUFFERED"),
    "EventSourcePosition": ("LATEST", "AT_TIMESTAMP", "TRIM_HORIZON"),
}

#: Elements of these lists may be null on AWS, so its texts do not say that they must not.
_NULLABLE_ELEMENTS: Final = frozenset({"SubnetIds", "SecurityGroupIds"})

#: Longer texts are not matched against a pattern: whatever is that long has violated its length already.
_PATTERN_TEXT_MAX: Final = 16_384

#: What Java's ``\\p{Z}`` matches, for use inside a character class.
_SEPARATORS: Final = " \\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"


def check(shape: botocore.model.StructureShape, values: Mapping[str, Any]) -> None:
    """Raises ValidationException naming all that `values` violate of the input `shape`."""
    found = list(_structure(shape, values, ""))
    if found:
        raise ValidationException(f"{len(found)} validation error{'s' if len(found) > 1 else ''} detected: {'; '.join(found)}")


def hash_set_order(values: Iterable[str]) -> list[str]:
    """The order in which a Java hash set would iterate over these."""
    found = list(values)
    capacity = 16
    while len(found) > capacity * 0.75:
        capacity *= 2
    return sorted(found, key=lambda value: _java_hash(value) & (capacity - 1))


def one_of(values: Iterable[str]) -> str:
    return f"Member must satisfy enum value set: [{', '.join(values)}]"


def text(value: object) -> str:
    """A value as Java prints it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case Mapping():
            return "{" + ", ".join(f"{text(key)}={text(one)}" for key, one in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(text, value)) + "]"
        case _:
            return str(value)


def _structure(shape: botocore.model.StructureShape, values: Mapping[str, Any], path: str) -> Iterator[str]:
    required = frozenset(shape.required_members)
    for name, member in shape.members.items():
        value = values.get(name)
        if value is not None or name in required:
            yield from _value(member, value, path + name[0].lower() + name[1:])


def _value(shape: botocore.model.Shape, value: Any, where: str) -> Iterator[str]:
    """What a value violates that must be there: a member that was given or is required, an element of a list."""
    if value is None:
        yield f"Value null at '{where}' failed to satisfy constraint: {_NOT_NULL}"
        return
    match shape:
        case botocore.model.StructureShape():
            yield from _structure(shape, value, f"{where}.")
        case botocore.model.ListShape():
            yield from _violations(shape, value, where, _length(shape, len(value)))
            if isinstance(shape.member, (botocore.model.StructureShape, botocore.model.ListShape, botocore.model.MapShape)):
                for number, one in enumerate(value, 1):
                    yield from _value(shape.member, one, f"{where}.{number}.member")
            elif any(_scalar(shape.member, one) for one in value):
                among = [] if shape.name in _NULLABLE_ELEMENTS else [_NOT_NULL]
                yield from _violations(shape, value, where, [_each("Member", _all(shape.member), among)])
        case botocore.model.MapShape():
            yield from _violations(shape, value, where, _length(shape, len(value)))
            if any(_scalar(shape.key, key) for key in value):
                yield from _violations(shape, value, where, [_each("Map keys", _all(shape.key), [])])
            if any(_scalar(shape.value, one) for one in value.values()):
                yield from _violations(shape, value, where, [_each("Map value", _all(shape.value), [_NOT_NULL])])
        case _:
            yield from _violations(shape, value, where, _scalar(shape, value))


_NOT_NULL: Final = "Member must not be null"


def _each(what: str, unmet: Sequence[str], more: Sequence[str]) -> str:
    return f"{what} must satisfy constraint: [{', '.join([*unmet, *more])}]"


def _violations(shape: botocore.model.Shape, value: Any, where: str, unmet: Iterable[str]) -> Iterator[str]:
    # AWS does not repeat what the model calls sensitive: code and environments
    shown = "Value" if shape.metadata.get("sensitive") else f"Value '{text(value)}'"
    for one in unmet:
        yield f"{shown} at '{where}' failed to satisfy constraint: {one}"


def _scalar(shape: botocore.model.Shape, value: Any) -> list[str]:
    """What a single value violates."""
    if value is None:
        return [_NOT_NULL]
    match shape.type_name:
        case "string":
            unmet = _length(shape, len(value))
            pattern = shape.metadata.get("pattern")
            if pattern and len(value) <= _PATTERN_TEXT_MAX and not _compiled(pattern).fullmatch(value):
                unmet.append(_pattern(pattern))
            if shape.metadata.get("enum") and shape.name not in CHECKED_ELSEWHERE and value not in shape.metadata["enum"]:
                unmet.append(_enum(shape))
            return unmet
        case "integer" | "long" | "double" | "float":
            most, least = shape.metadata.get("max"), shape.metadata.get("min")
            unmet = []
            if most is not None and value > most:
                unmet.append(_most(shape, most))
            if least is not None and value < least:
                unmet.append(_least(shape, least))
            return unmet
        case _:
            return []


def _all(shape: botocore.model.Shape) -> list[str]:
    """All that is asked of a value: an element of a list or map is answered with every constraint, met or not."""
    most, least = shape.metadata.get("max"), shape.metadata.get("min")
    found = []
    if shape.type_name == "string":
        if most is not None:
            found.append(f"Member must have length less than or equal to {most}")
        if least is not None:
            found.append(f"Member must have length greater than or equal to {least}")
        if shape.metadata.get("pattern"):
            found.append(_pattern(shape.metadata["pattern"]))
        if shape.metadata.get("enum") and shape.name not in CHECKED_ELSEWHERE:
            found.append(_enum(shape))
    else:
        if most is not None:
            found.append(_most(shape, most))
        if least is not None:
            found.append(_least(shape, least))
    return found


def _length(shape: botocore.model.Shape, length: int) -> list[str]:
    most, least = shape.metadata.get("max"), shape.metadata.get("min")
    unmet = []
    if most is not None and length > most:
        unmet.append(f"Member must have length less than or equal to {most}")
    if least is not None and length < least:
        unmet.append(f"Member must have length greater than or equal to {least}")
    return unmet


def _pattern(pattern: str) -> str:
    return f"Member must satisfy regular expression pattern: {pattern}"


def _enum(shape: botocore.model.Shape) -> str:
    return one_of(_RECORDED_ORDER.get(shape.name) or hash_set_order(shape.metadata["enum"]))


def _most(shape: botocore.model.Shape, most: float) -> str:
    return f"Member must have value less than or equal to {_number(shape, most)}"


def _least(shape: botocore.model.Shape, least: float) -> str:
    return f"Member must have value greater than or equal to {_number(shape, least)}"


def _number(shape: botocore.model.Shape, value: float) -> str:
    return str(float(value)) if shape.type_name in ("double", "float") else str(value)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of the model. Java's ``\\d`` and ``\\w`` are ASCII; its ``\\p{…}`` are not, and Python does not have them."""
    if "\\p" not in pattern:
        return re.compile(pattern, re.ASCII)
    # \w is what \p{L}, \p{N} and the underscore are together, and the model only has them together
    return re.compile(pattern.replace(r"\p{L}", r"\w").replace(r"\p{N}", r"\w").replace(r"\p{Z}", _SEPARATORS))


def _java_hash(value: str) -> int:
    found = 0
    for character in value:
        found = (31 * found + ord(character)) & 0xFFFFFFFF
    return found ^ (found >> 16)
