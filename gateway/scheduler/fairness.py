"""Who gives up memory to whom when all of it is in use: no function may starve another. [P]

A function that is flooded would keep whatever it once got: each sandbox that has answered has its next invocation waiting. So the
memory that functions work with is made even, one sandbox at a time (max-min fairness). A sandbox that has answered is frozen, not
given to who waits in its own group, if a group that lacks memory works with so much less that it has no more even with the
sandbox that it wants. In the other direction, a group that works with more does not evict what one with less has just used:
it would be started again at once. What a function does not use it does not get; where nobody lacks anything nothing is done.

What is provisioned comes before all of them: who has waiters hands over what it works with until that has its room, unless
others, who do not answer, hold so much that it would be in vain.

Nor does anybody evict what was just used who is handed a sandbox's memory sooner than a start takes: of thirty sandboxes that a
flooded function works with, one answers each few milliseconds. Else those who use little would evict each other, and be started
again, all the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

from gateway.scheduler.capacity import Budget
from gateway.scheduler.state import Instance

if TYPE_CHECKING:
    from gateway.scheduler.group import Group

LOOKED_AT: Final = 8  #: groups that lack memory, of which one is found
JUST_USED_S: Final = 2.0


def working_bytes(group: Group) -> int:
    """What a group's sandboxes count that work or start."""
    return (group.busy + group.finishing + group.coming) * group.memory_bytes


def poorer(group: Group, starved: Iterable[Group]) -> Group | None:
    """Who is to have the sandbox of `group` that has just become idle, and is not counted in what it works with any more."""
    most = working_bytes(group)
    for other in islice(starved, LOOKED_AT):
        if other is not group and working_bytes(other) + other.memory_bytes <= most:
            return other
    return None


def enough(group: Group, kept: Group, budget: Budget) -> bool:
    """Whether `kept`, which is to have a provisioned sandbox, has room for it once `group` has given up what it works with."""
    left_bytes = budget.used_bytes - budget.stopping_bytes - budget.idle_bytes - working_bytes(group)
    return left_bytes + kept.memory_bytes <= budget.total_bytes


def soon(group: Group, starved: Iterable[Group], cold_s: float, now: float) -> bool:
    """Whether a group that works with more is expected to answer, and give up memory, before a start would be over."""
    wanted = working_bytes(group) + group.memory_bytes
    for other in (group.quota.longest, *islice(starved, LOOKED_AT)):
        if other is None or other is group or other.run_s is None:
            continue
        next_s = max(other.run_s, other.mean_elapsed_s(now)) / max(1, other.busy)
        if wanted <= working_bytes(other) - other.memory_bytes and next_s < cold_s:
            return True
    return False


def just_used(victim: Instance, now: float) -> bool:
    """Whether a sandbox that is idle was used a moment ago; a stem never was."""
    return victim.since_s > now - JUST_USED_S and hasattr(victim, "group")


def spares(group: Group | None, victim: Instance, now: float) -> bool:
    """Whether `group`, which lacks memory, lets another's idle sandbox be."""
    if group is None or not just_used(victim, now):
        return False
    other = victim.group
    if other is group:
        return False
    return working_bytes(group) > working_bytes(other) + other.memory_bytes
