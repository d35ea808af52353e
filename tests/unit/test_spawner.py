"""The spawner and its driver, talking to each other: what overtakes what, and what one request may do to the others."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
from pathlib import Path

import pytest

from sandbox.errors import SandboxError
from sandbox.native.volumes import Volumes
from tests.sandboxes import SPEC
from tests.spawners import KEY, PROGRAM, sleepers

FUNCTION = dataclasses.replace(SPEC, runtime="", architecture=KEY.architecture, program=PROGRAM, code_path="")


async def test_a_stop_that_overtakes_a_specialise_leaves_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def create(_: Volumes, size_mb: int) -> int:
        begun.set()
        go_on.wait()
        return os.open("/dev/zero", os.O_RDONLY)

    monkeypatch.setattr(Volumes, "create", create)
    async with sleepers(tmp_path) as (driver, _):
        handle = await driver.create(KEY)
        function = dataclasses.replace(FUNCTION, tmp_mb=600, extensions=("a",))
        specialising = asyncio.get_running_loop().create_task(handle.specialise(function, {}))
        await asyncio.to_thread(begun.wait)
        await handle.stop()
        go_on.set()
        with pytest.raises(SandboxError, match="stopped"):
            await specialising  # that nothing is left open is asserted for each test
