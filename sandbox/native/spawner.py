"""The one privileged process: makes and ends sandboxes on the gateway's word, and believes none of it.

It serves one gateway at a time over a SOCK_SEQPACKET unix socket, requests numbered, answers in any order:

    {"n", "op": "create", "id", "runtime", "architecture", "image"}
                                                  → descriptors: connection, two listeners, log, freezer, memory (0 or 2), cpu
    {"n", "op": "specialise", "id", "code", …}    → {}, the first time with extensions a descriptor: their log
    {"n", "op": "reset", "id"}                    → descriptor: connection
    {"n", "op": "stop", "id"}                     → {}
    {"n", "op": "socket", "id"}                   → descriptor: an unconnected TCP socket of the sandbox's network
    {"n", "op": "image", "uri", "architecture"}   → {"image"}: what a name means now, unpacked
    {"n", "op": "look", "runtime", "architecture"} → {}: a zip runtime of another architecture is there, and ready
    {"op": "rehearse" | "start_runtime", "id"}, {"op": "signal", "id", "number", "extension"}, {"op": "kill_at", "id", "at_s"},
    {"op": "keep", "images", "runtimes", "more"}: not answered
    and by itself {"event": "exit" | "gone", "id", …}, {"event": "pull", "uri", "done", "total"}; first of all "hello"

Everything in a request is checked again: ids are names of directories, the code's path must lie below the code store with no
symlink in it, limits must be in their range. Freezing is not a message: the freezer's descriptor goes to the gateway.
When the gateway goes, so do its sandboxes. What takes longer than a moment (file systems, removal) is done in threads.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from sandbox.errors import ImageError, RuntimeUnavailable, SandboxError
from sandbox.guest import messages, syscalls
from sandbox.images.engine import DEFAULT_URL, Engine
from sandbox.native import interpreters, nodes
from sandbox.native.cgroups import Cgroups, Group
from sandbox.native.channel import Channel, Message
from sandbox.native.config import Config
from sandbox.native.imaged import Imaged, is_imaged
from sandbox.native.jail import Ended, Jail
from sandbox.native.network import Network, Networks, tcp_socket
from sandbox.native.porters import Porters
from sandbox.native.requests import DEFAULT_TMP_MB, Refused, Specialisation, id_of, moment_of, signal_of, uri_of
from sandbox.native.serving import serve
from sandbox.native.spares import Spares
from sandbox.native.trees import Tree, support, trees
from sandbox.native.volumes import Volumes
from sandbox.native.zygotes import Zygotes
from sandbox.spec import Architecture, Image
from sandbox.tasks import Tasks

log = logging.getLogger("lambent.spawner")

PIDS_MAX = 1024
PULL_TOLD_S = 0.1
T = TypeVar("T")


class Spawner:
    """State: the free user ids, the jails by id, and the gateway's channel.

    What a sandbox is made in is for `_check`, `_group` and `_give_birth` to say: the docker driver has its own.
    """

    def __init__(self, config: Config, trees: dict[str, Tree], networks: Networks, hello: Message) -> None:
        self._config = config
        self._hello = hello
        self._networks = networks
        self._cgroups = Cgroups(config.owner, cpu_mode=config.cpu)
        self._volumes = Volumes(Path(config.volume_dir))
        self._spare_volumes = Spares(
            "volume", lambda: self._volumes.create(DEFAULT_TMP_MB), os.close, wanted=config.spare_volumes
        )
        self._spare_networks = Spares(
            "network", networks.make, Network.close, wanted=config.spare_networks, executor=networks.executor
        )
        self._spare_groups = Spares("group", self._new_group, Group.remove, wanted=config.spare_groups)
        self._group_numbers = itertools.count(1)
        self._staging = Path(config.run_dir) / "root"
        self._staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = Path(config.volume_dir).parent
        self._porters = Porters(beside / "porter", networks.resolv_conf, self._cgroups, self._inits)
        self._engine = Engine(config.engine or DEFAULT_URL)
        self._engine.on_pull = self._pulled
        self._pull_told_s = 0.0
        self._imaged = Imaged(
            beside / "images",
            self._engine,
            config.runtime_images,
            config.images_max_mb << 20,
            lambda: {jail.image for jail in self._jails.values()},
            self._pulled,
        )
        self._zygotes = Zygotes(self._staging, networks.resolv_conf, self._cgroups, trees, self._inits)
        self._code_fd = os.open(config.code_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._uids = list(range(config.uid_base + config.max_sandboxes, config.uid_base, -1))
        self._jails: dict[str, Jail] = {}  #: each holds a user id from its making to its very end
        self._own_networks = True  #: else whatever holds a sandbox brings one
        self._own_groups = True  #: the same
        self._closing = False
        self._gateway: Channel | None = None
        self._tasks = Tasks(lambda error: log.error("a task failed: %r", error))
        self._long: set[asyncio.Task[Any]] = set()  # what may take an hour: the end does not wait for it
        self._loop = asyncio.get_running_loop()

    async def start(self) -> None:
        """Raises OSError when this host does not let us make what every sandbox needs."""
        self._cgroups.prepare()
        await self._loop.run_in_executor(None, self._porters.prepare)
        self._imaged.prepare()
        await self._spare_volumes.begin()
        if self._own_networks:
            await self._spare_networks.begin()
        if self._own_groups:
            await self._spare_groups.begin()

    def serve(self, sock: socket.socket) -> None:
        """A gateway connected. One at a time: an earlier one's sandboxes are ended first."""
        if self._gateway is not None:
            self._gateway.close()
            self._gateway_gone()
        self._gateway = Channel(sock, self._on_request, self._gateway_gone)
        self._gateway.send({"event": "hello", **self._hello})

    def _gateway_gone(self) -> None:
        if self._jails:  # at a proper end it has stopped them all before
            log.info("the gateway disconnected; ending its %d sandboxes", len(self._jails))
        self._gateway = None
        for name in list(self._jails):
            self._tasks.start(self._end(name), f"end {name}")

    def _on_request(self, message: Message, fds: list[int]) -> None:
        for fd in fds:  # the gateway has none to give
            os.close(fd)
        self._tasks.start(self._answer(message), str(message.get("op")))

    async def _answer(self, message: Message) -> None:
        gateway = self._gateway
        reply: Message = {"n": message.get("n")}
        out: list[int] = []
        try:
            if message.get("op") == "image":
                reply["image"] = (await self._at_length(self._image(message))).plain()
            elif message.get("op") == "look":
                architecture = Architecture(str(message.get("architecture")))
                await self._at_length(self._look(str(message.get("runtime")), architecture))
            elif message.get("op") == "keep":
                self._imaged.keep(message)
            else:
                out = await self._do(id_of(message.get("id")), message, reply)
        except (Refused, messages.TooLarge) as error:
            reply["refused"] = str(error)
        except RuntimeUnavailable as error:
            reply["unavailable"] = str(error)
        except Ended as error:
            reply["error" if message.get("op") == "create" else "gone"] = str(error)
        except ImageError as error:
            reply["bad_image"], reply["missing"] = str(error), error.missing
        except (OSError, TimeoutError, SandboxError) as error:
            reply["error"] = str(error) or type(error).__name__
        except Exception as error:
            log.exception("%s failed", message.get("op"))
            reply["error"] = f"{type(error).__name__}: {error}"
        if reply["n"] is None:
            return
        if gateway is not None and gateway is self._gateway and not gateway.closed:
            try:
                gateway.send(reply, out)
            except messages.TooLarge as error:
                gateway.send({"n": reply["n"], "refused": f"the answer would be {error}"})
            return
        for fd in out:
            os.close(fd)
        if out and message.get("op") == "create":  # it was made for a gateway that is gone
            await self._end(str(message["id"]))

    async def _at_length(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for what may take long. Raises what it does, and OSError when the spawner ends before."""
        task = self._loop.create_task(work)
        self._long.add(task)
        try:
            if self._closing:
                task.cancel()
            return await task
        except asyncio.CancelledError:
            if self._closing:
                raise OSError("the spawner is ending") from None
            raise
        finally:
            self._long.discard(task)

    async def _do(self, name: str, message: Message, reply: Message) -> list[int]:
        """What is asked for one sandbox; the descriptors that go with the reply."""
        out: list[int] = []
        match message.get("op"):
            case "create":
                out = await self._create(name, message, reply)
            case "specialise":
                out = await self._specialise(self._jail(name), message)
            case "reset":
                out = [await self._jail(name).reset()]
            case "stop":
                await self._end(name)
            case "socket":
                out = [await self._tcp_socket(self._jail(name))]
            case "start_runtime" | "rehearse" as op:
                self._jail(name).tell({"op": op})
            case "signal":
                self._jail(name).tell(signal_of(message))
            case "kill_at":
                self._jail(name).kill_at(moment_of(message))
            case other:
                raise Refused(f"no such operation: {other!r}")
        return out

    async def _tcp_socket(self, jail: Jail) -> int:
        return await self._loop.run_in_executor(self._networks.executor, tcp_socket, jail.pidfd())

    def _inits(self) -> set[int]:
        return {jail.pid for jail in self._jails.values()}

    def _jail(self, name: str) -> Jail:
        try:
            return self._jails[name]
        except KeyError:
            raise Refused(f"no sandbox {name}") from None

    async def _create(self, name: str, request: Message, reply: Message) -> list[int]:
        """See `guest.init` for what happens inside meanwhile. On failure nothing is left."""
        if name in self._jails:
            raise Refused(f"there is a sandbox {name} already")
        self._check(request)
        if self._closing:
            raise Refused("the spawner is ending")
        if not self._uids:
            raise Refused(f"no more than {self._config.max_sandboxes} sandboxes at once (max_sandboxes)")
        # atomic: no await. From here on there is a jail, and its end gives everything back.
        there = self._new_jail(name)
        out: list[int] = []
        try:
            jail = self._jails[name]
            await self._give_birth(jail, request, there, out, reply)
            out[:0] = await jail.stem()  # the connection
            out.append(jail.group.freeze_fd())
            memory = jail.group.memory_fds()
            out += memory or ()
            cpu_fd = jail.group.cpu_fd()
            if cpu_fd is not None:
                out.append(cpu_fd)
        except BaseException:
            for fd in out:
                os.close(fd)
            await self._end(name)
            raise
        reply["memory"] = memory is not None
        reply["cpu"] = jail.group.cpu.name if jail.group.cpu is not None else ""
        reply["frozen"], reply["thawed"] = jail.group.freezer_words
        return out

    def _new_jail(self, name: str) -> socket.socket:
        """What holds a sandbox, before there is one; the end of its control socket that is init's. Raises OSError."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def on_exit(status: Message) -> None:
            self._tell({"event": "exit", "id": name, **status})

        def on_gone(reason: str) -> None:
            self._tell({"event": "gone", "id": name, "reason": reason})
            self._tasks.start(self._end(name), f"end {name}")

        self._jails[name] = Jail(name, self._uids.pop(), here, on_exit, on_gone)
        return there

    def _check(self, request: Message) -> None:
        """Raises Refused for what was never offered."""
        if is_imaged(request):
            return
        if str(request.get("runtime")) not in self._zygotes:
            raise Refused(f"this host has no runtime {request.get('runtime')!r}")

    def _new_group(self) -> Group:
        """For any sandbox, so it has no sandbox's name. Raises OSError."""
        return self._cgroups.create(f"{os.getpid():x}-{next(self._group_numbers):x}", PIDS_MAX)

    async def _give_birth(self, jail: Jail, request: Message, there: socket.socket, out: list[int], reply: Message) -> None:
        """Have the zygote fork an init for it; the descriptors of the listeners and the log pipe go to `out`."""
        passed: list[int] = [there.detach()]
        message: Message = {"uid": jail.uid}
        mounts: dict[str, int] = {}
        try:
            jail.group = await self._spare_groups.take()
            if is_imaged(request):
                zygote = await self._porters.porter()
                root, programs = await self._at_length(self._imaged.root(jail, request))
                passed.insert(0, root)
                mounts = self._porters.mounts(jail.uid, runtime=programs.ours)
                message |= {"image": True, "mounts": ["/tmp", *mounts], **programs.message()}
            else:
                zygote = await self._zygotes.get(str(request["runtime"]))
            reply["preloaded"], reply["interpreter"] = zygote.preloaded, zygote.interpreter
            passed += await self._common(jail, out)
            passed += mounts.values()
            mounts = {}
            passed += jail.group.join_fds(self._cgroups.cpu_joins())
            fds, passed = passed, []
            await zygote.fork(jail.name, fds, jail.adopt, message)
        except BaseException:
            for fd in (*passed, *mounts.values()):
                os.close(fd)
            jail.unborn()
            raise

    async def _common(self, jail: Jail, out: list[int], network: Network | None = None) -> list[int]:
        """What every sandbox has: log pipe, network namespace and /tmp. The gateway's descriptors of them go to `out`."""
        network = network or await self._spare_networks.take()
        out += [network.runtime_api, network.lambda_api]
        found = [network.namespace]
        try:
            found.append(await self._spare_volumes.take())
            if jail.stopping:
                raise OSError("it was stopped before it was there")
            log_r, log_w = os.pipe2(os.O_CLOEXEC)
        except BaseException:
            for fd in found:
                os.close(fd)
            raise
        out.append(log_r)
        os.set_blocking(log_r, False)
        return [log_w, *found]

    async def _image(self, message: Message) -> Image:
        """What an ImageUri means now. Raises Refused, ImageError, EngineUnavailable."""
        return await self._imaged.resolve(uri_of(message), Architecture(str(message.get("architecture"))))

    async def _look(self, runtime: str, architecture: Architecture) -> None:
        """Raises RuntimeUnavailable where nothing here runs such functions, OSError."""
        await self._imaged.look(runtime, architecture)

    def _pulled(self, uri: str, done: int, total: int) -> None:
        """How far a pull is, for who looks; an engine tells it hundreds of times a second."""
        if done == total or self._loop.time() - self._pull_told_s >= PULL_TOLD_S:
            self._pull_told_s = self._loop.time()
            self._tell({"event": "pull", "uri": uri, "done": done, "total": total})

    async def _specialise(self, jail: Jail, message: Message) -> list[int]:
        """What the gateway gets for it: the extensions' log, if they begin for the first time."""
        wanted = Specialisation.of(message)
        first = not jail.specialised
        mounts: list[str] = []
        fds: list[int] = []
        out: list[int] = []
        try:
            if first:
                for target, path in (("/var/task", wanted.code), ("/opt", wanted.opt)):
                    if path is not None:
                        fds.append(self._code_tree(path))
                        mounts.append(target)
                if wanted.tmp_mb != DEFAULT_TMP_MB:
                    fds.append(await self._loop.run_in_executor(None, self._volumes.create, wanted.tmp_mb))
                    mounts.append("/tmp")
                if jail.stopping:  # meanwhile, and so perhaps without a cgroup any more
                    raise Ended("it was stopped")
                self._placed(jail, mounts, fds)
            if wanted.extensions and not jail.has_extension_log:
                log_r, log_w = os.pipe2(os.O_CLOEXEC)
                out.append(log_r)
                fds.append(log_w)
                os.set_blocking(log_r, False)
                jail.has_extension_log = True
        except BaseException:
            for fd in (*fds, *out):
                os.close(fd)
            raise
        try:
            jail.specialise(wanted.for_init(mounts, self._config.uid_base), fds)
            if first:  # init takes longer to mount and to wake the runtime than this takes, and does it meanwhile
                jail.group.limit_memory(wanted.memory_mb << 20)
        except BaseException:
            for fd in out:
                os.close(fd)
            raise
        return out

    def _placed(self, jail: Jail, mounts: list[str], fds: list[int]) -> None:
        """Mounts that need not go to init are put where they belong, and taken from the lists. Raises OSError."""

    def _code_tree(self, path: str) -> int:
        """A read-only mount of one directory of the code store, wherever the gateway would like it to point."""
        try:
            directory = syscalls.open_beneath(self._code_fd, path)
        except OSError as error:
            raise Refused(f"code {path!r}: {error}") from None
        try:
            tree = syscalls.open_tree(directory)
        finally:
            os.close(directory)
        syscalls.mount_setattr(tree, "", syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV)
        return tree

    def _tell(self, message: Message) -> None:
        if self._gateway is not None and not self._gateway.closed:
            self._gateway.send(message)

    async def _end(self, name: str) -> None:
        """Harmless for a sandbox that is not there. Its user id is free again only when nothing runs under it."""
        jail = self._jails.get(name)
        if jail is None:
            return
        await jail.stop()
        if self._jails.pop(name, None) is not None:
            self._uids.append(jail.uid)
            self._imaged.released(jail)

    async def _ended(self) -> None:
        """The last sandbox has."""

    async def close(self) -> None:
        """End the zygotes and whatever looks for images, so that what is under way fails, then every sandbox. What has a name is
        left to a sweep."""
        self._closing = True
        if self._gateway is not None:
            self._gateway.close()
        self._zygotes.close()
        self._porters.close()
        for task in self._long:
            task.cancel()
        await self._imaged.end()
        ends = (self._end(name) for name in list(self._jails))
        for failure in await asyncio.gather(*ends, return_exceptions=True):
            if failure is not None:  # the sweep below tries again
                log.error("a sandbox could not be ended: %s", failure)
        await self._tasks.join()
        await self._ended()
        await self._spare_volumes.close()
        await self._spare_networks.close()
        await self._spare_groups.close()
        await self._engine.close()
        await self._imaged.close()
        self._porters.remove()
        os.close(self._code_fd)


async def native(config: Config, networks: Networks) -> Spawner:
    """The spawner of the native driver, with what this host has."""
    loop = asyncio.get_running_loop()
    found, found_nodes = await asyncio.gather(
        loop.run_in_executor(None, interpreters.find_interpreters), loop.run_in_executor(None, nodes.find_nodes)
    )
    known = {runtime: (each.available, each.detail) for runtime, each in support(found, found_nodes).items()}
    return Spawner(config, trees(found, found_nodes), networks, {"support": known, "network": networks.said})


if __name__ == "__main__":
    serve(native, "sandbox.native.spawner")
