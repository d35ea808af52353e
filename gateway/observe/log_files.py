"""The files of one function's log: appended to by one thread, read by any, at most so many of at most so many bytes.

``DIRECTORY/000000000001.log``, one line an entry: milliseconds since the epoch, log stream, message, with tabs between. A
message is the function's own bytes and has no line feed. When a file is full the next number begins, and the oldest are
removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

_SUFFIX: Final = ".log"
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class LogEvent(NamedTuple):
    """One entry of a function's log."""

    timestamp_ms: int
    stream: str
    message: str


class Position(NamedTuple):
    """A place in a function's files."""

    segment: int
    offset: int


START: Final = Position(0, 0)


class LogFiles:
    """The log in `directory`, which is made with the first line: at most `segments` files of about `segment_bytes`."""

    __slots__ = ("_begun", "_directory", "_segment", "_segment_bytes", "_segments", "_torn")

    def __init__(self, directory: Path, segment_bytes: int, segments: int) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._segments = segments
        self._segment = 0  # not looked up yet
        self._begun = False  # something was written to the file
        self._torn = True  # the file may end in the middle of a line: whoever wrote it before may have been killed

    def __repr__(self) -> str:
        return f"<LogFiles {self._directory.name} {self._segment}>"

    def exist(self) -> bool:
        """False also where nobody may look, or no file can have such a name."""
        try:
            return self._directory.is_dir()
        except OSError:
            return False

    def append(self, lines: bytes) -> None:
        """Write whole lines. Raises OSError where the disk refuses; some of them may have been written then."""
        if self._segment == 0:
            numbers = self._numbers()
            self._segment = numbers[-1] if numbers else 1
        fd = self._opened()
        try:
            size = os.lseek(fd, 0, os.SEEK_END)
            if not size and self._begun:  # it was removed: a new number, since readers know how far they are in the old one
                self._file(self._segment).unlink(missing_ok=True)
                os.close(fd)
                fd = -1
                self._segment += 1
                fd = self._opened()
            if size and size + len(lines) > self._segment_bytes:
                os.close(fd)
                fd = -1
                self._rotate()
                fd = self._opened()
            elif self._torn and size and os.pread(fd, 1, size - 1) != b"\n":
                lines = b"\n" + lines
            self._torn = self._begun = True
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(fd, rest) :]
            self._torn = False
        finally:
            if fd >= 0:
                os.close(fd)

    def read(self, position: Position, most_bytes: int) -> tuple[list[LogEvent], Position]:
        """Entries after `position`, and the position after them; `position` itself where there are no more.

        Where its file is gone meanwhile, reading goes on with the oldest there is.
        """
        for number in self._numbers():
            if number < position.segment:
                continue
            offset = position.offset if number == position.segment else 0
            try:
                with self._file(number).open("rb") as file:
                    file.seek(offset)
                    data = file.read(most_bytes)
                    while not (end := data.rfind(b"\n") + 1) and (more := file.read(most_bytes)):
                        data += more  # a very long line
            except FileNotFoundError:
                continue
            if end:
                return list(_parsed(data[:end])), Position(number, offset + end)
            position = Position(number, offset)
        return [], position

    def gone(self, position: Position) -> bool:
        """Whether the file of `position` was removed, so that reading on from there leaves something out."""
        return position != START and not self._file(position.segment).exists()

    def _rotate(self) -> None:
        self._segment += 1
        self._torn = self._begun = False
        for number in self._numbers():
            if number <= self._segment - self._segments:
                self._file(number).unlink(missing_ok=True)

    def _opened(self) -> int:
        file = self._file(self._segment)
        try:
            return os.open(file, _FLAGS, 0o600)
        except FileNotFoundError:  # the first line, or somebody removed the directory
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(file, _FLAGS, 0o600)

    def _file(self, number: int) -> Path:
        return self._directory / f"{number:012d}{_SUFFIX}"

    def _numbers(self) -> list[int]:
        """The segments that are there, in order."""
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        return sorted(int(name[:12]) for name in names if len(name) == 16 and name.endswith(_SUFFIX) and name[:12].isdecimal())


def _parsed(data: bytes) -> Iterator[LogEvent]:
    """The entries of whole lines; what is none (the file was cut by a crash, or edited) is left out."""
    for line in data.split(b"\n"):
        stamp, _, rest = line.partition(b"\t")
        stream, tab, message = rest.partition(b"\t")
        if tab and stamp.isdigit() and len(stamp) < 16:
            yield LogEvent(int(stamp), stream.decode("utf-8", "replace"), message.decode("utf-8", "replace"))
