"""The spawner of the docker driver: what holds a sandbox is a container, and init is brought into it.

    create:  engine: create, start ──► a container with nothing in it but its holder
             porter: a copy of it enters the container, mounts what a stem needs, and is init there
    the rest (specialise, reset, freeze, exits, stop) is the native driver's, on the container's cgroups

The gateway never sees the engine's socket, which is as good as root: it asks this process, as it asks the native spawner.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Any, Final

from sandbox.docker import holder, ways
from sandbox.docker.bridge import Bridge
from sandbox.docker.container import Container, Graveyard
from sandbox.docker.images import EngineImages
from sandbox.docker.lobby import Lobby
from sandbox.docker.runtimes import Runtimes
from sandbox.docker.spread import PLACES, Spread
from sandbox.errors import RuntimeUnavailable, SandboxError
from sandbox.images.engine import EngineRefused, EngineUnavailable
from sandbox.images.programs import OWN
from sandbox.native.channel import Message
from sandbox.native.config import Config
from sandbox.native.driver import HOST_ARCHITECTURE
from sandbox.native.imaged import EMULATED_STEM_S
from sandbox.native.jail import Jail
from sandbox.native.network import Network, Networks
from sandbox.native.porters import read_only
from sandbox.native.requests import Refused, uri_of
from sandbox.native.serving import serve
from sandbox.native.spawner import PIDS_MAX, Spawner, log
from sandbox.spec import Architecture, Image

HOLD: Final = "/.lambent"  #: where the holder is in a container
#: Containers that the engine is asked for at once; more make each of them slower, and none quicker.
PARALLEL: Final = max(4, 2 * (os.cpu_count() or 1))
#: Of a container that is being made: an ordinary 1,024 would keep small functions beside it from the processors for seconds.
_MAKING_SHARES: Final = 128
_NOBODY: Final = "65534:65534"
_MOUNT_POINT: Final = "size=4k,mode=755"
_NAMES: Final = frozenset({"/etc/resolv.conf", "/etc/hosts"})


class ContainerSpawner(Spawner):
    """Takes requests as its parent does."""

    def __init__(self, config: Config, networks: Networks) -> None:
        super().__init__(config, {}, networks, {"support": {}, "network": networks.said})
        self._runtimes = Runtimes(self._engine, config.runtime_images)
        self._images = EngineImages(self._engine)
        self._graveyard = Graveyard(self._engine, config.owner)
        self._own_groups = False
        self._hold = self._porters.directory / "hold"
        self._ready: asyncio.Task[None] | None = None
        self._lobby = Lobby(self._engine, self._graveyard)
        self._ways = ways.Ways("inside", "move", "cgroup")
        self._bridge = Bridge(self._engine, config.owner, internal=config.network == "none")
        self._spread = Spread(Path(config.run_dir) / "mounts")
        self._asking = asyncio.Semaphore(PARALLEL)

    async def start(self) -> None:
        """Raises OSError, and EngineUnavailable where no engine answers."""
        info = await self._engine.info()
        log.info(
            "Docker Engine %s at %s, %s cgroups v%s", info.version, self._engine.url, info.cgroup_driver, info.cgroup_version
        )
        if removed := await self._graveyard.sweep():
            log.info("removed containers of an earlier run: %s", ", ".join(sorted(removed)))
        config = self._config
        wanted = config.docker_runtime_api, config.docker_mounts, config.docker_freeze
        self._ways = await self._loop.run_in_executor(None, ways.find, *wanted)
        log.info("containers: %s", self._ways)
        if self._ways.runtime_api == "bridge":
            self._own_networks = False
            await self._bridge.open()
            self._hello["network"] = f"the engine's {self._bridge.name}{' (internal)' if config.network == 'none' else ''}"
        else:
            with contextlib.suppress(SandboxError):  # of an earlier run
                await self._bridge.close()
        (self._spread.open if self._ways.mounts == "spread" else self._spread.close)()
        self._hello["ways"] = str(self._ways)
        self._hello["support"] = support = await self._runtimes.support()
        await super().start()
        holder.install(self._hold)
        runtimes = [runtime for runtime, (there, _) in support.items() if there]
        self._ready = self._tasks.start(self._get_ready(runtimes), "what the first stems need")

    async def _get_ready(self, runtimes: list[str]) -> None:
        """What is made when it is first needed is made now, as far as the engine has images. What fails is tried again then."""
        with contextlib.suppress(SandboxError, OSError):
            await self._porters.porter()
            if runtimes and self._own_networks and (architecture := HOST_ARCHITECTURE) is not None:
                await self._lobby.enter(self._bare(await self._runtimes.image(runtimes[0], architecture)), architecture)
            await self._porters.compile(runtimes)

    def _check(self, request: Message) -> None:
        if request.get("architecture") not in list(Architecture):
            raise Refused(f"no such architecture: {request.get('architecture')!r}")

    async def _image(self, message: Message) -> Image:
        return await self._images.resolve(uri_of(message), Architecture(str(message.get("architecture"))))

    async def _look(self, runtime: str, architecture: Architecture) -> None:
        await self._runtimes.image(runtime, architecture)

    async def _give_birth(self, jail: Jail, request: Message, there: socket.socket, out: list[int], reply: Message) -> None:
        passed: list[int] = [there.detach()]
        mounts: dict[str, int] = {}
        try:
            runtime, architecture = str(request["runtime"]), Architecture(str(request["architecture"]))
            own = str(request.get("image") or "")
            reply["preloaded"], reply["interpreter"] = [], ""  # the stem inside knows better
            container = Container(self._engine, self._graveyard, jail.name, self._ways.freeze)
            jail.container = container
            if architecture is not HOST_ARCHITECTURE:
                jail.stem_s = EMULATED_STEM_S
            async with self._asking:
                self._must_live(jail)
                image = own or await self._runtimes.image(runtime, architecture)
                config = self._config_of(jail, image, runtime)
                try:
                    platform = None if own else architecture
                    if self._own_networks:
                        config = await self._lobby.enter(config, platform)
                    jail.group = await container.start(config, platform, self._config.cpu)
                except EngineRefused as error:
                    if self._own_networks and not self._lobby.there:  # it has just gone, and the next will find another
                        raise EngineUnavailable(str(error)) from error
                    raise RuntimeUnavailable(str(error)) from error
            self._must_live(jail)
            found = OWN if own else self._runtimes.programs(runtime, container.pidfd)
            passed.insert(0, os.dup(container.pidfd))
            if self._ways.mounts == "move":
                for target, path in self._files(jail, runtime=found.ours).items():
                    mounts[target] = read_only(path)
            network = await self._network(container, reply)
            passed += await self._common(jail, out, network)
            targets = ["/tmp"]
            if self._ways.mounts == "spread":
                self._placed(jail, targets, passed)
            message: Message = {"uid": jail.uid, "image": False, "mounts": [*targets, *mounts], **found.message()}
            passed += mounts.values()
            mounts = {}
            passed += jail.group.join_fds([])
            porter = await self._porters.porter()
            fds, passed = passed, []
            await porter.fork(jail.name, fds, jail.adopt, message)
        except BaseException:
            for fd in (*passed, *mounts.values()):
                os.close(fd)
            jail.unborn()
            raise

    def _files(self, jail: Jail, *, runtime: bool) -> dict[str, Path]:
        """What is mounted into the container, by where; in a network of the engine's the names are its too."""
        files = self._porters.files(jail.uid, runtime=runtime)
        return {target: path for target, path in files.items() if self._own_networks or target not in _NAMES}

    async def _network(self, container: Container, reply: Message) -> Network | None:
        """The container's own where it has one of the engine's; else there is one of Lambent's for it."""
        if self._own_networks:
            return None
        found, reply["runtime_api"], reply["lambda_api"] = await self._bridge.network(container.name, container.pidfd)
        return found

    async def _tcp_socket(self, jail: Jail) -> int:
        return await (jail.tcp_socket() if self._ways.runtime_api == "bridge" else super()._tcp_socket(jail))

    def _placed(self, jail: Jail, mounts: list[str], fds: list[int]) -> None:
        """The last descriptors are of these mounts."""
        if self._ways.mounts == "spread":
            while mounts:
                tree = fds.pop()
                try:
                    self._spread.put(jail.name, mounts.pop(), tree)
                finally:
                    os.close(tree)

    async def _end(self, name: str) -> None:
        await super()._end(name)
        if self._ways.mounts == "spread":
            self._spread.drop(name)

    async def _ended(self) -> None:
        """What does not go now goes at the next start."""
        await self._lobby.close()
        with contextlib.suppress(SandboxError):
            if self._ways.runtime_api == "bridge":
                await self._bridge.close()
        with contextlib.suppress(OSError):
            self._spread.close()

    def _must_live(self, jail: Jail) -> None:
        if jail.stopping:
            raise OSError("it was stopped before it was there")

    def _config_of(self, jail: Jail, image: str, runtime: str) -> dict[str, Any]:
        """A container as AWS would have it: no network, no rights, nothing to write to but what init mounts."""
        ours = runtime.startswith(("python", "nodejs"))
        mount_points = ["/tmp", *(["/var/task"] if runtime else []), *(["/var/runtime"] if ours else [])]
        binds = [f"{self._hold}:{HOLD}:ro"]
        if self._ways.mounts == "spread":
            mount_points = []
            binds += self._spread.binds(jail.name, list(PLACES) if runtime else ["/tmp"])
            binds += [f"{path}:{target}:ro" for target, path in self._files(jail, runtime=ours).items()]
        config = self._bare(image)
        config["HostConfig"] |= {"Binds": binds, "Tmpfs": dict.fromkeys(mount_points, _MOUNT_POINT)}
        return config

    def _bare(self, image: str) -> dict[str, Any]:
        """The same without any place for a function."""
        return {
            "Image": image,
            "Entrypoint": [HOLD],
            "Cmd": [],
            "User": _NOBODY,
            "WorkingDir": "/",
            "Hostname": "169-254-100-1",
            "Healthcheck": {"Test": ["NONE"]},
            "StopSignal": "SIGKILL",  # there is nothing to wait for, also where the engine ends
            "HostConfig": {
                "NetworkMode": "none" if self._own_networks else self._bridge.name,
                "IpcMode": "none",  # its own, and no /dev/shm, as on AWS
                "ReadonlyRootfs": True,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "PidsLimit": PIDS_MAX,
                "CpuShares": _MAKING_SHARES,
                "LogConfig": {"Type": "none"},
                "RestartPolicy": {"Name": "no"},
                "Binds": [f"{self._hold}:{HOLD}:ro"],
            },
        }

    async def close(self) -> None:
        if self._ready is not None:
            self._ready.cancel()
        await self._graveyard.close()  # it waits for nobody: what it finds later it would find at the next start
        await super().close()


async def make(config: Config, networks: Networks) -> Spawner:
    return ContainerSpawner(config, networks)


if __name__ == "__main__":
    serve(make, "sandbox.docker.spawner")
