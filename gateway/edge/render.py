"""Answers as AWS's front end writes them."""

from __future__ import annotations

import math

import orjson
from aiohttp import web

from gateway.edge import model
from gateway.errors import ApiError, TooManyRequestsException


def error(error: ApiError, request_id: str) -> web.Response:
    """The answer for an error: status, body and headers as AWS has them for this code.

    The key of the message is the error shape's own (``message`` or ``Message``), ``Type`` says whose fault it is; codes that the
    model does not know (ValidationException for one) carry the message alone, as recorded from AWS.
    """
    shape = model.errors().get(error.code)
    body: dict[str, object] = dict(error.members)
    if shape is None:
        body["message"] = error.message
    else:
        body["Type"] = error.fault.value
        body[shape.message_key] = error.message
    headers = {"x-amzn-RequestId": request_id, "x-amzn-ErrorType": error.code}
    if isinstance(error, TooManyRequestsException) and error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return web.Response(status=error.status, body=orjson.dumps(body), headers=headers, content_type="application/json")
