"""The scheduler's state, and the steps that touch one thing of it. Each leaves every index and counter true. [P]

Steps here decide nothing: that is done by `moves`, for what concerns several waiters or sandboxes, and by `core`.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict

from gateway.records import FunctionVersion
from gateway.scheduler.admission import Admission
from gateway.scheduler.capacity import Budget
from gateway.scheduler.commands import RETRY_S, THROTTLES, Command, Freeze, Make, Refuse, Run, Specialise, Stop, Why
from gateway.scheduler.cooling import Cooling
from gateway.scheduler.group import NEVER_S, Group, Key
from gateway.scheduler.index import Index
from gateway.scheduler.keepalive import keep_alive
from gateway.scheduler.keepalive.overrides import Keep
from gateway.scheduler.policy import Policy
from gateway.scheduler.provision import Provision, Provisions
from gateway.scheduler.state import Event, Instance
from gateway.scheduler.stems import Supply
from gateway.scheduler.waiting import NOBODY, Deadlines, Place, Rechecks, Ticket
from gateway.tally import Tallies
from sandbox.spec import StemKey

Out = list[Command]

_PICKED, _PLACED = Event.PICKED, Place.PLACED  # Python 3.11 takes 66 ns to read a member off its enum


class Ledger:
    """An event begins with `out`, an empty list, and every step appends to it what is to be done."""

    def __init__(self, policy: Policy, tallies: Tallies | None = None) -> None:
        self.policy = policy
        self.tallies = Tallies() if tallies is None else tallies
        self.wake_s = math.inf  #: when `tick` is wanted next
        self.closing = False
        self.groups: dict[Key, Group] = {}  #: without the retired ones
        self.admission = Admission(policy.concurrency, policy.request_rate, policy.scaling_rate)
        self.index = Index()
        self.budget = Budget(policy.memory_bytes, policy.max_sandboxes)
        self.supplies: dict[StemKey, Supply] = {}
        self.stirring: dict[Supply, None] = {}  #: those that `tick` has to look at: all others are quiet
        self.stems: dict[Instance, None] = {}  #: those that are ready, of all supplies, oldest first
        self.provisions = Provisions()
        self.starved: OrderedDict[Group, None] = OrderedDict()
        self.waiting = 0  #: QUEUED tickets of all groups
        self.coming = 0  #: starts of all groups
        self.lingering: dict[Instance, None] = {}  #: those that are stopping and take their time for that, the first first
        self.rechecks = Rechecks()
        self.deadlines = Deadlines()
        self.keepalive = keep_alive(policy)
        self.pause_s = self.keepalive.pause_s
        self.cooling = Cooling(self.index, self.keepalive, policy.freeze_after_s, policy.keep_alive_s)
        self.keeps: dict[str, Keep] = {}  #: of functions that have rules of their own
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} [Invocations: {self.in_flight - self.waiting} running, {self.waiting} waiting | Sandboxes: "
            f"{self.coming} coming, {len(self.index.warm)} warm, {len(self.index.frozen)} frozen, {len(self.stems)} stems]>"
        )

    @property
    def in_flight(self) -> int:
        """Invocations that were let in and have not ended."""
        return self.admission.used

    def wake(self, due_s: float) -> None:
        if due_s < self.wake_s:
            self.wake_s = due_s

    # --- groups and supplies

    def group_of(self, version: FunctionVersion, now: float) -> Group:
        """Its group, made if there is none."""
        key = (version.name, version.version, version.generation)
        group = self.groups.get(key)
        if group is None:
            return self.new_group(key, version, now)
        self.unlink(group)  # what is said about the version changed, neither code nor configuration
        group.version = version
        object.__setattr__(version, "group", group)
        return group

    def unlink(self, group: Group) -> None:
        """Its record does not lead to it any more: another one does, or none."""
        if group.version.group is group:  # several schedulers may know a record, as in a simulation
            object.__setattr__(group.version, "group", None)

    def new_group(self, key: Key, version: FunctionVersion, now: float) -> Group:
        share = self.admission.share(version.name)
        group = self.groups[key] = Group(key, version, share, self.tallies.of(version.name))
        group.owner = self
        object.__setattr__(version, "group", group)
        share.groups[group] = None
        group.pattern = self.keepalive.known(group, now)
        group.keep = self.keeps.get(version.name)
        self.supply(group.stem, now).groups += 1
        return group

    def forget(self, group: Group) -> None:
        """Drop a group of which nothing is left: a million functions that are called once must not stay for ever."""
        if group.forgotten or not group.empty:
            return
        group.forgotten = True
        group.learned()  # for the next one
        if not group.retired:
            del self.groups[group.key]
            self.unlink(group)
        del group.share.groups[group]
        self.admission.forget(group.share)
        supply = self.supplies[group.stem]
        supply.groups -= 1
        if not supply.users:  # this may have been the last; `tick` looks, for who forgets is in the middle of something
            self.stirring[supply] = None

    def supply(self, stem: StemKey, now: float) -> Supply:
        supply = self.supplies.get(stem)
        if supply is None:
            policy = self.policy
            least, most = policy.stems(stem) if policy.stems else (policy.stems_min, policy.stems_max)
            if stem.image:  # one for each image would be one for each function
                least = 0
            supply = self.supplies[stem] = Supply(stem, least, most, now)
        return supply

    def rest(self, supply: Supply, now: float) -> None:
        """Look at it no more where nothing is to be done about it; drop it where nothing ever will, not while it backs off."""
        if supply.forsaken and now >= supply.retry_s:
            self.stirring.pop(supply, None)
            del self.supplies[supply.key]
        elif supply.quiet(now):
            self.stirring.pop(supply, None)

    def stock(self, instance: Instance) -> None:
        """A stem is ready and nobody waits for it."""
        self.supplies[instance.stem].ready[instance] = None
        self.stems[instance] = None
        self.budget.shelve(instance.memory_bytes)

    def unstock(self, instance: Instance) -> None:
        """A ready stem is none any more: it was claimed, let go, or died."""
        supply = self.supplies[instance.stem]
        del supply.ready[instance]
        del self.stems[instance]
        self.stirring[supply] = None
        self.budget.unshelve(instance.memory_bytes)

    # --- tickets

    def refuse(self, ticket: Ticket, why: Why, error: Exception | None = None, retry_s: float | None = RETRY_S) -> Refuse:
        """The last of a ticket that waits nowhere."""
        ticket.place = Place.OUT
        tally = ticket.group.tally
        (tally.throttles if why in THROTTLES else tally.not_run).add(why.name.lower())
        self.forget(ticket.group)
        return Refuse(ticket, why, error, retry_s)

    def expect(self, ticket: Ticket, due_s: float) -> None:
        self.deadlines.add(ticket, due_s)
        self.wake(due_s)

    # --- sandboxes of a group

    def cold_guess_s(self, group: Group) -> float:
        """How long a start of it takes, as far as is known."""
        cold_s = group.cold_s.value
        return self.supplies[group.stem].cold_guess_s if cold_s is None else cold_s

    def served(self, group: Group) -> None:
        """Nobody waits for its sandboxes any more."""
        group.waiting = NOBODY
        self.starved.pop(group, None)

    def run(self, ticket: Ticket, instance: Instance, now: float) -> Run:
        """Promise a sandbox, which is in no index any more, to a ticket, which waits nowhere any more."""
        instance.see(_PICKED)
        group = instance.group
        if instance.memory_bytes != group.memory_bytes:  # it was frozen
            self.budget.take(group.memory_bytes - instance.memory_bytes)
            instance.memory_bytes = group.memory_bytes
        instance.since_s = now
        busy = group.busy = group.busy + 1
        group.begun_sum_s += now
        free_s = group.free_s
        if (busy > 1 or now - free_s >= self.pause_s) and (pattern := group.pattern) is not None:
            if free_s != NEVER_S:  # as `learned` does, a call less
                pattern.freed(1, free_s)
            pattern.used(busy, now)
        ticket.place = _PLACED
        return Run(ticket, instance)

    def unbusy(self, instance: Instance, now: float) -> None:
        """It works no longer."""
        group = instance.group
        busy = group.busy
        group.busy = busy - 1
        if busy == 1:
            group.free_s = now
            group.begun_sum_s = 0.0
            return
        if group.pattern is not None:
            group.pattern.freed(busy, now)
        group.begun_sum_s -= instance.since_s

    def shelve(self, instance: Instance, now: float) -> None:
        instance.since_s = now
        self.index.add(instance)
        self.budget.shelve(instance.memory_bytes)
        due_s = self.cooling.idle_until(now)
        if due_s < self.wake_s:
            self.wake_s = due_s

    def cool(self, instance: Instance, out: Out) -> None:
        """Freeze a warm one."""
        instance.see(Event.COOLED)
        self.tallies.totals.freezes += 1
        self.index.freeze(instance)
        self.budget.cooling(instance.memory_bytes)
        out.append(Freeze(instance))

    def retire(self, instance: Instance, out: Out) -> None:
        """Let go of an idle sandbox or a stem."""
        if hasattr(instance, "group"):
            self.index.remove(instance)
            self.budget.unshelve(instance.memory_bytes)
        else:
            self.unstock(instance)
        instance.see(Event.RETIRED)
        self.stop(instance, out)

    def stop(self, instance: Instance, out: Out) -> None:
        """It is in no index and no counter of its group any more, and STOPPING."""
        self.budget.stopping(instance.memory_bytes)
        out.append(Stop(instance))
        if hasattr(instance, "group"):
            self.forget(instance.group)

    def lingers(self, instance: Instance) -> None:
        """It is STOPPING, and takes its time for that."""
        if instance not in self.lingering:
            self.lingering[instance] = None
            self.budget.linger(instance.memory_bytes, 1)

    def lingers_no_more(self, instance: Instance) -> None:
        """It was told to make haste, or is gone. Idempotent."""
        if instance in self.lingering:
            del self.lingering[instance]
            self.budget.linger(-instance.memory_bytes, -1)

    # --- starts and stems

    def specialise(self, instance: Instance, group: Group, since_s: float, now: float, out: Out) -> None:
        """Give a stem, which is in no index any more, to a group that asked for it at `since_s`."""
        instance.see(Event.CLAIMED)
        instance.group = group
        instance.since_s = since_s
        instance.claimed_s = now
        instance.memory_bytes = group.memory_bytes  # the difference was taken when it was asked for
        supply = self.supplies[group.stem]
        supply.starting += 1
        supply.disturbed(now)
        self.stirring[supply] = None
        out.append(Specialise(instance))

    def unkeep(self, instance: Instance, provision: Provision) -> None:
        """A provisioned sandbox is idle no longer."""
        del provision.idle[instance]
        self.provisions.idle.pop(instance, None)  # one that is frozen is there no more
        provision.group.share.keep(-1)

    def start_ended(self, instance: Instance, now: float) -> None:
        """A sandbox left STARTING, for better or worse."""
        if instance.provisioned:
            assert instance.group.provision is not None
            del instance.group.provision.starting[instance]
            self.provisions.under_way -= 1
        else:
            self.coming -= 1
            instance.group.coming -= 1
            instance.group.patience.start_ended(now)
        supply = self.supplies[instance.stem]
        supply.starting -= 1
        supply.disturbed(now)
        self.stirring[supply] = None

    def drop_claim(self, group: Group) -> None:
        """A start is not needed any more, or will not be."""
        self.coming -= 1
        group.coming -= 1
        self.budget.give_back(group.memory_bytes - self.policy.stem_bytes)
        self.forget(group)

    def make_stem(self, supply: Supply, out: Out) -> None:
        supply.making += 1
        self.budget.take(self.policy.stem_bytes, 1)
        out.append(Make(Instance(next(self._numbers), supply.key, self.policy.stem_bytes)))

    def prune_claims(self, supply: Supply, now: float) -> None:
        """Before trying again after a failure: drop the claims whose waiters are gone."""
        for _ in range(len(supply.claims)):
            group, _ = supply.claims.popleft()
            if len(group.waiting) >= group.coming:
                supply.claims.append((group, now))  # a failure of the driver is not how long a start takes
            else:
                self.drop_claim(group)
