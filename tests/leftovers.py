"""What of ours is still on this host: the proof that tests, and Lambent itself, leave nothing behind.

A *label* is the owner of a Lambent's sandboxes (`gateway.up.owner_of` of its data directory, or whatever a test gave a spawner);
a *directory* is its data directory. Everything that has a name bears one of the two. What has none (network namespaces, loop
devices without a file) is counted before and after.

The dead are not counted: once their parent has ended as well they are the host's to reap. Who looks for a parent that forgets its
children looks while it is there (`tests.processes.children`).
"""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from sandbox.native import nat, ruleset

_CGROUPS = Path("/sys/fs/cgroup")


def labelled(labels: Iterable[str], directories: Iterable[Path]) -> list[str]:
    """Processes, cgroups, mounts, loop devices, sockets, links, packet filters, files that bear a label or lie in a directory.

    What a data directory keeps is none of it, but for the images of disks.
    """
    directories = tuple(directories)
    labels = tuple(labels)
    marks = (*labels, *(str(directory) for directory in directories))
    if not marks:
        return []

    def ours(text: str) -> bool:
        return any(mark in text for mark in marks)

    found = [
        f"process {pid}: {_command(pid)}"
        for pid in _pids()
        if (ours(_read(f"/proc/{pid}/cgroup")) or (pid != os.getpid() and ours(_read(f"/proc/{pid}/cmdline")))) and not dead(pid)
    ]
    found += [f"cgroup {path}" for path in _cgroups() if any(label in path for label in labels)]
    found += [f"mount {line}" for line in _read("/proc/self/mountinfo").splitlines() if ours(line)]
    found += [f"loop device {name}: {file}" for name, file in loops() if ours(file)]
    found += [f"socket {line.split()[-1]}" for line in _read("/proc/net/unix").splitlines() if ours(line)]
    found += [f"directory {path}" for label in labels for path in Path("/run/lambent").glob(f"{label}*")]
    found += [f"file {path}" for directory in directories for path in (directory / "volumes").glob("*")]
    links = {name for _, name in socket.if_nameindex()}
    found += [f"link {nat.link_of(label)}" for label in labels if nat.link_of(label) in links]
    return found + [f"nft table {ruleset.table_of(label)}" for label in labels if ruleset.table_of(label) in _tables()]


def _tables() -> set[str]:
    try:
        return {name for _, name in ruleset.tables()}
    except ruleset.NftError:  # then nobody could make one
        return set()


@dataclasses.dataclass(frozen=True)
class Census:
    """What is on the host as a whole. Only meaningful where nobody else starts and stops things meanwhile."""

    children: frozenset[int]
    cgroups: frozenset[str]
    mounts: frozenset[str]
    loops: frozenset[str]
    network_namespaces: frozenset[str]
    temporary: frozenset[str]

    @classmethod
    def take(cls) -> Census:
        return cls(
            children=frozenset(descendants(os.getpid())),
            cgroups=frozenset(path for path in _cgroups() if "lambent" in path),
            mounts=frozenset(line.split()[4] for line in _read("/proc/self/mountinfo").splitlines()),
            loops=frozenset(name for name, _ in loops()),
            network_namespaces=frozenset(_links("net")),
            temporary=frozenset(name for name in os.listdir("/tmp") if name.startswith("lambent")),
        )

    def more_than(self, before: Census) -> list[str]:
        """What is here that was not there before."""
        return [
            f"{field.name.replace('_', ' ')}: {thing}"
            for field in dataclasses.fields(self)
            for thing in sorted(getattr(self, field.name) - getattr(before, field.name), key=str)
        ]


def descendants(pid: int) -> set[int]:
    """Children of this process, their children, and so on; not those that have ended."""
    parents: dict[int, int] = {}
    for other in _pids():
        stat = _read(f"/proc/{other}/stat").rpartition(")")[2].split()
        if stat and stat[0] != "Z":
            parents[other] = int(stat[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def dead(pid: int) -> bool:
    """Whether all its threads have ended."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return True
    states = (_read(f"/proc/{pid}/task/{thread}/stat").rpartition(")")[2].split()[:1] for thread in threads)
    return all(state in ([], ["Z"], ["X"]) for state in states)


def _cgroups() -> Iterator[str]:
    return (directory for directory, _, _ in os.walk(_CGROUPS))


def loops() -> Iterator[tuple[str, str]]:
    for device in Path("/sys/block").glob("loop*"):
        file = _read(str(device / "loop" / "backing_file"))
        if file:
            yield device.name, file.strip()


def _links(kind: str) -> Iterator[str]:
    for pid in _pids():
        try:
            yield os.readlink(f"/proc/{pid}/ns/{kind}")
        except OSError:
            continue


def _command(pid: int) -> str:
    return _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()[:200]


def _read(path: str) -> str:
    """Empty for what is not there any more."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
