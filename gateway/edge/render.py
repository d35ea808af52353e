"""Answers as AWS's front end writes them: of operations from the service model, of errors from their shape in it."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any, Final

import botocore.model
import orjson
from aiohttp import web

from gateway.edge.model import Operation, errors, place, wire_name
from gateway.edge.reply import as_text
from gateway.errors import ApiError, TooManyRequestsException

CONTENT_TYPE: Final = "application/json"


def answer(operation: Operation, result: Mapping[str, Any] | None, request_id: str) -> web.Response:
    """The answer of an operation. `result` has AWS's member names; what is None is left out.

    Raises TypeError for a member that the operation's output does not have: a mistake of ours that no client should find first.
    """
    headers = {"x-amzn-RequestId": request_id}
    status = operation.status
    result = result or {}
    shape = operation.output
    if shape is None:
        _no_others(operation.name, result, ())
        return _response(status, b"", headers)
    _no_others(operation.name, result, shape.members)
    payload = shape.serialization.get("payload")
    in_body: dict[str, Any] = {}
    body = b""
    for name, member in shape.members.items():
        value = result.get(name)
        if value is None:
            continue
        match place(member):
            case "statusCode":
                status = value
            case "header":
                headers[wire_name(name, member)] = str(value)
            case _ if name == payload:
                body = value if isinstance(value, bytes) else orjson.dumps(_to_json(member, value))
            case _:
                in_body[wire_name(name, member)] = _to_json(member, value)
    if payload is None and status != 204:
        body = orjson.dumps(in_body)
    return _response(status, body, headers)


def error(error: ApiError, request_id: str) -> web.Response:
    """The answer for an error: status, body and headers as AWS has them for this code."""
    return _response(error.status, error_body(error), error_headers(error, request_id))


def error_headers(error: ApiError, request_id: str) -> dict[str, str]:
    """The headers for an error, but for those of its body."""
    headers = {"x-amzn-RequestId": request_id, "x-amzn-ErrorType": error.code}
    if isinstance(error, TooManyRequestsException) and error.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return headers


def error_body(error: ApiError) -> bytes:
    """The body for an error.

    The key of the message is the error shape's own (``message`` or ``Message``), ``Type`` says whose fault it is; codes that the
    model does not know (ValidationException for one) carry the message alone, as recorded from AWS. A member given as None is
    left out.
    """
    shape = errors().get(error.code)
    if shape is None:
        body = {**error.members, "message": error.message}
    else:
        given = {**error.members, "Type": error.members.get("Type", error.fault.value), shape.message_key: error.message}
        body = {key: value for key, value in given.items() if value is not None}
    try:
        return orjson.dumps(body)
    except TypeError:  # it quotes bytes of the request that are no UTF-8
        return orjson.dumps({key: as_text(value) if isinstance(value, str) else value for key, value in body.items()})


def _response(status: int, body: bytes, headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, body=body, headers=headers, content_type=CONTENT_TYPE if body else None)


def _to_json(shape: botocore.model.Shape, value: Any) -> Any:
    match shape:
        case botocore.model.StructureShape():
            _no_others(shape.name, value, shape.members)
            return {
                wire_name(name, member): _to_json(member, value[name])
                for name, member in shape.members.items()
                if value.get(name) is not None
            }
        case botocore.model.ListShape():
            return [_to_json(shape.member, one) for one in value]
        case botocore.model.MapShape():
            return {key: _to_json(shape.value, one) for key, one in value.items()}
        case _ if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        case _:
            return value


def _no_others(where: str, given: Mapping[str, Any], known: Any) -> None:
    others = {name for name, value in given.items() if value is not None} - set(known)
    if others:
        raise TypeError(f"{where} has no member {', '.join(sorted(others))}")
