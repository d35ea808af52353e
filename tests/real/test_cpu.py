"""Processors are shared out by memory: measured from inside, by what a function that never waits gets of them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import statistics
from pathlib import Path

import pytest

from sandbox.native.driver import NativeHandle
from sandbox.sandbox import Sandbox
from sandbox.testing import PlainLog
from tests.real.spawned import Spawned, call, spawned

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(120)]

#: Init wastes a third of a second of processor time; the handler works for so long by the wall, and says what it got.
CODE = """
import time
began, used = time.monotonic(), time.process_time()
while time.process_time() - used < 0.3:
    pass
def handler(event, context):
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() - began < event:
        pass
    return time.process_time() - used
"""
SECONDS = 2.0


def throttled(sandbox: Sandbox) -> int:
    """How often it was made to wait for its quota; by the cpu cgroup of which its handle has a file open."""
    handle = sandbox._handle
    assert isinstance(handle, NativeHandle)
    group = Path(os.readlink(f"/proc/self/fd/{handle._cpu_fd}")).parent
    lines = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(lines["nr_throttled"])


@dataclasses.dataclass(frozen=True)
class Burnt:
    """What one of several sandboxes got: so much of a processor, and so often it was made to wait."""

    share: float
    throttled: int


async def burn(spawner: Spawned, *memories_mb: int) -> list[Burnt]:
    """Sandboxes of so much memory, all of them working at once."""
    spec = spawner.spec(CODE, timeout_s=60)
    specs = [dataclasses.replace(spec, memory_mb=memory_mb) for memory_mb in memories_mb]
    sandboxes = [await spawner.open(one) for one in specs]
    try:
        for sandbox, one in zip(sandboxes, specs, strict=True):
            await sandbox.init(one, PlainLog())
            assert throttled(sandbox) == 0, "Init has all that there is"
        payload = json.dumps(SECONDS).encode()
        outcomes = await asyncio.gather(*(call(sandbox, payload, timeout_s=60) for sandbox in sandboxes))
        return [
            Burnt(float(outcome.payload) / SECONDS, throttled(sandbox))
            for outcome, sandbox in zip(outcomes, sandboxes, strict=True)
        ]
    finally:
        await asyncio.gather(*(sandbox.stop() for sandbox in sandboxes))


def owner_of(test: str) -> str:
    return f"cpu-{test}-{os.getpid()}"


async def test_a_weight_shares_out_what_there_is_and_wastes_nothing(tmp_path: Path) -> None:
    """Two large and two small ones for each processor, so that there is not enough for all, whatever else the machine does."""
    each = 2 * (os.cpu_count() or 1)
    async with spawned(tmp_path, owner_of("weight")) as spawner:
        found = await burn(spawner, *[1769] * each, *[221] * each)
    large, small = (statistics.mean(one.share for one in part) for part in (found[:each], found[each:]))
    assert large > 3 * small, "eight times the memory"
    assert all(one.throttled == 0 for one in found)


async def test_a_quota_is_never_more_than_the_share(tmp_path: Path) -> None:
    async with spawned(tmp_path, owner_of("quota"), cpu="quota") as spawner:
        (alone,) = await burn(spawner, 442)
    assert alone.share < 0.35, "a quarter of a processor, though nobody else wants it"
    assert alone.throttled > 0
