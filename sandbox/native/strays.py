"""Inits that a dying zygote had forked already and could not tell of any more.

They are children of this process, and in the process group that their zygote led (whose number is not given out again as long as
one of them is there). What a function starts is in a session of its own and never among them.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection


def find(group: int, known: Collection[int]) -> list[int]:
    """Pids of this process's children in process group `group` that are not in `known`; those that are dead already too."""
    found = []
    own = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                _, parent, its_group = file.read().rpartition(")")[2].split()[:3]
                if int(parent) == own and int(its_group) == group and int(name) not in known:
                    found.append(int(name))
    return found


def end(pids: Collection[int]) -> None:
    """Kill and reap children of this process. Blocks until nothing of their pid namespaces is left."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
