"""A long even load, and whether anything grows meanwhile: memory, descriptors, processes, cgroups, mounts, network namespaces.

What leaks a little with each invocation does not show in a run of seconds. So the host is looked at while the load goes on, and
the end is held against the time when everything had been used once: the median of the last quarter of the looks against that of
the second quarter. Medians, because a page of metrics or a refill of stems is in some looks and not in others.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import statistics
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
CGROUPS: Final = Path("/sys/fs/cgroup")
_METRICS: Final = {"memory of the gateway, MB": ("process_resident_memory_bytes", 1e6), "descriptors": ("process_open_fds", 1)}
#: What may be more at the end, as a share and as a number: a run is never quite even.
SLACK_SHARE: Final = 0.05
SLACK: Final = {"memory of the gateway, MB": 3.0, "memory of all, MB": 20.0}
SLACK_OTHERS: Final = 3.0
LEAST_LOOKS: Final = 8

Look = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Trend:
    """What one figure did: the medians of the second and of the last quarter, and the most of all looks."""

    name: str
    early: float
    late: float
    most: float

    @property
    def flat(self) -> bool:
        """Whether the end is no more than the beginning, but for what is uneven."""
        return self.late <= self.early * (1 + SLACK_SHARE) + SLACK.get(self.name, SLACK_OTHERS)


def look(endpoint: str) -> Look:
    """The gateway's own figures, and what there is on this host. Raises OSError where the gateway does not answer.

    Blocks for some milliseconds, so it is not for the loop that sends.
    """
    with urllib.request.urlopen(f"{endpoint}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    samples = dict(line.rsplit(" ", 1) for line in page.splitlines() if line and not line.startswith("#"))
    found = {name: float(samples[series]) / unit for name, (series, unit) in _METRICS.items()}
    resident, spaces, processes = 0, set(), 0
    for pid in filter(str.isdecimal, os.listdir(PROC)):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if not _lambents(int(pid)):
                continue
            resident += int((PROC / pid / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            spaces.add(os.readlink(PROC / pid / "ns/net"))
            processes += 1
    found["memory of all, MB"] = resident / 1e6
    found["processes"] = processes
    found["network namespaces"] = len(spaces)
    found["cgroups"] = sum(1 for _ in _cgroups())
    found["mounts"] = (PROC / "self/mountinfo").read_text().count("\n")
    return found


def _lambents(pid: int) -> bool:
    """A process of Lambent's, or one in a cgroup of its sandboxes."""
    command = (PROC / str(pid) / "cmdline").read_bytes()
    return (
        any(word in command for word in (b"gateway.", b"lambent", b"sandbox.native"))
        or "lambent" in (PROC / str(pid) / "cgroup").read_text()
    )


def _cgroups() -> Iterator[str]:
    for path, directories, _ in os.walk(CGROUPS):
        yield from (path for name in directories if "lambent" in os.path.join(path, name))


async def watch(looks: list[Look], take: Callable[[], Look], every_s: float, told: Callable[[Look], None]) -> None:
    """Look every `every_s` seconds, for ever."""
    while True:
        await asyncio.sleep(every_s)
        looks.append(await asyncio.to_thread(take))
        told(looks[-1])


def trends(looks: list[Look]) -> list[Trend]:
    """What each figure did. Raises ValueError for too few looks."""
    if len(looks) < LEAST_LOOKS:
        raise ValueError(f"{len(looks)} looks say nothing about a trend; {LEAST_LOOKS} would")
    quarter = len(looks) // 4
    early, late = looks[quarter : 2 * quarter], looks[-quarter:]
    return [
        Trend(
            name,
            statistics.median(one[name] for one in early),
            statistics.median(one[name] for one in late),
            max(one[name] for one in looks),
        )
        for name in looks[0]
    ]


def table(found: list[Trend]) -> str:
    """For people."""
    lines = [f"{'':28}{'second quarter':>16}{'last quarter':>16}{'most':>12}"]
    for one in found:
        verdict = "" if one.flat else "  grows"
        lines.append(f"{one.name:28}{one.early:16,.1f}{one.late:16,.1f}{one.most:12,.1f}{verdict}")
    return "\n".join(lines)
