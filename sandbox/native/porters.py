"""The porter of a spawner, and the files that its inits mount into containers and images.

    <directory>/root/         where the porter makes a root of its own
    <directory>/runtime/      what becomes /var/runtime where an image's own interpreter runs the function
    <directory>/users/UID     what becomes /etc/passwd
    <directory>/resolv.conf   hosts

They lie on disk because only a mount that has a name can be cloned, and go when the spawner ends.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from sandbox.guest import syscalls
from sandbox.native import interpreters, porter
from sandbox.native.cgroups import Cgroups
from sandbox.native.rootfs import HOSTS
from sandbox.native.trees import Tree
from sandbox.native.zygotes import Zygote, Zygotes

_READ_ONLY: Final = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
_PASSWD: Final = "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n"
_ANY: Final = "porter"


class Porters(Zygotes):
    """One process for all, started when first asked for and replaced when it dies."""

    def __init__(self, directory: Path, resolv_conf: str, groups: Cgroups, inits: Callable[[], Collection[int]]) -> None:
        super().__init__(directory, resolv_conf, groups, {_ANY: Tree({}, "")}, inits)
        self.directory = directory

    def prepare(self) -> None:
        """Make the files anew. Raises OSError."""
        self.remove()
        (self.directory / "users").mkdir(parents=True)
        (self.directory / "root").mkdir()
        (self.directory / "runtime").mkdir()
        porter.install(self.directory / "runtime")
        (self.directory / "resolv.conf").write_text(self._resolv_conf)
        (self.directory / "hosts").write_text(HOSTS)

    async def compile(self, runtimes: Collection[str]) -> None:
        """Make bytecode of the runtime's files for these runtimes, as far as their interpreters are on this machine.

        A container's interpreter cannot keep any, and compiling took a third of what a stem takes until it waits: 117 ms of
        processor time with and 84 without. Nobody waits for this. Raises OSError.
        """
        own = f"python{sys.version_info.major}.{sys.version_info.minor}"
        programs = {own: sys.executable} if own in runtimes else {}
        if {runtime for runtime in runtimes if runtime.startswith("python")} - programs.keys():  # looking for them takes a while
            found = await asyncio.get_running_loop().run_in_executor(None, interpreters.find_interpreters)
            programs = {**{one.runtime: str(one.executable) for one in found if one.runtime in runtimes}, **programs}
        words = ("-E", "-s", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(self.directory / "runtime"))
        for program in programs.values():
            process = await asyncio.create_subprocess_exec(program, *words, stdout=asyncio.subprocess.DEVNULL)
            try:
                await process.wait()
            except asyncio.CancelledError:
                process.kill()
                await process.wait()
                raise

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    async def porter(self) -> Zygote:
        """Raises OSError when it does not come up."""
        return await self.get(_ANY)

    async def _start(self, runtime: str, tree: Tree) -> Zygote:
        zygote = Zygote(runtime, self._inits)

        def command(control_fd: int) -> list[str]:
            places = {name: str(self.directory / name) for name in ("runtime", "root")}
            arguments = {**places, "join": self._join, "control_fd": control_fd}
            return [sys.executable, "-m", "sandbox.native.porter", json.dumps(arguments)]

        await zygote.start(command)
        return zygote

    def mounts(self, uid: int, *, runtime: bool = False) -> dict[str, int]:
        """What every sandbox of an image has besides /tmp: where it goes, and the detached mount. Raises OSError."""
        return {target: read_only(path) for target, path in self.files(uid, runtime=runtime).items()}

    def files(self, uid: int, *, runtime: bool = False) -> dict[str, Path]:
        """The same by the names of the files. Raises OSError."""
        user = self.directory / "users" / str(uid)
        if not user.exists():
            user.write_text(f"{_PASSWD}sbx_user1051:x:{uid}:{uid}::/home/sbx_user1051:/sbin/nologin\n")
        return {
            "/etc/passwd": user,
            "/etc/resolv.conf": self.directory / "resolv.conf",
            "/etc/hosts": self.directory / "hosts",
            **({"/var/runtime": self.directory / "runtime"} if runtime else {}),
        }


def read_only(path: Path) -> int:
    """A detached mount of a file or directory. Raises OSError."""
    tree = syscalls.open_tree(-100, str(path))
    syscalls.mount_setattr(tree, "", _READ_ONLY)
    return tree
