"""The process's own figures, against prometheus-client's."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest
from prometheus_client import ProcessCollector

from gateway.observe import process

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def values(families: Iterable[Metric]) -> dict[str, float]:
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_they_are_those_of_prometheus_client() -> None:
    ours, theirs = values(process.figures()), values(ProcessCollector(registry=None).collect())
    assert ours.keys() == theirs.keys()
    for name in ("process_start_time_seconds", "process_max_fds"):
        assert ours[name] == theirs[name]
    for name in ("process_resident_memory_bytes", "process_virtual_memory_bytes", "process_cpu_seconds_total"):
        assert ours[name] == pytest.approx(theirs[name], rel=0.1, abs=0.1)


@pytest.mark.parametrize("old_kernel", [False, True])
def test_descriptors_are_counted(old_kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if old_kernel:  # it gives the directory no size
        real = os.stat

        def stat(path: str | os.PathLike[str], **more: bool) -> os.stat_result:
            found = list(real(path, **more))
            return os.stat_result([*found[:6], 0, *found[7:]])

        monkeypatch.setattr(os, "stat", stat)
    before = values(process.figures())["process_open_fds"]
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(7)]
    try:
        assert values(process.figures())["process_open_fds"] == before + 7
    finally:
        for one in opened:
            os.close(one)
