"""Messages of ``application/vnd.amazon.eventstream``, AWS's framing of a stream of events. [P]

A message is its length, the length of its headers, a CRC-32 of both, the headers, the payload, and a CRC-32 of all before
(smithy.io, "Amazon Event Stream Specification"). What streams here are the two events of InvokeWithResponseStream.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

import orjson

CONTENT_TYPE: Final = "application/vnd.amazon.eventstream"

_PRELUDE: Final = struct.Struct(">II")
_CRC: Final = struct.Struct(">I")
_STRING: Final = 7
_LONGEST: Final = 24 << 20  #: AWS's own bound of one message


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


class Events:
    """The other way round: the events in a stream that comes in pieces."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes]]:
        """Those that are complete now: ``:event-type`` and payload. Raises ValueError for what is no event stream."""
        self._data += data
        while len(self._data) >= 12:
            total, headers = _PRELUDE.unpack_from(self._data)
            if _CRC.unpack_from(self._data, 8)[0] != zlib.crc32(self._data[:8]) or not 16 + headers <= total <= _LONGEST:
                raise ValueError("not an event stream")
            if len(self._data) < total:
                return
            message = bytes(self._data[:total])
            del self._data[:total]
            if _CRC.unpack_from(message, total - 4)[0] != zlib.crc32(message[:-4]):
                raise ValueError("an event was damaged on its way")
            yield _event_type(message[12 : 12 + headers]), message[12 + headers : -4]


def _event_type(headers: bytes) -> str:
    found, at = {}, 0
    while at < len(headers):
        name_end = at + 1 + headers[at]
        if headers[name_end] != _STRING:
            raise ValueError("a header of an event is no text")
        size = int.from_bytes(headers[name_end + 1 : name_end + 3], "big")
        found[headers[at + 1 : name_end]] = headers[name_end + 3 : name_end + 3 + size].decode()
        at = name_end + 3 + size
    return found.get(b":event-type", "")


def _message(headers: bytes, payload: bytes) -> bytes:
    prelude = _PRELUDE.pack(12 + len(headers) + len(payload) + 4, len(headers))
    head = prelude + _CRC.pack(zlib.crc32(prelude)) + headers
    return b"".join((head, payload, _CRC.pack(zlib.crc32(payload, zlib.crc32(head)))))
