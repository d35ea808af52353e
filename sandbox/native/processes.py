"""What /proc tells about the processes of one sandbox. Empty or 0 for what is gone, and where there is no /proc."""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def descendants(pid: int) -> list[int]:
    """By the kernel's lists of children, so this costs per process found, not per process of the host."""
    found: list[int] = []
    for parent in itertools.chain([pid], found):  # grows as it goes
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                found.extend(map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split()))
    return found


def resident_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    return 0


def peak_resident_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
