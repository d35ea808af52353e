"""A request to a function URL as the event that its function gets: payload format 2.0. [P]

The shape is the developer guide's, the details are what real function URLs were seen to send (recordings of November 2025, and
captures that users published):

- ``rawPath`` and ``rawQueryString`` are the request's own bytes, percent-encoded as they came (an HTTP API decodes the path, a
  function URL does not); only ``queryStringParameters`` is decoded, with ``+`` as a space;
- what was not there is absent, not null: ``cookies``, ``queryStringParameters``, ``body``;
- a header that came several times is joined by commas, and so is a query parameter; ``cookie`` stays in ``headers`` too;
- a body is text only where its content type says so (``text/*``, JSON, XML, JavaScript) and it is valid UTF-8; all else, forms
  included, is base64;
- a caller's own X-Forwarded headers pass through, so that a proxy in front can say who the client is; ``sourceIp`` is always the
  peer. The headers about TLS are missing, since the gateway speaks plain HTTP.

Not checked against AWS: raw bytes in headers and paths that are not UTF-8 (headers are read as Latin-1, paths percent-encoded).

This runs once a request, so everything is one dictionary and one call of orjson (4 µs for a browser's headers).
"""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import orjson

#: A few of these are hop-by-hop, the others were dealt with by the gateway; none is news for a function.
_NOT_FORWARDED: Final = frozenset(
    {"connection", "expect", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"}
)
_TEXT_TYPES: Final = frozenset({"application/json", "application/javascript", "application/xml"})
#: What may stand unencoded in a path or a query; for paths that hold bytes which are no text.
_UNENCODED: Final = "".join(chr(code) for code in range(0x21, 0x7F))


class Request(NamedTuple):
    """All that an event is made of. Texts may hold surrogates where the wire had bytes that are not UTF-8."""

    url_id: str
    domain_name: str
    method: str
    path: str  #: as on the wire, without the query
    query: str  #: as on the wire, without the question mark
    headers: dict[str, str]  #: as `folded` makes them; becomes the event's own
    protocol: str  #: ``HTTP/1.1``
    source_ip: str
    server_port: str
    request_id: str
    trace: str
    time: str  #: ``12/Mar/2020:19:03:58 +0000``
    time_ms: int
    body: bytes


def folded(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by their names in lower case, one that came several times joined."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        headers[key] = joined(key, headers[key], value) if key in headers else value
    return headers


def joined(name: str, before: str, value: str) -> str:
    """The value of a header that came once more."""
    return f"{before}{'; ' if name == 'cookie' else ','}{value}"


def event(request: Request) -> bytes:
    """The event as JSON."""
    document = _document(request)
    try:
        return orjson.dumps(document)
    except TypeError:  # a lone surrogate: somebody sent bytes that are not UTF-8
        return orjson.dumps(_cleaned(document))


def _document(request: Request) -> dict[str, Any]:
    (url_id, domain_name, method, path, query, headers, protocol, source_ip, port, request_id, trace, time, time_ms, body) = (
        request
    )
    if not _NOT_FORWARDED.isdisjoint(headers):
        for key in _NOT_FORWARDED:
            headers.pop(key, None)
        if body:
            headers["content-length"] = str(len(body))  # it may have come in chunks
    if "x-forwarded-for" not in headers:
        headers["x-forwarded-for"] = source_ip
    if "x-forwarded-proto" not in headers:
        headers["x-forwarded-proto"] = "http"
    if "x-forwarded-port" not in headers:
        headers["x-forwarded-port"] = port
    headers["x-amzn-trace-id"] = trace
    document: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
    }
    if "cookie" in headers:
        document["cookies"] = [cookie for part in headers["cookie"].split(";") if (cookie := part.strip())]
    document["headers"] = headers
    if query:
        document["queryStringParameters"] = parameters(query)
    document["requestContext"] = {
        "accountId": "anonymous",
        "apiId": url_id,
        "domainName": domain_name,
        "domainPrefix": url_id,
        "http": {
            "method": method,
            "path": path,
            "protocol": protocol,
            "sourceIp": source_ip,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": time,
        "timeEpoch": time_ms,
    }
    encoded = False
    if body:
        text = _text(body, headers)
        encoded = text is None
        document["body"] = base64.b64encode(body).decode() if text is None else text
    document["isBase64Encoded"] = encoded
    return document


def parameters(query: str) -> dict[str, str]:
    """A query string's parameters, decoded; those of the same name joined by commas. What is not UTF-8 becomes U+FFFD."""
    found: dict[str, str] = {}
    for pair in query.split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        if "%" in pair or "+" in pair:
            name, value = urllib.parse.unquote_plus(name), urllib.parse.unquote_plus(value)
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _text(body: bytes, headers: dict[str, str]) -> str | None:
    """The body as text, or None where it is to be base64."""
    if headers.get("content-encoding", "identity") != "identity":
        return None
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _TEXT_TYPES or kind.startswith("text/") or kind.endswith(("+json", "+xml")):
        try:
            return body.decode()
        except UnicodeDecodeError:
            return None
    return None


def _cleaned(document: dict[str, Any]) -> dict[str, Any]:
    """The same without lone surrogates."""
    path = _encoded(document["rawPath"])
    query = _encoded(document["rawQueryString"])
    context = document["requestContext"]
    cleaned = {
        **document,
        "rawPath": path,
        "rawQueryString": query,
        "headers": {_latin_1(name): _latin_1(value) for name, value in document["headers"].items()},
        "requestContext": {
            **context,
            "domainName": _latin_1(context["domainName"]),
            "http": {**context["http"], "path": path, "userAgent": _latin_1(context["http"]["userAgent"])},
        },
    }
    if "cookies" in document:
        cleaned["cookies"] = [_latin_1(cookie) for cookie in document["cookies"]]
    if query:
        cleaned["queryStringParameters"] = parameters(query)
    return cleaned


def _latin_1(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    return text


def _encoded(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return urllib.parse.quote(text.encode("utf-8", "surrogateescape"), safe=_UNENCODED)
    return text
