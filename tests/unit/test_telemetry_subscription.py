"""What extensions may ask of the Telemetry API and the Logs API, and what is wrong with the rest."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.runtime_api.session import Refused
from sandbox.telemetry.subscription import BUFFERING, Category, parse

HTTP = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:8080/path?x=1"}
USUAL: dict[str, Any] = {"schemaVersion": "2022-07-01", "types": ["platform", "function"], "destination": HTTP}


def wrong(body: Any, *, logs: bool = False) -> tuple[int, str, str]:
    """Status, type and message of the refusal."""
    with pytest.raises(Refused) as caught:
        parse(body if isinstance(body, bytes) else json.dumps(body).encode(), logs=logs)
    head, _, document = caught.value.answer.partition(b"\r\n\r\n")
    said = json.loads(document)
    return int(head.split()[1]), said["errorType"], said["errorMessage"]


@pytest.mark.parametrize("schema", ["2022-07-01", "2022-12-13", "2025-01-29"])
def test_defaults(schema: str) -> None:
    found = parse(json.dumps({**USUAL, "schemaVersion": schema}).encode(), logs=False)
    assert (found.max_items, found.max_bytes, found.timeout_s) == (10_000, 262_144, 1.0)
    assert (found.port, found.path, found.method) == (8080, "/path?x=1", "POST")
    assert found.types == {Category.PLATFORM, Category.FUNCTION}
    assert found.runtime_done


def test_all_that_can_be_said() -> None:
    body = {
        **USUAL,
        "types": ["extension"],
        "buffering": {"maxItems": 1000, "maxBytes": 1_048_576, "timeoutMs": 25},
        "destination": {"protocol": "TCP", "port": 1},
    }
    found = parse(json.dumps(body).encode(), logs=False)
    assert (found.max_items, found.max_bytes, found.timeout_s) == (1000, 1_048_576, 0.025)
    assert (found.port, found.path) == (1, None)


def test_logs_api() -> None:
    body = {"types": ["platform"], "destination": {**HTTP, "method": "PUT", "encoding": "JSON"}}
    found = parse(json.dumps(body).encode(), logs=True)
    assert (found.schema, found.method, found.runtime_done) == ("2020-08-15", "PUT", False)
    assert parse(json.dumps({**body, "schemaVersion": "2021-03-18"}).encode(), logs=True).runtime_done
    assert wrong({**body, "schemaVersion": "2022-07-01"}, logs=True)[:2] == (400, "Logs.ValidationError")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schemaVersion": None}, "schemaVersion should be one of 2022-07-01, 2022-12-13, 2025-01-29"),
        ({"schemaVersion": "2020-08-15"}, "schemaVersion should be one of 2022-07-01, 2022-12-13, 2025-01-29"),
        ({"types": []}, "types should not be empty"),
        ({"types": None}, "types should not be empty"),
        ({"types": ["platform", "all"]}, "types should be of platform, function, extension"),
        ({"types": [["platform"]]}, "types should be of platform, function, extension"),
        ({"destination": None}, "destination is not provided"),
        ({"destination": {"protocol": "UDP"}}, "destination.protocol should be HTTP or TCP"),
        ({"destination": {"protocol": "HTTP"}}, "URI is not provided"),
        ({"destination": {**HTTP, "URI": "http://sandbox.localdomain"}}, "URI port is not provided"),
        ({"destination": {**HTTP, "URI": "http://sandbox.localdomain:9001"}}, "URI port 9001 is reserved"),
        ({"destination": {**HTTP, "URI": "http://sandbox.localdomain:99999"}}, "URI is not valid"),
        ({"destination": {**HTTP, "URI": "http://example.com:80/"}}, "URI host should be sandbox.localdomain"),
        ({"destination": {**HTTP, "URI": "https://sandbox.localdomain:80/"}}, "URI should be one of http"),
        ({"destination": {**HTTP, "URI": "http://sandbox:80/a b"}}, "URI should be one of http"),
        ({"destination": {**HTTP, "method": "GET"}}, "destination.method should be POST or PUT"),
        ({"destination": {**HTTP, "encoding": "XML"}}, "destination.encoding should be JSON"),
        (
            {"destination": {"protocol": "TCP", "port": 9001}},
            "destination.port should be an integer between 1 and 65535, and not 9001",
        ),
        (
            {"destination": {"protocol": "TCP", "port": "80"}},
            "destination.port should be an integer between 1 and 65535, and not 9001",
        ),
        ({"buffering": 1}, "buffering should be an object"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], message: str) -> None:
    assert wrong({**USUAL, **change}) == (400, "ValidationError", message)


@pytest.mark.parametrize("name", BUFFERING)
def test_ranges(name: str) -> None:
    allowed = BUFFERING[name]
    for value in (allowed.least, allowed.most):
        parse(json.dumps({**USUAL, "buffering": {name: value}}).encode(), logs=False)
    for bad in (allowed.least - 1, allowed.most + 1, str(allowed.least), True, 1.5):
        message = f"buffering.{name} should be an integer between {allowed.least} and {allowed.most}"
        assert wrong({**USUAL, "buffering": {name: bad}})[2] == message


def test_several_at_once() -> None:
    destination = {**HTTP, "URI": "http://sandbox.localdomain"}
    assert wrong({**USUAL, "types": [], "destination": destination})[2] == "types should not be empty; URI port is not provided"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_what_is_no_object(body: bytes) -> None:
    assert wrong(body)[:2] == (400, "ValidationError")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["HTTP", "TCP"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["protocol", "URI", "port", "method", "encoding", *BUFFERING]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["schemaVersion", "types", "destination", "buffering"]), JSON), st.booleans())
def test_anything_is_refused_or_valid(body: dict[str, Any], logs: bool) -> None:
    with contextlib.suppress(Refused):
        found = parse(json.dumps({**USUAL, "schemaVersion": "2021-03-18" if logs else "2025-01-29", **body}).encode(), logs=logs)
        assert 1 <= found.port <= 65_535
        assert found.types


@given(st.text())
def test_any_uri(uri: str) -> None:
    with contextlib.suppress(Refused):
        found = parse(json.dumps({**USUAL, "destination": {"protocol": "HTTP", "URI": uri}}).encode(), logs=False)
        assert found.path is not None
        assert found.path.startswith("/")
        assert found.path.isprintable()
