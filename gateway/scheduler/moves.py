"""The steps that the scheduler's decisions are made of. Each leaves every index and counter true. [P]

Nothing here is linear in functions, sandboxes or waiters; only those who wait are in a heap. Where there could be many at once, a
few are done and `wake_s` says when `tick` is to go on.

Where memory is short, the group that lacks it stands in `starved`, in order. Its turn comes whenever something is given back
(`feed`): it takes one sandbox's worth and goes to the end. If stopping idle sandboxes makes room, they are told to stop and what
they will free is earmarked, so that nobody behind takes it; if only working ones hold the memory, the group lets those behind it
pass, for nobody knows how long that will take.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from itertools import islice
from typing import Final

from gateway.records import FunctionVersion
from gateway.scheduler import eviction
from gateway.scheduler.admission import ACCOUNT, Admission, Quota
from gateway.scheduler.capacity import Budget, Room
from gateway.scheduler.commands import Command, Make, Refuse, Run, Specialise, Stop, Why
from gateway.scheduler.group import Group, Key
from gateway.scheduler.index import Index
from gateway.scheduler.keepalive import KeepAlive
from gateway.scheduler.policy import Policy
from gateway.scheduler.scaling import FORGIVEN_AFTER_S, worth_starting
from gateway.scheduler.state import Event, Instance
from gateway.scheduler.stems import DECAY_S, Supply
from gateway.scheduler.waiting import Deadlines, Place, Ticket
from sandbox.spec import StemKey

FEED: Final = 8  #: starved groups that one event looks at
RECHECK_S: Final = 0.01  #: how often it is asked again whether waiters are worth a start
RECHECKS: Final = 64  #: groups that are asked in one tick
REFILL_RETRY_S: Final = 1.0  #: when there was no memory for a stem

Out = list[Command]


class Moves:
    """The scheduler's state, and its steps. An event begins with `out`, an empty list, and every step appends to it."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.wake_s = math.inf  #: when `tick` is wanted next
        self.closing = False
        self.groups: dict[Key, Group] = {}  #: without the retired ones
        self.admission = Admission(policy.concurrency)
        self.index = Index()
        self.budget = Budget(policy.memory_bytes, policy.max_sandboxes)
        self.supplies: dict[StemKey, Supply] = {}
        self.starved: OrderedDict[Group, None] = OrderedDict()
        self.waiting = 0  #: QUEUED tickets of all groups
        self.coming = 0  #: starts of all groups
        self.rechecks: OrderedDict[Group, float] = OrderedDict()  #: groups with waiters, and when to think again; soonest first
        self.deadlines = Deadlines()
        self.keepalive = KeepAlive(policy.freeze_after_s, policy.keep_alive_s)
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        stems = sum(len(supply.ready) for supply in self.supplies.values())
        return (
            f"<{type(self).__name__} [Invocations: {self.in_flight - self.waiting} running, {self.waiting} waiting | Sandboxes: "
            f"{self.coming} coming, {len(self.index.warm)} warm, {len(self.index.frozen)} frozen, {stems} stems]>"
        )

    @property
    def in_flight(self) -> int:
        """Invocations that were let in and have not ended."""
        return sum(share.used for share in self.admission.shares.values())

    def wake(self, due_s: float) -> None:
        if due_s < self.wake_s:
            self.wake_s = due_s

    # --- groups and supplies

    def new_group(self, key: Key, version: FunctionVersion, now: float) -> Group:
        share = self.admission.share(version.name)
        share.groups += 1
        group = self.groups[key] = Group(key, version, share)
        self.supply(group.stem, now)
        return group

    def forget(self, group: Group) -> None:
        """Drop a group of which nothing is left: a million functions that are called once must not stay for ever."""
        if group.forgotten or not group.empty:
            return
        group.forgotten = True
        if not group.retired:
            del self.groups[group.key]
        group.share.groups -= 1
        self.admission.forget(group.share)

    def supply(self, stem: StemKey, now: float) -> Supply:
        supply = self.supplies.get(stem)
        if supply is None:
            supply = self.supplies[stem] = Supply(stem, self.policy.stems_min, self.policy.stems_max, now)
        return supply

    # --- tickets

    def refuse(self, ticket: Ticket, why: Why, error: Exception | None = None) -> Refuse:
        """The last of a ticket that waits nowhere."""
        ticket.place = Place.OUT
        self.forget(ticket.group)
        return Refuse(ticket, why, error)

    def hold(self, ticket: Ticket, now: float, out: Out) -> None:
        """No slot is free: wait if one is about to be."""
        quota = ticket.group.share.quota
        if not quota.soon_free:
            out.append(self.refuse(ticket, _used_up(quota)))
            return
        quota.waiting[ticket] = None
        ticket.quota = quota
        ticket.place = Place.HELD
        ticket.group.held += 1
        self._expect(ticket, min(ticket.deadline_s, now + self.policy.finish_wait_s))

    def admit(self, quota: Quota, now: float, out: Out) -> None:
        """Give free slots to who waits for them."""
        while quota.waiting and quota.used < quota.limit:
            ticket, _ = quota.waiting.popitem(last=False)
            ticket.group.held -= 1
            if not ticket.group.share.enter():  # its function was given a quota of its own meanwhile, and that is full
                out.append(self.refuse(ticket, _used_up(ticket.group.share.quota)))
                continue
            self.place(ticket, now, out)

    def place(self, ticket: Ticket, now: float, out: Out, *, front: bool = False) -> None:
        """Give the newest warm sandbox of its group to a ticket that has a slot, or have it wait for one."""
        instance = self.index.take(ticket.group)
        if instance is None:
            self.queue(ticket, now, out, front=front)
        else:
            self.budget.unshelve(instance.memory_bytes)
            out.append(self.run(ticket, instance, now))

    def queue(self, ticket: Ticket, now: float, out: Out, *, front: bool = False) -> None:
        """Wait, with a slot, for a sandbox; begin what gets it one."""
        group = ticket.group
        group.waiting[ticket] = None
        if front:
            group.waiting.move_to_end(ticket, last=False)
        self.waiting += 1
        ticket.place = Place.QUEUED
        ticket.queued_s = now
        self._expect(ticket, ticket.deadline_s)
        if group not in self.rechecks:
            self.rechecks[group] = now + RECHECK_S
            self.wake(now + RECHECK_S)
        self.grow(group, now, out)
        if ticket.place is not Place.QUEUED or front:
            return
        if group.memory_bytes > self.budget.total_bytes:
            self.withdraw(ticket, now, out)
            out.append(self.refuse(ticket, Why.TOO_LARGE))
        elif (
            len(group.waiting) - group.coming > self.policy.queue_max_per_key
            or self.waiting - self.coming > self.policy.queue_max
        ):
            self.withdraw(ticket, now, out)
            out.append(self.refuse(ticket, Why.FULL))

    def _expect(self, ticket: Ticket, due_s: float) -> None:
        self.deadlines.add(ticket, due_s)
        self.wake(due_s)

    def withdraw(self, ticket: Ticket, now: float, out: Out) -> None:
        """Take a ticket out of where it waits. Its slot goes to the next."""
        group = ticket.group
        if ticket.place is Place.HELD:
            del ticket.quota.waiting[ticket]
            ticket.place = Place.OUT
            group.held -= 1
        elif ticket.place is Place.QUEUED:
            del group.waiting[ticket]
            ticket.place = Place.OUT
            self.waiting -= 1
            if not group.waiting:
                self.starved.pop(group, None)
            group.share.leave(answered=False)
            self.admit(group.share.quota, now, out)
        self.forget(group)

    def lateness(self, ticket: Ticket) -> Why:
        """Why somebody whose time is over has got no sandbox."""
        if ticket.place is Place.HELD:
            return _used_up(ticket.quota)
        group = ticket.group
        return Why.LATE_START if group.coming and not (group.busy or group.finishing) else Why.LATE

    def give_up(self, group: Group, error: Exception, now: float, out: Out) -> None:
        """Its sandboxes cannot be started: tell who waits, unless somebody else may serve them yet."""
        if group.coming or group.busy or group.finishing:
            return
        for ticket in list(group.waiting):
            self.withdraw(ticket, now, out)
            out.append(self.refuse(ticket, Why.FAILED, error))

    # --- sandboxes of a group

    def run(self, ticket: Ticket, instance: Instance, now: float) -> Run:
        """Promise a sandbox, which is in no index any more, to a ticket, which waits nowhere any more."""
        instance.see(Event.PICKED)
        group = instance.group
        if instance.memory_bytes != group.memory_bytes:  # it was frozen
            self.budget.take(group.memory_bytes - instance.memory_bytes)
            instance.memory_bytes = group.memory_bytes
        instance.since_s = now
        group.busy += 1
        group.begun_sum_s += now
        ticket.place = Place.PLACED
        return Run(ticket, instance)

    def unbusy(self, instance: Instance) -> None:
        group = instance.group
        group.busy -= 1
        group.begun_sum_s = group.begun_sum_s - instance.since_s if group.busy else 0.0

    def serve(self, instance: Instance, now: float, out: Out) -> None:
        """Give a sandbox to who waits longest in its group."""
        group = instance.group
        ticket, _ = group.waiting.popitem(last=False)
        self.waiting -= 1
        if now - group.waited_at_s > FORGIVEN_AFTER_S:
            group.waited_s = 0.0
        group.waited_at_s = now
        group.waited_s += now - max(ticket.queued_s, group.grown_at_s)
        out.append(self.run(ticket, instance, now))
        if not group.waiting:
            self.starved.pop(group, None)

    def offer(self, instance: Instance, now: float, out: Out) -> None:
        """A sandbox became idle: somebody takes it, or it is kept, or it goes with its generation."""
        group = instance.group
        if group.waiting:
            self.serve(instance, now, out)
        elif group.retired:
            instance.see(Event.RETIRED)
            self.stop(instance, out)
        else:
            self.shelve(instance, now)

    def shelve(self, instance: Instance, now: float) -> None:
        instance.since_s = now
        self.index.add(instance)
        self.budget.shelve(instance.memory_bytes)
        due_s = self.keepalive.idle_until(now)
        if due_s < self.wake_s:
            self.wake_s = due_s

    def retire(self, instance: Instance, out: Out) -> None:
        """Let go of an idle sandbox or a stem."""
        if hasattr(instance, "group"):
            self.index.remove(instance)
        else:
            del self.supplies[instance.stem].ready[instance]
        self.budget.unshelve(instance.memory_bytes)
        instance.see(Event.RETIRED)
        self.stop(instance, out)

    def stop(self, instance: Instance, out: Out) -> None:
        """It is in no index and no counter of its group any more, and STOPPING."""
        self.budget.stopping(instance.memory_bytes)
        out.append(Stop(instance))
        if hasattr(instance, "group"):
            self.forget(instance.group)

    # --- growing

    def grow(self, group: Group, now: float, out: Out) -> None:
        """Thaw and start what a group's waiters are worth, after those who lacked memory before it."""
        if self.starved and group.waiting:
            self.starved.setdefault(group)
            self.feed(now, out)
            return
        while self._grow_once(group, now, out) is Room.FREE:
            pass
        self.budget.clear_earmarks()

    def feed(self, now: float, out: Out) -> None:
        """Give memory that came free to who lacks it, one sandbox each."""
        if not self.starved:
            return
        for group in list(islice(self.starved, FEED)):
            room = self._grow_once(group, now, out)
            if room is Room.FREE:
                self.wake(now)  # there may be more for it, or for those who were not looked at
            if group in self.starved and room is not Room.COMING:
                self.starved.move_to_end(group)
        self.budget.clear_earmarks()

    def _grow_once(self, group: Group, now: float, out: Out) -> Room | None:
        """One more sandbox for a group's waiters, if they are worth it; None if they are not."""
        frozen = self.index.newest_frozen(group)
        if not group.waiting:
            room = None
        elif frozen is not None:
            room = self._room(group.memory_bytes - frozen.memory_bytes, 0, frozen, out)
            if room is Room.FREE:
                self.index.remove(frozen)
                self.budget.unshelve(frozen.memory_bytes)
                self.serve(frozen, now, out)
        elif self._worth_starting(group, now):
            room = self._start(group, now, out)
        else:
            room = None
        if room is None:
            self.starved.pop(group, None)
        elif room is not Room.FREE:
            self.starved.setdefault(group)
        return room

    def _worth_starting(self, group: Group, now: float) -> bool:
        waiting = len(group.waiting)
        if group.finishing and now - next(iter(group.waiting)).queued_s < self.policy.finish_wait_s:
            waiting -= group.finishing
        cold_s = group.cold_s.value
        return worth_starting(
            waiting=waiting,
            coming=group.coming,
            busy=group.busy,
            run_s=group.run_s.value,
            elapsed_s=group.mean_elapsed_s(now),
            waited_s=group.waited_s,
            cold_s=self.supplies[group.stem].cold_guess_s if cold_s is None else cold_s,
        )

    def _room(self, need_bytes: int, need_count: int, spared: Instance | None, out: Out) -> Room:
        """Whether there is room, made by eviction where that helps."""
        budget = self.budget
        if budget.fits(need_bytes, need_count):
            return Room.FREE
        spared_bytes, spared_count = (spared.memory_bytes, 1) if spared is not None else (0, 0)
        if budget.hopeless(need_bytes, need_count, spared_bytes, spared_count):
            return Room.NONE
        for victim in eviction.victims(self.index, self.supplies.values(), spared):
            if not budget.lacking(need_bytes, need_count):
                break
            self.retire(victim, out)
        budget.earmark(need_bytes, need_count)
        return Room.COMING

    def _start(self, group: Group, now: float, out: Out) -> Room:
        """Start a sandbox: claim a stem, or the next that is made."""
        supply = self.supplies[group.stem]
        stem = next(reversed(supply.ready), None)
        stem_bytes = self.policy.stem_bytes
        if stem is not None or supply.unclaimed:
            room = self._room(group.memory_bytes - stem_bytes, 0, stem, out)
        else:
            room = self._room(group.memory_bytes, 1, None, out)
        if room is not Room.FREE:
            return room
        group.waited_s = 0.0
        group.coming += 1
        self.coming += 1
        self.budget.take(group.memory_bytes - stem_bytes)
        if stem is not None:
            del supply.ready[stem]
            self.budget.unshelve(stem_bytes)
            self.specialise(stem, group, now, now, out)
        else:
            supply.missed(now)
            supply.claims.append((group, now))
        self.tend(supply, now, out)
        return room

    def specialise(self, instance: Instance, group: Group, since_s: float, now: float, out: Out) -> None:
        """Give a stem, which is in no index any more, to a group that asked for it at `since_s`."""
        instance.see(Event.CLAIMED)
        instance.group = group
        instance.since_s = since_s
        instance.memory_bytes = group.memory_bytes  # the difference was taken when it was asked for
        supply = self.supplies[group.stem]
        supply.starting += 1
        supply.disturbed(now)
        out.append(Specialise(instance))

    def start_ended(self, instance: Instance, now: float) -> None:
        """A sandbox left STARTING, for better or worse."""
        self.coming -= 1
        instance.group.coming -= 1
        instance.group.grown_at_s = now
        supply = self.supplies[instance.stem]
        supply.starting -= 1
        supply.disturbed(now)

    def drop_claim(self, group: Group) -> None:
        """A start is not needed any more, or will not be."""
        self.coming -= 1
        group.coming -= 1
        self.budget.give_back(group.memory_bytes - self.policy.stem_bytes)
        self.forget(group)

    # --- stems

    def tend(self, supply: Supply, now: float, out: Out) -> None:
        """Ask for the stems that are owed and those to be kept ready; let go what is too many."""
        while supply.surplus > 0:
            self.retire(next(iter(supply.ready)), out)
        if supply.target > supply.least:
            self.wake(supply.changed_s + DECAY_S)
        if supply.error is not None and supply.owed:
            self._prune_claims(supply, now)
        if now >= supply.retry_s or supply.final:
            for _ in range(supply.owed):
                if not self.budget.fits(self.policy.stem_bytes, 1):
                    self.wake(now + RECHECK_S)
                    return
                self._make(supply, out)
        if now < supply.retry_s:
            self.wake(supply.retry_s)
            return
        if now < supply.calm_s:
            self.wake(supply.calm_s)
        for _ in range(supply.refill(now)):
            if self.starved or not self.budget.fits(self.policy.stem_bytes, 1):
                self.wake(now + REFILL_RETRY_S)
                return
            self._make(supply, out)

    def _make(self, supply: Supply, out: Out) -> None:
        supply.making += 1
        self.budget.take(self.policy.stem_bytes, 1)
        out.append(Make(Instance(next(self._numbers), supply.key, self.policy.stem_bytes)))

    def _prune_claims(self, supply: Supply, now: float) -> None:
        """Before trying again after a failure: drop the claims whose waiters are gone."""
        for _ in range(len(supply.claims)):
            group, _ = supply.claims.popleft()
            if len(group.waiting) >= group.coming:
                supply.claims.append((group, now))  # a failure of the driver is not how long a start takes
            else:
                self.drop_claim(group)

    # --- time

    def reconsider(self, now: float, out: Out) -> None:
        """Ask again whether waiters are worth a start: who runs may take longer than was thought."""
        for _ in range(min(RECHECKS, len(self.rechecks))):
            group, due_s = next(iter(self.rechecks.items()))
            if due_s > now:
                return
            del self.rechecks[group]
            if not group.waiting:
                continue
            self.rechecks[group] = now + RECHECK_S
            if group not in self.starved:
                self.grow(group, now, out)


def _used_up(quota: Quota) -> Why:
    return Why.ACCOUNT if quota.reason == ACCOUNT else Why.RESERVED
