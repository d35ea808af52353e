"""What is written to a sandbox's cpu cgroup, and where that is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.native import cgroups, cpu
from sandbox.native.cgroups import Cgroups, Hierarchies


@pytest.mark.parametrize(
    ("file", "memory_mb", "text"),
    [
        ("cpu.shares", 1769, "1024"),
        ("cpu.shares", 128, "74"),
        ("cpu.shares", 10_240, "5928"),
        ("cpu.weight", 1769, "100"),
        ("cpu.weight", 128, "7"),
        ("cpu.weight", 1, "1"),
        ("cpu.cfs_quota_us", 1769, "20000"),
        ("cpu.cfs_quota_us", 128, "1447"),
        ("cpu.cfs_quota_us", 32, "1000"),
        ("cpu.max", 3538, "40000 20000"),
    ],
)
def test_one_processor_for_each_1769_mb(file: str, memory_mb: int, text: str) -> None:
    assert cpu.ration(file, memory_mb) == text


def hierarchies(top: Path, version: int) -> Hierarchies:
    names = ("memory", "pids", "cpu", "freezer") if version == 1 else ("unified",)
    for name in names:
        (top / name).mkdir()
    if version == 2:
        return Hierarchies(top / "unified", frozenset({"memory", "pids", "cpu"}), {})
    return Hierarchies(None, frozenset(), {name: top / name for name in names})


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[Cgroups], Path | None]:
    """Makes a sandbox's groups in plain directories, where the kernel's files are not there before they are written."""
    monkeypatch.setattr(cgroups, "write", lambda path, text: path.write_text(text))

    def make(groups: Cgroups) -> Path | None:
        for base in groups.bases:
            (base / "sandboxes").mkdir(parents=True)
        return groups.create("one", 10).cpu

    return make


Made = Callable[[Cgroups], "Path | None"]


@pytest.mark.parametrize(
    ("version", "mode", "file"),
    [
        (1, "weight", "cpu/lambent-x/sandboxes/one/cpu.shares"),
        (1, "quota", "cpu/lambent-x/sandboxes/one/cpu.cfs_quota_us"),
        (2, "weight", "unified/lambent-x/sandboxes/one/cpu.weight"),
        (2, "quota", "unified/lambent-x/sandboxes/one/cpu.max"),
    ],
)
def test_each_sandbox_has_a_group_of_its_own(tmp_path: Path, made: Made, version: int, mode: cpu.Mode, file: str) -> None:
    groups = Cgroups("x", hierarchies(tmp_path, version), cpu_mode=mode)
    assert made(groups) == tmp_path / file
    assert groups.cpu_joins() == []
    if (version, mode) == (1, "quota"):
        assert (tmp_path / file).with_name("cpu.cfs_period_us").read_text() == "20000"


def test_where_nobody_wants_it_all_share_one_group(tmp_path: Path, made: Made) -> None:
    groups = Cgroups("x", hierarchies(tmp_path, 1))
    assert made(groups) is None
    assert groups.cpu_joins() == [tmp_path / "cpu/lambent-x/sandboxes"]
