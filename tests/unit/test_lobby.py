"""The network that containers share: made once, made anew when it has gone, and never a copy of one container's mounts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from sandbox.docker import cgroups
from sandbox.docker.container import Container, Graveyard
from sandbox.docker.lobby import Lobby
from sandbox.images.engine import Engine, EngineRefused
from sandbox.native.cgroups import NOWHERE
from sandbox.spec import Architecture

CONFIG = {
    "Image": "sha256:1",
    "Hostname": "169-254-100-1",
    "HostConfig": {
        "NetworkMode": "none",
        "Binds": ["/hold:/.lambent:ro", "/one:/tmp:ro,rslave"],
        "Tmpfs": {"/tmp": ""},
        "PidsLimit": 1,
    },
}


class Made:
    """Containers that are only written down, alive until they are taken from `alive`."""

    def __init__(self) -> None:
        self.configs: dict[str, Mapping[str, Any]] = {}
        self.alive: set[str] = set()
        self.error: Exception | None = None

    async def start(self, container: Container, config: Mapping[str, Any], *_: object) -> cgroups.ContainerGroup:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.configs[container.name] = config
        self.alive.add(container.name)
        return cgroups.ContainerGroup(directories={}, memory=None, memory_v2=False, freezer=NOWHERE)

    async def remove(self, container: Container) -> None:
        self.alive.discard(container.name)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    found = Made()
    monkeypatch.setattr(Container, "start", lambda one, *arguments: found.start(one, *arguments))
    monkeypatch.setattr(Container, "remove", lambda one: found.remove(one))
    monkeypatch.setattr(Container, "alive", property(lambda one: one.name in found.alive))
    return found


@pytest.fixture
async def lobby() -> Lobby:
    engine = Engine("unix:///nowhere")
    return Lobby(engine, Graveyard(engine, "me"))


async def test_all_share_one_network(lobby: Lobby, made: Made) -> None:
    configs = await asyncio.gather(*(lobby.enter(CONFIG, Architecture.X86_64) for _ in range(3)))
    (name,) = made.configs
    for config in configs:
        assert config["HostConfig"] == {**CONFIG["HostConfig"], "NetworkMode": f"container:{name}"}  # type: ignore[dict-item]
        assert "Hostname" not in config, "an engine refuses a name beside another's network"
        assert config["Image"] == "sha256:1"
    await lobby.close()
    assert not made.alive


async def test_it_leads_nowhere_and_has_nothing_of_the_first(lobby: Lobby, made: Made) -> None:
    await lobby.enter(CONFIG, Architecture.X86_64)
    (config,) = made.configs.values()
    assert config["Hostname"] == "169-254-100-1"
    assert config["HostConfig"] == {"NetworkMode": "none", "Binds": ["/hold:/.lambent:ro"], "Tmpfs": {}, "PidsLimit": 1}


async def test_another_is_made_when_it_has_gone(lobby: Lobby, made: Made) -> None:
    await lobby.enter(CONFIG, Architecture.X86_64)
    made.alive.clear()  # the engine was stopped
    assert not lobby.there
    await lobby.enter(CONFIG, Architecture.X86_64)
    assert len(made.configs) == 2, "by another name: the engine may keep the old one for a while"


async def test_what_cannot_be_made_is_tried_again(lobby: Lobby, made: Made) -> None:
    made.error = EngineRefused("no such image", 404)
    with pytest.raises(EngineRefused):
        await lobby.enter(CONFIG, Architecture.X86_64)
    assert not lobby.there
    made.error = None
    await lobby.enter(CONFIG, Architecture.X86_64)
    assert lobby.there
