"""The spawner of the docker driver: what holds a sandbox is a container, and init is brought into it.

    create:  engine: create, start ──► a container with nothing in it but its holder
             porter: a copy of it enters the container, mounts what a stem needs, and is init there
    the rest (specialise, reset, freeze, exits, stop) is the native driver's, on the container's cgroups

The gateway never sees the engine's socket, which is as good as root: it asks this process, as it asks the native spawner.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from sandbox.docker import cgroups, holder
from sandbox.docker.container import Container, Graveyard
from sandbox.docker.runtimes import Runtimes
from sandbox.guest import syscalls
from sandbox.images.engine import Engine, EngineRefused
from sandbox.native import porter
from sandbox.native.cgroups import Cgroups, Group
from sandbox.native.channel import Message
from sandbox.native.jail import Jail
from sandbox.native.network import Networks
from sandbox.native.spawner import PIDS_MAX, Config, Refused, Spawner, Unavailable, log, log_pipe, serve
from sandbox.native.trees import Tree
from sandbox.native.zygotes import Zygote, Zygotes
from sandbox.spec import Architecture

HOLD: Final = "/.lambent"  #: where the holder is in a container
PARALLEL: Final = 16  #: containers that the engine is asked for at once; more make each of them slower, and none quicker
_NOBODY: Final = "65534:65534"
_MOUNT_POINT: Final = "size=4k,mode=755"
_TREE: Final = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
_PASSWD: Final = "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"


class Porters(Zygotes):
    """The one porter, started when first asked for and replaced when it dies."""

    def __init__(self, files: Path, groups: Cgroups, inits: Callable[[], Collection[int]]) -> None:
        super().__init__(files, "", groups, {"": Tree("", "")}, inits)
        self._runtime = files / "runtime"

    async def _start(self, runtime: str, tree: Tree) -> Zygote:
        zygote = Zygote("porter", self._inits)

        def command(control_fd: int) -> list[str]:
            arguments = {"runtime": str(self._runtime), "join": self._join, "control_fd": control_fd}
            return [sys.executable, "-m", "sandbox.native.porter", json.dumps(arguments)]

        await zygote.start(command)
        return zygote


class ContainerSpawner(Spawner):
    """Takes requests as its parent does."""

    def __init__(self, config: Config, engine: Engine, networks: Networks) -> None:
        self._runtimes = Runtimes(engine, config.runtime_images)
        super().__init__(config, {}, networks, {"support": {}, "network": networks.said})
        self._resolv_conf = networks.resolv_conf
        self._engine = engine
        self._graveyard = Graveyard(engine, config.owner)
        self._files = Path(config.volume_dir) / "container"
        self._porters = Porters(self._files, self._cgroups, self._inits)
        self._asking = asyncio.Semaphore(PARALLEL)

    async def start(self) -> None:
        """Raises OSError, and EngineUnavailable where no engine answers."""
        info = await self._engine.info()
        log.info(
            "Docker Engine %s at %s, %s cgroups v%s", info.version, self._engine.url, info.cgroup_driver, info.cgroup_version
        )
        if removed := await self._graveyard.sweep():
            log.info("removed containers of an earlier run: %s", ", ".join(sorted(removed)))
        shutil.rmtree(self._files, ignore_errors=True)
        (self._files / "users").mkdir(parents=True)
        (self._files / "runtime").mkdir()
        porter.install(self._files / "runtime")
        (self._files / "resolv.conf").write_text(self._resolv_conf)
        holder.install(self._files / "hold")
        self._hello["support"] = await self._runtimes.support()
        await super().start()

    def _check(self, request: Message) -> None:
        if request.get("architecture") not in list(Architecture):
            raise Refused(f"no such architecture: {request.get('architecture')!r}")

    def _group(self, name: str) -> Group:
        return cgroups.NONE

    async def _give_birth(self, jail: Jail, request: Message, there: socket.socket, out: list[int], reply: Message) -> None:
        passed: list[int] = [there.detach()]
        try:
            runtime, architecture = str(request["runtime"]), Architecture(str(request["architecture"]))
            reply["preloaded"], reply["interpreter"] = [], ""  # the stem inside knows better
            container = Container(self._engine, self._graveyard, jail.name)
            jail.container = container
            async with self._asking:
                self._must_live(jail)
                image = await self._runtimes.image(runtime, architecture)
                try:
                    jail.group = await container.start(self._config_of(image, runtime, jail), architecture)
                except EngineRefused as error:
                    raise Unavailable(str(error)) from error
            self._must_live(jail)
            interpreters = self._runtimes.interpreters(runtime, container.pidfd)
            passed.append(await self._network(out))
            passed.insert(1, log_pipe(out))
            passed.append(await self._spare_volumes.take())
            targets = ["/tmp", "/etc/resolv.conf"]
            passed.append(self._tree(self._files / "resolv.conf"))
            self._must_live(jail)
            if interpreters:
                targets.append("/var/runtime")
                passed.append(self._tree(self._files / "runtime"))
            targets.append("/etc/passwd")
            passed.append(self._tree(self._passwd(jail.uid)))
            passed += jail.group.join_fds([])
            fds, passed = [os.dup(container.pidfd), *passed], []
            message: Message = {"uid": jail.uid, "mounts": targets, "interpreters": interpreters}
            await (await self._porters.get("")).fork(jail.name, fds, jail.adopt, message)
        except BaseException:
            for fd in passed:
                os.close(fd)
            jail.unborn()
            raise

    def _must_live(self, jail: Jail) -> None:
        if jail.stopping:
            raise OSError("it was stopped before it was there")

    def _config_of(self, image: str, runtime: str, jail: Jail) -> dict[str, Any]:
        """A container as AWS would have it: no network, no rights, nothing to write to but what init mounts."""
        mount_points = ["/tmp", "/var/task", *(["/var/runtime"] if runtime.startswith("python") else [])]
        return {
            "Image": image,
            "Entrypoint": [HOLD],
            "Cmd": [],
            "User": _NOBODY,
            "WorkingDir": "/",
            "Hostname": "169-254-100-1",
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {
                "NetworkMode": "none",
                "IpcMode": "private",
                "ReadonlyRootfs": True,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges"],
                "PidsLimit": PIDS_MAX,
                "LogConfig": {"Type": "none"},
                "RestartPolicy": {"Name": "no"},
                "Binds": [f"{self._files / 'hold'}:{HOLD}:ro"],
                "Tmpfs": dict.fromkeys(mount_points, _MOUNT_POINT),
            },
        }

    def _tree(self, path: Path) -> int:
        tree = syscalls.open_tree(-100, str(path))
        syscalls.mount_setattr(tree, "", _TREE)
        return tree

    def _passwd(self, uid: int) -> Path:
        """The sandbox's user by its name on AWS."""
        path = self._files / "users" / str(uid)
        if not path.exists():
            path.write_text(f"{_PASSWD}sbx_user1051:x:{uid}:{uid}::/home/sbx_user1051:/sbin/nologin\n")
        return path

    async def close(self) -> None:
        self._porters.close()
        await super().close()
        await self._graveyard.close()
        await self._engine.close()
        shutil.rmtree(self._files, ignore_errors=True)


async def make(config: Config, networks: Networks) -> Spawner:
    return ContainerSpawner(config, Engine(config.engine), networks)


if __name__ == "__main__":
    serve(make, "sandbox.docker.spawner")
