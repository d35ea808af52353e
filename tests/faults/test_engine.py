"""What happens to a Docker Engine under a Lambent that uses it: it is killed, stopped, hangs, and loses what it was asked for.

The engine is the tests' own, and not the one of the other tests: it does not stay whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.bench.cold import at_rest
from gateway.cli.bench.instance import Instance
from gateway.up import owner_of
from sandbox.docker.container import Container, Graveyard
from sandbox.errors import SandboxError
from sandbox.images.engine import Engine, EngineUnavailable
from sandbox.spec import Architecture
from tests import leftovers
from tests.conftest import client_for
from tests.engine import DockerEngine
from tests.real.product import Product, eventually

pytestmark = [pytest.mark.real, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(150)]

ECHO = "def handler(event, context):\n    return event\n"
RUNTIME = "python3.11"
STEMS = 3
IMAGE = "lambent/python3.11:x86_64"


@pytest.fixture(scope="module")
def _engine() -> Iterator[DockerEngine]:
    found = DockerEngine()
    try:
        found.start()
        found.build(RUNTIME)
        yield found
    finally:
        found.close()


@pytest.fixture
def engine(_engine: DockerEngine) -> DockerEngine:
    """It runs, whatever a test before this one has done to it."""
    if not _engine.answers():
        _engine.stop()
        _engine.start()
    return _engine


@contextlib.contextmanager
def lambent(data_dir: Path, engine: DockerEngine) -> Iterator[Product]:
    settings = {
        "driver": "docker",
        "docker_host": engine.url,
        "drain_s": 2,
        "queue_wait_s": 3,
        "freeze_after_ms": 50,
        "stems_min": STEMS,
    }
    with Instance(data_dir, settings) as instance:
        client = client_for(instance.endpoint)
        yield Product(instance, client)
        client.close()


def nothing_left(data_dir: Path, engine: DockerEngine) -> None:
    found = leftovers.labelled([owner_of(data_dir)], [data_dir])
    assert not found, f"left behind: {found}"
    assert engine.containers(f"lambent.owner={owner_of(data_dir)}") == []


def answers(product: Product, name: str) -> bool:
    try:
        return bool(product.invoke(name, 7).value == 7)
    except product.client.exceptions.ClientError:
        return False


def until_at_rest(product: Product) -> None:
    """Its stems are there, and nothing is being made."""

    def rests() -> bool:
        status = product.instance.status()
        return bool(status["stems"].get(RUNTIME, 0) >= STEMS and at_rest(status))

    eventually(rests, 30)


def test_killed_engine_is_missed_by_nobody_who_is_warm(engine: DockerEngine, tmp_path: Path) -> None:
    with lambent(tmp_path / "data", engine) as product:
        warm = product.deploy(ECHO, Runtime=RUNTIME)
        assert product.invoke(warm, 1).value == 1
        engine.kill()
        try:
            eventually(lambda: product.sandboxes(warm) == {"frozen": 1})
            assert product.invoke(warm, 2).value == 2, "thawed by its cgroup"
        finally:
            engine.start(keep=True)
        cold = product.deploy(ECHO, Runtime=RUNTIME)
        eventually(lambda: answers(product, cold), 30)
        assert product.invoke(warm, 3).value == 3
    nothing_left(tmp_path / "data", engine)


def test_stopped_engine_takes_its_containers_along_and_service_resumes(engine: DockerEngine, tmp_path: Path) -> None:
    with lambent(tmp_path / "data", engine) as product:
        name = product.deploy(ECHO, Runtime=RUNTIME)
        assert product.invoke(name, 1).value == 1
        until_at_rest(product)  # a container that starts while the engine ends may stay, and then it still answers
        engine.stop()
        with pytest.raises(product.client.exceptions.ServiceException):
            product.invoke(name, 2)
        engine.start()
        eventually(lambda: answers(product, name), 30)
    nothing_left(tmp_path / "data", engine)


def test_engine_that_hangs(engine: DockerEngine, tmp_path: Path) -> None:
    with lambent(tmp_path / "data", engine) as product:
        warm, cold = product.deploy(ECHO, Runtime=RUNTIME), product.deploy(ECHO, Runtime=RUNTIME)
        assert product.invoke(warm, 1).value == 1
        engine.hang()
        try:
            assert product.invoke(warm, 2).value == 2
            other = [product.deploy(ECHO, Runtime=RUNTIME) for _ in range(6)]  # more than there are stems
            refused = [name for name in other if not answers(product, name)]
            assert refused, "AWS's error, and soon"
        finally:
            engine.resume()
        eventually(lambda: answers(product, cold) and all(answers(product, name) for name in refused), 40)
    nothing_left(tmp_path / "data", engine)


def test_two_on_one_engine(engine: DockerEngine, tmp_path: Path) -> None:
    """One is killed with all its processes and comes again: it removes its own containers and nobody else's."""
    with lambent(tmp_path / "other", engine) as other:
        name = other.deploy(ECHO, Runtime=RUNTIME)
        assert other.invoke(name, 1).value == 1
        with lambent(tmp_path / "data", engine) as product:
            own = product.deploy(ECHO, Runtime=RUNTIME)
            assert product.invoke(own, 1).value == 1
            family = product.family
            for pid in (family.supervisor, family.gateway, family.spawner):
                os.kill(pid, signal.SIGKILL)
        label = f"lambent.owner={owner_of(tmp_path / 'data')}"
        orphans = set(engine.containers(label))
        assert orphans
        with lambent(tmp_path / "data", engine) as product:
            assert not orphans & set(engine.containers(label))
            assert answers(product, own)
            assert other.invoke(name, 2).value == 2
            assert other.sandboxes(name)
    nothing_left(tmp_path / "data", engine)
    nothing_left(tmp_path / "other", engine)


class Wire:
    """Between a client and the engine's socket: cuts the connection at the first request whose path has `cut` in it."""

    def __init__(self, engine: DockerEngine, path: Path, cut: bytes) -> None:
        self._engine = engine
        self._cut = cut
        self.path = path
        self.was_cut = False

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(str(self._engine.socket))

        async def there() -> None:
            while data := await reader.read(65536):
                if self._cut in data.split(b"\r\n", 1)[0] and not self.was_cut:
                    self.was_cut = True
                    writer.close()
                    return
                there_writer.write(data)

        async def back() -> None:
            with contextlib.suppress(OSError):
                while data := await there_reader.read(65536):
                    writer.write(data)
            writer.close()

        answering = asyncio.get_running_loop().create_task(back())
        try:
            await there()
        finally:
            there_writer.close()
            await answering
            writer.close()


@pytest.fixture
async def graveyard_of(engine: DockerEngine, tmp_path: Path) -> AsyncIterator[Any]:
    opened: list[tuple[Engine, Graveyard]] = []

    def made(url: str) -> tuple[Engine, Graveyard]:
        client = Engine(url, timeout_s=5)
        opened.append((client, Graveyard(client, "t-wire")))
        return opened[-1]

    yield made
    for client, graveyard in opened:
        await graveyard.close()
        await client.close()


@pytest.mark.parametrize("cut", [b"/create", b"/start"])
async def test_engine_gone_between_create_and_start(engine: DockerEngine, graveyard_of: Any, tmp_path: Path, cut: bytes) -> None:
    async with Wire(engine, tmp_path / "wire.sock", cut) as wire:
        client, graveyard = graveyard_of(f"unix://{wire.path}")
        container = Container(client, graveyard, f"w{cut.strip(b'/').decode()}")
        config = {"Image": IMAGE, "Entrypoint": ["/bin/sleep"], "Cmd": ["100"], "HostConfig": {"NetworkMode": "none"}}
        with pytest.raises(EngineUnavailable):
            await container.start(config, Architecture.X86_64, "none")
        assert wire.was_cut
        await container.remove()
        for _ in range(400):
            if not await asyncio.to_thread(engine.containers, "lambent.owner=t-wire"):
                break
            await asyncio.sleep(0.05)
        assert await asyncio.to_thread(engine.containers, "lambent.owner=t-wire") == []


async def test_no_engine_says_so(tmp_path: Path) -> None:
    client = Engine(f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(SandboxError, match="no Docker Engine answers at"):
        await client.info()
    await client.close()


class Slow:
    """Between Lambent and the engine: while `delay_s` is set, each answer comes that much later. In a thread of its own."""

    def __init__(self, engine: DockerEngine, path: Path) -> None:
        self._engine = engine
        self.path = path
        self.delay_s = 0.0
        self.late = 0  #: answers that were held back
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="slow engine")

    def __enter__(self) -> Slow:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def _end(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_unix_connection(str(self._engine.socket))

        async def back() -> None:
            with contextlib.suppress(OSError):
                while data := await there_reader.read(65536):
                    if self.delay_s:
                        self.late += 1
                        await asyncio.sleep(self.delay_s)
                    writer.write(data)
            writer.close()

        answering = asyncio.get_running_loop().create_task(back())
        try:
            while data := await reader.read(65536):
                there_writer.write(data)
            there_writer.write_eof()
            await answering
        except OSError:
            pass
        finally:
            answering.cancel()
            there_writer.close()
            writer.close()


@pytest.mark.timeout(240)
def test_engine_that_is_slow_for_half_a_minute(engine: DockerEngine, tmp_path: Path) -> None:
    """What is warm does not notice; what needs a container is told soon; what the engine did late is found and removed."""
    with Slow(engine, tmp_path / "slow.sock") as wire:
        settings = {
            "driver": "docker", "docker_host": f"unix://{wire.path}", "drain_s": 2, "queue_wait_s": 3, "freeze_after_ms": 50,
        }  # fmt: skip
        with Instance(tmp_path / "data", settings) as instance:
            product = Product(instance, client_for(instance.endpoint))
            names = [product.deploy(ECHO, Runtime=RUNTIME) for _ in range(6)]  # more than there are stems
            warm, *cold = names
            assert product.invoke(warm, 1).value == 1
            wire.delay_s = 30.0
            began_s = time.monotonic()
            refused = [name for name in cold if not answers(product, name)]
            assert refused, "AWS's error, and before the engine has answered"
            assert time.monotonic() - began_s < 5 * (3 + 5)
            while time.monotonic() - began_s < wire.delay_s:
                assert product.invoke(warm, 2).value == 2
                time.sleep(0.5)
            assert wire.late
            wire.delay_s = 0.0
            eventually(lambda: all(answers(product, name) for name in names), 60)
            product.client.close()
    nothing_left(tmp_path / "data", engine)
