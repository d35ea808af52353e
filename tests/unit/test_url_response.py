"""What a function returned, as an HTTP answer. Recorded: AWS, 24 November 2025 (see also tests/wire/test_function_url.py)."""

from __future__ import annotations

import pytest

from gateway.edge.url_response import UnusableResponse, response


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        (b'{"a" : 12345678901234567890123 }', b'{"a":12345678901234567890123}'),
        (b"18446744073709551615", b"18446744073709551615"),
        (b'[1e400, "a \\" b"]', b'[1e400,"a \\" b"]'),
        (b'"\\ud800"', b"?"),
        ('{"ä": "\\u00e4"}'.encode(), '{"ä":"ä"}'.encode()),
        (b"[" * 400 + b" 1 " + b"]" * 400, b"[" * 400 + b"1" + b"]" * 400),
    ],
)
def test_compact_json_loses_nothing(payload: bytes, body: bytes) -> None:
    assert response(payload) == (200, [("Content-Type", "application/json")], body)


@pytest.mark.parametrize("payload", [b"", b"hello", b"NaN", b'{"a":', b"\xff", b"[" * 100_000])
def test_what_is_not_json(payload: bytes) -> None:
    with pytest.raises(UnusableResponse):
        response(payload)


def test_statuses() -> None:
    for good in (b"200", b"599", b'"404"', b"301.0"):
        assert response(b'{"statusCode":%b}' % good).status in (200, 599, 404, 301)
    for bad in (
        b"100",
        b"199",
        b"600",
        b"-1",
        b"true",
        b"null",
        b'"20"',
        b'"2000"',
        b'"abc"',
        b"200.5",
        b"[]",
        b'"\\u0662\\u0660\\u0660"',
    ):
        with pytest.raises(UnusableResponse):
            response(b'{"statusCode":%b}' % bad)


def test_headers_of_odd_types() -> None:
    payload = b'{"statusCode":200,"headers":{"N":1,"F":1.5,"T":true,"Nothing":null,"CONTENT-TYPE":"text/html"}}'
    assert response(payload).headers == [("N", "1"), ("F", "1.5"), ("T", "true"), ("CONTENT-TYPE", "text/html")]
    for bad in (b'{"L":["a"]}', b'{"D":{}}', b'{"":"x"}', b'{"a:":"x"}', b'{"a":"\\u0000"}', b'{"a":"b\\nc"}', b'"x"', b"3"):
        with pytest.raises(UnusableResponse):
            response(b'{"statusCode":200,"headers":%b}' % bad)


def test_headers_that_are_the_gateways_business() -> None:
    payload = (
        b'{"statusCode":200,"headers":{"Content-Length":"1","connection":"close","WWW-Authenticate":"Basic","Upgrade":"h2"}}'
    )
    assert [name for name, _ in response(payload).headers] == [
        "x-amzn-Remapped-Content-Length",
        "x-amzn-Remapped-connection",
        "x-amzn-Remapped-WWW-Authenticate",
        "Content-Type",
    ]


def test_bodies() -> None:
    assert response(b'{"statusCode":200}').body == b""
    assert response(b'{"statusCode":200,"body":null}').body == b""
    assert response(b'{"statusCode":200,"body":{"a": 1}}').body == b'{"a":1}'
    assert response(b'{"statusCode":200,"body":"aGk=","isBase64Encoded":true}').body == b"hi"
    assert response(b'{"statusCode":200,"body":"aGk=","isBase64Encoded":false}').body == b"aGk="
    assert response(b'{"statusCode":200,"body":"\\ud800"}').body == b"?"
    with pytest.raises(UnusableResponse):
        response(b'{"statusCode":200,"body":"\\ud800","isBase64Encoded":true}')
    with pytest.raises(UnusableResponse):
        response(b'{"statusCode":200,"x":"\\ud800","body":[123456789012345678901234567890]}')


def test_cookies() -> None:
    assert response(b'{"statusCode":200,"cookies":["a=1","b=2"]}').headers[1:] == [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    for bad in (b'"a=1"', b"[1]", b'["a\\r\\nb"]', b"{}"):
        with pytest.raises(UnusableResponse):
            response(b'{"statusCode":200,"cookies":%b}' % bad)
