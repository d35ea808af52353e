"""Logs of functions: nothing is lost that there is room for, and nothing can hurt whoever writes them."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.observe.log_files import START, LogEvent
from gateway.observe.logs import Logs
from gateway.records import LoggingConfig

STREAM = "2026/11/21/[$LATEST]0123456789abcdef0123456789abcdef"


class HandClock:
    """Time as the test sets it."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def make(tmp_path: Path, clock: HandClock) -> Callable[..., Logs]:
    """Makes Logs that no thread writes: `flush` does."""
    return lambda **limits: Logs(directory=tmp_path / "logs", clock=clock, **limits)


def messages(logs: Logs, function: str = "f") -> list[str]:
    logs.flush()
    return [event.message for event in logs.read(function)]


def test_entries_have_time_stream_and_message(make: Callable[..., Logs], clock: HandClock) -> None:
    logs = make()
    stream = logs.open("f", "/aws/lambda/f", STREAM)
    stream.platform("START RequestId: 1 Version: $LATEST")
    clock.now_s += 0.25
    stream.output(b"one\ntwo\ttabs\r\n")
    logs.flush()
    assert list(logs.read("f")) == [
        LogEvent(1_700_000_000_000, STREAM, "START RequestId: 1 Version: $LATEST"),
        LogEvent(1_700_000_000_250, STREAM, "one"),
        LogEvent(1_700_000_000_250, STREAM, "two\ttabs\r"),
    ]
    assert [event.message for event in logs.read("f", since_ms=1_700_000_000_001)] == ["one", "two\ttabs\r"]


def test_several_platform_lines_at_once(make: Callable[..., Logs]) -> None:
    logs = make()
    stream = logs.open("f", "g", STREAM)
    stream.platform("END RequestId: 1\nREPORT RequestId: 1\tDuration: 1 ms\t")
    assert messages(logs) == ["END RequestId: 1", "REPORT RequestId: 1\tDuration: 1 ms\t"]


def test_lines_are_put_together_and_the_last_one_waits(make: Callable[..., Logs]) -> None:
    logs = make()
    stream = logs.open("f", "g", STREAM)
    for part in (b"he", b"llo\nwor", b"ld", b"!"):
        stream.output(part)
    assert messages(logs) == ["hello"]
    stream.platform("END")
    assert messages(logs) == ["hello", "world!", "END"]
    stream.output(b"after")
    stream.close()
    stream.close()
    assert messages(logs)[3:] == ["after"]


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_any_bytes_cut_anywhere(parts: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        logs = Logs(directory=Path(directory), clock=HandClock())
        stream = logs.open("f", "g", "s")
        for part in parts:
            stream.output(part)
        stream.close()
        lines = b"".join(parts).split(b"\n")
        if not lines[-1]:
            lines.pop()  # what follows the last line feed
        assert messages(logs) == [line.decode("utf-8", "replace") for line in lines]
        assert stream.tail().removesuffix(b"\n") == b"".join(parts)[-4096:].removesuffix(b"\n")


def test_a_line_without_end_is_cut(make: Callable[..., Logs]) -> None:
    logs = make()
    stream = logs.open("f", "g", STREAM)
    for _ in range(9):
        stream.output(b"x" * 65_536)
    found = messages(logs)
    assert sum(map(len, found)) >= 8 * 65_536
    assert max(map(len, found)) <= 2 * 256 * 1024


def test_a_line_that_comes_byte_by_byte(make: Callable[..., Logs]) -> None:
    logs = make()
    stream = logs.open("f", "g", STREAM)
    stream.output(b"")
    for _ in range(300_000):
        stream.output(b"x")
    stream.platform("END")
    found = messages(logs)
    assert [len(line) for line in found] == [256 * 1024, 300_000 - 256 * 1024, 3]


def test_tail_ends_a_line_whose_last_piece_is_an_entry_already(make: Callable[..., Logs]) -> None:
    logs = make()
    stream = logs.open("f", "g", STREAM)
    stream.begin()
    for _ in range(4):
        stream.output(b"x" * 65_536)
    stream.platform("END")
    assert stream.tail().endswith(b"xxx\nEND\n")
    assert [len(line) for line in messages(logs)] == [256 * 1024, 3]


def test_order_is_kept_around_a_long_rest(make: Callable[..., Logs]) -> None:
    logs = make()
    stream = logs.open("f", "g", STREAM)
    stream.output(b"begin")
    stream.output(b"ning\nsecond\n" + b"x" * 300_000)
    stream.output(b"\nlast\n")
    assert [line[:9] for line in messages(logs)] == ["beginning", "second", "x" * 9, "", "last"]


@pytest.mark.parametrize("config", [None, LoggingConfig(log_format="JSON", log_group="g")], ids=["text", "JSON"])
def test_line_of_an_extension_does_not_end_what_the_function_has_begun(
    make: Callable[..., Logs], config: LoggingConfig | None
) -> None:
    """print("works") is two writes, and the extension's may come between."""
    logs = make()
    stream = logs.open("f", "g", STREAM, config)
    stream.output(b"before\nwor")
    stream.extension("of the\nextension")
    if config is None:
        assert stream.tail() == b"before\nof the\nextension\nwor"
    stream.output(b"ks")
    stream.begin()
    stream.extension("again")
    stream.output(b"\nhalf")
    stream.platform("END")
    assert messages(logs) == ["before", "of the", "extension", "again", "works", "half", "END"]


def test_tail_is_of_the_invocation_and_4096_bytes(make: Callable[..., Logs]) -> None:
    stream = make().open("f", "g", STREAM)
    stream.output(b"before\n")
    stream.begin()
    assert stream.tail() == b""
    stream.platform("START")
    stream.output(b"unfinished")
    assert stream.tail() == b"START\nunfinished"
    stream.platform("END")
    assert stream.tail() == b"START\nunfinished\nEND\n"
    for size in (1, 100, 4095, 4096, 5000, 70_000):
        stream.begin()
        everything = b""
        for n in range(60):
            data = bytes([n]) * size
            stream.output(data)
            everything += data
        assert stream.tail() == everything[-4096:]


def test_50_mb_exhaust_neither_memory_nor_disk(make: Callable[..., Logs], tmp_path: Path) -> None:
    logs = make(buffer_bytes=1_000_000, segment_bytes=500_000)
    stream = logs.open("f", "g", STREAM)
    for n in range(800):
        stream.output((b"%07d " % n + b"x" * 55 + b"\n") * 1024)
        if n % 100 == 99:
            logs.flush()
    assert "0 bytes waiting" in repr(logs)
    kept = sum(file.stat().st_size for file in (tmp_path / "logs" / "f").iterdir())
    assert kept < 4_000_000
    found = messages(logs)
    assert found[-1].startswith("[lambent] ")
    assert found[-1].endswith("lines are missing here: the disk was slow or full")


def test_what_was_dropped_is_counted_where_it_is_missing(make: Callable[..., Logs]) -> None:
    logs = make(buffer_bytes=300)
    stream = logs.open("f", "g", STREAM)
    for n in range(10):
        stream.output(b"line %d\n" % n)
    found = messages(logs)
    kept = [line for line in found if line.startswith("line")]
    assert kept == [f"line {n}" for n in range(len(kept))]
    assert 0 < len(kept) < 10
    assert found[len(kept) :] == [f"[lambent] {10 - len(kept)} lines are missing here: the disk was slow or full"]
    stream.output(b"again\n")
    assert messages(logs)[-1] == "again"


def test_all_functions_together_are_bounded(make: Callable[..., Logs]) -> None:
    logs = make(buffer_bytes=1000, total_bytes=5000)
    for n in range(100):
        logs.open(f"f{n}", "g", STREAM).output(b"x" * 400 + b"\n")
    assert int(repr(logs).split(", ")[1].split(" ")[0]) <= 5000 + 100 * 500
    logs.flush()
    assert sum(len(list(logs.read(f"f{n}"))) for n in range(100)) >= 100


def test_rotation_keeps_the_newest(make: Callable[..., Logs], tmp_path: Path) -> None:
    logs = make(segment_bytes=1000, segments=2)
    stream = logs.open("f", "g", "s")
    for n in range(100):
        stream.output(b"line %03d\n" % n)
        logs.flush()
    assert len(list((tmp_path / "logs" / "f").iterdir())) == 2
    found = messages(logs)
    assert found == [f"line {n:03d}" for n in range(100 - len(found), 100)]
    assert len(found) > 30


def test_goes_on_after_a_restart_and_after_a_line_that_was_cut_by_a_crash(make: Callable[..., Logs], tmp_path: Path) -> None:
    first = make()
    first.open("f", "g", "s").output(b"one\n")
    first.flush()
    [file] = (tmp_path / "logs" / "f").iterdir()
    with file.open("ab") as torn:
        torn.write(b"1700000000000\ts\tcut in the mid")
    second = make()
    second.open("f", "g", "s").output(b"two\n")
    assert messages(second) == ["one", "cut in the mid", "two"]
    with file.open("ab") as edited:
        edited.write(b"nonsense\n\n\xff\t\t\n")
    second.open("f", "g", "s").output(b"three\n")
    assert messages(second) == ["one", "cut in the mid", "two", "three"]


def test_names_stay_inside_the_directory(make: Callable[..., Logs], tmp_path: Path) -> None:
    logs = make()
    for name in ("..", ".", "a/../../b", "/etc/x", "ä"):
        logs.open(name, "g", "s").output(b"x\n")
        assert messages(logs, name) == ["x"]
    assert {path.name for path in tmp_path.iterdir()} == {"logs"}
    assert len(list((tmp_path / "logs").iterdir())) == 5


def test_log_of_nobody(make: Callable[..., Logs]) -> None:
    logs = make()
    assert list(logs.read("nobody")) == []
    assert not logs.known("nobody")
    assert logs.read_from("nobody", START) == ([], START)


def test_name_that_no_file_can_have(make: Callable[..., Logs]) -> None:
    logs = make()
    logs.open("f", "g", "s").output(b"x\n")
    logs.flush()
    assert not logs.known("n" * 252)
    assert not logs.known("n" * 5000)
    assert logs.known("f")


def test_nothing_is_kept_of_functions_whose_sandboxes_are_gone(make: Callable[..., Logs], clock: HandClock) -> None:
    logs = make()
    told = Told()
    logs.follow("f1", told)
    for n in range(100):
        logs.open(f"f{n}", "g", "s").output(b"x\n")
    assert repr(logs).startswith("<Logs 100 functions"), "their lines wait"
    logs.flush()
    assert told.event.is_set()
    assert repr(logs) == "<Logs 1 functions, 0 bytes waiting>"
    stream = logs.open("f1", "g", "t")
    told.event.clear()
    stream.output(b"y\n")
    assert messages(logs, "f1") == ["x", "y"]
    assert told.event.is_set()
    logs.unfollow("f1", told)
    assert "1 functions" in repr(logs)
    del stream
    assert "0 functions" in repr(logs)
    logs.unfollow("f1", told)
    assert messages(logs, "f99") == ["x"]


def test_files_are_the_owners_alone(make: Callable[..., Logs], tmp_path: Path) -> None:
    logs = make()
    logs.open("f", "g", "s").output(b"x\n")
    logs.flush()
    directory = tmp_path / "logs" / "f"
    assert directory.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in directory.iterdir())


def test_directory_that_is_removed_comes_back(make: Callable[..., Logs], tmp_path: Path) -> None:
    logs = make()
    stream = logs.open("f", "g", "s")
    stream.output(b"one\n")
    logs.flush()
    shutil.rmtree(tmp_path / "logs")
    stream.output(b"two\n")
    assert messages(logs) == ["two"]


def test_full_disk_is_warned_of_once_and_what_it_cost_is_told(
    make: Callable[..., Logs], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logs = make()
    stream = logs.open("f", "g", "s")
    stream.output(b"before\n")
    logs.flush()
    write = os.write

    def full(fd: int, data: Any) -> int:
        """Takes a few bytes more, as a disk does before it is full."""
        if len(data) > 5:
            return write(fd, bytes(data[:5]))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with caplog.at_level(logging.WARNING), monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        for n in range(5):
            stream.output(b"lost %d\n" % n)
            logs.flush()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
    assert "0 bytes waiting" in repr(logs)
    stream.output(b"after\n")
    found = messages(logs)
    assert found[0] == "before"
    assert "after" in found
    assert found[-1] == "[lambent] 5 lines are missing here: the disk was slow or full"
    assert not [line for line in found if line.startswith("lost ") and len(line) == 6]


def test_reading_piece_by_piece_and_across_what_was_removed(make: Callable[..., Logs]) -> None:
    logs = make(segment_bytes=1000, segments=2)
    stream = logs.open("f", "g", "s")
    for n in range(10):
        stream.output(b"line %03d\n" % n)
    logs.flush()
    position, found = START, []
    while True:
        events, after = logs.read_from("f", position, most_bytes=64)
        found += [event.message for event in events]
        if after == position:
            break
        position = after
    assert found == [f"line {n:03d}" for n in range(10)]
    for n in range(10, 200):
        stream.output(b"line %03d\n" % n)
        logs.flush()
    events, position = logs.read_from("f", position)
    assert events[0].message == "[lambent] lines are missing here: they were removed before they were read"
    assert events[1].message > "line 100"


def test_what_a_full_disk_cost_is_told_when_the_sandbox_is_gone(
    make: Callable[..., Logs], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = make()

    def full(fd: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        logs.open("f", "g", "s").output(b"lost\n" * 3)
        logs.flush()
    assert "1 functions" in repr(logs)
    logs.open("another", "g", "s").output(b"x\n")
    logs.flush()
    assert messages(logs) == ["[lambent] 3 lines are missing here: the disk was slow or full"]
    assert "0 functions" in repr(logs)


class Told:
    """Notes that the files have grown."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def grown(self) -> None:
        self.event.set()


@pytest.fixture
def running(make: Callable[..., Logs]) -> Iterator[Logs]:
    logs = make(flush_s=0.001)
    logs.start()
    logs.start()
    with contextlib.closing(logs):
        yield logs


def test_thread_writes_and_tells_followers(running: Logs) -> None:
    told = Told()
    running.follow("f", told)
    stream = running.open("f", "g", "s")
    for n in range(3):
        stream.output(b"%d\n" % n)
        assert told.event.wait(10)
        told.event.clear()
        assert [event.message for event in running.read("f")] == [str(one) for one in range(n + 1)]
    running.unfollow("f", told)
    stream.output(b"unheard\n")
    running.flush()
    assert not told.event.is_set()


def test_nothing_is_lost_between_the_threads(running: Logs) -> None:
    stream = running.open("f", "g", "s")
    for n in range(20_000):
        stream.output(b"%d\n" % n)
        if n % 1000 == 0:
            running.flush()  # from a third side
    running.close()
    assert [event.message for event in running.read("f")] == [str(n) for n in range(20_000)]


def test_close_writes_the_rest_and_twice_is_once(make: Callable[..., Logs]) -> None:
    logs = make(flush_s=3600)
    logs.start()
    stream = logs.open("f", "g", "s")
    for n in range(3):
        stream.output(b"%d\n" % n)
    logs.close()
    logs.close()
    assert [event.message for event in logs.read("f")] == ["0", "1", "2"]
    assert not [thread for thread in threading.enumerate() if thread.name == "function-logs"]
