"""What the scheduler does about provisioned concurrency: moves, as those of `Moves`, that keep each `Provision` true. [P]"""

from __future__ import annotations

from gateway.scheduler.capacity import Room
from gateway.scheduler.commands import Announce, Freeze
from gateway.scheduler.group import Group
from gateway.scheduler.ledger import Out
from gateway.scheduler.moves import Moves
from gateway.scheduler.provision import BACK_OFF_S, LOOKED_AT, NO_ROOM_S, PARALLEL, NoRoom, Provision, Status
from gateway.scheduler.state import Event, Instance, State
from gateway.scheduler.stems import Supply
from gateway.scheduler.waiting import Ticket


class Providing(Moves):
    """Starts what provisioned versions lack, and lets go what they have too many."""

    # --- work

    def begin(self, ticket: Ticket, provision: Provision, now: float, out: Out) -> None:
        """An invocation of a provisioned version: the slot that an idle sandbox of it keeps is for it; else it is on demand."""
        group = ticket.group
        share = group.share
        idle = bool(provision.idle)
        if idle:
            share.keep(-1)
            entered = group.quota.enter(now)
            share.keep(1)
        else:
            entered = group.quota.enter(now)
        if entered:
            group.tally.provisioned.add("used" if idle else "spilled")
            self.place(ticket, now, out)
        else:  # nothing is free, the rate is used up, or the limit is less than what is provisioned
            self.hold(ticket, now, out)

    def keep(self, instance: Instance, now: float, out: Out) -> None:
        """A provisioned sandbox became idle. Who of its version waits for a slot has one now."""
        group = instance.group
        provision = group.provision
        assert provision is not None
        instance.since_s = now
        provision.idle[instance] = None
        self.provisions.idle[instance] = None
        group.share.keep(1)
        if self.policy.freeze_provisioned_s is not None:
            self.wake(now + self.policy.freeze_provisioned_s)
        if group.held and group.quota.waiting:
            ticket = next(one for one in group.quota.waiting if one.group is group)
            del ticket.quota.waiting[ticket]
            group.held -= 1
            self.begin(ticket, provision, now, out)

    def offer(self, instance: Instance, now: float, out: Out) -> None:
        if instance.provisioned and not instance.group.waiting:
            self.keep(instance, now, out)
        else:
            super().offer(instance, now, out)

    def cool_kept(self, now: float, out: Out) -> None:
        """Freeze those that have been idle for as long as the operator said."""
        after_s = self.policy.freeze_provisioned_s
        while after_s is not None and self.provisions.idle:
            instance = next(iter(self.provisions.idle))
            if now < instance.since_s + after_s:
                self.wake(instance.since_s + after_s)
                return
            del self.provisions.idle[instance]
            instance.see(Event.COOLED)
            self.tallies.totals.freezes += 1
            self.budget.cooling(instance.memory_bytes)
            out.append(Freeze(instance))

    # --- targets

    def aim(self, group: Group, target: int, now: float, out: Out) -> None:
        """Have so many sandboxes of a group provisioned from now on. 0 ends it: what there is serves on as any other sandbox."""
        provision = group.provision
        if provision is None:
            if not target:
                return
            provision = group.provision = Provision(group)
            group.plain = False
        if provision.target != target:
            provision.succeeded()
        provision.target = target
        self.shed(provision, now, out)
        if target:
            self.look_at(provision)
            self.announce(provision, out)
        else:
            self.provisions.lacking.pop(provision, None)
            group.provision = None
            group.plain = not group.retired
        self.admit(group.quota, now, out)
        self.feed(now, out)
        self.forget(group)

    def shed(self, provision: Provision, now: float, out: Out) -> None:
        """Have no more of them than wanted: first those that are not there yet, then the busy, then the idle."""
        supply = self.supplies[provision.group.stem]
        while provision.lacks < 0 and provision.claimed:
            supply.provisions.remove(provision)
            self.stirring[supply] = None
            self.drop_provision(provision)
        busy = [one for one in provision.members if one not in provision.idle]
        for instance in [*provision.starting, *busy, *provision.idle]:
            if provision.lacks >= 0:
                break
            self.demote(provision, instance, now, out)

    def demote(self, provision: Provision, instance: Instance, now: float, out: Out) -> None:
        """A provisioned sandbox is an ordinary one of its version from now on."""
        group = provision.group
        instance.provisioned = False
        self.provisions.give_back(provision)
        if instance.state is State.STARTING:
            del provision.starting[instance]
            self.provisions.under_way -= 1
            group.coming += 1
            self.coming += 1
            return
        del provision.members[instance]
        if instance in provision.idle:
            self.unkeep(instance, provision)
            if instance.state is State.FROZEN:
                instance.see(Event.RETIRED)
                self.stop(instance, out)
            else:
                self.offer(instance, now, out)

    def look_at(self, provision: Provision) -> None:
        """See, in turn, whether it lacks something."""
        if provision.lacks > 0:
            self.provisions.lacking.setdefault(provision)
        else:
            self.provisions.lacking.pop(provision, None)

    def announce(self, provision: Provision, out: Out) -> None:
        """Tell when a version gets ready or fails, once each time."""
        status = provision.status
        if status is not provision.announced:
            provision.announced = status
            if status is not Status.IN_PROGRESS:
                out.append(Announce(provision.group.version))

    # --- starts

    def feed(self, now: float, out: Out) -> None:
        """What is provisioned comes before who lacks memory: else one that dies would not be replaced under load."""
        self.provisions.short = None
        if self.provisions.lacking and not self.closing:
            self.provide(now, out)
        super().feed(now, out)
        self.budget.clear_earmarks()

    def provide(self, now: float, out: Out) -> None:
        """Start what provisioned versions lack, a few at once, one of each in turn."""
        went_on = True
        while went_on:
            went_on = False
            for provision in self.provisions.turn():
                if self.provisions.under_way >= PARALLEL:
                    return  # goes on when one of those is there
                if provision.retry_s > now:
                    self.wake(provision.retry_s)
                elif self._too_large(provision):
                    reason = f"The memory and the sandboxes of this machine are too few for {provision.target}."
                    provision.failed(now, NoRoom(reason), final=True)
                    self.wake(provision.retry_s)
                    self.announce(provision, out)
                elif self._provide_one(provision, now, out) is Room.FREE:
                    went_on = True
                else:
                    self.wake(now + NO_ROOM_S)
                    if provision.retry_s <= now:  # else it has failed for another reason
                        self.provisions.short = provision.group
        if len(self.provisions.lacking) > LOOKED_AT:
            self.wake(now + NO_ROOM_S)

    def _too_large(self, provision: Provision) -> bool:
        """Whether one more does not fit beside what else is provisioned, even if there were nothing else."""
        budget, provisions = self.budget, self.provisions
        return (
            provisions.reserved_bytes + provision.group.memory_bytes > budget.total_bytes
            or provisions.count + 1 > budget.total_count
        )

    def _provide_one(self, provision: Provision, now: float, out: Out) -> Room:
        group = provision.group
        supply = self.supplies[group.stem]
        if supply.final and now < supply.retry_s and supply.error is not None:  # this host has no such runtime
            provision.failed(now, supply.error, final=True)
            self.announce(provision, out)
            return Room.NONE
        room, stem = self.claim_room(group, supply, now, out)
        if room is not Room.FREE:
            return room
        self.provisions.take(provision)
        self.budget.take(group.memory_bytes - self.policy.stem_bytes)
        if stem is None:
            provision.claimed += 1
            supply.provisions.append(provision)
        else:
            self.start_provisioned(stem, provision, now, out)
        self.look_at(provision)
        self.tend(supply, now, out)
        return room

    def start_provisioned(self, stem: Instance, provision: Provision, now: float, out: Out) -> None:
        """Give a stem, which is in no index any more, to a version that keeps it."""
        stem.provisioned = True
        provision.starting[stem] = None
        self.specialise(stem, provision.group, now, now, out)

    def drop_provision(self, provision: Provision) -> None:
        """A claim of it, which is in no line any more, gets no stem."""
        provision.claimed -= 1
        self.provisions.under_way -= 1
        self.provisions.give_back(provision)
        self.budget.give_back(provision.group.memory_bytes - self.policy.stem_bytes)

    def give_up_provisions(self, supply: Supply, error: Exception, now: float, out: Out) -> None:
        """No stem can be made for those that wait for one."""
        while supply.provisions:
            provision = supply.provisions.popleft()
            self.drop_provision(provision)
            provision.failed(now, error, final=True)
            self.look_at(provision)
            self.wake(provision.retry_s)
            self.announce(provision, out)

    # --- ends

    def provided(self, instance: Instance, out: Out) -> None:
        """A provisioned sandbox has been started; it is in no index yet."""
        provision = instance.group.provision
        assert provision is not None
        provision.members[instance] = None
        provision.succeeded()
        self.announce(provision, out)

    def lost(self, instance: Instance, now: float, out: Out) -> None:
        """A provisioned sandbox is one no more: it died, idle, busy or in its start, or could not be started."""
        provision = instance.group.provision
        assert provision is not None
        instance.provisioned = False
        self.provisions.give_back(provision)
        provision.members.pop(instance, None)
        if instance in provision.idle:
            self.unkeep(instance, provision)
            provision.retry_s = max(provision.retry_s, now + BACK_OFF_S)  # it may die each time as soon as it is there
        self.look_at(provision)
        self.announce(provision, out)

    def not_provided(self, instance: Instance, now: float, error: Exception, out: Out, *, final: bool, later: bool) -> None:
        """A start of a provisioned sandbox failed; it is STOPPING. `later` is no fault of the function."""
        provision = instance.group.provision
        assert provision is not None
        self.start_ended(instance, now)
        self.lost(instance, now, out)
        if later:
            provision.retry_s = self.supplies[instance.stem].retry_s
        else:
            provision.failed(now, error, final=final)
        self.wake(provision.retry_s)
        self.announce(provision, out)
        self.stop(instance, out)
