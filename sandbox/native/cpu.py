"""What of the processors a sandbox gets for its memory: as on AWS, one for each 1,769 MB. [P]

``weight`` shares them out by memory when there are not enough, and nobody waits where there are. ``quota`` gives no more than
that share ever, as AWS does. While Init runs a sandbox has what its new cgroup has: no quota, and the weight of one
whole processor.
"""

from __future__ import annotations

from typing import Final, Literal

Mode = Literal["weight", "quota", "none"]

MB_A_CPU: Final = 1769
PERIOD_US: Final = 20_000  #: AWS's; with the kernel's own 100 ms a small function would stand still for 90 ms at a time
LEAST_US: Final = 1000  #: the least quota that the kernel takes

#: The file to write to, by mode and whether it is cgroup v2.
FILES: Final = {
    ("weight", False): "cpu.shares",
    ("weight", True): "cpu.weight",
    ("quota", False): "cpu.cfs_quota_us",
    ("quota", True): "cpu.max",
}


def ration(file: str, memory_mb: int) -> str:
    """What to write to one of `FILES` for a function of so much memory."""
    share = memory_mb / MB_A_CPU
    match file:
        case "cpu.shares":
            return str(max(2, round(1024 * share)))
        case "cpu.weight":
            return str(min(10_000, max(1, round(100 * share))))
        case "cpu.cfs_quota_us":
            return str(max(LEAST_US, round(PERIOD_US * share)))
        case _:
            return f"{max(LEAST_US, round(PERIOD_US * share))} {PERIOD_US}"
