"""Names of functions as callers write them, and ARNs as AWS writes them. [P]

A caller may name a function by its name, ``name:qualifier``, a partial ARN (``111122223333:function:name``) or a full ARN,
the latter two with or without a qualifier, and may give a qualifier separately too. All of them end as one `FunctionRef`.
Texts of the errors are AWS's, recorded in November 2025.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from gateway.errors import InvalidParameterValueException, ResourceNotFoundException, ValidationException

#: Every form of a function's name; the pattern of the service model's NamespacedFunctionName, which is shown in errors.
NAME_PATTERN: Final = (
    r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?"
    r"([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
QUALIFIER_MISMATCH: Final = "The derived qualifier from the function name does not match the specified qualifier."
NAME_LENGTH_MAX: Final = 256  #: of any form; the name alone has at most 64 characters

_PARTS: Final = re.compile(
    r"(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?"
    r"(?:function:)?"
    r"(?P<name>[a-zA-Z0-9\-_.]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9\-_]+))?",
    re.ASCII,
)
_NAME: Final = re.compile(r"[a-zA-Z0-9\-_.]{1,256}", re.ASCII)


class FunctionRef(NamedTuple):
    """A function as the caller named it; `qualifier` is None, ``$LATEST``, a version or an alias."""

    name: str
    qualifier: str | None


def parse(value: str, qualifier: str | None = None, *, region: str, account_id: str) -> FunctionRef:
    """What a caller's FunctionName and Qualifier mean.

    Raises ValidationException for what is no name at all, InvalidParameterValueException for two qualifiers that differ,
    ResourceNotFoundException for a function of another region or account: this gateway has none of those.
    """
    if _NAME.fullmatch(value):  # by far the most frequent form
        return FunctionRef(value, qualifier)
    parts = _PARTS.fullmatch(value)
    if parts is None or len(value) > NAME_LENGTH_MAX:
        raise ValidationException(_invalid(value))
    found_region, account, name, found_qualifier = parts.group("region", "account", "name", "qualifier")
    if found_region is not None and found_region != region:
        raise ResourceNotFoundException(f"Functions from '{found_region}' are not reachable in this region ('{region}')")
    if found_qualifier is not None and qualifier is not None and found_qualifier != qualifier:
        raise InvalidParameterValueException(QUALIFIER_MISMATCH)
    chosen = qualifier if found_qualifier is None else found_qualifier
    if account is not None and account != account_id:
        raise ResourceNotFoundException(f"Function not found: {function(region, account, name, chosen)}")
    return FunctionRef(name, chosen)


def function(region: str, account_id: str, name: str, qualifier: str | None = None) -> str:
    """ARN of a function, a version or an alias."""
    unqualified = f"arn:aws:lambda:{region}:{account_id}:function:{name}"
    return unqualified if qualifier is None else f"{unqualified}:{qualifier}"


def not_found(region: str, account_id: str, name: str, qualifier: str | None = None) -> ResourceNotFoundException:
    """The error for a function, version or alias that is not there."""
    return ResourceNotFoundException(f"Function not found: {function(region, account_id, name, qualifier)}")


def _invalid(value: str) -> str:
    unmet = []
    if len(value) > NAME_LENGTH_MAX:
        unmet.append(f"Member must have length less than or equal to {NAME_LENGTH_MAX}")
    if not value:
        unmet.append("Member must have length greater than or equal to 1")
    if _PARTS.fullmatch(value) is None:
        unmet.append(f"Member must satisfy regular expression pattern: {NAME_PATTERN}")
    found = [f"Value '{value}' at 'functionName' failed to satisfy constraint: {one}" for one in unmet]
    return f"{len(found)} validation error{'s' if len(found) > 1 else ''} detected: {'; '.join(found)}"
