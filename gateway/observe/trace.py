"""Request ids and trace ids. [P]

A request id has the form of a random UUID, which is what AWS's clients expect to find in logs and headers. A trace id is X-Ray's:
``Root=1-<seconds in hex>-<96 random bits>``, to which the function's side gets ``;Parent=<64 random bits>;Sampled=0`` added, as
AWS does for a function that nobody traces. A caller's own trace header is honoured where it is well formed, so that a trace goes
through. Randomness comes in pools, because asking the kernel for 16 bytes costs more than everything else here (0.5 µs of 0.9).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

#: What X-Ray accepts: the root, then any of the other fields in any order.
_HEADER: Final = re.compile(
    r"(?:self=[^;]{1,80};)?root=(1-[0-9a-f]{8}-[0-9a-f]{24})((?:;[a-z]{1,16}=[0-9a-z:.|_-]{1,100}){0,8});?",
    re.ASCII | re.IGNORECASE,
)
_POOL_BYTES: Final = 4096
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class Ids:
    """Makes ids from `entropy`, which gives as many random bytes as it is asked for (``os.urandom``)."""

    __slots__ = ("_entropy", "_hex", "_next")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._hex = ""
        self._next = 0

    def _digits(self, count: int) -> str:
        begin = self._next
        end = begin + count
        if end > len(self._hex):
            self._hex = self._entropy(_POOL_BYTES).hex()
            begin, end = 0, count
        self._next = end
        return self._hex[begin:end]

    def request_id(self) -> str:
        """A random (version 4) UUID."""
        h = self._digits(32)
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:]}"

    def root(self, now_s: float) -> str:
        """A new trace: value of X-Amzn-Trace-Id as a client sees it."""
        return f"Root=1-{int(now_s):08x}-{self._digits(24)}"

    def trace(self, given: str | None, now_s: float) -> str:
        """The caller's trace header where it is a valid one, else a new trace."""
        if given is not None:
            match = _HEADER.fullmatch(given.strip())
            if match is not None:
                return f"Root={match[1]}{match[2]}"
        return self.root(now_s)

    def segment(self, trace: str) -> str:
        """The trace as the function sees it: with a parent, and a sampling decision."""
        if ";" not in trace:
            return f"{trace};Parent={self._digits(16)};Sampled=0"
        folded = trace.lower()
        if ";parent=" not in folded:
            trace = f"{trace};Parent={self._digits(16)}"
        return trace if ";sampled=" in folded else f"{trace};Sampled=0"
