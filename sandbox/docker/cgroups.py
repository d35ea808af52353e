"""The cgroups that an engine made for a container, found by who is in them: v1, v2, hybrid, systemd and cgroupfs drivers alike.

Where a group lies is read from /proc/PID/cgroup of the container's first process, so no naming scheme of an engine is known here.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sandbox.native import cpu
from sandbox.native.cgroups import NOWHERE, Group, write

#: What limits a container or tells what it uses; its processes belong into all of these.
_JOINED = frozenset({"memory", "pids", "cpu", "devices", "freezer"})


@dataclasses.dataclass(slots=True)
class ContainerGroup(Group):
    """As a sandbox's own group, but the engine removes it."""

    def remove(self) -> None: ...

    def kill(self) -> bool:
        """Not by the group: the container's first process is in it, and all would be over."""
        return False


def find(pid: int, mode: cpu.Mode = "none", membership: str | None = None, mountinfo: str | None = None) -> ContainerGroup:
    """The groups of a container's first process, with `NOWHERE` as freezer where none can freeze.

    Raises OSError when it is gone, or in no group of its own.
    """
    membership = Path(f"/proc/{pid}/cgroup").read_text() if membership is None else membership
    mountinfo = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
    hierarchies = _hierarchies(mountinfo)
    directories: dict[Path, Path] = {}
    by_controller: dict[str, Path] = {}
    unified: Path | None = None
    for line in membership.splitlines():
        _, names, path = line.split(":", 2)
        if path == "/":
            continue
        controllers = frozenset(names.split(",")) if names else frozenset({""})
        mount_point = hierarchies.get(controllers)
        if mount_point is None:
            continue
        directory = mount_point / path.lstrip("/")
        if not names:
            unified = directory
            directories[mount_point] = directory
        elif controllers & _JOINED:
            directories[mount_point] = directory
            by_controller.update(dict.fromkeys(controllers, directory))
    freezer = by_controller.get("freezer") or unified
    if not directories:
        raise OSError(f"process {pid} is in no cgroup of its own")
    memory = by_controller.get("memory") or unified
    shares = by_controller.get("cpu") or unified
    name = cpu.FILES.get((mode, shares == unified), "") if shares is not None else ""
    if shares is not None and name == "cpu.cfs_quota_us":
        write(shares / "cpu.cfs_period_us", str(cpu.PERIOD_US))
    return ContainerGroup(
        directories=directories,
        memory=memory,
        memory_v2=memory is not None and memory == unified,
        freezer=freezer or NOWHERE,
        cpu=shares / name if shares is not None and name else None,
    )


def _hierarchies(mountinfo: str) -> dict[frozenset[str], Path]:
    """Mount points by controllers; v2 by the empty name, as /proc/PID/cgroup has it."""
    found: dict[frozenset[str], Path] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        mount_point = Path(before.split()[4])
        if kind == "cgroup2":
            found.setdefault(frozenset({""}), mount_point)
        elif kind == "cgroup":
            flags = {"rw", "ro", "xattr", "clone_children", "noprefix"}
            names = frozenset(name for name in options.split(",") if name not in flags and not name.startswith("release_agent="))
            found.setdefault(names, mount_point)
    return found
