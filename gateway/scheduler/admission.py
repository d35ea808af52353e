"""Who may run at all: AWS's limits of concurrency and of rates as counters. [P]

A `Quota` is a number of slots: one for the account's unreserved concurrency, and one for each function that has reserved
concurrency. A `Share` is one function's part in the quota that it draws on now. A slot is taken when an invocation is let in and
given back when its sandbox has asked for the next event (or died, or the invocation left its queue), whichever quota the function
draws on by then: changing a function's reservation moves what it has in use from one quota to the other. How much that is nobody
counts along: it is what its groups have at that moment, and an invocation touches one thing less.

Rates are kept by one number each, the time up to which what was let in has used its rate up (the generic cell rate algorithm): a
bucket that fills continuously and holds no more than what is let in at once. A quota lets in ten invocations a second for
each of its slots, a second's worth at once; a function may start 1,000 sandboxes in ten seconds, all at once if it wants to.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from gateway.scheduler.waiting import Line

if TYPE_CHECKING:
    from gateway.scheduler.group import Group

ACCOUNT: Final = "ConcurrentInvocationLimitExceeded"
RESERVED: Final = "ReservedFunctionConcurrentInvocationLimitExceeded"
RATE: Final = "FunctionInvocationRateLimitExceeded"
RESERVED_RATE: Final = "ReservedFunctionInvocationRateLimitExceeded"

RATE_BURST_S: Final = 1.0  #: of its rate, so much may come at once
SCALING_S: Final = 10.0  #: the same for starts


class Quota:
    """Some slots, and who waits for one. `rate` is how many invocations a second each slot stands for; 0 is any number.

    `open` is how many may be used: all but those that idle provisioned sandboxes keep for what comes to them.
    """

    __slots__ = (
        "_rate", "ahead_s", "due_s", "finishing", "gap_s", "kept", "limit", "longest", "open", "reason", "used", "waiting",
    )  # fmt: skip

    def __init__(self, limit: int, reason: str, rate: float = 0.0) -> None:
        self.reason = reason  #: what a caller is told when it is used up
        self.used = 0
        self.kept = 0
        self.finishing = 0  #: of `used`: those that have answered already
        self.waiting = Line()
        self.longest: Group | None = None  #: the group with the most waiters, as far as is known
        self.due_s = -math.inf  #: up to when what was let in has used the rate up
        self._rate = rate
        self.resize(limit)

    def __repr__(self) -> str:
        return f"<Quota {self.used}/{self.limit}, {self.finishing} finishing, {len(self.waiting)} waiting>"

    def resize(self, limit: int) -> None:
        self.limit = limit
        self.open = limit - self.kept
        rate = self._rate * limit
        self.gap_s = 1 / rate if rate else 0.0
        self.ahead_s = RATE_BURST_S - self.gap_s / 2  #: how far `due_s` may be ahead; half a gap is for rounding

    @property
    def soon_free(self) -> bool:
        """Whether a slot is about to come free for one more than already wait."""
        return self.used - self.finishing + len(self.waiting) < self.open

    def enter(self, now: float) -> bool:
        """Take a slot, if there is one and the rate lets it be taken."""
        if self.used >= self.open:
            return False
        due_s = self.due_s
        if due_s <= now:
            self.due_s = now + self.gap_s
        elif due_s - now > self.ahead_s:
            return False
        else:
            self.due_s = due_s + self.gap_s
        self.used += 1
        return True

    def leave(self, *, answered: bool) -> None:
        """Give a slot back; whether its invocation had answered before."""
        self.used -= 1
        if answered:
            self.finishing -= 1

    def rate_wait_s(self, now: float) -> float:
        """How long until its rate lets the next invocation in; 0 if it does now."""
        return max(0.0, self.due_s - now - self.ahead_s)


class Share:
    """One function's slots, all its versions together. Its groups have `quota` at hand themselves."""

    __slots__ = ("_start_gap_s", "_starts_s", "groups", "kept", "name", "quota")

    def __init__(self, name: str, quota: Quota, scaling: float = 0.0) -> None:
        self.name = name
        self.quota = quota
        self.kept = 0
        self.groups: dict[Group, None] = {}  #: those that the scheduler knows, retired ones too
        self._start_gap_s = SCALING_S / scaling if scaling else 0.0
        self._starts_s = -math.inf  # up to when its starts have used its scaling rate up

    @property
    def used(self) -> int:
        """Slots that it has."""
        return sum(len(group.waiting) + group.busy + group.finishing for group in self.groups)

    @property
    def finishing(self) -> int:
        """Of these, those whose invocations have answered."""
        return sum(group.finishing for group in self.groups)

    def keep(self, change: int) -> None:
        """So many more (or fewer) slots are kept by idle provisioned sandboxes."""
        self.kept += change
        self.quota.kept += change
        self.quota.open -= change

    def scaling_wait_s(self, now: float) -> float:
        """How long until the function may start one more sandbox: 0 if it may now."""
        return max(0.0, self._starts_s - now - SCALING_S + self._start_gap_s / 2) if self._start_gap_s else 0.0

    def started(self, now: float) -> None:
        """One more sandbox is started for it."""
        self._starts_s = max(self._starts_s, now) + self._start_gap_s


class Admission:
    """The account's quota and every function's share; a share exists while its function is known to the scheduler or reserves.

    `rate` is invocations a second for each slot, `scaling` starts of one function in ten seconds; 0 is without limit.
    """

    __slots__ = ("_limit", "_rate", "_reserved", "_scaling", "account", "shares")

    def __init__(self, limit: int, rate: float = 0.0, scaling: float = 0.0) -> None:
        self._limit = limit
        self._rate = rate
        self._scaling = scaling
        self._reserved = 0
        self.account = Quota(limit, ACCOUNT, rate)
        self.shares: dict[str, Share] = {}

    def share(self, name: str) -> Share:
        share = self.shares.get(name)
        if share is None:
            share = self.shares[name] = Share(name, self.account, self._scaling)
        return share

    def reserve(self, name: str, limit: int | None) -> tuple[Quota, Quota, Quota]:
        """Give a function its own slots, another number of them, or (None) none of its own.

        Returns the quotas whose waiters have to be looked at: the account's, the function's old one, its new one.
        """
        share = self.share(name)
        old = share.quota
        if old is not self.account:
            self._reserved -= old.limit
        if limit is not None:
            self._reserved += limit
        self.account.resize(max(0, self._limit - self._reserved))
        if limit is not None and old is not self.account:
            old.resize(limit)
        elif limit is not None or old is not self.account:
            new = self.account if limit is None else Quota(limit, RESERVED, self._rate)
            used, finishing = share.used, share.finishing
            old.used -= used
            old.finishing -= finishing
            new.used += used
            new.finishing += finishing
            kept = share.kept
            share.keep(-kept)
            share.quota = new
            for group in share.groups:
                group.quota = new
            share.keep(kept)
            if old is not self.account:
                old.open = old.limit = len(old.waiting)  # nobody draws on it any more: who waits for it is to look at the new one
        self.forget(share)
        return self.account, old, share.quota

    @property
    def used(self) -> int:
        """Slots in use, of all quotas."""
        account = self.account
        return account.used + sum(share.quota.used for share in self.shares.values() if share.quota is not account)

    def forget(self, share: Share) -> None:
        """Drop a share that says nothing any more."""
        if not share.groups and share.quota is self.account:
            self.shares.pop(share.name, None)
