"""Event streams as botocore's decoder, which is AWS's own, reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge import eventstream


def decoded(data: bytes) -> list[tuple[dict[str, Any], bytes]]:
    buffer: Any = EventStreamBuffer()
    buffer.add_data(data)
    return [(message.headers, message.payload) for message in buffer]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_chunks(pieces: list[bytes]) -> None:
    headers = {":event-type": "PayloadChunk", ":content-type": "application/octet-stream", ":message-type": "event"}
    assert decoded(b"".join(map(eventstream.payload_chunk, pieces))) == [(headers, piece) for piece in pieces]


@pytest.mark.parametrize(
    ("members", "document"),
    [
        ((None, None, None), {}),
        (("Unhandled", "ä", "bG9n"), {"ErrorCode": "Unhandled", "ErrorDetails": "ä", "LogResult": "bG9n"}),
        ((None, None, ""), {"LogResult": ""}),
    ],
)
def test_the_last_event(members: tuple[str | None, str | None, str | None], document: dict[str, str]) -> None:
    [(headers, payload)] = decoded(eventstream.invoke_complete(*members))
    assert headers == {":event-type": "InvokeComplete", ":content-type": "application/json", ":message-type": "event"}
    assert json.loads(payload) == document


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 50))
def test_there_and_back_in_any_pieces(payloads: list[bytes], step: int) -> None:
    data = b"".join(map(eventstream.payload_chunk, payloads)) + eventstream.invoke_complete(None, None, None)
    events = eventstream.Events()
    found = [event for start in range(0, len(data), step) for event in events.feed(data[start : start + step])]
    assert found == [("PayloadChunk", payload) for payload in payloads] + [("InvokeComplete", b"{}")]


@given(st.data())
def test_damage_is_noticed(data: st.DataObject) -> None:
    message = bytearray(eventstream.payload_chunk(b"payload"))
    message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="event"):
        list(eventstream.Events().feed(bytes(message)))
