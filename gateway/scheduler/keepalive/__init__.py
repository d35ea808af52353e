"""Which idle sandboxes are kept, and for how long: the policies of `lambent up --keep-alive`. [P]

A sandbox that was not used for `freeze_after_s` is frozen, whatever the policy. From then on a policy decides three things: until
when it is kept though nobody needs its memory (`keep_until`), who goes first when somebody does (`victim`), and for whom one is
started before anybody asks (`due`). What a policy learns from, it learns in `Pattern`, after a pause that is long enough for it
(`pause_s`), which is all that it costs the path of an invocation; policies that learn nothing have none. `base` is the contract;
each other file is one policy or one thing that it learns.
"""

from __future__ import annotations

from typing import Final

from gateway.scheduler.keepalive.base import KeepAlive, Pattern, Prewarm
from gateway.scheduler.keepalive.fixed import Fixed
from gateway.scheduler.keepalive.greedy_dual import GreedyDual
from gateway.scheduler.keepalive.hybrid import Hybrid
from gateway.scheduler.keepalive.lru import Lru
from gateway.scheduler.keepalive.worth import Worth
from gateway.scheduler.policy import Policy

__all__ = ["NAMES", "KeepAlive", "Pattern", "Prewarm", "keep_alive"]

NAMES: Final = ("worth", "fixed", "lru", "greedy-dual", "hybrid")


def keep_alive(policy: Policy) -> KeepAlive:
    """The policy that `policy.keep_alive` names. Raises ValueError if there is none of that name."""
    match policy.keep_alive:
        case "worth":
            return Worth(policy.keep_alive_s)
        case "fixed":
            return Fixed(policy.keep_alive_s)
        case "lru":
            return Lru()
        case "greedy-dual":
            return GreedyDual()
        case "hybrid":
            return Hybrid()
        case name:
            raise ValueError(f"there is no keep-alive policy {name!r}; there are {', '.join(NAMES)}")
