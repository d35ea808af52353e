"""The spawner and its driver, talking to each other: what overtakes what, and what one request may do to the others."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from unittest.mock import AsyncMock

import orjson
import pytest

from gateway.control.images import configured
from gateway.control.validate import ENVIRONMENT_MAX_BYTES
from gateway.records import ImageCode
from sandbox.environment import Credentials, compose, for_extensions
from sandbox.errors import SandboxError
from sandbox.guest import messages
from sandbox.images.engine import Engine
from sandbox.images.store import ImageStore, of_config
from sandbox.native.cgroups import NONE
from sandbox.native.channel import Message
from sandbox.native.imaged import Imaged
from sandbox.native.porters import Porters
from sandbox.native.requests import Specialisation
from sandbox.native.spares import Spares
from sandbox.native.spawner import Spawner
from sandbox.native.volumes import Volumes
from sandbox.spec import IMAGE_SETTINGS_MAX_BYTES, Architecture, Image, settings_bytes
from tests.sandboxes import SPEC
from tests.spawners import IMAGE, KEY, PROGRAM, SleepersSpawner, sleepers
from tests.unit.test_images import layer, saved

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


TOO_LARGE = messages.MAX_MESSAGE_BYTES + 1000


@pytest.mark.parametrize("uri", ["x" * 5000, "x" * (TOO_LARGE), "x" * 300_000], ids=len)
async def test_a_name_that_is_too_long_is_refused_alone(tmp_path: Path, uri: str) -> None:
    async with sleepers(tmp_path) as (driver, _):
        handle = await driver.create(KEY)
        with pytest.raises(SandboxError):
            await driver.image(uri, KEY.architecture)
        await handle.specialise(FUNCTION, {})
        assert (driver.spawner_ends, handle.alive) == (0, True)
        await handle.stop()


@pytest.mark.parametrize(
    "value",
    ["x" * 300_000, "x" * TOO_LARGE, "x" * 90_000, '"' * 60_000],
    ids=["more than a socket takes", "more than a message is", "too much for the second time", "too much when it is quoted"],
)
async def test_a_function_that_is_too_much_to_say_is_refused_alone(tmp_path: Path, value: str) -> None:
    async with sleepers(tmp_path) as (driver, _):
        one, other = await driver.create(KEY), await driver.create(KEY)
        function = dataclasses.replace(FUNCTION, extensions=("agent",))
        with pytest.raises(SandboxError, match=r"a message of \d+ bytes"):
            await one.specialise(function, {"VALUE": value})
        await other.specialise(FUNCTION, {"VALUE": "x"})
        assert (driver.spawner_ends, one.alive, other.alive) == (0, True, True)
        await one.stop()
        await other.stop()


async def test_an_answer_that_is_too_long_is_refused_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(_: Imaged, uri: str, architecture: Architecture) -> Image:
        return Image(id=IMAGE, resolved_uri=uri, size_bytes=1, architecture="amd64", command=("x" * TOO_LARGE,))

    monkeypatch.setattr(Imaged, "resolve", resolve)
    async with sleepers(tmp_path) as (driver, _):
        handle = await driver.create(KEY)
        with pytest.raises(SandboxError, match="the answer would be a message of"):
            await driver.image("name:1", KEY.architecture)
        assert (driver.spawner_ends, handle.alive) == (0, True)
        await handle.stop()


@pytest.mark.parametrize("character", ["x", '"', "é", "\x01", "\U0001f600"])
def test_whatever_a_function_may_have_fits_into_a_message(character: str) -> None:
    """The longest that AWS allows, and that is allowed of images, of characters that take most room when they are sent."""

    def most(limit_bytes: int, measure: Callable[[str], int]) -> str:
        return character * ((limit_bytes - 100) // (measure(character * 2) - measure(character)))

    of_image = most(IMAGE_SETTINGS_MAX_BYTES, settings_bytes)
    own = most(ENVIRONMENT_MAX_BYTES, lambda text: len(orjson.dumps({"V": text})))
    image = of_config(IMAGE, "name", 1, {}, {"Env": [f"IMAGE={of_image}"]}, [])
    code = configured(ImageCode(uri="name", image=image), {"Command": [of_image]})
    function = dataclasses.replace(
        FUNCTION, program=code.program, environment={"OWN": own}, extensions=("agent",), log_group="g" * 512, log_format="JSON"
    )
    environment = compose(function, "127.0.0.1:9001", Credentials("A" * 128, "s" * 128, "t" * 2048), "http://127.0.0.1:9002")
    asked: Message = {
        "environment": environment,
        "python": "none",
        "command": list(code.program.command),
        "directory": code.program.directory,
        "extensions": ["agent"],
        "extension_environment": for_extensions(environment),
        "memory_mb": 128,
        "tmp_mb": 512,
    }
    for message in (asked, Specialisation.of(asked).for_init(["/tmp"], 1)):
        messages.check_size(messages.encode(message).encode())


@pytest.mark.parametrize("request_of", ["image", "look", "root"])
async def test_the_end_does_not_wait_for_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_of: str) -> None:
    """A pull may take an hour; a spawner that is still there after ten seconds is killed, and cleans nothing up."""
    looking, stopped = asyncio.Event(), asyncio.Event()

    async def for_ever(*_: object) -> Image:
        looking.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError

    for name in ("resolve", "look", "root"):
        monkeypatch.setattr(Imaged, name, for_ever)
    monkeypatch.setattr(SleepersSpawner, "_give_birth", Spawner._give_birth)
    monkeypatch.setattr(Porters, "porter", AsyncMock())
    monkeypatch.setattr(Spares, "take", AsyncMock(return_value=NONE))
    asked: dict[str, Message] = {
        "image": {"op": "image", "uri": "name:1", "architecture": KEY.architecture},
        "look": {"op": "look", "runtime": "python3.11", "architecture": KEY.architecture},
        "root": {"op": "create", "id": "a-1", "runtime": "", "image": IMAGE, "architecture": KEY.architecture},
    }
    async with sleepers(tmp_path) as (driver, _):
        asking = asyncio.get_running_loop().create_task(driver.request(asked[request_of]))
        await looking.wait()
        asking.cancel()
    assert stopped.is_set()


async def test_the_end_stops_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Event()
    program = tmp_path / "unpack"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\necho '{{\"done\": 1}}'\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    store = ImageStore(tmp_path / "images", Engine(), 1 << 30, told=lambda *_: begun.set())
    uri = f"docker-archive:{saved(tmp_path / 'saved.tar', [layer(('a', b'1'))])}"
    resolving = asyncio.get_running_loop().create_task(store.resolve(uri, KEY.architecture))
    await begun.wait()
    await store.end()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    with pytest.raises(asyncio.CancelledError):
        await resolving
    await store.shelf.close()
