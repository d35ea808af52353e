"""Whatever bytes a client sends and whatever a function returns: an event that is JSON, an answer that can be sent, no crash."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterable
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge import cors, reply, url_event, url_response
from gateway.edge.invoke import client_context, event
from gateway.errors import InvalidRequestContentException
from gateway.observe.trace import Ids
from gateway.records import Cors

TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.!~", min_size=1, max_size=20)
#: What a parser lets through: no control characters but tab, any other byte.
WIRE = st.binary(max_size=60).map(
    lambda raw: bytes(byte for byte in raw if byte >= 32 and byte != 127).decode("utf-8", "surrogateescape")
)
BODY = st.binary(max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


def request(*, headers: Iterable[tuple[str, str]] = (), **changes: Any) -> url_event.Request:
    plain = url_event.Request(
        "id", "id.lambda-url.us-east-1.localhost", "GET", "/", "", {}, "HTTP/1.1", "::1", "9000", "rid", "Root=1", "now", 1, b""
    )
    return plain._replace(headers=url_event.folded(headers), **changes)


@given(path=WIRE, query=WIRE, headers=st.lists(st.tuples(TOKEN, WIRE), max_size=8), body=BODY, kind=st.none() | WIRE)
def test_any_bytes_make_an_event(path: str, query: str, headers: list[tuple[str, str]], body: bytes, kind: str | None) -> None:
    if kind is not None:
        headers = [*headers, ("Content-Type", kind)]
    found = orjson.loads(url_event.event(request(path="/" + path, query=query, headers=headers, body=body)))
    assert found["version"] == "2.0"
    assert found["headers"].keys() >= {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-amzn-trace-id"}
    assert all(name == name.lower() and isinstance(value, str) for name, value in found["headers"].items())
    if body:
        sent = found["body"]
        assert (base64.b64decode(sent) if found["isBase64Encoded"] else sent.encode()) == body
    else:
        assert "body" not in found


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=6))
def test_parameters_come_back(pairs: list[tuple[str, str]]) -> None:
    pairs = [(name.encode("utf-8", "replace").decode(), value.encode("utf-8", "replace").decode()) for name, value in pairs]
    expected: dict[str, str] = {}
    for name, value in pairs:
        expected[name] = f"{expected[name]},{value}" if name in expected else value
    assert url_event.parameters(urllib.parse.urlencode(pairs)) == expected


@given(JSON)
def test_any_json_without_a_status_comes_back_compact(value: Any) -> None:
    payload = json.dumps(value).encode()
    answer = url_response.response(payload)
    if isinstance(value, str):
        assert answer.body == value.encode("utf-8", "replace")
    elif not (isinstance(value, dict) and "statusCode" in value):
        assert json.loads(answer.body) == value


MEMBERS = st.sampled_from(["statusCode", "headers", "body", "isBase64Encoded", "cookies"])


@given(
    st.dictionaries(MEMBERS, JSON | st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3)), st.integers(190, 610)
)
def test_any_description_is_an_answer_or_refused(value: dict[str, Any], status: int) -> None:
    value.setdefault("statusCode", status)
    try:
        answer = url_response.response(json.dumps(value).encode())
    except url_response.UnusableResponse:
        return
    head = reply.lines(answer.headers)
    assert 200 <= answer.status <= 599
    assert head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r") == len(answer.headers)
    assert b"\x00" not in head
    assert any(name.lower() == "content-type" for name, _ in answer.headers)


@given(BODY)
def test_any_payload_is_an_answer_or_refused(payload: bytes) -> None:
    try:
        answer = url_response.response(payload)
    except url_response.UnusableResponse:
        return
    assert answer.status == 200 or b"statusCode" in payload


@given(BODY)
def test_invoke_takes_json_and_nothing_else(content: bytes) -> None:
    try:
        taken = event(content)
    except InvalidRequestContentException:
        return
    json.loads(taken.decode())


@given(WIRE | JSON.map(lambda value: base64.b64encode(json.dumps(value).encode()).decode()))
def test_client_context_is_one_line_of_json_or_refused(header: str) -> None:
    try:
        text = client_context(header)
    except InvalidRequestContentException:
        return
    assert isinstance(json.loads(text), dict)
    assert text.isascii()
    assert text.isprintable()


@given(
    st.builds(
        Cors,
        allow_credentials=st.booleans(),
        allow_headers=st.lists(TOKEN, max_size=2).map(tuple),
        allow_methods=st.lists(st.sampled_from(["*", "GET"]), max_size=2).map(tuple),
        allow_origins=st.lists(st.sampled_from(["*", "https://a.example", "https://b.example"]), max_size=2).map(tuple),
        expose_headers=st.lists(TOKEN, max_size=2).map(tuple),
        max_age_s=st.none() | st.integers(0, 86400),
    ),
    st.sampled_from(["https://a.example", "https://b.example", "https://c.example", "null"]),
)
def test_an_origin_is_allowed_only_when_it_is_listed(rules: Cors, origin: str) -> None:
    allowed = "*" in rules.allow_origins or origin in rules.allow_origins
    for headers in (
        cors.preflight(rules, origin, "GET", None),
        cors.applied(rules, origin, [("access-control-allow-origin", "*")]),
    ):
        said = [value for name, value in headers if name.lower() == "access-control-allow-origin"]
        assert (said in ([origin], ["*"])) if allowed else said == []
        if ("Access-Control-Allow-Credentials", "true") in headers:
            assert said == [origin]


@given(WIRE, st.floats(0, 4_000_000_000))
def test_any_trace_header_ends_as_a_good_one(header: str, now_s: float) -> None:
    ids = Ids(lambda count: b"\xa5" * count)
    for text in (header, f"Root=1-65a145be-797c3178708174547ee8c103;{header}"):
        trace = ids.trace(text, now_s)
        seen = ids.segment(trace)
        assert trace.startswith("Root=1-")
        assert seen.startswith(trace)
        assert ";Parent=" in seen or ";parent=" in seen.lower()
        assert trace.isascii()
        assert trace.isprintable()
