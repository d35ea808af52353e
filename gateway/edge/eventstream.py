"""Messages of ``application/vnd.amazon.eventstream``, AWS's framing of a stream of events. [P]

A message is its length, the length of its headers, a CRC-32 of both, the headers, the payload, and a CRC-32 of all before
(smithy.io, "Amazon Event Stream Specification"). What streams here are the two events of InvokeWithResponseStream.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

import orjson

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"

_PRELUDE: Final = struct.Struct(">II")
_CRC: Final = struct.Struct(">I")
_STRING: Final = 7


def _headers(event: str, content_type: str) -> bytes:
    found = b""
    for name, value in ((":event-type", event), (":content-type", content_type), (":message-type", "event")):
        found += struct.pack(f">B{len(name)}sBH", len(name), name.encode(), _STRING, len(value)) + value.encode()
    return found


_CHUNK: Final = _headers("PayloadChunk", "application/octet-stream")
_COMPLETE: Final = _headers("InvokeComplete", "application/json")


def payload_chunk(data: bytes) -> bytes:
    """The event PayloadChunk."""
    return _message(_CHUNK, data)


def invoke_complete(error_code: str | None, error_details: str | None, log_result: str | None) -> bytes:
    """The event InvokeComplete; members that are None are left out. `log_result` is in base64."""
    members = {"ErrorCode": error_code, "ErrorDetails": error_details, "LogResult": log_result}
    return _message(_COMPLETE, orjson.dumps({name: value for name, value in members.items() if value is not None}))


def _message(headers: bytes, payload: bytes) -> bytes:
    prelude = _PRELUDE.pack(12 + len(headers) + len(payload) + 4, len(headers))
    head = prelude + _CRC.pack(zlib.crc32(prelude)) + headers
    return b"".join((head, payload, _CRC.pack(zlib.crc32(payload, zlib.crc32(head)))))
