"""What tests look up in /proc about processes that are not their own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests import leftovers

_ZYGOTES = ("lambent_zygote.py", "lambent_porter.py")


class Stat(NamedTuple):
    """A process and what /proc/PID/stat says of it."""

    pid: int
    state: str  #: one letter; Z is dead and not yet reaped
    parent: int


def stats() -> list[Stat]:
    """Every process there is now."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and (text := read(f"/proc/{name}/stat")):
            state, parent = text.rpartition(")")[2].split()[:2]
            found.append(Stat(int(name), state, int(parent)))
    return found


def children(pid: int) -> list[Stat]:
    """The dead that nobody has reaped are among them: they are what a parent that forgets leaves."""
    return [stat for stat in stats() if stat.parent == pid]


def descriptors(pid: int) -> int:
    """How many descriptors it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def command(pid: int) -> str:
    return read(f"/proc/{pid}/cmdline").replace("\0", " ")


def read(path: str) -> str:
    """Empty for what is not there any more."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


class Family:
    """The processes of a running Lambent, told apart: looked up once, when this is made, from the supervisor's pid.

    Zygotes and inits are both the spawner's children with the same command line; an init is in a pid namespace of its own.
    """

    def __init__(self, supervisor: int) -> None:
        self.supervisor = supervisor
        self.gateway = self.spawner = 0
        everybody = stats()
        for process in everybody:
            if process.parent == supervisor:
                line = command(process.pid)
                if "gateway.app" in line:
                    self.gateway = process.pid
                elif "sandbox.native.spawner" in line or "sandbox.docker.spawner" in line:
                    self.spawner = process.pid
        self.zygotes, self.inits = _told_apart(process for process in everybody if process.parent == self.spawner)
        inits = set(self.inits)
        self.runtimes = [process.pid for process in everybody if process.parent in inits]

    @property
    def all(self) -> set[int]:
        """Every process, whatever it is."""
        return {self.supervisor, *leftovers.descendants(self.supervisor)}


def of_spawner(pid: int) -> tuple[list[int], list[int]]:
    """(its zygotes, its sandboxes' inits)."""
    return _told_apart(children(pid))


def _told_apart(born: Iterable[Stat]) -> tuple[list[int], list[int]]:
    ours = _namespace(os.getpid())
    zygotes: list[int] = []
    inits: list[int] = []
    for child in born:
        if any(name in command(child.pid) for name in _ZYGOTES):
            (zygotes if _namespace(child.pid) == ours else inits).append(child.pid)
    return zygotes, inits
