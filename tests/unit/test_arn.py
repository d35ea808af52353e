# ruff: noqa: E501 (recorded texts are kept whole)
"""Names of functions in every form. Texts recorded from AWS in November 2025."""

from __future__ import annotations

import pytest

from gateway import arn
from gateway.edge import model
from gateway.errors import ApiError

REGION, ACCOUNT = "us-east-1", "123456789012"
FULL = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:fn"


def parse(value: str, qualifier: str | None = None) -> tuple[str, str | None]:
    return arn.parse(value, qualifier, region=REGION, account_id=ACCOUNT)


@pytest.mark.parametrize(
    "form", ["fn", "function:fn", f"{ACCOUNT}:fn", f"{ACCOUNT}:function:fn", f"{REGION}:{ACCOUNT}:function:fn", FULL]
)
def test_forms(form: str) -> None:
    assert parse(form) == ("fn", None)
    assert parse(form, "live") == ("fn", "live")
    for qualifier in ("1", "live", "$LATEST"):
        assert parse(f"{form}:{qualifier}") == ("fn", qualifier)
        assert parse(f"{form}:{qualifier}", qualifier) == ("fn", qualifier)


@pytest.mark.parametrize(
    ("value", "qualifier", "code", "text"),
    [
        (f"{FULL}:1", "2", "InvalidParameterValueException", arn.QUALIFIER_MISMATCH),
        (FULL.replace(REGION, "ap-southeast-1"), None, "ResourceNotFoundException", "Functions from 'ap-southeast-1' are not reachable in this region ('us-east-1')"),
        (FULL.replace(ACCOUNT, "111122223333"), "1", "ResourceNotFoundException", f"Function not found: {FULL.replace(ACCOUNT, '111122223333')}:1"),
        ("", None, "ValidationException", f"2 validation errors detected: Value '' at 'functionName' failed to satisfy constraint: Member must have length greater than or equal to 1; Value '' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: {arn.NAME_PATTERN}"),
        (f"arn:aws:lambda:{REGION}:123400000000@function:myfn", None, "ValidationException", f"1 validation error detected: Value 'arn:aws:lambda:{REGION}:123400000000@function:myfn' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: {arn.NAME_PATTERN}"),
        ("a" * 257, None, "ValidationException", f"1 validation error detected: Value '{'a' * 257}' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 256"),
    ],
)  # fmt: skip
def test_what_is_refused(value: str, qualifier: str | None, code: str, text: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(value, qualifier)
    assert (caught.value.code, caught.value.message) == (code, text)


@pytest.mark.parametrize(
    "value",
    ["a b", "fn:", "fn:a:b", ":fn", "fn\n", "fn:1\n", "ä", "arn:aws:s3:::bucket", "fn/x", "fn:$OTHER", "x" * 100_000 + "!"],
)
def test_what_is_no_name(value: str) -> None:
    with pytest.raises(ApiError, match="validation error") as caught:
        parse(value)
    assert caught.value.code == "ValidationException"


def test_the_pattern_is_the_models_own() -> None:
    shape = model.service().shape_for("NamespacedFunctionName")
    assert shape.metadata["pattern"] == arn.NAME_PATTERN
    assert shape.metadata["max"] == arn.NAME_LENGTH_MAX


def test_building() -> None:
    assert arn.function(REGION, ACCOUNT, "fn") == FULL
    assert arn.function(REGION, ACCOUNT, "fn", "$LATEST") == f"{FULL}:$LATEST"
    assert arn.not_found(REGION, ACCOUNT, "fn", "1").message == f"Function not found: {FULL}:1"
