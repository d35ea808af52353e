"""What functions write, and what the platform says about each invocation: kept in files, readable while they grow.

A sandbox's `LogStream` is written on the hot path, so writing is an append to a queue in memory (1 µs a line) and nothing
more. One thread takes the queues and appends them to each function's files, some ten times a second; the bytes are ready by
then, so that the thread holds the interpreter for microseconds only and the event loop never waits for it.

**Nothing here can hurt the gateway.** Per function and in all, only so many bytes wait for the disk; what comes faster is
dropped, counted, and told in the log itself. A full disk is warned of once; invocations go on and their lines are counted as
lost. Deleting a function keeps its log, as AWS keeps log groups.

A function's `_Sink` is there as long as somebody has it: a stream (so its sandbox), a follower, the flusher's list.
"""

from __future__ import annotations

import collections
import logging
import threading
import urllib.parse
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from gateway.clock import Clock
from gateway.observe import log_levels
from gateway.observe.log_files import START, LogEvent, LogFiles, Position
from gateway.observe.retention import Keep, expire
from gateway.records import LoggingConfig

TAIL_BYTES: Final = 4096  #: of an invocation's log, for X-Amz-Log-Result
_LINE_FEED: Final = 10
_PARTIAL_BYTES: Final = 256 * 1024  # an unfinished line is cut here, where CloudWatch cuts a message
_WRITE_BYTES: Final = 1024 * 1024
KEEP_ALL: Final = Keep(None, None)

_log = logging.getLogger(__name__)


class Follower(Protocol):
    """Who wants to hear that a function's files have grown. Called in the flusher's thread; must not block or raise."""

    def grown(self) -> None: ...


class LogStream:
    """The log of one sandbox: what its function writes, and the platform's lines between. For the event loop's thread only."""

    __slots__ = ("_ms", "_name", "_partial", "_partial_bytes", "_prefix", "_sink", "_tail", "_wall", "log_group")

    def __init__(self, sink: _Sink, log_group: str, name: str, clock: Clock) -> None:
        self.log_group = log_group
        self._sink = sink
        self._name = name.encode()
        self._wall = clock.wall
        self._ms = -1
        self._prefix = b""
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._tail = bytearray()

    def __repr__(self) -> str:
        return f"<LogStream {self.log_group} {self._name.decode()}>"

    def output(self, data: bytes) -> None:
        """What the function wrote; any bytes, cut anywhere."""
        tail = self._tail
        if len(data) < TAIL_BYTES:
            tail += data
            if len(tail) > 4 * TAIL_BYTES:
                del tail[:-TAIL_BYTES]
        else:
            tail[:] = data[-TAIL_BYTES:]
        rest = b""
        if not data.endswith(b"\n"):
            end = data.rfind(b"\n") + 1
            if end == 0:
                self._unfinished(data)
                return
            rest, data = data[end:], data[:end]
        if self._partial:
            data = self._finished(data)
        prefix = self._stamp()
        # One replacement for a whole chunk: chatty functions cost by the byte, not by the line.
        self._sink.put(prefix + data[:-1].replace(b"\n", b"\n" + prefix) + b"\n")
        if rest:
            self._unfinished(rest)

    def platform(self, line: str) -> None:
        """One of the platform's own lines (START, END, REPORT), or several at once; without the last line feed."""
        if self._partial:
            self.output(b"\n")
        self._whole(line)

    def extension(self, line: str) -> None:
        """What an extension wrote: whole lines, without the last line feed. What the function has begun goes on after them."""
        half = b"".join(self._partial)[-len(self._tail) :] if self._tail else b""
        if half:
            del self._tail[-len(half) :]
        self._whole(line)
        self._tail += half

    def _whole(self, line: str) -> None:
        try:
            data = line.encode() + b"\n"
        except UnicodeEncodeError:  # the runtime named its error in bytes that are no text
            data = line.encode("utf-8", "replace") + b"\n"
        tail = self._tail
        if tail and tail[-1] != _LINE_FEED:  # a line was cut just where its last piece became an entry
            tail += b"\n"
        tail += data
        if len(tail) > 4 * TAIL_BYTES:
            del tail[:-TAIL_BYTES]
        prefix = self._stamp()
        if "\n" in line:
            data = data[:-1].replace(b"\n", b"\n" + prefix) + b"\n"
        self._sink.put(prefix + data)

    def begin(self) -> None:
        """An invocation starts: its tail is empty."""
        self._tail.clear()

    def tail(self) -> bytes:
        """The last 4,096 bytes since `begin`."""
        return bytes(self._tail[-TAIL_BYTES:])

    def close(self) -> None:
        """The sandbox is gone: a line that it did not finish is an entry too. The stream can still be written."""
        if self._partial:
            self.output(b"\n")

    def _unfinished(self, data: bytes) -> None:
        """Keep the beginning of a line, or more of it. Pieces, because a line may come byte by byte."""
        if data:
            self._partial.append(data)
            self._partial_bytes += len(data)
        if self._partial_bytes >= _PARTIAL_BYTES:
            self._sink.put(self._stamp() + self._finished(b"\n"))

    def _finished(self, data: bytes) -> bytes:
        self._partial.append(data)
        line = b"".join(self._partial)
        self._partial.clear()
        self._partial_bytes = 0
        return line

    def _stamp(self) -> bytes:
        ms = int(self._wall() * 1000)
        if ms != self._ms:
            self._ms = ms
            self._prefix = b"%d\t%b\t" % (ms, self._name)
        return self._prefix


class FilteredStream(LogStream):
    """The log of a function whose LoggingConfig says JSON: keeps the lines that `kept` says yes to."""

    __slots__ = ("_kept", "_waiting")

    def __init__(self, sink: _Sink, log_group: str, name: str, clock: Clock, kept: log_levels.Kept) -> None:
        super().__init__(sink, log_group, name, clock)
        self._kept = kept
        self._waiting = b""

    def output(self, data: bytes) -> None:
        *lines, self._waiting = (self._waiting + data).split(b"\n")
        if len(self._waiting) >= _PARTIAL_BYTES:
            lines.append(self._waiting)
            self._waiting = b""
        if found := [line for line in lines if self._kept.is_kept(line)]:
            super().output(b"\n".join(found) + b"\n")

    def platform(self, line: str) -> None:
        self._finish()
        if found := self._found(line):
            super().platform(found)

    def extension(self, line: str) -> None:
        if found := self._found(line):
            super().extension(found)

    def close(self) -> None:
        self._finish()
        super().close()

    def _found(self, lines: str) -> str:
        return "\n".join(line for line in lines.split("\n") if self._kept.is_kept_of_platform(line))

    def _finish(self) -> None:
        if self._waiting:
            self.output(b"\n")


class _Sink:
    """One function's log on its way to the disk.

    Two threads meet here without a lock: `put` runs in the event loop and owns `taken` and `dropped`, `Logs._flush` runs in
    the flusher and owns all else; each only reads what the other owns, and a deque's ends are safe to use at the same time.
    """

    __slots__ = ("__weakref__", "blocks", "dirty", "dropped", "files", "followers", "logs", "lost", "taken", "told", "written")

    def __init__(self, logs: Logs, files: LogFiles) -> None:
        self.logs = logs
        self.files = files
        self.blocks: collections.deque[bytes] = collections.deque()
        self.dirty = False  # in the flusher's list
        self.taken = 0  # bytes
        self.written = 0  # bytes; done with, be it written or lost
        self.dropped = 0  # lines that came too fast
        self.lost = 0  # lines that the disk refused
        self.told = 0  # lines of both that the log itself tells of
        self.followers: frozenset[Follower] = frozenset()

    def put(self, block: bytes) -> None:
        logs = self.logs
        size = len(block)
        waiting = self.taken - self.written
        if waiting and (waiting + size > logs.buffer_bytes or logs.taken - logs.written + size > logs.total_bytes):
            self.dropped += block.count(b"\n")
            if self.dirty:
                return
        else:
            self.blocks.append(block)
            self.taken += size
            logs.taken += size
        # The flusher clears `dirty` before it looks into `blocks`, so what it finds set after an append will still be seen.
        if not self.dirty:
            self.dirty = True
            logs.dirty.append(self)
            logs.wake()


class Logs:
    """The logs of all functions, under `directory`.

    At most `segments` files of about `segment_bytes` are kept for a function, and of all functions what `keep` says, which is
    looked after every `look_s` seconds and whenever much was written. `buffer_bytes` a function and `total_bytes` in all
    may wait for the disk, which is written every `flush_s` seconds. `start` begins that; `close` writes the rest and ends it.
    Before and after, lines are taken up to the same bounds.
    """

    def __init__(
        self,
        *,
        directory: Path,
        clock: Clock,
        segment_bytes: int = 8 * 1024 * 1024,
        segments: int = 2,
        buffer_bytes: int = 4 * 1024 * 1024,
        total_bytes: int = 64 * 1024 * 1024,
        flush_s: float = 0.1,
        keep: Keep = KEEP_ALL,
        look_s: float = 60.0,
    ) -> None:
        self.buffer_bytes = buffer_bytes
        self.total_bytes = total_bytes
        self.taken = 0  # bytes; the event loop's
        self.written = 0  # bytes; the flusher's
        self.dirty: collections.deque[_Sink] = collections.deque()
        self._directory = directory
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._segments = segments
        self._flush_s = flush_s
        self._sinks: weakref.WeakValueDictionary[str, _Sink] = weakref.WeakValueDictionary()
        self._followed: dict[tuple[str, Follower], _Sink] = {}
        self._untold: set[_Sink] = set()  # the flusher's: whose log could not even be told that lines are missing in it
        self._thread: threading.Thread | None = None
        self._awake = False
        self._work = threading.Event()
        self._hurry = threading.Event()
        self._flushing = threading.Lock()
        self._stopping = False
        self._disk_refuses = False
        self._keep = keep
        self._look_s = look_s
        self._looked_s = clock.monotonic() - look_s  # the first look is at the start
        self._looked_at = 0  # of `written`

    def __repr__(self) -> str:
        return f"<Logs {len(self._sinks)} functions, {self.taken - self.written} bytes waiting>"

    def open(self, function_name: str, log_group: str, stream: str, config: LoggingConfig | None = None) -> LogStream:
        """The log of a new sandbox of this function; `config` says which entries of which level are kept."""
        if config is not None and config.log_format == "JSON":
            kept = log_levels.Kept(config.application_level, config.system_level)
            return FilteredStream(self._sink(function_name), log_group, stream, self._clock, kept)
        return LogStream(self._sink(function_name), log_group, stream, self._clock)

    def start(self) -> None:
        """Begin to write to the disk."""
        if self._thread is None:
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="function-logs", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write what waits and stop. Takes as long as the disk takes for `total_bytes` at most. Twice is once."""
        self._stopping = True
        self._work.set()
        self._hurry.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.flush()

    def flush(self) -> None:
        """Return when all that was written before is on its way to the disk. Blocks: not for the event loop."""
        with self._flushing:
            for _ in range(len(self.dirty)):  # not what comes meanwhile: under load that would be 200 small writes a second
                self._flush(self.dirty.popleft())

    def wake(self) -> None:
        """Have the flusher look. For `_Sink`; setting an event costs more than all else on the way, so only when it sleeps."""
        if not self._awake:
            self._awake = True
            self._work.set()

    def known(self, function_name: str) -> bool:
        """Whether there is a log of this function. Blocks a little."""
        return function_name in self._sinks or self._files(function_name).exist()

    def read(self, function_name: str, since_ms: int = 0) -> Iterator[LogEvent]:
        """The function's log, oldest first, without what is younger than the last flush. Blocks: not for the event loop."""
        position: Position | None = START
        while position is not None:
            events, after = self.read_from(function_name, position)
            yield from (event for event in events if event.timestamp_ms >= since_ms)
            position = after if after != position else None

    def read_from(self, function_name: str, position: Position, most_bytes: int = 256 * 1024) -> tuple[list[LogEvent], Position]:
        """Some of the log after `position`, and the position after it; the same position where there is no more. Blocks.

        Where the file is gone meanwhile, reading goes on with the oldest there is, after an entry that says so.
        """
        files = self._files(function_name)
        gone = files.gone(position)
        events, after = files.read(position, most_bytes)
        if gone and after != position:
            ms = int(self._clock.wall() * 1000)
            events.insert(0, LogEvent(ms, "lambent", "[lambent] lines are missing here: they were removed before they were read"))
        return events, after

    def follow(self, function_name: str, follower: Follower) -> None:
        """Have `follower` told when the function's files grow."""
        sink = self._followed[function_name, follower] = self._sink(function_name)
        sink.followers |= {follower}

    def unfollow(self, function_name: str, follower: Follower) -> None:
        """Have it told no more."""
        sink = self._followed.pop((function_name, follower), None)
        if sink is not None:
            sink.followers -= {follower}

    def _sink(self, function_name: str) -> _Sink:
        sink = self._sinks.get(function_name)
        if sink is None:
            sink = self._sinks[function_name] = _Sink(self, self._files(function_name))
        return sink

    def _files(self, function_name: str) -> LogFiles:
        directory = self._directory / urllib.parse.quote(function_name, safe="").replace(".", "%2E")
        return LogFiles(directory, self._segment_bytes, self._segments)

    # The flusher's side.

    def _run(self) -> None:
        while not self._stopping:
            self._work.wait(self._look_s)
            self._work.clear()
            # Let more come together, and a cold start, whose first line this is, be done: two threads slow each other down.
            self._hurry.wait(self._flush_s)
            self._awake = False  # before looking: what is put from here on wakes us again
            try:
                self._expire()
                self.flush()
            except Exception:  # without this thread there are no logs at all
                _log.exception("the logs of functions could not be written")

    def _expire(self) -> None:
        """Remove what is not to be kept any more, when that is due. Before a flush, which may need the room."""
        due = self._keep.look_after_bytes
        if self._clock.monotonic() - self._looked_s < self._look_s and (due is None or self.written - self._looked_at < due):
            return
        self._looked_s, self._looked_at = self._clock.monotonic(), self.written
        try:
            if removed := expire(self._directory, self._keep, self._clock.wall()):
                _log.info("%d log files of functions were removed: too old, or too much in all", removed)
        except OSError as error:
            _log.warning("old logs of functions cannot be removed: %s", error)

    def _flush(self, sink: _Sink) -> None:
        sink.dirty = False
        grown = False
        lost = sink.lost
        count = len(sink.blocks)
        while count:
            blocks: list[bytes] = []
            size = 0
            while count and size < _WRITE_BYTES:
                block = sink.blocks.popleft()
                size += len(block)
                blocks.append(block)
                count -= 1
            grown |= self._write(sink, b"".join(blocks))
            sink.written += size
            self.written += size
        missing = sink.dropped + sink.lost
        if missing > sink.told:
            ms = int(self._clock.wall() * 1000)
            notice = f"{ms}\tlambent\t[lambent] {missing - sink.told} lines are missing here: the disk was slow or full\n"
            if self._write(sink, notice.encode(), counted=False):
                sink.told = missing
                grown = True
            elif sink.lost > lost:  # its sandbox may end before the disk takes anything
                self._untold.add(sink)
        if grown:
            for follower in sink.followers:
                follower.grown()

    def _write(self, sink: _Sink, data: bytes, *, counted: bool = True) -> bool:
        """Append; False where the disk refuses."""
        try:
            sink.files.append(data)
        except OSError as error:
            if counted:
                sink.lost += data.count(b"\n")
            if not self._disk_refuses:
                self._disk_refuses = True
                _log.warning("logs of functions cannot be written, their lines are lost until they can: %s", str(error))
            return False
        if self._disk_refuses:
            self._disk_refuses = False
            _log.warning("logs of functions are written again")
            self.dirty.extend(self._untold)
            self._untold.clear()
            self._work.set()
        return True
