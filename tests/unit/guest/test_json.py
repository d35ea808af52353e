"""JSON as AWS's client writes it: its own encoder is the oracle."""

from __future__ import annotations

import collections
import datetime
import decimal
import json
import math
from typing import Any

import pytest
from awslambdaric.lambda_runtime_marshaller import to_json
from hypothesis import given
from hypothesis import strategies as st

import lambent_json

Point = collections.namedtuple("Point", "x y")  # the untyped kind is what functions have


class Text(str):
    __slots__ = ()


keys = st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.binary(max_size=3), st.tuples())
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.builds(Text, st.text()),
    st.decimals(),
    st.binary(max_size=4),
    st.dates(),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.builds(Point, inner, inner),
        st.dictionaries(keys, inner),
        st.dictionaries(st.text(), inner).map(collections.OrderedDict),
    ),
    max_leaves=12,
)


def outcome(encode: Any, value: object) -> tuple[str, str]:
    try:
        return "text", encode(value)
    except (TypeError, ValueError) as error:
        return type(error).__name__, str(error)


@given(values)
def test_the_same_text_or_the_same_error(value: object) -> None:
    assert lambent_json.ENSURE_ASCII
    assert outcome(lambent_json.dumps, value) == outcome(to_json, value)


@given(values)
def test_events_come_back(value: object) -> None:
    kind, text = outcome(lambent_json.dumps, value)
    if kind == "text" and "NaN" not in text and "Infinity" not in text:
        assert lambent_json.loads(text.encode()) == json.loads(text)


def test_circles_and_depth() -> None:
    circle: list[object] = [datetime.date]
    circle.append(circle)
    with pytest.raises((TypeError, ValueError)):
        lambent_json.dumps(circle)
    plain: list[object] = []
    plain.append({"a": plain})
    with pytest.raises(ValueError, match="Circular reference detected"):
        lambent_json.dumps(plain)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        lambent_json.dumps(deep)
    shared = [decimal.Decimal(1)]
    assert lambent_json.dumps([shared, shared]) == "[[1], [1]]"


@pytest.mark.parametrize("text", [b"NaN", b"-Infinity", b'{"a": Infinity}', b"", b"[1,]", b"{'a': 1}", b"\xff", b"\xef\xbb"])
def test_what_is_no_event(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  the text is the parser's
        lambent_json.loads(text)


def test_numbers_at_the_edge() -> None:
    assert lambent_json.loads(b"[1e400, -0, 1E2]") == [math.inf, 0, 100.0]
    assert lambent_json.dumps([math.inf, -math.inf, 10**30, decimal.Decimal("1E+2")]) == (
        "[Infinity, -Infinity, 1000000000000000000000000000000, 1E+2]"
    )
