"""What function logs may take of the disk, and for how long."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.observe.log_files import START
from gateway.observe.logs import Logs
from gateway.observe.retention import DAY_S, Keep, expire
from tests.unit.test_logs import HandClock

if TYPE_CHECKING:
    import pytest

NOW_S = 1_700_000_000.0


def written(directory: Path, name: str, size: int, ago_s: float) -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW_S - ago_s, NOW_S - ago_s))
    return path


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*.log")}


def test_what_is_old_goes_with_its_directory(tmp_path: Path) -> None:
    written(tmp_path, "gone/1.log", 10, 15 * DAY_S)
    written(tmp_path, "mixed/1.log", 10, 15 * DAY_S)
    written(tmp_path, "mixed/2.log", 10, 13 * DAY_S)
    assert expire(tmp_path, Keep(14 * DAY_S, None), NOW_S) == 2
    assert names(tmp_path) == {"mixed/2.log"}
    assert not (tmp_path / "gone").exists()
    assert expire(tmp_path, Keep(14 * DAY_S, None), NOW_S) == 0


def test_of_too_much_the_oldest_goes_until_there_is_some_room(tmp_path: Path) -> None:
    for ago_s in range(10):
        written(tmp_path, f"f{ago_s}/1.log", 100, ago_s)
    assert expire(tmp_path, Keep(None, 1200), NOW_S) == 0, "nobody is in need"
    assert expire(tmp_path, Keep(None, 1000), NOW_S) == 1, "what fills the bound to the brim makes room for the next"
    assert expire(tmp_path, Keep(None, 500), NOW_S) == 5
    assert names(tmp_path) == {f"f{ago_s}/1.log" for ago_s in range(4)}


def test_nothing_there_and_strange_things_there(tmp_path: Path) -> None:
    assert expire(tmp_path / "nowhere", Keep(1, 1), NOW_S) == 0
    (tmp_path / "file").write_text("not a function's")
    outside = written(tmp_path.parent, "outside/1.log", 10, 99 * DAY_S)
    (tmp_path / "link").symlink_to(outside.parent)
    assert expire(tmp_path, Keep(DAY_S, 1), NOW_S) == 0
    assert outside.exists()


def test_the_bound_holds_while_many_functions_write(tmp_path: Path) -> None:
    """Not only after a look: 200 functions that each stay within their own bound would take 50 times the whole."""
    clock = HandClock()
    directory = tmp_path / "logs"
    total = 2_000_000
    logs = Logs(directory=directory, clock=clock, segment_bytes=200_000, segments=2, keep=Keep(None, total))
    most = 0
    for round_ in range(3):
        for number in range(200):
            logs.open(f"f{number}", "g", "s").output(b"x" * 19_000 + b"\n")
            logs._expire()
            logs.flush()
            most = max(most, sum(path.stat().st_size for path in directory.rglob("*.log")))
        assert round_ >= 0
    assert total * 0.8 < most <= total + 20_000


def test_who_reads_on_after_a_removal_misses_what_was_removed_and_no_more(tmp_path: Path) -> None:
    clock = HandClock()
    logs = Logs(directory=tmp_path / "logs", clock=clock, keep=Keep(DAY_S, None))
    stream = logs.open("f", "g", "s")
    stream.output(b"long ago, and longer than what comes\n")
    logs.flush()
    events, position = logs.read_from("f", START)
    assert len(events) == 1
    [file] = (tmp_path / "logs" / "f").iterdir()
    os.utime(file, (clock.wall() - 2 * DAY_S,) * 2)
    logs._expire()
    assert not logs.known("nobody")
    assert not file.exists()
    stream.output(b"now\n")
    logs.flush()
    events, _ = logs.read_from("f", position)
    assert [event.message for event in events][-1] == "now"
    assert "lines are missing here" in events[0].message


def test_a_look_is_due_by_time_or_by_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HandClock()
    looks: list[float] = []

    def look(directory: Path, keep: Keep, now_s: float) -> int:
        looks.append(now_s)
        return 0

    monkeypatch.setattr("gateway.observe.logs.expire", look)
    logs = Logs(directory=tmp_path, clock=clock, keep=Keep(None, 10_000), look_s=60)
    logs._expire()
    logs._expire()
    assert len(looks) == 1, "the first at the start"
    clock.now_s += 60
    logs._expire()
    assert len(looks) == 2
    logs.open("f", "g", "s").output(b"x" * 2_000 + b"\n")
    logs.flush()
    logs._expire()
    logs._expire()
    assert len(looks) == 3


def test_a_directory_that_cannot_be_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "logs").write_text("a file")
    Logs(directory=tmp_path / "logs", clock=HandClock(), keep=Keep(1, 1))._expire()
    assert "cannot be removed" in caplog.text
