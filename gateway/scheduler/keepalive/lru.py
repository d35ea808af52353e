"""Least recently used: nothing goes before its memory is needed, then what was used longest ago. [P]"""

from __future__ import annotations

from gateway.scheduler.keepalive.quiet import Quiet


class Lru(Quiet):
    """The least that a cache should do, and what many products do without a time limit."""

    __slots__ = ()
