"""Sandboxes without a function: how many are kept, and who gets them. [P]

A cold start claims a stem. If one is ready it is given away at once; if not, one more is asked for and the claim waits for
whichever stem is made next, so that a stem that was asked for earlier serves a start that needs it now (late binding). A claim
whose waiters have been served meanwhile is dropped, and its stem serves the next claim or stays a stem: nothing is wasted.

How many are kept ready follows the misses: each claim that finds none raises the number, a minute without one lowers it again,
down to the least that are always kept of a kind.

There may be as many kinds as functions, because an image's stems are nobody else's. So only a `Supply` that wants something, now
or with time, is looked at (`quiet`), and one of an image that no function has any more is dropped (`forsaken`). That of a runtime
stays: there are a few dozen, and what it has learned is for the next function.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from gateway.scheduler.scaling import COLD_GUESS_S, Mean
from gateway.scheduler.state import Instance
from sandbox.spec import StemKey

if TYPE_CHECKING:
    from gateway.scheduler.group import Group
    from gateway.scheduler.provision import Provision

DECAY_S: Final = 60.0
RETRY_FIRST_S: Final = 0.05
RETRY_MOST_S: Final = 1.0
RETRY_FINAL_S: Final = 60.0  #: when the host cannot run this at all: somebody may install it
PARALLEL: Final = 4  #: stems that are refilled at once
CALM_S: Final = 0.005  #: after a start, before stems are refilled: its invocation is on its way and must not be slowed by that


class Supply:
    """The stems of one (runtime, architecture), or of one image."""

    __slots__ = (
        "_failures", "calm_s", "changed_s", "claims", "cold_s", "error", "final", "groups", "key", "least", "making",
        "most", "provisions", "ready", "retry_s", "starting", "target", "users",
    )  # fmt: skip

    def __init__(self, key: StemKey, least: int, most: int, now: float) -> None:
        self.key = key
        self.least = least
        self.most = most
        self.target = least  #: to be kept ready
        self.changed_s = now
        self.users = 0  #: versions of functions that need this runtime
        self.groups = 0  #: groups whose sandboxes are made of these
        self.ready: dict[Instance, None] = {}  #: oldest first
        self.making = 0
        self.claims: deque[tuple[Group, float]] = deque()  #: starts that wait for a stem, and since when
        self.provisions: deque[Provision] = deque()  #: the same for provisioned sandboxes, which come behind them
        self.starting = 0  #: sandboxes of this kind in Init
        self.calm_s = 0.0  #: stems are not refilled before, unless none is left
        self.retry_s = 0.0  #: nothing is made before
        self.error: Exception | None = None  #: why the last one could not be made
        self.final = False  #: and so will be the next: a claim need not wait until `retry_s` to be told
        self.cold_s = Mean()  #: of all functions on this runtime
        self._failures = 0

    def __repr__(self) -> str:
        return (
            f"<Supply {self.key.runtime} {len(self.ready)}/{self.target} ready, {self.making} making, {len(self.claims)} claims>"
        )

    @property
    def cold_guess_s(self) -> float:
        return COLD_GUESS_S if self.cold_s.value is None else self.cold_s.value

    @property
    def wanted(self) -> int:
        """How many stems to keep ready now."""
        return self.target if self.users else 0

    def missed(self, now: float) -> None:
        """A claim found no stem ready."""
        self.target = min(self.most, self.target + 1)
        self.changed_s = now

    def disturbed(self, now: float) -> None:
        """A start began or ended."""
        self.calm_s = now + CALM_S

    def made(self) -> None:
        self.making -= 1
        self._failures = 0
        self.error = None
        self.final = False
        self.retry_s = 0.0

    def failed(self, now: float, error: Exception, *, final: bool) -> None:
        """One could not be made."""
        self.making -= 1
        self.back_off(now, error, final=final)

    def back_off(self, now: float, error: Exception, *, final: bool = False) -> None:
        """Wait before the next try, longer each time."""
        self.error = error
        self.final = final
        if now < self.retry_s:  # of several that were under way, the first counts
            return
        self.retry_s = now + (RETRY_FINAL_S if final else min(RETRY_MOST_S, RETRY_FIRST_S * 2**self._failures))
        self._failures = min(self._failures + 1, 16)

    def decay(self, now: float) -> None:
        """Lower the target if it was not reached for a while."""
        if self.target > self.least and now >= self.changed_s + DECAY_S:
            self.target -= 1
            self.changed_s = now

    @property
    def unclaimed(self) -> int:
        """Stems under way that no start waits for."""
        return max(0, self.making - len(self.claims) - len(self.provisions))

    @property
    def owed(self) -> int:
        """Stems that starts wait for and that nobody was asked for yet."""
        return max(0, len(self.claims) + len(self.provisions) - self.making)

    def refill(self, now: float) -> int:
        """Stems to ask for beyond those, now: none while something starts, but for one when none is left."""
        busy = self.starting or self.claims or self.provisions or now < self.calm_s
        parallel = PARALLEL if not busy else 0 if self.ready else 1
        return min(self.wanted - len(self.ready), parallel) - self.unclaimed

    @property
    def surplus(self) -> int:
        """Stems ready beyond what is wanted."""
        return len(self.ready) - self.wanted

    def quiet(self, now: float) -> bool:
        """Whether there is nothing to do about it, however long one waits, until something happens to it."""
        due = self.surplus > 0 or self.owed or self.refill(now) > 0
        return not (due or self.target > self.least or now < self.retry_s or now < self.calm_s)

    @property
    def forsaken(self) -> bool:
        """Whether nothing is left of it that anybody could ask for: of an image that no function has any more."""
        return bool(self.key.image) and not (self.users or self.groups or self.ready or self.making)
