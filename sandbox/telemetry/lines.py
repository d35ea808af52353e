"""Output, cut anywhere, as lines. [P]"""

from __future__ import annotations

from typing import Final

LINE_BYTES: Final = 256 * 1024  #: a longer one is cut, where CloudWatch cuts a message


class Lines:
    """Keeps the beginning of a line until its end comes."""

    __slots__ = ("_rest", "_size")

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._size = 0

    @property
    def unfinished(self) -> bool:
        """Whether there is the beginning of a line."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete now, without their ends; those that are empty are left out."""
        *whole, rest = data.split(b"\n")
        if whole and self._rest:
            whole[0] = self.rest() + whole[0]
        if rest:
            self._rest.append(rest)
            self._size += len(rest)
            if self._size >= LINE_BYTES:
                whole.append(self.rest())
        return [line for line in whole if line]

    def rest(self) -> bytes:
        """What has not ended, and ends with that."""
        found = b"".join(self._rest)
        self._rest.clear()
        self._size = 0
        return found
