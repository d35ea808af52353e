"""Who may run at all: AWS's concurrency limits as counters. [P]

A `Quota` is a number of slots: one for the account's unreserved concurrency, and one for each function that has reserved
concurrency. A `Share` is one function's part in the quota that it draws on now. A slot is taken when an invocation is let in and
given back when its sandbox has asked for the next event (or died, or the invocation left its queue), whichever quota the function
draws on by then: changing a function's reservation moves what it has in use from one quota to the other.
"""

from __future__ import annotations

from typing import Final

from gateway.scheduler.waiting import Line

ACCOUNT: Final = "ConcurrentInvocationLimitExceeded"
RESERVED: Final = "ReservedFunctionConcurrentInvocationLimitExceeded"


class Quota:
    """Some slots, and who waits for one."""

    __slots__ = ("finishing", "limit", "reason", "used", "waiting")

    def __init__(self, limit: int, reason: str) -> None:
        self.limit = limit
        self.reason = reason  #: what a caller is told when it is used up
        self.used = 0
        self.finishing = 0  #: of `used`: those that have answered already
        self.waiting = Line()

    def __repr__(self) -> str:
        return f"<Quota {self.used}/{self.limit}, {self.finishing} finishing, {len(self.waiting)} waiting>"

    @property
    def soon_free(self) -> bool:
        """Whether a slot is about to come free for one more than already wait."""
        return self.used - self.finishing + len(self.waiting) < self.limit


class Share:
    """One function's slots, all its versions together."""

    __slots__ = ("finishing", "groups", "name", "quota", "used")

    def __init__(self, name: str, quota: Quota) -> None:
        self.name = name
        self.quota = quota
        self.used = 0
        self.finishing = 0
        self.groups = 0  #: versions that the scheduler knows

    def enter(self) -> bool:
        """Take a slot, if there is one."""
        quota = self.quota
        if quota.used >= quota.limit:
            return False
        quota.used += 1
        self.used += 1
        return True

    def answered(self) -> None:
        """A slot's invocation has answered; the slot is not free yet."""
        self.finishing += 1
        self.quota.finishing += 1

    def leave(self, *, answered: bool) -> None:
        """Give a slot back."""
        quota = self.quota
        quota.used -= 1
        self.used -= 1
        if answered:
            quota.finishing -= 1
            self.finishing -= 1


class Admission:
    """The account's quota and every function's share; a share exists while its function is known to the scheduler or reserves."""

    __slots__ = ("_limit", "_reserved", "account", "shares")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reserved = 0
        self.account = Quota(limit, ACCOUNT)
        self.shares: dict[str, Share] = {}

    def share(self, name: str) -> Share:
        share = self.shares.get(name)
        if share is None:
            share = self.shares[name] = Share(name, self.account)
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
        self.account.limit = max(0, self._limit - self._reserved)
        if limit is not None and old is not self.account:
            old.limit = limit
        elif limit is not None or old is not self.account:
            new = self.account if limit is None else Quota(limit, RESERVED)
            old.used -= share.used
            old.finishing -= share.finishing
            new.used += share.used
            new.finishing += share.finishing
            share.quota = new
            if old is not self.account:
                old.limit = len(old.waiting)  # nobody draws on it any more: who waits for it is to look at the new one
        self.forget(share)
        return self.account, old, share.quota

    def forget(self, share: Share) -> None:
        """Drop a share that says nothing any more."""
        if not share.groups and not share.used and share.quota is self.account:
            self.shares.pop(share.name, None)
