"""Events and the time in, commands out: the decisions of the gateway. [P]

Each method is one thing that happened; it changes the state at once and returns what is to be done about it, in order. The caller
performs the commands and reports what came of them as further events. Whatever a command promises is already true in the state
when it is returned: a sandbox in a `Run` is in no index any more.

The way of an invocation: `arrived` takes a concurrency slot and the newest warm sandbox of its group, or thaws the newest frozen
one. If there is neither it queues, and a sandbox is started if that serves anybody sooner than waiting does. Whichever comes
first serves it, a start or another's end; a start that comes too late is a spare. `settled` is its answer, `idled` the end of its
sandbox's work and of its slot.

What the decisions are made of is in `moves`, and the state with its single steps in `ledger`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from gateway.records import FunctionVersion
from gateway.scheduler.commands import Command, Refuse, Why
from gateway.scheduler.cooling import Due
from gateway.scheduler.group import Group, Key
from gateway.scheduler.keepalive.overrides import Keep
from gateway.scheduler.providing import Providing
from gateway.scheduler.provision import Standing
from gateway.scheduler.scaling import WEIGHT
from gateway.scheduler.state import Event, Instance, State
from gateway.scheduler.waiting import Ticket
from sandbox.spec import StemKey

ATTEMPTS: Final = 3  #: starts in a row that fail, or sandboxes in a row that are dead, before a caller is told
PRESSED: Final = 4  #: frozen sandboxes that go at once when the host lacks memory
NOTHING: Final[Sequence[Command]] = ()

_SETTLED, _RELEASED = Event.SETTLED, Event.RELEASED  # Python 3.11 takes 66 ns to read a member off its enum


class Core(Providing):
    """The scheduler. A caller reads `wake_s`: `tick` is to be called then, or somewhat later."""

    # --- invocations

    def arrived(self, ticket: Ticket, version: FunctionVersion, now: float) -> Sequence[Command]:
        """An invocation of `version` wants a sandbox."""
        if self.closing:
            return [Refuse(ticket, Why.CLOSING)]
        group: Group | None = version.group
        if group is None or group.owner is not self:
            group = self.group_of(version, now)
        newest = group.newest
        if newest is not None:  # what is looked at later: together it comes from memory as quickly as one of it (DESIGN 19)
            _, _, _ = group.run_s, group.free_s, newest.since_s
        ticket.group = group
        out: list[Command] = []
        if group.provision is not None:
            self.begin(ticket, group.provision, now, out)
            return out
        if not group.quota.enter(now):
            self.hold(ticket, now, out)
            return out
        self.place(ticket, now, out)
        return out

    def settled(self, instance: Instance, now: float) -> None:
        """Its invocation has an answer. The sandbox and the slot are not free before `idled`."""
        instance.see(_SETTLED)
        self.unbusy(instance, now)
        group = instance.group
        group.finishing += 1
        group.quota.finishing += 1

    def idled(self, instance: Instance, now: float) -> Sequence[Command]:
        """Runtime and extensions asked for the next event."""
        instance.see(_RELEASED)
        group = instance.group
        group.finishing -= 1
        run_s, took_s = group.run_s, now - instance.since_s
        group.run_s = took_s if run_s is None else run_s + WEIGHT * (took_s - run_s)
        quota = group.quota
        quota.used -= 1
        quota.finishing -= 1
        if not group.waiting and not quota.waiting and not self.starved and group.plain:  # what nearly always is
            self.shelve(instance, now)
            return NOTHING
        out: list[Command] = []
        self.offer(instance, now, out)
        self.admit(quota, now, out)
        self.feed(now, out)
        return out

    def left(self, ticket: Ticket, now: float) -> Sequence[Command]:
        """Its caller does not want it any more. If a sandbox has it already it runs on, and only the answer is dropped."""
        out: list[Command] = []
        self.withdraw(ticket, now, out)
        return out

    def missed(self, ticket: Ticket, instance: Instance, now: float) -> Sequence[Command]:
        """The sandbox was dead before the event was handed over: the invocation gets another one, and its place at the front."""
        out: list[Command] = []
        instance.see(Event.DIED)
        self.unbusy(instance, now)
        if instance.provisioned:
            self.lost(instance, now, out)
        ticket.attempts += 1
        quota = instance.group.quota
        if ticket.attempts < ATTEMPTS:
            self.place(ticket, now, out, front=True)
        else:
            quota.leave(answered=False)
            out.append(self.refuse(ticket, Why.FAILED))
        self.stop(instance, out)
        self.admit(quota, now, out)
        self.feed(now, out)
        return out

    # --- sandboxes

    def made(self, instance: Instance, now: float) -> Sequence[Command]:
        """A stem is there."""
        out: list[Command] = []
        instance.see(Event.MADE)
        supply = self.supplies[instance.stem]
        supply.made()
        while supply.claims:
            group, since_s = supply.claims.popleft()
            if len(group.waiting) >= group.coming:
                self.specialise(instance, group, since_s, now, out)
                break
            self.drop_claim(group)
        else:
            if supply.provisions:
                provision = supply.provisions.popleft()
                provision.claimed -= 1
                self.start_provisioned(instance, provision, now, out)
            else:
                self.stock(instance)
        self.tend(supply, now, out)
        self.feed(now, out)
        return out

    def make_failed(self, instance: Instance, now: float, error: Exception, *, final: bool) -> Sequence[Command]:
        """A stem could not be made, and nothing of it is left. `final`: nor will one ever be."""
        out: list[Command] = []
        instance.see(Event.EXITED)
        self.budget.give_back(instance.memory_bytes, 1)
        supply = self.supplies[instance.stem]
        supply.failed(now, error, final=final)
        self.stirring[supply] = None
        self.tallies.totals.stem_failures.add(instance.stem.runtime)
        while final and supply.claims:
            group, _ = supply.claims.popleft()
            self.drop_claim(group)
            self.give_up(group, error, now, out)
        if final:
            self.give_up_provisions(supply, error, now, out)
        self.wake(supply.retry_s)
        self.feed(now, out)
        return out

    def started(self, instance: Instance, now: float) -> Sequence[Command]:
        """Init is over; it can take work."""
        out: list[Command] = []
        instance.see(Event.READY)
        group = instance.group
        self.start_ended(instance, now)
        group.failures = 0
        supply = self.supplies[instance.stem]
        cold_s = now - instance.since_s
        group.cold_s.add(cold_s)
        if instance.provisioned:
            self.provided(instance, out)
        else:
            group.tally.cold_starts += 1
        self.tallies.totals.stem_s.add(instance.claimed_s - instance.since_s)
        self.tallies.totals.init_s.add(now - instance.claimed_s)
        supply.cold_s.add(cold_s)
        self.offer(instance, now, out)
        self.tend(supply, now, out)
        self.feed(now, out)
        return out

    def start_failed(
        self, instance: Instance, now: float, error: Exception, *, final: bool = False, later: bool = False
    ) -> Sequence[Command]:
        """A sandbox was lost before it took work. `final`: so will be the next. `later`: none can be made for a while."""
        out: list[Command] = []
        instance.see(Event.DIED)
        group = instance.group
        group.tally.failed_starts += 1
        supply = self.supplies[instance.stem]
        if later:
            supply.back_off(now, error)
        if instance.provisioned:
            self.not_provided(instance, now, error, out, final=final, later=later)
            self.tend(supply, now, out)
            self.feed(now, out)
            return out
        self.start_ended(instance, now)
        self.stop(instance, out)
        if not later:
            group.failures += 1
        if final or group.failures >= ATTEMPTS:
            group.failures = 0
            self.give_up(group, error, now, out)
        else:
            supply.error = error
            self.grow(group, now, out)
        self.tend(supply, now, out)
        return out

    def measured(self, instance: Instance, used_bytes: int, now: float) -> Sequence[Command]:
        """What a sandbox uses that was told to freeze."""
        self.budget.cooled(instance.group.memory_bytes)
        if instance.state is State.FROZEN and not instance.provisioned:  # else it was picked in the meantime, or stopped
            used_bytes = min(used_bytes, instance.memory_bytes)  # nothing that is frozen grows
            self.budget.unshelve(instance.memory_bytes)
            self.budget.take(used_bytes - instance.memory_bytes)
            self.budget.shelve(used_bytes)
            instance.memory_bytes = used_bytes
        out: list[Command] = []
        self.feed(now, out)
        return out

    def died(self, instance: Instance, now: float) -> Sequence[Command]:
        """It went away by itself, or the gateway closes and ends what runs in it."""
        out: list[Command] = []
        state = instance.state
        instance.see(Event.DIED)
        if state is State.STEM:
            self.unstock(instance)
            self.stop(instance, out)
            self.tend(self.supplies[instance.stem], now, out)
            return out
        group = instance.group
        if state is State.STARTING:
            self.start_ended(instance, now)
        elif (state is State.IDLE or state is State.FROZEN) and instance.provisioned:
            pass  # in no index, and no slot is in use
        elif state is State.IDLE or state is State.FROZEN:
            self.index.remove(instance)
            self.budget.unshelve(instance.memory_bytes)
        elif state is State.RESERVED:
            self.unbusy(instance, now)
            group.quota.leave(answered=False)
        else:
            group.finishing -= 1
            group.quota.leave(answered=True)
        if instance.provisioned:
            self.lost(instance, now, out)
        self.stop(instance, out)
        self.admit(group.quota, now, out)
        self.grow(group, now, out)
        self.feed(now, out)
        return out

    def weighed(self, instance: Instance, used_bytes: int, now: float) -> Sequence[Command]:
        """What a sandbox uses that was told to stop and takes its time for that: it counts no more from now on."""
        out: list[Command] = []
        if instance.state is State.STOPPING and instance not in self.lingering:
            if used_bytes < instance.memory_bytes:
                self.budget.lighten(instance.memory_bytes - used_bytes)
                instance.memory_bytes = used_bytes
            self.lingers(instance)
            self.feed(now, out)
        return out

    def stopped(self, instance: Instance, now: float) -> Sequence[Command]:
        """Nothing of it is left."""
        instance.see(Event.EXITED)
        self.lingers_no_more(instance)
        self.budget.stopped(instance.memory_bytes)
        out: list[Command] = []
        self.feed(now, out)
        return out

    # --- functions

    def used(self, stem: StemKey, change: int, now: float) -> Sequence[Command]:
        """So many more (or fewer) versions of functions need this kind of stem."""
        out: list[Command] = []
        supply = self.supply(stem, now)
        supply.users += change
        self.tend(supply, now, out)
        self.rest(supply, now)
        return out

    def retired(self, key: Key, now: float) -> Sequence[Command]:
        """A version was changed or deleted. Its idle sandboxes go now, the others when they have finished what was accepted."""
        out: list[Command] = []
        group = self.groups.pop(key, None)
        self.keepalive.retired(key[:2])
        if group is not None:
            self.unlink(group)
            group.retired = True
            group.plain = False
            self.aim(group, 0, now, out)
            for instance in [*group.idle, *group.frozen]:
                self.retire(instance, out)
            self.forget(group)
        return out

    def reserved(self, name: str, limit: int | None, now: float) -> Sequence[Command]:
        """A function's reserved concurrency is now this, or (None) none."""
        out: list[Command] = []
        for quota in self.admission.reserve(name, limit):
            self.admit(quota, now, out)
        return out

    def kept(self, name: str, keep: Keep | None, now: float) -> Sequence[Command]:
        """A function has these rules of its own for idle sandboxes from now on, or (None) none."""
        if keep is None:
            self.keeps.pop(name, None)
        else:
            self.keeps[name] = keep
        for group in self.groups.values():
            if group.key[0] == name:
                group.keep = keep
                self.cooling.again(group, now)
        self.wake(now)
        return NOTHING

    def pressed(self, now: float) -> Sequence[Command]:
        """The host itself lacks memory, whatever the budget says: let go a few frozen sandboxes, those of the least worth."""
        out: list[Command] = []
        for _ in range(PRESSED):
            victim = self.keepalive.victim(self.index, None, now)
            if victim is None:
                break
            self.evict(victim, out)
        return out

    def provisioned(self, version: FunctionVersion, target: int, now: float) -> Sequence[Command]:
        """So many sandboxes of a version are to be ready from now on, whatever else there is to do; 0 ends that."""
        key = (version.name, version.version, version.generation)
        group = self.groups.get(key)
        if self.closing or (group is None and not target):
            return NOTHING
        out: list[Command] = []
        self.aim(group or self.new_group(key, version, now), target, now, out)
        return out

    def standing(self, key: Key) -> Standing | None:
        """How far a version's provisioned concurrency is, if it has any."""
        group = self.groups.get(key)
        return group.provision.standing if group is not None and group.provision is not None else None

    # --- time

    def tick(self, now: float) -> Sequence[Command]:
        """Whatever is due: deadlines, second thoughts, freezing and stopping what was idle for long, stems."""
        out: list[Command] = []
        self.wake_s = math.inf
        while (ticket := self.deadlines.pop(now)) is not None:
            why = self.lateness(ticket)
            error = self.supplies[ticket.group.stem].error if why is Why.LATE_START else None
            self.withdraw(ticket, now, out)
            out.append(self.refuse(ticket, why, error))
        self.reconsider(now, out)
        for instance, due in list(self.cooling.due(now)):
            if due is Due.STOP:
                self.retire(instance, out)
            else:
                self.cool(instance, out)
        for prewarm in list(self.keepalive.due(now)):
            self.prewarm(prewarm, now, out)
        self.cool_kept(now, out)
        for supply in list(self.stirring):
            supply.decay(now)
            self.tend(supply, now, out)
            self.rest(supply, now)
        self.feed(now, out)
        self.wake(self.cooling.next_s())
        self.wake(self.keepalive.next_s())
        self.wake(self.rechecks.next_s())
        if (due_s := self.deadlines.next_s()) is not None:
            self.wake(due_s)
        return out

    def closed(self, now: float) -> Sequence[Command]:
        """Let nobody in any more, and let go whatever is idle. Who was let in is served."""
        self.closing = True
        out: list[Command] = []
        for key in list(self.groups):
            out += self.retired(key, now)
        for supply in self.supplies.values():
            supply.users = 0
            self.tend(supply, now, out)
        return out

    def abandoned(self, now: float) -> Sequence[Command]:
        """Send away whoever still waits, and start nothing more for them."""
        out: list[Command] = []
        held = [ticket for share in self.admission.shares.values() for ticket in share.quota.waiting]
        queued = [ticket for group in list(self.rechecks) for ticket in group.waiting]
        for ticket in dict.fromkeys(held + queued):
            self.withdraw(ticket, now, out)
            out.append(self.refuse(ticket, Why.CLOSING))
        for supply in self.supplies.values():
            while supply.claims:
                self.drop_claim(supply.claims.popleft()[0])
            self.stirring[supply] = None
        return out
