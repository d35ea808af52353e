"""The Lambda API over HTTP: every operation that AWS has is routed, read, checked and answered from botocore's service model.

What an operation does is its rule's business, found by the operation's name. One without a rule is answered 501, by name: never
with a success that did not happen.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from gateway.control.call import Call, Rule
from gateway.control.code import PACKAGES, CodeLinks
from gateway.edge import constraints, model, render
from gateway.edge.parse import LARGE_TEXT_BYTES, parse
from gateway.errors import (
    AccessDeniedException,
    ApiError,
    NotImplementedHere,
    RequestEntityTooLargeException,
    ServiceException,
    UnknownOperationException,
)

#: The largest request that may carry a deployment package, recorded from AWS: 50 MB in base64 and some.
PACKAGE_REQUEST_BYTES: Final = 70_167_211
#: The largest of any other request, far above what the limits of their members add up to.
REQUEST_BYTES: Final = 6 * 1024 * 1024

_log = logging.getLogger(__name__)


class LambdaApi:
    """Answers requests for the Lambda API, and downloads of deployment packages (GetFunction's ``Code.Location``).

    `rules` are the operations by name, `links` says which download links are good.
    """

    __slots__ = ("_links", "_router", "_rules")

    def __init__(self, *, rules: Mapping[str, Rule], links: CodeLinks) -> None:
        unknown = rules.keys() - model.operations().keys()
        if unknown:
            raise ValueError(f"botocore knows no operation {', '.join(sorted(unknown))}; a newer botocore may")
        self._rules = rules
        self._links = links
        self._router = model.Router(list(model.operations().values()))

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request. Raises only what tells that the client has left."""
        request_id = str(uuid.uuid4())
        try:
            path, _, query = request.raw_path.partition("?")
            if path.startswith(PACKAGES) and request.method == "GET":
                return self._download(unquote(path[len(PACKAGES) :]), query)
            return await self._operate(request, path, query, request_id)
        except ApiError as error:
            return render.error(error, request_id)
        except ConnectionError:
            raise
        except Exception:
            _log.exception("request %s failed: %s %s", request_id, request.method, request.raw_path)
            return render.error(ServiceException(), request_id)

    async def _operate(self, request: web.BaseRequest, path: str, query: str, request_id: str) -> web.Response:
        route = self._router.find(request.method, path, query)
        if route is None:
            raise UnknownOperationException(f"There is no operation {request.method} {path}.")
        operation = route.operation
        rule = self._rules.get(operation.name)
        if rule is None:
            raise NotImplementedHere(f"The operation {operation.name} is not implemented yet.")
        body = await _read(request, operation)
        if len(body) < LARGE_TEXT_BYTES:
            params = parse(route, query, request.headers, body)
        else:
            params = await asyncio.to_thread(parse, route, query, request.headers, body)
        if operation.input is not None:
            constraints.check(operation.input, params)
        result = await rule(Call(params, f"{request.scheme}://{request.host}"))
        return render.answer(operation, result, request_id)

    def _download(self, key: str, query: str) -> web.StreamResponse:
        path = self._links.follow(key, query)
        if path is None:
            raise AccessDeniedException("This link has expired. GetFunction gives another one.")
        headers = {"Content-Type": "application/zip", "Content-Disposition": f'attachment; filename="{key}.zip"'}
        return web.FileResponse(path, headers=headers)


async def _read(request: web.BaseRequest, operation: model.Operation) -> bytes:
    """The whole body. Raises RequestEntityTooLargeException as soon as it is known to be too large."""
    limit = PACKAGE_REQUEST_BYTES if operation.blobs else REQUEST_BYTES
    if not request.body_exists:
        return b""
    if (request.content_length or 0) >= limit:
        raise _too_large(operation, limit)
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # as aiohttp's own handler of Expect does: the answer has not begun
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) >= limit:
            raise _too_large(operation, limit)
    return bytes(body)


def _too_large(operation: model.Operation, limit: int) -> ApiError:
    return RequestEntityTooLargeException(f"Request must be smaller than {limit} bytes for the {operation.name} operation")
