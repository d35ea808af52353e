"""Cross-origin rules of a function URL. [P]

Where a URL has them, they are the only ones: the gateway answers preflights itself, without asking for a signature (browsers do
not sign them) and without the function, and what the function says in ``Access-Control-*`` headers is replaced. Precedence as
users of AWS describe it; the exact answer to a refused preflight is not checked against AWS (here: 200 without any of the
headers, which a browser takes as a no).
"""

from __future__ import annotations

from gateway.records import Cors

Headers = list[tuple[str, str]]


def preflight(cors: Cors, origin: str, method: str, headers: str | None) -> Headers:
    """Headers of the answer to a preflight request."""
    answer: Headers = [("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")]
    allowed = _origin(cors, origin)
    if allowed is None:
        return answer
    answer.append(("Access-Control-Allow-Origin", allowed))
    if cors.allow_methods:
        answer.append(("Access-Control-Allow-Methods", _list(cors, cors.allow_methods, method)))
    if cors.allow_headers and headers:
        answer.append(("Access-Control-Allow-Headers", _list(cors, cors.allow_headers, headers)))
    if cors.allow_credentials:
        answer.append(("Access-Control-Allow-Credentials", "true"))
    if cors.max_age_s is not None:
        answer.append(("Access-Control-Max-Age", str(cors.max_age_s)))
    return answer


def applied(cors: Cors, origin: str | None, headers: Headers) -> Headers:
    """A function's headers with the URL's rules in the place of its own."""
    answer = [header for header in headers if not header[0].lower().startswith("access-control-")]
    if origin is None:
        return answer
    answer.append(("Vary", "Origin"))
    allowed = _origin(cors, origin)
    if allowed is not None:
        answer.append(("Access-Control-Allow-Origin", allowed))
        if cors.allow_credentials:
            answer.append(("Access-Control-Allow-Credentials", "true"))
        if cors.expose_headers:
            answer.append(("Access-Control-Expose-Headers", ",".join(cors.expose_headers)))
    return answer


def _origin(cors: Cors, origin: str) -> str | None:
    """What Access-Control-Allow-Origin says to this origin; None: nothing."""
    if "*" in cors.allow_origins:
        return origin if cors.allow_credentials else "*"  # browsers take no wildcard together with credentials
    folded = origin.lower()
    return origin if any(folded == one.lower().rstrip("/") for one in cors.allow_origins) else None


def _list(cors: Cors, configured: tuple[str, ...], asked: str) -> str:
    if "*" in configured and cors.allow_credentials:
        return asked
    return ",".join(configured)
