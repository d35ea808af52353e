"""Somebody who takes an answer while it comes, and notes it."""

from __future__ import annotations

from sandbox.outcome import Flow


class Taker:
    """A `sandbox.outcome.Stream`; with `full_at` it pauses the flow when it has that many bytes."""

    def __init__(self, limit_bytes: int = 1 << 40, full_at: int | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.full_at = full_at
        self.content_type: str | None = None  #: None until it has begun
        self.flow: Flow | None = None
        self.pieces: list[bytes] = []
        self.size = 0

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def begin(self, content_type: str, flow: Flow) -> None:
        assert self.content_type is None, "begun twice"
        self.content_type = content_type
        self.flow = flow

    def chunk(self, data: bytes) -> None:
        assert self.content_type is not None, "not begun"
        assert data, "nothing is no piece"
        self.pieces.append(data)
        self.size += len(data)
        if self.full_at is not None and self.size >= self.full_at:
            self.pause()

    def pause(self) -> None:
        assert self.flow is not None
        self.flow.pause()

    def resume(self) -> None:
        assert self.flow is not None
        self.full_at = None
        self.flow.resume()
