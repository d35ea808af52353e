"""How containers are dealt with: what is chosen where nobody has chosen, the freezer that is an engine, ports for one address."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sandbox.docker import cgroups, pausing, ways
from sandbox.docker.bridge import listener
from sandbox.docker.pausing import FROZEN, THAWED, Pauser
from sandbox.errors import SandboxError
from sandbox.guest import syscalls
from sandbox.images.engine import Engine, EngineRefused, EngineUnavailable
from sandbox.native import cgroups as native_cgroups
from sandbox.native import namespaces
from sandbox.native.cgroups import NOWHERE

NO_FREEZER = native_cgroups.Hierarchies(None, frozenset(), {})


def refuse(*_: object) -> int:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_quick_ways_where_this_machine_lets_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "_refusal_of_networks", str)
    monkeypatch.setattr(ways, "_refusal_of_mounts", str)
    monkeypatch.setattr(ways, "refusal_of_freezer", str)
    found = ways.find("auto", "auto", "auto")
    assert (found.runtime_api, found.mounts, found.freeze, found.why) == ("inside", "move", "cgroup", ())
    assert str(found) == "Runtime API inside each container, mounts moved in, frozen through the cgroup"


def test_what_this_machine_refuses_is_done_by_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "make", refuse)
    monkeypatch.setattr(syscalls, "unshare", refuse)
    monkeypatch.setattr(native_cgroups, "find_hierarchies", lambda: NO_FREEZER)
    found = ways.find("auto", "auto", "auto")
    assert (found.runtime_api, found.mounts, found.freeze) == ("bridge", "spread", "pause")
    assert [why.partition(":")[0] for why in found.why] == [
        "no network namespace can be made",
        "mounts cannot be moved into another mount namespace",
        "no cgroup hierarchy that can freeze is mounted",
    ]
    assert "frozen by the engine's pause" in str(found)


def test_what_was_chosen_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "make", refuse)
    monkeypatch.setattr(syscalls, "unshare", refuse)
    monkeypatch.setattr(native_cgroups, "find_hierarchies", lambda: NO_FREEZER)
    assert ways.find("inside", "move", "cgroup") == ways.Ways("inside", "move", "cgroup")
    assert ways.find("bridge", "spread", "pause").why == ()


def test_freezer_on_a_read_only_mount_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_cgroups, "find_hierarchies", lambda: native_cgroups.Hierarchies(tmp_path, frozenset(), {}))
    assert ways.refusal_of_freezer() == ""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert ways.refusal_of_freezer() == f"{tmp_path} cannot be written"


class Paused(Engine):
    """An engine that notes what it is asked for, and raises what it is told to."""

    def __init__(self) -> None:
        super().__init__("unix:///nowhere")
        self.asked: list[str] = []
        self.errors: list[SandboxError] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def _do(self, what: str, container: str) -> None:
        self.asked.append(f"{what} {container}")
        await self.go_on.wait()
        if self.errors:
            raise self.errors.pop()

    async def pause(self, container: str) -> None:
        await self._do("pause", container)

    async def unpause(self, container: str) -> None:
        await self._do("unpause", container)


@pytest.fixture
async def engine() -> Paused:
    return Paused()


@pytest.fixture
async def pauser(engine: Paused) -> AsyncIterator[Pauser]:
    found = Pauser(engine, "one")
    yield found
    await found.close()


@pytest.fixture
async def door(pauser: Pauser) -> AsyncIterator[int]:
    fd = pauser.open()
    yield fd
    os.close(fd)


async def until(right: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while True:
            if right():
                return
            await asyncio.sleep(0)


async def until_asked(engine: Paused, pauser: Pauser, *wanted: str) -> None:
    await until(lambda: engine.asked == [f"{what} one" for what in wanted] and not len(pauser._tasks))


async def test_words_become_requests(engine: Paused, pauser: Pauser, door: int) -> None:
    os.write(door, FROZEN.encode())
    await until_asked(engine, pauser, "pause")
    os.write(door, THAWED.encode())
    await until_asked(engine, pauser, "pause", "unpause")


async def test_only_the_last_word_counts(engine: Paused, pauser: Pauser, door: int) -> None:
    for word in (FROZEN, THAWED, FROZEN, THAWED):
        os.write(door, word.encode())
    for _ in range(20):
        await asyncio.sleep(0)
    assert engine.asked == [], "it was never to be frozen"
    engine.go_on.clear()
    os.write(door, FROZEN.encode())
    await until(lambda: engine.asked)
    os.write(door, THAWED.encode())  # while the engine is still at it
    await asyncio.sleep(0)
    engine.go_on.set()
    await until_asked(engine, pauser, "pause", "unpause")


async def test_engine_that_is_away_is_asked_again(
    engine: Paused, pauser: Pauser, door: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pausing, "AGAIN_S", 0)
    engine.errors = [EngineUnavailable("restarting")] * 2
    os.write(door, FROZEN.encode())
    await until_asked(engine, pauser, "pause", "pause", "pause")


async def test_what_the_engine_refuses_is_so_already(engine: Paused, pauser: Pauser, door: int) -> None:
    engine.errors = [EngineRefused("Container one is already paused", 409)]
    os.write(door, FROZEN.encode())
    await until_asked(engine, pauser, "pause")
    os.write(door, THAWED.encode())
    await until_asked(engine, pauser, "pause", "unpause")


async def test_door_of_a_container_that_has_ended_is_a_broken_pipe(pauser: Pauser, door: int) -> None:
    await pauser.close()
    with pytest.raises(BrokenPipeError):
        os.write(door, FROZEN.encode())


def test_group_that_the_engine_freezes_is_the_same_otherwise() -> None:
    group = cgroups.ContainerGroup(directories={}, memory=Path("/m"), memory_v2=True, freezer=NOWHERE, cpu=Path("/c"))
    found = pausing.paused(group, Pauser.__new__(Pauser))
    assert (found.memory, found.memory_v2, found.cpu, found.freezer_words) == (
        group.memory,
        True,
        group.cpu,
        ("FROZEN", "THAWED"),
    )
    found.thaw_after_kill()


def test_port_is_for_one_address_only() -> None:
    fd, port = listener("127.0.0.1", "127.0.0.2")
    with socket.socket(fileno=fd) as served:
        with socket.create_connection(("127.0.0.1", port), 1, source_address=("127.0.0.2", 0)):
            accepted, peer = served.accept()
            accepted.close()
            assert peer[0] == "127.0.0.2"
        for other in ("127.0.0.1", "127.0.0.3"):
            with pytest.raises(TimeoutError):
                socket.create_connection(("127.0.0.1", port), 0.05, source_address=(other, 0)).close()
