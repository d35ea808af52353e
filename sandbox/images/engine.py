"""The Docker Engine as Lambent uses it: a handful of calls, each with an end and with errors that say whose fault it is.

aiodocker talks; this maps what it raises. An engine that is not there, restarts, answers nothing or answers 5xx is
`EngineUnavailable`, which may be better soon; what it refuses because of what it was asked is `EngineRefused`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from sandbox.errors import DriverUnavailable, SandboxError
from sandbox.images.progress import Progress
from sandbox.spec import Architecture

if TYPE_CHECKING:  # they take a tenth of a second, and a machine without an engine need not have them
    import aiodocker

DEFAULT_URL: Final = "unix:///var/run/docker.sock"
#: The engine's names of architectures are Go's.
PLATFORMS: Final = {Architecture.X86_64: "amd64", Architecture.ARM64: "arm64"}
CALL_S: Final = 20.0  #: for whatever should take a fraction of a second
CONNECT_S: Final = 5.0


class EngineUnavailable(DriverUnavailable):
    """The Docker Engine does not answer. Ours; worth a retry."""


class EngineFailed(EngineUnavailable):
    """The Docker Engine answers that it could not: its storage, its network, a registry. Worth a retry."""


class EngineRefused(SandboxError):
    """The Docker Engine refused what it was asked for."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class PullBroken(EngineRefused):
    """What a registry has of an image is no good: it was found, and did not come as it should."""


@dataclasses.dataclass(frozen=True, slots=True)
class EngineImage:
    """What the engine knows of an image that it has."""

    id: str  #: digest of its configuration, ``sha256:`` and 64 digits: the same name always means the same files
    repo_digests: tuple[str, ...]  #: as registries know it, ``name@sha256:…``; none for what was built or imported here
    architecture: str  #: Go's name
    size_bytes: int
    config: Mapping[str, Any]  #: Entrypoint, Cmd, Env, WorkingDir


@dataclasses.dataclass(frozen=True, slots=True)
class EngineInfo:
    """What `lambent doctor` tells of it."""

    version: str
    cgroup_driver: str
    cgroup_version: str
    storage: str


class Engine:
    """One engine, by its address. `timeout_s` is for each call; nothing here waits longer for it, except pulls and exports."""

    def __init__(self, url: str = DEFAULT_URL, timeout_s: float = CALL_S) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self.on_pull: Callable[[str, int, int], None] = _ignore  #: name, bytes that are here, bytes in all as far as known
        self._docker: aiodocker.Docker | None = None

    @contextlib.asynccontextmanager
    async def _asked(self, what: str, timeout_s: float | None = None) -> AsyncIterator[aiodocker.Docker]:
        try:
            import aiodocker
            import aiohttp
        except ImportError as error:
            raise EngineUnavailable(
                f"for the Docker Engine the package aiodocker is needed: pip install 'lambent[docker]' ({error})"
            ) from error
        if self._docker is None:
            self._docker = aiodocker.Docker(url=self.url, timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S))
        with _mapped(what, self.url):
            async with asyncio.timeout(timeout_s or self._timeout_s):
                yield self._docker

    async def close(self) -> None:
        if self._docker is not None:
            await self._docker.close()
            self._docker = None

    async def info(self) -> EngineInfo:
        """Raises EngineUnavailable."""
        async with self._asked("info", 5.0) as docker:
            found = await docker.system.info()
        return EngineInfo(
            str(found.get("ServerVersion")),
            str(found.get("CgroupDriver")),
            str(found.get("CgroupVersion", "1")),
            str(found.get("Driver")),
        )

    async def image(self, name: str) -> EngineImage | None:
        """What it has under a name, tag, digest or id; None if nothing. Raises EngineUnavailable, EngineRefused."""
        try:
            async with self._asked(f"inspect image {name}") as docker:
                found = await docker.images.inspect(name)
        except EngineRefused as error:
            if error.status == 404:
                return None
            raise
        return EngineImage(
            str(found["Id"]),
            tuple(found.get("RepoDigests") or ()),
            str(found.get("Architecture", "")),
            int(found.get("Size", 0)),
            found.get("Config") or {},
        )

    async def create(self, name: str, config: Mapping[str, Any], architecture: Architecture | None) -> str:
        """Make a container, not started; its id. None: of an image whatever it was made for.

        Raises EngineUnavailable, EngineRefused.
        """
        async with self._asked(f"create container {name}") as docker:
            made = await docker._query_json(
                "containers/create",
                method="POST",
                data=dict(config),
                params={"name": name, **({"platform": f"linux/{PLATFORMS[architecture]}"} if architecture else {})},
            )
        return str(made["Id"])

    async def start(self, container: str) -> int:
        """Start a container; the pid of its first process, on the host. Raises EngineUnavailable, EngineRefused."""
        async with self._asked(f"start container {container}") as docker:
            one = docker.containers.container(container)
            await one.start()
            state = (await one.show())["State"]
        pid = int(state["Pid"])
        if not state["Running"] or not pid:
            raise EngineRefused(f"the container ended at once: exit status {state.get('ExitCode')} {state.get('Error') or ''}", 0)
        return pid

    async def remove(self, container: str) -> None:
        """Whatever its state; harmless when there is none. Raises EngineUnavailable, EngineRefused."""
        try:
            async with self._asked(f"remove container {container}") as docker:
                await docker.containers.container(container).delete(force=True, v=True)
        except EngineRefused as error:
            if error.status == 404:
                return
            if error.status == 409 and "already in progress" in str(error):
                await self._gone(container)
                return
            raise

    async def pause(self, container: str) -> None:
        """Raises EngineUnavailable, EngineRefused."""
        async with self._asked(f"pause container {container}") as docker:
            await docker.containers.container(container).pause()

    async def unpause(self, container: str) -> None:
        """Raises EngineUnavailable, EngineRefused."""
        async with self._asked(f"unpause container {container}") as docker:
            await docker.containers.container(container).unpause()

    async def create_network(self, name: str, label: str, *, internal: bool) -> str:
        """Make a bridge whose members reach each other through it only where the engine lets them; the bridge's own IPv4 address.

        `label` is ``key=value``; `internal`: it leads nowhere else. Raises EngineUnavailable, EngineRefused.
        """
        key, _, value = label.partition("=")
        config = {
            "Name": name,
            "Driver": "bridge",
            "Internal": internal,
            "Labels": {key: value},
            "Options": {"com.docker.network.bridge.enable_icc": "false"},
        }
        async with self._asked(f"create network {name}") as docker:
            await docker._query_json("networks/create", method="POST", data=config)
            found = await docker._query_json(f"networks/{name}")
        for one in found["IPAM"]["Config"]:
            if "." in (gateway := str(one.get("Gateway", ""))):
                return gateway.partition("/")[0]
        raise EngineFailed(f"the Docker Engine gave network {name} no IPv4 address")

    async def remove_networks(self, label: str) -> None:
        """All that bear a label, ``key=value``. Raises EngineUnavailable, EngineRefused where a container is in one."""
        async with self._asked("list networks") as docker:
            for one in await docker._query_json("networks", params={"filters": json.dumps({"label": [label]})}):
                await (await docker.networks.get(one["Id"])).delete()

    async def address(self, container: str, network: str) -> str:
        """The IPv4 address of a container that runs; empty where it has none. Raises EngineUnavailable, EngineRefused."""
        async with self._asked(f"inspect container {container}") as docker:
            shown = await docker.containers.container(container).show()
        return str(shown["NetworkSettings"]["Networks"].get(network, {}).get("IPAddress", ""))

    async def _gone(self, container: str) -> None:
        """Wait for a removal that somebody else began."""
        for _ in range(100):
            if container not in await self.names_or_ids():
                return
            await asyncio.sleep(0.05)
        raise EngineUnavailable(f"the removal of {container} does not end")

    async def names_or_ids(self, label: str | None = None) -> dict[str, str]:
        """Every container that bears `label` (``key=value``; None: every one), by name and by id, with its id."""
        filters = {"label": [label]} if label else {}
        async with self._asked("list containers") as docker:
            found = await docker.containers.list(all=True, filters=filters)
        named: dict[str, str] = {}
        for one in found:
            named[one.id] = one.id
            for name in one["Names"]:
                named[str(name).lstrip("/")] = one.id
        return named

    async def pull(
        self, name: str, architecture: Architecture, auth: Mapping[str, str] | None
    ) -> AsyncIterator[Mapping[str, Any]]:
        """Get an image from its registry; yields what the engine tells, and tells `on_pull` how far it is.

        Raises EngineUnavailable, EngineRefused, PullBroken.
        """
        known = Progress()
        # aiodocker takes no credentials for a name that does not say where it is from
        whole = name if "/" in name or auth is None else f"docker.io/library/{name}"
        try:
            async with self._asked(f"pull {name}", 3600.0) as docker:
                progress = docker.images.pull(
                    whole, auth=dict(auth) if auth else None, platform=f"linux/{PLATFORMS[architecture]}", stream=True
                )
                async for line in progress:
                    if "error" in line:  # before aiodocker 0.27, which raises it
                        raise EngineRefused(f"the Docker Engine could not pull {name}: {line['error']}", 0)
                    if (far := known.told(line)) is not None:
                        self.on_pull(name, *far)
                    yield line
        except EngineRefused as error:
            raise error if error.status else PullBroken(str(error), 0) from error

    async def save(self, image: str, file: int) -> None:
        """Write an image as a tar file, as `docker save` does, into the descriptor. Raises EngineUnavailable, EngineRefused."""
        async with self._asked(f"save {image}", 3600.0) as docker, docker.images.export_image(image) as content:
            while chunk := await content.read(1 << 20):
                writing = asyncio.get_running_loop().run_in_executor(None, _write, file, chunk)
                try:
                    await asyncio.shield(writing)
                except asyncio.CancelledError:  # the descriptor will be closed, and can be another file's then
                    await asyncio.wait({writing})
                    raise

    async def load(self, path: str) -> None:
        """Take images from a file that is as `docker save` writes it. Raises EngineUnavailable, EngineRefused."""
        async with self._asked(f"load {path}", 3600.0) as docker:
            with open(path, "rb") as file:  # noqa: ASYNC230  aiohttp reads it in a thread
                async for _ in docker.images.import_image(file, stream=True):
                    pass

    async def extensions(self, image: str) -> list[str]:
        """Names of the files in /opt/extensions of an image: a container that is never started tells them.

        Raises EngineUnavailable, EngineRefused.
        """
        config = {"Image": image, "Entrypoint": ["/-"], "NetworkDisabled": True, "Labels": {"lambent.look": "1"}}
        one = await self.create(f"lambent-look-{secrets.token_hex(8)}", config, None)
        try:
            async with self._asked(f"look into {image}") as docker:
                with await docker.containers.container(one).get_archive("/opt/extensions") as tar:
                    names = [member.name for member in tar if member.isfile()]
        except EngineRefused as error:
            if error.status != 404:
                raise
            return []
        finally:
            await self.remove(one)
        return sorted(name.partition("/")[2] for name in names if name.count("/") == 1)


def _ignore(_: str, __: int, ___: int) -> None:
    """Nobody wants to know."""


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


@contextlib.contextmanager
def _mapped(what: str, url: str) -> Iterator[None]:
    import aiodocker
    import aiohttp

    try:
        yield
    except TimeoutError as error:
        raise EngineUnavailable(f"the Docker Engine at {url} did not answer in time ({what})") from error
    except (aiohttp.ClientError, OSError) as error:
        raise EngineUnavailable(f"no Docker Engine answers at {url}: {str(error) or type(error).__name__} ({what})") from error
    except aiodocker.DockerError as error:
        if error.status >= 900:  # aiodocker's own: there was no answer
            raise EngineUnavailable(f"no Docker Engine answers at {url}: {error.message} ({what})") from error
        if error.status >= 500 and error.status != 501:
            message = f"the Docker Engine could not {what}: {error.message}"
            # What the image is at fault for is a 500 too: nothing there to be executed, another architecture.
            if "exec" in error.message or "no such file" in error.message:
                raise EngineRefused(message, error.status) from error
            raise EngineFailed(message) from error
        raise EngineRefused(f"the Docker Engine refused to {what}: {error.message}", error.status) from error
