"""The same time for all, from the last use: what the clouds did for long, and the yardstick of every study. [P]

"Serverless in the Wild" (USENIX ATC 2020) takes ten minutes for it. Where memory is short the one used longest ago goes first.
"""

from __future__ import annotations

from gateway.scheduler.keepalive.quiet import Quiet
from gateway.scheduler.state import Instance


class Fixed(Quiet):
    """`ttl_s` from the last use."""

    __slots__ = ("_ttl_s",)

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s

    def keep_until(self, instance: Instance, now: float) -> float:
        return instance.since_s + self._ttl_s
