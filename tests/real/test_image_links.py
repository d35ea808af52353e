"""Images whose directories lie elsewhere in them: sandboxes mount what they need where the image's own symlinks lead."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest

from sandbox.driver import ExitStatus
from sandbox.spec import Program, StemKey
from tests.real.spawned import spawned
from tests.sandboxes import SPEC
from tests.spawners import KEY
from tests.unit.test_images import layer, saved

pytestmark = [pytest.mark.real, pytest.mark.slow]


async def test_directories_may_be_absolute_symlinks(tmp_path: Path, owner: str) -> None:
    content = layer(("usr/etc", None), ("var/temporary", None), ("etc", "->/usr/etc"), ("tmp", "->/var/temporary"))
    uri = f"docker-archive:{saved(tmp_path / 'saved.tar', [content])}"
    (tmp_path / "host").mkdir()
    async with spawned(tmp_path / "host", owner) as host:
        image = await host.driver.image(uri, KEY.architecture)
        handle = await host.driver.create(StemKey("", KEY.architecture, image.id))
        ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        handle.on_exit = ended.set_result
        program = Program(image.id, ("/nowhere",), "/", {})
        spec = dataclasses.replace(SPEC, runtime="", architecture=KEY.architecture, program=program, code_path="", tmp_mb=600)
        await handle.specialise(spec, {})
        async with asyncio.timeout(20):
            status = await ended
        assert status.launch_error is not None, "its program is looked for: all is mounted"
        assert "/nowhere" in status.launch_error or "No such file" in status.launch_error, status
        await handle.stop()
