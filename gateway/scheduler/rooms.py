"""Making room for a sandbox, and seeing to the stems that sandboxes are made of. [P]

If freezing idle sandboxes, and measuring them, may make room, that is done first: it costs nobody anything. If stopping them
does, they are told to stop. What they will free is earmarked, so that nobody behind takes it. Stems are made from what is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from gateway.scheduler import eviction, fairness
from gateway.scheduler.capacity import Room
from gateway.scheduler.commands import Hurry
from gateway.scheduler.group import Group
from gateway.scheduler.ledger import Ledger, Out
from gateway.scheduler.state import Instance
from gateway.scheduler.stems import DECAY_S, Supply

COOL: Final = 16  #: sandboxes that are frozen in one step where memory is short: about 0.1 ms each
STEM_RETRY_S: Final = 0.01  #: when there was no room for a stem that somebody waits for
REFILL_RETRY_S: Final = 1.0  #: when there was no memory for a stem


class Rooms(Ledger):
    """What is frozen, stopped and made so that there is room, and stems, for those who need them."""

    def chill(self, instance: Instance, now: float, out: Out) -> None:
        """Freeze a warm one before its time, or let it go if it would not be kept."""
        kept_s = self.cooling.keep(instance, now)
        if kept_s > now:
            self.cool(instance, out)
            self.wake(kept_s)
        else:
            self.retire(instance, out)

    def room(self, group: Group, need_bytes: int, need_count: int, spared: Instance | None, now: float, out: Out) -> Room:
        """Whether there is room for a group, made by freezing what is idle and, where that is not enough, by eviction."""
        budget = self.budget
        if budget.fits(need_bytes, need_count):
            return Room.FREE
        spared_bytes, spared_count = (spared.memory_bytes, 1) if spared is not None else (0, 0)
        if budget.hopeless(need_bytes, need_count, spared_bytes, spared_count):
            return Room.NONE
        for _ in range(COOL):
            if not (self.index.warm and budget.short_of(need_bytes)):
                break
            self.chill(next(iter(self.index.warm)), now, out)
        self.wake(self.keepalive.next_s())
        if self.index.warm and budget.short_of(need_bytes):
            pass  # goes on when those are measured
        elif fairness.soon(group, self.starved, self.cold_guess_s(group), now):
            self.evict_stale(self.index.frozen, need_bytes, need_count, spared, now, out)
        else:
            for victim in eviction.victims(self.index, self.stems, self.keepalive, spared, now):
                if not budget.lacking(need_bytes, need_count):
                    break
                if fairness.spares(group, victim, now):
                    if not self.evict_stale(group.frozen, need_bytes, need_count, spared, now, out):
                        return Room.NONE
                    break
                self.evict(victim, out)
        if budget.fits(need_bytes, need_count):  # what is stopping is not waited for
            return Room.FREE
        if group.waiting:  # what nobody asked for yet can wait
            self.hurry(need_bytes, need_count, out)
        budget.earmark(need_bytes, need_count)
        return Room.COMING

    def hurry(self, need_bytes: int, need_count: int, out: Out) -> None:
        """Have those who have lingered longest make haste, as many as stand in somebody's way."""
        while self.lingering and not self.budget.fits_soon(need_bytes, need_count):
            instance = next(iter(self.lingering))
            self.lingers_no_more(instance)
            out.append(Hurry(instance))

    def evict_stale(
        self, frozen: Iterable[Instance], need_bytes: int, need_count: int, spared: Instance | None, now: float, out: Out
    ) -> bool:
        """Let go of the first of them, as many as needed but none that was just used; whether that is enough."""
        for instance in list(islice(frozen, COOL)):
            if fairness.just_used(instance, now) or not self.budget.lacking(need_bytes, need_count):
                break
            if instance is not spared and instance in self.index.frozen:  # else its function's `min_warm` keeps it
                self.evict(instance, out)
        return not self.budget.lacking(need_bytes, need_count)

    def evict(self, victim: Instance, out: Out) -> None:
        self.tallies.totals.evictions.add(victim.state.value)
        self.retire(victim, out)

    def claim_room(self, group: Group, supply: Supply, now: float, out: Out) -> tuple[Room, Instance | None]:
        """Whether there is room for a start, and the stem that it gets if one is ready: then it is no stem any more."""
        stem = next(iter(supply.ready), None)  # the oldest: it has had the time to rehearse
        stem_bytes = self.policy.stem_bytes
        if stem is not None or supply.unclaimed:
            room = self.room(group, group.memory_bytes - stem_bytes, 0, stem, now, out)
        else:
            room = self.room(group, group.memory_bytes, 1, None, now, out)
        if room is Room.FREE and stem is not None:
            self.unstock(stem)
        return room, stem

    # --- stems

    def tend(self, supply: Supply, now: float, out: Out) -> None:
        """Ask for the stems that are owed and those to be kept ready; let go what is too many."""
        self.stirring[supply] = None
        while supply.surplus > 0:
            self.retire(next(iter(supply.ready)), out)
        if supply.target > supply.least:
            self.wake(supply.changed_s + DECAY_S)
        if supply.error is not None and supply.owed:
            self.prune_claims(supply, now)
        if now >= supply.retry_s or supply.final:
            for _ in range(supply.owed):
                if not self.budget.fits(self.policy.stem_bytes, 1):
                    self.wake(now + STEM_RETRY_S)
                    return
                self.make_stem(supply, out)
        if now < supply.retry_s:
            self.wake(supply.retry_s)
            return
        if now < supply.calm_s:
            self.wake(supply.calm_s)
        for _ in range(supply.refill(now)):
            if self.starved or not self.budget.fits(self.policy.stem_bytes, 1):
                self.wake(now + REFILL_RETRY_S)
                return
            self.make_stem(supply, out)
