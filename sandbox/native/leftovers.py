"""What a crash left behind, found by its owner's label and removed.

Mounts, network namespaces, loop devices and image files need no finding: they have no name, and go with the last process or
descriptor that holds them. What has a name is the cgroups, through them every process that was ever ours, the network's link and
packet filter table, and a directory below /run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from sandbox.clock import SystemClock
from sandbox.native import nat
from sandbox.native.cgroups import Cgroups, remove_directory, write


def sweep(owner: str, patience_s: float = 10.0) -> list[str]:
    """Kill every process in the cgroups of `owner`, remove those and what its network left; says what it found. Blocks.

    Processes that fork while they are killed are killed again until none is left. Raises OSError when something will not go
    within `patience_s`.
    """
    found: list[str] = []
    deadline = SystemClock.monotonic() + patience_s
    try:
        bases = Cgroups(owner).bases
    except OSError:
        bases = []
    for base in bases:
        groups = [directory for directory in _below(base) if directory.exists()]
        while pids := _kill(groups):
            found.extend(f"process {pid}" for pid in sorted(pids) if f"process {pid}" not in found)
            if SystemClock.monotonic() > deadline:
                raise TimeoutError(f"processes {sorted(pids)} in {base} do not end")
            time.sleep(0.005)
    for base in bases:
        for directory in _below(base):
            if directory.exists():
                found.append(str(directory))
                remove_directory(directory)
    return [*found, *nat.sweep(owner)]


def clear(run_dir: Path) -> list[str]:
    """Remove what `up` made for one run: sockets and empty directories; says what is left, and why.

    Nothing else, ever: should something still be mounted there, nothing of it must go.
    """
    left: list[str] = []
    for directory in _below(run_dir):
        try:
            for entry in directory.iterdir():
                if entry.is_socket():
                    entry.unlink()
            directory.rmdir()
        except FileNotFoundError:
            continue
        except OSError as error:
            left.append(f"{directory}: {error.strerror}")
    with contextlib.suppress(OSError):  # another `up` has its directory there
        run_dir.parent.rmdir()
    return left


def _below(base: Path) -> list[Path]:
    """`base` and all groups below it, children first."""
    return [Path(directory) for directory, _, _ in os.walk(base, topdown=False)]


def kill_members(group: Path) -> set[int]:
    """Kill who is in a group, and say who that is. A member may end meanwhile and its number be somebody else's, so each is held
    by a descriptor and only killed if it is a member then.
    """
    held: dict[int, int] = {}
    try:
        for pid in _members(group):
            with contextlib.suppress(OSError):
                held[pid] = os.pidfd_open(pid)
        members = _members(group)
        for pid in members & held.keys():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(held[pid], signal.SIGKILL)
        return members
    finally:
        for fd in held.values():
            os.close(fd)


def _members(group: Path) -> set[int]:
    try:
        return {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    except OSError:  # the group is gone
        return set()


def _kill(groups: list[Path]) -> set[int]:
    """Kill first, thaw after, so that nothing that was frozen runs again."""
    pids: set[int] = set()
    for group in groups:
        pids |= kill_members(group)
        with contextlib.suppress(OSError):
            write(group / "cgroup.kill", "1")
    for group in groups:
        for name, text in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            with contextlib.suppress(OSError):
                write(group / name, text)
    return pids
