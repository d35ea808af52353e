"""The network that containers are made in, and that nothing which runs in them stays in.

An engine gives each container a network of its own, also where it is to have none, and that takes it as long as all the rest:
measured in turns on a busy machine, create and start took 417 to 816 ms so and 227 to 285 ms in a network that was there (sixteen
at once 5.4 and 3.5 s). Init goes to a network of Lambent's in any case. So all containers share one that leads nowhere: that of a
container which is there for nothing else, made when first needed, and anew when it has gone. (2026-11-21)
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

from sandbox.docker.container import Container, Graveyard
from sandbox.images.engine import Engine
from sandbox.spec import Architecture


class Lobby:
    """`enter` before each container is made, `close` when there are no more."""

    def __init__(self, engine: Engine, graveyard: Graveyard) -> None:
        self._engine = engine
        self._graveyard = graveyard
        self._names = itertools.count()  # the engine may keep the name of one that has gone
        self._making = asyncio.Lock()
        self._container: Container | None = None

    @property
    def there(self) -> bool:
        return self._container is not None and self._container.alive

    async def enter(self, config: Mapping[str, Any], architecture: Architecture | None) -> dict[str, Any]:
        """The container of `config` in the shared network, which is made with the same image if there is none. The first of its
        binds is the program that holds a container.

        Raises SandboxError, OSError.
        """
        async with self._making:
            if not self.there:
                await self.close()
                container = Container(self._engine, self._graveyard, f"lobby-{next(self._names)}")
                self._container = container
                holder = config["HostConfig"]["Binds"][:1]
                bare = {**config["HostConfig"], "Binds": holder, "Tmpfs": {}}
                await container.start({**config, "HostConfig": bare}, architecture, "none")
        assert self._container is not None
        host = {**config["HostConfig"], "NetworkMode": f"container:{self._container.name}"}
        own = {key: value for key, value in config.items() if key != "Hostname"}  # that is the lobby's too
        return {**own, "HostConfig": host}

    async def close(self) -> None:
        """Never raises; what the engine keeps is buried."""
        container, self._container = self._container, None
        if container is not None:
            container.kill()
            await container.remove()
