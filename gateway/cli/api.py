"""The Lambda API as the commands call it: one HTTP request at a time, AWS's errors as sentences.

The standard library's client, not botocore's, which takes longer to import than most commands take to run.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import urllib.parse
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Final

import click

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:9000"
FUNCTIONS: Final = "/2015-03-31/functions"
STREAMS: Final = "/2021-11-15/functions"
ADVICE: Final = "/_lambent/advice/"  #: then a function's name
FUNCTION_URLS: Final = "/2021-10-31/functions"
_LONGEST_INVOCATION_S: Final = 930.0  # 15 minutes and what comes around them


class ApiProblem(click.ClickException):
    """The API answered with an error; `code` is AWS's."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.status = status


class Unreachable(click.ClickException):
    """Nothing usable answers at the endpoint, now."""


class Answer:
    """A response with its body read."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        """The body's value; raises click.ClickException where it is none."""
        try:
            return json.loads(self.body) if self.body else {}
        except (ValueError, RecursionError):
            raise click.ClickException("the answer is not JSON; is it Lambent that answers there?") from None


class Api:
    """Talks to one endpoint. Every method raises click.ClickException where nothing usable answers there."""

    def __init__(self, endpoint: str, timeout_s: float = _LONGEST_INVOCATION_S) -> None:
        self.endpoint = endpoint.rstrip("/")
        try:
            parts = urllib.parse.urlsplit(self.endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError
            parts.hostname.encode("idna")  # as the look-up does, where nobody would expect it to fail
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
            self._prefix = urllib.parse.quote(parts.path, safe="/%")
        except (ValueError, http.client.InvalidURL) as error:
            why = f": {error}" if str(error) and not isinstance(error, UnicodeError) else ""
            raise click.BadParameter(f"{endpoint!r} is not an http address{why}", param_hint="--endpoint") from None

    def close(self) -> None:
        self._connection.close()

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        sending: Callable[[int, int], None] | None = None,
    ) -> Answer:
        """One request. Raises ApiProblem for an answer of 400 or more. `sending(done, total)` is told how the body gets along."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        with self._saying_what_is_wrong():
            response = self._send(method, path, data, query, headers, sending)
            answer = Answer(response.status, dict(response.headers.items()), response.read())
        if answer.status >= 400:
            raise _problem(answer)
        return answer

    def find(self, method: str, path: str, **more: Any) -> Any | None:
        """Like `call`, the answer's JSON, or None where the resource does not exist."""
        try:
            return self.call(method, path, **more).json()
        except ApiProblem as problem:
            if problem.status == 404:
                return None
            raise

    def lines(self, path: str, query: Mapping[str, str]) -> Iterator[Any]:
        """JSON values of an answer that has one a line, as they come."""
        with self._saying_what_is_wrong():
            response = self._send("GET", path, None, query, None, None)
            if response.status >= 400:
                raise _problem(Answer(response.status, dict(response.headers.items()), response.read()))
            while line := response.readline():
                yield Answer(200, {}, line).json()

    def pieces(
        self, path: str, body: bytes, query: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> Generator[bytes, None, None]:
        """The body of an answer to a POST, as it comes. Raises ApiProblem for an answer of 400 or more."""
        with self._saying_what_is_wrong(), contextlib.closing(self._send("POST", path, body, query, headers, None)) as response:
            if response.status >= 400:
                raise _problem(Answer(response.status, dict(response.headers.items()), response.read()))
            while piece := response.read1(65_536):
                yield piece

    def _send(
        self,
        method: str,
        path: str,
        data: bytes | None,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        sending: Callable[[int, int], None] | None,
    ) -> http.client.HTTPResponse:
        as_given = "surrogateescape"  # bytes of an argument that are no text are sent as they are: they name nothing
        after = "?" + urllib.parse.urlencode(query, errors=as_given) if query else ""
        url = self._prefix + urllib.parse.quote(path, errors=as_given) + after
        length = {} if data is None else {"Content-Type": "application/json", "Content-Length": str(len(data))}
        content = _portions(data, sending) if data is not None and sending is not None else data
        self._connection.request(method, url, content, {**length, **(headers or {})})
        return self._connection.getresponse()

    @contextlib.contextmanager
    def _saying_what_is_wrong(self) -> Iterator[None]:
        try:
            yield
        except ConnectionRefusedError:
            raise Unreachable(
                f"nothing answers at {self.endpoint}. Start it with `lambent up`, or give its address with --endpoint."
            ) from None
        except TimeoutError:
            raise Unreachable(f"no answer from {self.endpoint} in time") from None
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"the connection to {self.endpoint} broke: {str(error) or type(error).__name__}") from None


def function_path(name: str, rest: str = "") -> str:
    return f"{FUNCTIONS}/{name}{rest}"


def _portions(data: bytes, sending: Callable[[int, int], None]) -> Iterator[bytes]:
    size = 64 * 1024
    for start in range(0, len(data), size):
        yield data[start : start + size]
        sending(min(start + size, len(data)), len(data))


def _problem(answer: Answer) -> ApiProblem:
    code = next((value for key, value in answer.headers.items() if key.lower() == "x-amzn-errortype"), f"HTTP {answer.status}")
    try:
        body = json.loads(answer.body)
        message = body.get("message") or body.get("Message") or body.get("Reason") or ""
    except (ValueError, AttributeError, RecursionError):
        message = answer.body.decode(errors="replace").strip()[:500]
    return ApiProblem(code.partition(":")[0], message or "the request failed", answer.status)


def endpoint_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--endpoint``, the same for every command."""
    return click.option(
        "--endpoint",
        envvar="LAMBENT_ENDPOINT",
        default=DEFAULT_ENDPOINT,
        show_default=True,
        show_envvar=True,
        metavar="URL",
        help="Where Lambent answers.",
    )(function)
