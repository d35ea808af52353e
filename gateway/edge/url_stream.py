"""The answer of a function URL with InvokeMode RESPONSE_STREAM: sent while the function gives it.

What the function gives is the body, and its content type the answer's, unless that is
``application/vnd.awslambda.http-integration-response``: then a JSON document with status, headers and cookies comes first, and
eight NUL bytes before the body. A function that answers as a whole gets no other treatment: what it returns is the body as it is,
so ``{"statusCode": …}`` is not interpreted (as users of AWS describe it who forgot to stream).

A function that fails before its first byte is answered 502, as with a buffered URL. One that fails later leaves an answer that
breaks off: the connection is closed without the last chunk, which HTTP clients report. Not checked against AWS: the longest
document (here 64 KiB, where API Gateway has 16), and what becomes of one that is followed by nothing (here an empty body).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from gateway.edge import cors, url_response
from gateway.edge.connection import Connection
from gateway.edge.reply import lines
from gateway.edge.stream import Streamed, StreamLimits
from gateway.invocation import InvokeResult
from gateway.records import Cors
from sandbox.outcome import Flow, Status

if TYPE_CHECKING:
    from aiohttp import web

PRELUDE_TYPE: Final = "application/vnd.awslambda.http-integration-response"
PRELUDE_BYTES: Final = 64 * 1024

_END: Final = bytes(8)
_NO_TYPE: Final = "application/octet-stream"

_log = logging.getLogger(__name__)


class UrlStream(Streamed):
    """One streamed answer; `given` are header lines of the gateway's own, `rules` the URL's about other origins."""

    __slots__ = ("_answer", "_given", "_origin", "_prelude", "_rules", "_unusable")

    def __init__(
        self,
        request: web.BaseRequest,
        connection: Connection,
        limits: StreamLimits,
        given: bytes,
        rules: Cors | None,
        origin: str | None,
    ) -> None:
        super().__init__(request, connection, limits)
        self._given = given
        self._rules = rules
        self._origin = origin
        self._prelude: bytearray | None = None  # what there is of it; None where there is none, or it is read
        self._unusable = False
        self._answer = url_response.UrlResponse(200, [("Content-Type", _NO_TYPE)], b"")

    def begin(self, content_type: str, flow: Flow | None) -> None:
        super().begin(content_type, flow)
        if content_type.partition(";")[0].strip().lower() == PRELUDE_TYPE:
            self._prelude = bytearray()
        elif content_type and content_type.isprintable():
            self._answer = url_response.UrlResponse(200, [("Content-Type", content_type)], b"")

    def complete(self, result: InvokeResult) -> bool:
        """All that the function gave is there; what came as a whole is sent now. Whether it can be an answer."""
        if result.status is not Status.SUCCESS:
            return False
        if result.payload:
            self.begin(result.content_type, None)
            self.chunk(result.payload)
        if self._prelude:
            self._read_prelude(bytes(self._prelude))
        return not self._unusable

    def _head(self) -> tuple[int, bytes]:
        headers = self._answer.headers
        if self._rules is not None:
            headers = cors.applied(self._rules, self._origin, headers)
        return self._answer.status, lines(headers) + self._given

    def _encoded(self, data: bytes) -> bytes | None:
        prelude = self._prelude
        if prelude is None:
            return None if self._unusable else data
        before = max(0, len(prelude) - len(_END) + 1)
        prelude += data
        end = prelude.find(_END, before)
        if end < 0:
            if len(prelude) > PRELUDE_BYTES:
                self._refuse(f"no end of the prelude in {PRELUDE_BYTES} bytes")
            return None
        self._read_prelude(bytes(prelude[:end]))
        return None if self._unusable else bytes(prelude[end + len(_END) :])

    def _read_prelude(self, document: bytes) -> None:
        self._prelude = None
        try:
            self._answer = url_response.prelude(document, _NO_TYPE)
        except url_response.UnusableResponse as error:
            self._refuse(str(error))

    def _refuse(self, why: str) -> None:
        name = self._version.name if self._version is not None else "a function"
        _log.debug("what %s streams cannot be an HTTP answer: %s", name, why)
        self._prelude = None
        self._unusable = True
