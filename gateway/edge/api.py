"""The Lambda API over HTTP: every operation that AWS has is routed, read, checked and answered from botocore's service model.

What an operation does is its rule's business, found by the operation's name. One without a rule is answered 501, by name: never
with a success that did not happen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from aiohttp import web

from gateway.control.call import Call, Rule
from gateway.control.code import PACKAGES, CodeLinks
from gateway.edge import constraints, model, render
from gateway.edge.body import check_length, too_large
from gateway.edge.parse import LARGE_TEXT_BYTES, parse
from gateway.errors import (
    AccessDeniedException,
    ApiError,
    NotImplementedHere,
    ResourceNotFoundException,
    ServiceException,
    UnknownOperationException,
)
from gateway.store.db import StoreError

#: The largest request that may carry a deployment package, recorded from AWS: 50 MB in base64 and some.
PACKAGE_REQUEST_BYTES: Final = 70_167_211
#: The largest of any other request, far above what the limits of their members add up to.
REQUEST_BYTES: Final = 6 * 1024 * 1024

_log = logging.getLogger(__name__)


class LambdaApi:
    """Answers requests for the Lambda API, and downloads of deployment packages (GetFunction's ``Code.Location``).

    `rules` are the operations by name, `links` says which download links are good. How long a body may take to arrive is for the
    server to say.
    """

    __slots__ = ("_links", "_router", "_rules")

    def __init__(self, *, rules: Mapping[str, Rule], links: CodeLinks) -> None:
        unknown = rules.keys() - model.operations().keys()
        if unknown:
            raise ValueError(f"botocore knows no operation {', '.join(sorted(unknown))}; a newer botocore may")
        self._rules = rules
        self._links = links
        self._router = model.Router(list(model.operations().values()))

    async def handle(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        """The answer to any request. Raises only what tells that the client has left or does not speak HTTP."""
        try:
            path, _, query = request.raw_path.partition("?")
            if path.startswith(PACKAGES) and request.method == "GET":
                return self._download(unquote(path[len(PACKAGES) :]), query)
            return await self._operate(request, path, query, request_id)
        except ApiError as error:
            response = render.error(error, request_id)
        except (ConnectionError, web.RequestPayloadError):
            raise
        except (StoreError, OSError) as error:  # the disk is full, or broken: nobody is helped by where in our code that was met
            _log.error("%s %s failed: %s", request.method, request.raw_path[:200], error, extra={"request_id": request_id})
            response = render.error(ServiceException(f"Nothing was changed: {_why(error)}."), request_id)
        except Exception as error:
            _log.error(
                "%s %s failed: %r",
                request.method,
                request.raw_path[:200],
                error,
                exc_info=error,
                extra={"request_id": request_id},
            )
            response = render.error(ServiceException(), request_id)
        if not request.content.is_eof():
            response.force_close()  # the rest of the body would be taken for the next request
        return response

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
        if operation.method != "GET":
            name = str(params.get("FunctionName") or params.get("LayerName") or params.get("Resource") or "")
            _log.info("%s %s", operation.name, name, extra={"request_id": request_id, "function": params.get("FunctionName")})
        return render.answer(operation, result, request_id)

    def _download(self, key: str, query: str) -> web.StreamResponse:
        path = self._links.follow(key, query)
        if path is None:
            raise AccessDeniedException("This link has expired. GetFunction gives another one.")
        if not path.is_file():  # one small look; what aiohttp would say to that is not what AWS does
            raise ResourceNotFoundException("The deployment package is not there any more.")
        headers = {"Content-Type": "application/zip", "Content-Disposition": f'attachment; filename="{key}.zip"'}
        return web.FileResponse(path, headers=headers)


def _why(error: Exception) -> str:
    """For a caller: what the system said, without our paths."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)


async def _read(request: web.BaseRequest, operation: model.Operation) -> bytes:
    """The whole body. Raises RequestEntityTooLargeException as soon as it is known to be too large."""
    limit = PACKAGE_REQUEST_BYTES if operation.blobs else REQUEST_BYTES
    check_length(request, limit, operation.name)
    chunks: list[bytes] = []
    size = 0
    while chunk := await request.content.readany():
        size += len(chunk)
        if size > limit:
            raise too_large(limit, operation.name)
        chunks.append(chunk)
    return b"".join(chunks)
