"""What the scheduler does about those who wait, and about memory: the moves that its decisions are made of. [P]

Nothing here is linear in functions, sandboxes or waiters; only those who wait are in a heap. Where there could be many at once, a
few are done and `wake_s` says when `tick` is to go on.

Where memory is short, the group that lacks it stands in `starved`, in order. Its turn comes whenever something is given back
(`feed`): it takes one sandbox's worth (see `rooms`) and goes to the end. If only working ones hold the memory, it lets those
behind it pass, for nobody knows how long that will take.
"""

from __future__ import annotations

from itertools import islice
from typing import Final

from gateway.scheduler import fairness
from gateway.scheduler.admission import ACCOUNT, Quota
from gateway.scheduler.capacity import Room
from gateway.scheduler.commands import RETRY_S, Refuse, Why
from gateway.scheduler.group import Group
from gateway.scheduler.keepalive import Prewarm
from gateway.scheduler.ledger import Out
from gateway.scheduler.rooms import Rooms
from gateway.scheduler.scaling import worth_starting
from gateway.scheduler.state import Event, Instance, State
from gateway.scheduler.waiting import NOBODY, RECHECK_S, Line, Place, Ticket, again_s

DOUBT: Final = 1.25  #: a wait is told to be too long when it is estimated at so many times what the caller allows
FEED: Final = 8  #: starved groups that one event looks at
RECHECKS: Final = 64  #: groups that are asked in one tick


class Moves(Rooms):
    """Who waits, for a slot or for a sandbox, and what is made or let go for them."""

    # --- who waits

    def hold(self, ticket: Ticket, now: float, out: Out) -> None:
        """No slot is free, or the rate is used up: wait if a slot is about to be free."""
        quota = ticket.group.quota
        if quota.rate_wait_s(now):
            out.append(self.over_rate(ticket, quota, now))
            return
        if not quota.soon_free:
            if self.push_out(ticket.group, quota, now, out) and ticket.group.quota.enter(now):
                self.place(ticket, now, out)
            else:
                out.append(self.used_up(ticket, quota))
            return
        quota.waiting[ticket] = None
        ticket.quota = quota
        ticket.place = Place.HELD
        ticket.group.held += 1
        self.expect(ticket, min(ticket.deadline_s, now + self.policy.finish_wait_s))

    def admit(self, quota: Quota, now: float, out: Out) -> None:
        """Give free slots to who waits for them."""
        while quota.waiting and quota.used < quota.open:
            ticket, _ = quota.waiting.popitem(last=False)
            ticket.group.held -= 1
            if not ticket.group.quota.enter(now):  # its function was given a quota of its own meanwhile, or the rate is used up
                own = ticket.group.quota
                out.append(self.over_rate(ticket, own, now) if own.rate_wait_s(now) else self.used_up(ticket, own))
                continue
            self.place(ticket, now, out)

    def used_up(self, ticket: Ticket, quota: Quota) -> Refuse:
        """No slot, and none is about to be free."""
        return self.refuse(ticket, _used_up(quota), retry_s=RETRY_S if quota.limit else None)

    def over_rate(self, ticket: Ticket, quota: Quota, now: float) -> Refuse:
        """There are slots, but too many invocations came."""
        why = Why.RATE if quota.reason == ACCOUNT else Why.RESERVED_RATE
        return self.refuse(ticket, why, retry_s=quota.rate_wait_s(now))

    def push_out(self, group: Group, quota: Quota, now: float, out: Out) -> bool:
        """Make room for a function that uses few of the slots they share, where another has them all and only waits with them.

        Who came last to the longest line is sent away. So a function that is flooded keeps nobody out: who wait for its
        sandboxes hold slots that others could use at once.
        """
        longest = quota.longest
        if longest is None or longest.share is group.share or longest.quota is not quota:
            return False
        if len(longest.waiting) <= group.share.used + 1:
            return False
        ticket = next(reversed(longest.waiting))
        self.withdraw(ticket, now, out)
        out.append(self.refuse(ticket, Why.FULL))
        return True

    def place(self, ticket: Ticket, now: float, out: Out, *, front: bool = False) -> None:
        """Give the newest idle sandbox of its group to a ticket that has a slot, provisioned ones first, or have it wait."""
        group = ticket.group
        provision = group.provision
        instance: Instance | None
        if provision is not None and provision.idle:
            instance = next(reversed(provision.idle))
            self.unkeep(instance, provision)
            if instance.state is State.FROZEN:
                self.tallies.totals.thaws += 1
            out.append(self.run(ticket, instance, now))
        elif (instance := self.index.take(group)) is None:
            self.queue(ticket, now, out, front=front)
        else:
            self.budget.unshelve(instance.memory_bytes)
            out.append(self.run(ticket, instance, now))

    def queue(self, ticket: Ticket, now: float, out: Out, *, front: bool = False) -> None:
        """Wait, with a slot, for a sandbox; begin what gets it one."""
        group = ticket.group
        if not front and group in self.starved:  # what comes free is given away when it does: nothing is to be found now
            refusal = self._refusal(group, len(group.waiting) + 1, ticket.deadline_s, now)
            if refusal is not None:  # so that a flood costs little
                group.quota.leave(answered=False)
                out.append(self.refuse(ticket, *refusal))
                return
        if group.waiting is NOBODY:
            group.waiting = Line()
        group.waiting[ticket] = None
        if front:
            group.waiting.move_to_end(ticket, last=False)
        self.waiting += 1
        ticket.place = Place.QUEUED
        ticket.queued_s = now
        self.grow(group, now, out)
        if ticket.place is not Place.QUEUED:  # one was thawed for it: no timer need be set
            return
        self.expect(ticket, ticket.deadline_s)
        self.rethink(group, now)
        if front:
            return
        quota = group.quota
        if quota.longest is None or len(group.waiting) > len(quota.longest.waiting):
            quota.longest = group
        if (refusal := self._refusal(group, len(group.waiting), ticket.deadline_s, now)) is not None:
            self.withdraw(ticket, now, out)
            out.append(self.refuse(ticket, *refusal))

    def _refusal(self, group: Group, waiting: int, deadline_s: float, now: float) -> tuple[Why, None, float | None] | None:
        """Why the last of so many in a line had better be told at once that it is in vain, and when to try again."""
        if group.memory_bytes > self.budget.total_bytes - self.provisions.reserved_bytes and not group.provision:
            return Why.TOO_LARGE, None, None
        unserved = waiting - group.coming
        if unserved > self.policy.queue_max_per_key or self.waiting - self.coming > self.policy.queue_max:
            return Why.FULL, None, RETRY_S
        scaling_s = group.share.scaling_wait_s(now)
        if scaling_s and self._worth_starting(group, now):
            return Why.SCALING, None, scaling_s
        serving, run_s = group.coming + group.busy + group.finishing, group.run_s
        if group in self.starved and unserved > 0 and serving and run_s is not None:
            unserved -= self.budget.possible(group.memory_bytes)  # who waits for an eviction is starved as well, for a moment
            wait_s = unserved * run_s / serving
            if wait_s > DOUBT * (deadline_s - now):
                return Why.LATE, None, wait_s
        return None

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
                self.served(group)
            group.quota.leave(answered=False)
            self.admit(group.quota, now, out)
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

    def serve(self, instance: Instance, now: float, out: Out) -> None:
        """Give a sandbox to who waits longest in its group."""
        group = instance.group
        ticket, _ = group.waiting.popitem(last=False)
        self.waiting -= 1
        group.patience.add(ticket.queued_s, now)
        waited_s = now - ticket.queued_s
        if waited_s > 0:  # else one was thawed for it in this step
            self.tallies.totals.wait_s.add(waited_s)
            group.tally.waited += 1
            group.tally.waited_s += waited_s
        out.append(self.run(ticket, instance, now))
        if group.waiting:
            self.rethink(group, now)
        else:
            self.served(group)

    def offer(self, instance: Instance, now: float, out: Out) -> None:
        """A sandbox became idle: somebody takes it, or it is kept, or it goes with its generation."""
        group = instance.group
        if group.waiting:
            # While others idle warm, who lacks memory has theirs first; and what is frozen would be in another order than used.
            gives = not (instance.provisioned or group.retired or self.index.warm)
            poor = fairness.poorer(group, self.starved) if gives and self.starved else None
            kept = self.provisions.short if gives else None
            if poor is None and (kept is None or not fairness.enough(group, kept, self.budget)):
                self.serve(instance, now, out)
                return
            self.shelve(instance, now)
            self.chill(instance, now, out)
            self.starved.setdefault(group)
            if poor is not None:
                self.starved.move_to_end(poor, last=False)
        elif group.retired:
            instance.see(Event.RETIRED)
            self.stop(instance, out)
        else:
            self.shelve(instance, now)

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

    def rethink(self, group: Group, now: float) -> None:
        """Something changed for who waits there: ask soon, however long they have waited."""
        due_s = now + RECHECK_S
        self.rechecks.add(group, due_s)
        self.wake(due_s)

    def reconsider(self, now: float, out: Out) -> None:
        """Ask again whether waiters are worth a start: who runs may take longer than was thought."""
        for _ in range(min(RECHECKS, len(self.rechecks))):
            group = self.rechecks.pop(now)
            if group is None:
                return
            if not group.waiting:
                continue
            self.rechecks.add(group, again_s(now - next(iter(group.waiting)).queued_s, now))
            if group not in self.starved:
                self.grow(group, now, out)

    def _grow_once(self, group: Group, now: float, out: Out) -> Room | None:
        """One more sandbox for a group's waiters, if they are worth it; None if they are not."""
        frozen = self.index.newest_frozen(group)
        if not group.waiting:
            room = None
        elif frozen is not None:
            room = self.room(group, group.memory_bytes - frozen.memory_bytes, 0, frozen, now, out)
            if room is Room.FREE:
                self.index.remove(frozen)
                self.budget.unshelve(frozen.memory_bytes)
                self.tallies.totals.thaws += 1
                self.serve(frozen, now, out)
        elif self._worth_starting(group, now) and not group.share.scaling_wait_s(now):
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
        return worth_starting(
            waiting=waiting,
            coming=group.coming,
            busy=group.busy,
            run_s=group.run_s,
            elapsed_s=group.mean_elapsed_s(now),
            waited_s=group.patience.waited_s,
            cold_s=self.cold_guess_s(group),
        )

    def _start(self, group: Group, now: float, out: Out) -> Room:
        """Start a sandbox: claim a stem, or the next that is made."""
        supply = self.supplies[group.stem]
        room, stem = self.claim_room(group, supply, now, out)
        if room is not Room.FREE:
            return room
        group.share.started(now)
        group.patience.start_began()
        group.coming += 1
        self.coming += 1
        self.budget.take(group.memory_bytes - self.policy.stem_bytes)
        if stem is not None:
            self.specialise(stem, group, now, now, out)
        else:
            supply.missed(now)
            supply.claims.append((group, now))
        self.tend(supply, now, out)
        return room

    def prewarm(self, prewarm: Prewarm, now: float, out: Out) -> None:
        """Start a sandbox that nobody asked for yet, if its function has none and a stem is there that it can be made of."""
        version = prewarm.version
        key = (version.name, version.version, version.generation)
        if self.closing:
            return
        group = self.groups.get(key)
        if group is not None and (group.warm or group.frozen or group.coming or group.busy or group.finishing or group.provision):
            return
        if group is None:
            group = self.new_group(key, version, now)
        if self.starved or not self.supplies[group.stem].ready or self._start(group, now, out) is not Room.FREE:
            self.keepalive.postpone(prewarm, again_s(now - prewarm.wanted_s, now))  # no stem or no memory yet
        else:
            self.tallies.totals.prewarms += 1
        self.budget.clear_earmarks()
        self.forget(group)


def _used_up(quota: Quota) -> Why:
    return Why.ACCOUNT if quota.reason == ACCOUNT else Why.RESERVED
