"""The event of a function URL, where the bytes are odd. Its ordinary shape: tests/wire/test_function_url.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
import pytest

from gateway.edge.url_event import Request, event, folded, parameters

PLAIN = Request(
    url_id="abc",
    domain_name="abc.lambda-url.us-east-1.localhost",
    method="GET",
    path="/",
    query="",
    headers={},
    protocol="HTTP/1.1",
    source_ip="10.0.0.1",
    server_port="9000",
    request_id="id",
    trace="Root=1-x",
    time="12/Mar/2020:19:03:58 +0000",
    time_ms=1583348638390,
    body=b"",
)


def of(*, headers: Iterable[tuple[str, str]] = (), **changes: Any) -> Any:
    return orjson.loads(event(PLAIN._replace(headers=folded(headers), **changes)))


def wire(raw: bytes) -> str:
    """Bytes as aiohttp hands them over."""
    return raw.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("a=1&b=2&a=3", {"a": "1,3", "b": "2"}),
        ("a+b=c%20d%2B", {"a b": "c d+"}),
        ("flag&empty=&=x", {"flag": "", "empty": "", "": "x"}),
        ("&&a=1&", {"a": "1"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=%ff&b=%zz&c=%", {"a": "\ufffd", "b": "%zz", "c": "%"}),
        ("%61=1&a=2", {"a": "1,2"}),
    ],
)
def test_parameters(query: str, found: dict[str, str]) -> None:
    assert parameters(query) == found
    assert of(query=query)["queryStringParameters"] == found
    assert of(query=query)["rawQueryString"] == query


def test_path_stays_as_it_was_sent() -> None:
    assert of(path="/a%2Fb/%C3%A4//..")["rawPath"] == "/a%2Fb/%C3%A4//.."


def test_bytes_that_are_no_text() -> None:
    found = of(
        path=wire(b"/\xff/%20"),
        query=wire(b"a=\xfe"),
        headers=[("X-Latin", wire(b"caf\xe9")), ("X-Utf8", wire("café".encode())), ("Cookie", wire(b"a=\xff"))],
    )
    assert found["rawPath"] == found["requestContext"]["http"]["path"] == "/%FF/%20"
    assert found["rawQueryString"] == "a=%FE"
    assert found["queryStringParameters"] == {"a": "\ufffd"}
    assert found["headers"]["x-latin"] == "café"
    assert found["headers"]["x-utf8"] == "café"
    assert found["cookies"] == ["a=ÿ"]


def test_repeated_headers_are_joined() -> None:
    found = of(headers=[("X-A", "1"), ("x-a", "2"), ("Cookie", "a=1"), ("Cookie", "b=2")])
    assert found["headers"]["x-a"] == "1,2"
    assert found["cookies"] == ["a=1", "b=2"]
    assert found["headers"]["cookie"] == "a=1; b=2"


def test_headers_about_the_connection_stay_here() -> None:
    found = of(headers=[("Connection", "keep-alive"), ("Expect", "100-continue"), ("TE", "trailers"), ("X", "1")])
    assert {"connection", "expect", "te"}.isdisjoint(found["headers"])
    assert found["headers"]["x"] == "1"


def test_forwarded_headers_pass_and_the_peer_is_the_source() -> None:
    """Seen on AWS behind CloudFront, January 2025: the caller's header is passed on, sourceIp is CloudFront's."""
    found = of(headers=[("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https")])
    assert found["headers"]["x-forwarded-for"] == "203.0.113.9"
    assert found["headers"]["x-forwarded-proto"] == "https"
    assert found["requestContext"]["http"]["sourceIp"] == "10.0.0.1"


@pytest.mark.parametrize(
    ("headers", "encoded"),
    [
        ({}, True),
        ({"Content-Type": "application/json"}, False),
        ({"Content-Type": "Application/JSON; charset=utf-8"}, False),
        ({"Content-Type": "text/csv"}, False),
        ({"Content-Type": "application/xml"}, False),
        ({"Content-Type": "application/vnd.api+json"}, False),
        ({"Content-Type": "image/svg+xml"}, False),
        ({"Content-Type": "application/x-www-form-urlencoded"}, True),  # seen on AWS, January 2024
        ({"Content-Type": "application/octet-stream"}, True),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, True),
        ({"Content-Type": "application/json", "Content-Encoding": "identity"}, False),
    ],
)
def test_which_bodies_are_text(headers: dict[str, str], encoded: bool) -> None:
    found = of(headers=headers.items(), body=b"hello")
    assert found["isBase64Encoded"] is encoded
    assert found["body"] == ("aGVsbG8=" if encoded else "hello")


def test_text_that_is_not_utf8_is_base64() -> None:
    found = of(headers=[("Content-Type", "text/plain")], body=b"\xff\xfe")
    assert (found["isBase64Encoded"], found["body"]) == (True, "//4=")
