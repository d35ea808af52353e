"""Where what is told about a sandbox goes."""

from __future__ import annotations

from typing import Protocol


class Log(Protocol):
    """Takes what is told, at once, in the order in which it came to light; called by the event loop."""

    def output(self, data: bytes) -> None: ...  # what the function writes, cut anywhere
    def platform(self, line: str) -> None: ...  # or several at once, without the last line feed
    def extension(self, line: str) -> None: ...  # the same


class NoLog:
    """Of a sandbox that has no function yet: nobody reads what is told about it."""

    __slots__ = ()

    def output(self, data: bytes) -> None: ...
    def platform(self, line: str) -> None: ...
    def extension(self, line: str) -> None: ...
