"""Control groups on v2, v1 and hybrid hosts, behind one small set of files per sandbox.

Every sandbox has a directory of its own in each hierarchy that matters: memory and pids to limit it, cpu to give it its share
(`cpu.py`), and one that can freeze. All lie below ``lambent-<owner>/sandboxes``, whose cpu weight is that of one ordinary group
however many sandboxes run, so that gateway and spawner, which are outside, keep their share; zygotes and inits lie in
``lambent-<owner>/zygotes``. The name is also the label by which a later start finds what a crash left behind (`leftovers.py`).

On a hybrid host the controllers are under v1 while freeze and kill are under ``unified``. On v2 all is one directory. Where
systemd delegated a subtree to us we stay in it; else the directory is made at the top, as container engines do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from sandbox.clock import SystemClock
from sandbox.native import cpu

V1_CONTROLLERS = ("memory", "pids", "cpu", "freezer")
#: Of each second on each processor, for real-time tasks: of all sandboxes together and of one. Only a kernel with
#: CONFIG_RT_GROUP_SCHED asks for it, and has it under v1 alone; on any other root may have real-time tasks in every group.
RT_FILE = "cpu.rt_runtime_us"
RT_US = 200_000
RT_SANDBOX_US = 2_000


@dataclasses.dataclass(frozen=True, slots=True)
class Hierarchies:
    """Where this host has what: a mount point each, None where it has none."""

    v2: Path | None  #: cgroup2, alone or beside v1
    v2_controllers: frozenset[str]
    v1: dict[str, Path]  #: by controller

    @property
    def mode(self) -> str:
        return ("hybrid" if self.v1 else "v2") if self.v2 else ("v1" if self.v1 else "none")

    def of(self, controller: str) -> Path | None:
        """The hierarchy that has this controller; `freezer` and `kill` are built into v2."""
        if controller in self.v1 and not (controller == "freezer" and self.v2):
            return self.v1[controller]
        if self.v2 and (controller in self.v2_controllers or controller == "freezer"):
            return self.v2
        return None


def find_hierarchies(mountinfo: str | None = None) -> Hierarchies:
    """Read from /proc/self/mountinfo (or its given text)."""
    text = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
    v1: dict[str, Path] = {}
    v2: Path | None = None
    controllers: frozenset[str] = frozenset()
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        mount_point = Path(before.split()[4])
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            v2 = mount_point
            with contextlib.suppress(OSError):
                controllers = frozenset((mount_point / "cgroup.controllers").read_text().split())
        elif kind == "cgroup":
            for name in V1_CONTROLLERS:
                if name in options.split(" ")[-1].split(","):
                    v1[name] = mount_point
    return Hierarchies(v2, controllers, v1)


def delegated(v2: Path, membership: str | None = None) -> Path | None:
    """Our own v2 group where systemd said that it is ours (Delegate=yes), from /proc/self/cgroup (or its given text).

    Systemd's mark is on the service's own group; after `prepare` our processes are in ``main`` below that.
    """
    text = Path("/proc/self/cgroup").read_text() if membership is None else membership
    for line in text.splitlines():
        if line.startswith("0::"):
            own = v2 / line[3:].lstrip("/")
            own = own.parent if own.name == "main" else own
            for name in ("user.delegate", "trusted.delegate"):
                with contextlib.suppress(OSError):
                    if os.getxattr(own, name) == b"1":
                        return own
    return None


def write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _open_all(paths: Iterable[Path], flags: int) -> list[int]:
    """Descriptors of all, or OSError and of none."""
    fds: list[int] = []
    try:
        fds.extend(os.open(path, flags | os.O_CLOEXEC) for path in paths)
    except OSError:
        for fd in fds:
            os.close(fd)
        raise
    return fds


_known: dict[tuple[Path, str], bool] = {}


def _has(directory: Path, name: str) -> bool:
    """Whether this group has such a file, as all beside it have or have not: the kernel is asked once."""
    key = directory.parent, name
    found = _known.get(key)
    if found is None:
        found = _known[key] = (directory / name).exists()
    return found


@dataclasses.dataclass(slots=True)
class Group:
    """One sandbox's directories. Descriptors are opened once and passed on; paths stay for limits and removal."""

    directories: dict[Path, Path]  #: hierarchy → directory
    memory: Path | None
    memory_v2: bool
    freezer: Path
    cpu: Path | None = None  #: the file that its share of the processors is written to once Init is over

    def join_fds(self, also: list[Path]) -> list[int]:
        """The doors of these groups and of those in `also`, for init's child to join them (`guest.doors`): files to write ``0``
        to; under cgroup2 the directory, to be born in, and behind it its file.

        The kernel judges such a write by who opened the file, so an unprivileged process can be handed the door. The file is
        ``tasks`` where there is one: a thread that moves itself waits for nobody, while for a write to ``cgroup.procs`` the
        kernel lets a grace period of RCU go by (5 to 16 ms on the build machine, 2026-11-21; nobody can fork meanwhile).
        """
        fds: list[int] = []
        try:
            for path in (*self.directories.values(), *also):
                if _has(path, "tasks"):
                    fds += _open_all([path / "tasks"], os.O_WRONLY)
                else:
                    fds += _open_all([path], os.O_PATH | os.O_DIRECTORY)
                    fds += _open_all([path / "cgroup.procs"], os.O_WRONLY)
        except OSError:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    def limit_memory(self, limit_bytes: int) -> None:
        """No swap: what the kernel refuses because it has no swap accounting, or no swap, is left."""
        if self.memory is None:
            return
        if self.memory_v2:
            write(self.memory / "memory.max", str(limit_bytes))
            with contextlib.suppress(OSError):
                write(self.memory / "memory.swap.max", "0")
            with contextlib.suppress(OSError):
                write(self.memory / "memory.peak", "0")  # can be written since Linux 6.12
            return
        write(self.memory / "memory.limit_in_bytes", str(limit_bytes))
        with contextlib.suppress(OSError):
            write(self.memory / "memory.memsw.limit_in_bytes", str(limit_bytes))
        write(self.memory / "memory.max_usage_in_bytes", "0")

    def memory_fds(self) -> tuple[int, int] | None:
        """(used now, highest so far) to `pread`; None where memory is not counted."""
        if self.memory is None:
            return None
        names = ("memory.current", "memory.peak") if self.memory_v2 else ("memory.usage_in_bytes", "memory.max_usage_in_bytes")
        if not _has(self.memory, names[1]):
            names = (names[0], names[0])  # memory.peak came with Linux 5.19
        first, second = _open_all([self.memory / name for name in names], os.O_RDONLY)
        return first, second

    def cpu_fd(self) -> int | None:
        """To write what `cpu.ration` says."""
        return None if self.cpu is None else os.open(self.cpu, os.O_WRONLY | os.O_CLOEXEC)

    def oom_kills(self) -> int:
        if self.memory is None:
            return 0
        with contextlib.suppress(OSError):
            for line in (self.memory / ("memory.events" if self.memory_v2 else "memory.oom_control")).read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        return 0

    def freeze_fd(self) -> int:
        name = "cgroup.freeze" if _has(self.freezer, "cgroup.freeze") else "freezer.state"
        return os.open(self.freezer / name, os.O_WRONLY | os.O_CLOEXEC)

    @property
    def freezer_words(self) -> tuple[str, str]:
        """What to write to `freeze_fd`: (freeze, thaw)."""
        return ("1", "0") if _has(self.freezer, "cgroup.freeze") else ("FROZEN", "THAWED")

    def thaw_after_kill(self) -> None:
        """Under v2 a frozen process dies of SIGKILL as it is; under v1 the signal stays pending until the thaw."""
        if not _has(self.freezer, "cgroup.freeze"):
            with contextlib.suppress(OSError):
                write(self.freezer / "freezer.state", "THAWED")

    def kill(self) -> bool:
        """SIGKILL to all in it, frozen or not; False where the kernel cannot (before Linux 5.14, and without cgroup2)."""
        try:
            write(self.freezer / "cgroup.kill", "1")
        except OSError:
            return False
        return True

    def may_hurry(self) -> None:
        """Allow what `hurry` does, where the kernel wants that said before. Without it they die as soon as their turn comes."""
        if self.cpu is not None:
            with contextlib.suppress(OSError):
                write(self.cpu.parent / RT_FILE, str(RT_SANDBOX_US))

    def hurry(self, on: bool) -> None:
        """Those that were killed have the processors before all but the spawner, or no longer.

        To die takes some 10 us, but also a turn, and a batch task waits for its turn until others have had theirs: 4 ms each.
        To be called after `kill` only: none of them runs any code of its own then. It must not last: to give back much memory
        takes long, and who has used up the time for real-time tasks would not go on at all.
        """
        policy, priority = (os.SCHED_RR, 1) if on else (os.SCHED_BATCH, 0)
        with contextlib.suppress(OSError):
            for thread in (self.freezer / "cgroup.threads").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setscheduler(int(thread), policy, os.sched_param(priority))

    def remove(self) -> None:
        """When its processes are dead. A group stays busy for a moment after the last one was reaped."""
        for directory in self.directories.values():
            remove_directory(directory)


NOWHERE: Final = Path("/nonexistent")
NONE: Final = Group(directories={}, memory=None, memory_v2=False, freezer=NOWHERE)  #: of what is in no group yet


def remove_directory(directory: Path, patience_s: float = 5.0) -> None:
    """rmdir, again while the kernel is not done with the group. Raises OSError when it never is."""
    deadline = SystemClock.monotonic() + patience_s
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or SystemClock.monotonic() > deadline:
                raise
            time.sleep(0.002)


class Cgroups:
    """Makes and removes the groups of one owner. Raises OSError when the host does not let us.

    With a `cpu_mode` other than ``none`` each sandbox has its own share of the processors, where the host has the controller.
    """

    def __init__(self, owner: str, hierarchies: Hierarchies | None = None, cpu_mode: cpu.Mode = "none") -> None:
        self.hierarchies = hierarchies or find_hierarchies()
        found = {name: self.hierarchies.of(name) for name in ("memory", "pids", "cpu", "freezer")}
        if found["freezer"] is None:
            raise OSError(errno.ENODEV, "no cgroup hierarchy that can freeze: neither cgroup2 nor the v1 freezer is mounted")
        self._name = f"lambent-{owner}"
        self._base: dict[Path, Path] = {}
        for mount_point in dict.fromkeys(path for path in found.values() if path is not None):
            top = (delegated(mount_point) if mount_point == self.hierarchies.v2 else None) or mount_point
            self._base[mount_point] = top / self._name
        self._memory, self._pids, self._cpu, self._freezer = (found[n] for n in ("memory", "pids", "cpu", "freezer"))
        self._cpu_file = cpu.FILES.get((cpu_mode, self._cpu == self.hierarchies.v2), "") if self._cpu is not None else ""

    @property
    def bases(self) -> list[Path]:
        """Our directory in each hierarchy in use."""
        return list(self._base.values())

    def prepare(self) -> None:
        """Make the parents. Idempotent."""
        v2 = self.hierarchies.v2
        for mount_point, base in self._base.items():
            if mount_point == v2:
                self._enable(base)
            for name in ("sandboxes", "zygotes"):
                (base / name).mkdir(parents=True, exist_ok=True)
            if mount_point == v2:
                self._enable(base / "sandboxes" / "any")
        if self._cpu is not None:
            parent = self._base[self._cpu] / "sandboxes"
            with contextlib.suppress(OSError):
                if self._cpu == v2:
                    write(parent / "cpu.weight", "100")
                else:
                    write(parent / "cpu.shares", "1024")
                    for directory in (parent.parent, parent):
                        write(directory / RT_FILE, str(RT_US))

    def _enable(self, directory: Path) -> None:
        """Give `directory`'s parents the controllers that we use, from the top down; v2 hands them on level by level."""
        v2 = self.hierarchies.v2
        wanted = self.hierarchies.v2_controllers & {"memory", "pids", "cpu"}
        if v2 is None or not wanted:
            return
        top = delegated(v2) or v2
        if top != v2:  # a group with children that have controllers may have no processes of its own
            main = top / "main"
            main.mkdir(exist_ok=True)
            for pid in (top / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    write(main / "cgroup.procs", pid)
        for parent in reversed(directory.parents):
            if parent == top or top in parent.parents:
                parent.mkdir(exist_ok=True)
                write(parent / "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(wanted)))

    def zygote_joins(self) -> list[Path]:
        """Where a zygote goes, so that it and its inits can be found by their owner."""
        return [self._base[self._freezer] / "zygotes"] if self._freezer else []

    def cpu_joins(self) -> list[Path]:
        """The group that shares out processor time, where it is not one of the sandbox's own directories."""
        if self._cpu is None or self._cpu_file or self._cpu in (self._memory, self._pids, self._freezer):
            return []
        return [self._base[self._cpu] / "sandboxes"]

    def create(self, name: str, pids_max: int) -> Group:
        """Directories for one sandbox. On failure nothing is left."""
        directories: dict[Path, Path] = {}
        try:
            for mount_point in (self._memory, self._pids, self._freezer, self._cpu if self._cpu_file else None):
                if mount_point is not None and mount_point not in directories:
                    directory = self._base[mount_point] / "sandboxes" / name
                    directory.mkdir()
                    directories[mount_point] = directory
            if self._pids is not None:
                write(directories[self._pids] / "pids.max", str(pids_max))
            if self._memory is not None and self._memory != self.hierarchies.v2:
                with contextlib.suppress(OSError):
                    write(directories[self._memory] / "memory.swappiness", "0")
            if self._cpu is not None and self._cpu_file == "cpu.cfs_quota_us":
                write(directories[self._cpu] / "cpu.cfs_period_us", str(cpu.PERIOD_US))
        except OSError:
            for directory in directories.values():
                with contextlib.suppress(OSError):
                    directory.rmdir()
            raise
        assert self._freezer is not None
        return Group(
            directories=directories,
            memory=directories[self._memory] if self._memory else None,
            memory_v2=self._memory == self.hierarchies.v2,
            freezer=directories[self._freezer],
            cpu=directories[self._cpu] / self._cpu_file if self._cpu is not None and self._cpu_file else None,
        )
