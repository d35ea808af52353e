"""The scheduler's core against everything that may happen, in any order.

The machine below is the rest of the gateway: it performs commands, at leisure, and makes everything else happen. After each step
it counts again, from the sandboxes and invocations themselves, what the core keeps in counters and indexes.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.records import FunctionVersion
from gateway.scheduler import keepalive
from gateway.scheduler.admission import Quota
from gateway.scheduler.commands import Announce, Command, Freeze, Hurry, Make, Refuse, Run, Specialise, Stop, Why
from gateway.scheduler.core import Core
from gateway.scheduler.group import Group
from gateway.scheduler.keepalive.overrides import Keep
from gateway.scheduler.policy import MIB, Policy
from gateway.scheduler.provision import PARALLEL, Status
from gateway.scheduler.state import Instance, State
from gateway.scheduler.waiting import NOBODY, Place, Ticket
from sandbox.spec import Architecture, StemKey
from tests.sim.records import of_image, version

MEMORY_MB = {"small": 128, "middle": 256, "large": 700, "huge": 2048}
NAMES = st.sampled_from(list(MEMORY_MB))
POLICY = Policy(
    memory_bytes=1024 * MIB,
    max_sandboxes=7,
    concurrency=6,
    request_rate=5,
    scaling_rate=40,
    queue_max=4,
    queue_max_per_key=3,
    freeze_after_s=0.25,
    freeze_provisioned_s=3,
    keep_alive_s=5,
    stems_min=1,
    stems_max=2,
    stem_bytes=8 * MIB,
)
PYTHON, NODE = (StemKey(runtime, Architecture.X86_64) for runtime in ("python3.11", "nodejs22.x"))
CHOICE = st.integers(0, 1_000_000)
KEEPS = [None, Keep(min_warm=1), Keep(min_warm=2, max_warm=2), Keep(max_warm=0), Keep(idle_ttl_s=0.5), Keep(99, min_warm=1)]


class Machine(RuleBasedStateMachine):
    """`fates` counts how often each invocation got a sandbox for good, was refused, or left: never more than once."""

    keep_alive = "worth"

    def __init__(self) -> None:
        super().__init__()
        self.core = Core(dataclasses.replace(POLICY, keep_alive=self.keep_alive))
        self.now = 1000.0
        self.versions: dict[str, FunctionVersion] = {}
        self.instances: list[Instance] = []  # those that are not GONE
        self.frozen: list[Instance] = []  # told to freeze and not measured yet
        self.weighed_already: set[Instance] = set()
        self.lingered: set[Instance] = set()  # those that take their time for their end, and were not told to hurry
        self.running: dict[Instance, Ticket] = {}
        self.open: list[Ticket] = []  # those that have no fate yet
        self.fates: Counter[Ticket] = Counter()
        self.most_used: dict[Quota, int] = {}  # the limit, or what was in use when it was lowered
        self.targets = dict.fromkeys(MEMORY_MB, 0)
        for name, memory_mb in MEMORY_MB.items():
            self.versions[name] = version(name, memory_mb=memory_mb, runtime=(NODE if name == "middle" else PYTHON).runtime)
            self.perform(self.core.used(self.versions[name].stem, 1, self.now))

    def perform(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Make(instance):
                    assert instance.state is State.MAKING
                    self.instances.append(instance)
                case Specialise(instance):
                    assert instance.state is State.STARTING
                case Run(ticket, instance):
                    assert instance.state is State.RESERVED, "a sandbox is promised before it is told"
                    assert instance not in self.running, "one invocation at a time"
                    self.running[instance] = ticket
                    self.open.remove(ticket)
                    self.fates[ticket] += 1
                case Freeze(instance):
                    # or it has to go, or is thawed, in the same step
                    assert instance.state in (State.FROZEN, State.STOPPING, State.RESERVED)
                    self.frozen.append(instance)
                case Stop(instance):
                    assert instance.state is State.STOPPING
                    self.running.pop(instance, None)
                case Hurry(instance):
                    assert instance.state is State.STOPPING
                    assert instance in self.lingered, "only who takes its time is told to make haste, and once"
                    self.lingered.remove(instance)
                case Refuse(ticket):
                    self.open.remove(ticket)
                    self.fates[ticket] += 1
                case Announce(version):
                    standing = self.core.standing((version.name, version.version, version.generation))
                    assert standing is not None
                    assert standing.status is not Status.IN_PROGRESS

    def among(self, *states: State) -> list[Instance]:
        return [instance for instance in self.instances if instance.state in states]

    def pick(self, choice: int, *states: State) -> Instance:
        candidates = self.among(*states)
        return candidates[choice % len(candidates)]

    # --- what the rest of the gateway does

    @rule(name=NAMES, patience_s=st.sampled_from([0.005, 0.5, 30.0]))
    def arrive(self, name: str, patience_s: float) -> None:
        ticket = Ticket(self.now + patience_s)
        self.open.append(ticket)
        self.perform(self.core.arrived(ticket, self.versions[name], self.now))

    @precondition(lambda self: self.among(State.RESERVED))
    @rule(choice=CHOICE)
    def settle(self, choice: int) -> None:
        self.core.settled(self.pick(choice, State.RESERVED), self.now)

    @precondition(lambda self: self.among(State.FINISHING))
    @rule(choice=CHOICE)
    def idle(self, choice: int) -> None:
        instance = self.pick(choice, State.FINISHING)
        del self.running[instance]
        self.perform(self.core.idled(instance, self.now))

    @precondition(lambda self: self.among(State.RESERVED))
    @rule(choice=CHOICE)
    def dead_on_hand_over(self, choice: int) -> None:
        instance = self.pick(choice, State.RESERVED)
        ticket = self.running.pop(instance)
        self.fates[ticket] -= 1
        self.open.append(ticket)
        self.perform(self.core.missed(ticket, instance, self.now))

    @precondition(lambda self: self.open)
    @rule(choice=CHOICE)
    def client_leaves(self, choice: int) -> None:
        ticket = self.open.pop(choice % len(self.open))
        self.fates[ticket] += 1
        self.perform(self.core.left(ticket, self.now))

    @precondition(lambda self: self.running)
    @rule(choice=CHOICE)
    def client_of_a_running_one_leaves(self, choice: int) -> None:
        self.perform(self.core.left(list(self.running.values())[choice % len(self.running)], self.now))

    @precondition(lambda self: self.among(State.MAKING))
    @rule(choice=CHOICE)
    def stem_is_made(self, choice: int) -> None:
        self.perform(self.core.made(self.pick(choice, State.MAKING), self.now))

    @precondition(lambda self: self.among(State.MAKING))
    @rule(choice=CHOICE, final=st.booleans())
    def stem_is_not_made(self, choice: int, final: bool) -> None:
        instance = self.pick(choice, State.MAKING)
        self.instances.remove(instance)
        self.perform(self.core.make_failed(instance, self.now, RuntimeError("no stem"), final=final))

    @precondition(lambda self: self.among(State.STARTING))
    @rule(choice=CHOICE)
    def start(self, choice: int) -> None:
        self.perform(self.core.started(self.pick(choice, State.STARTING), self.now))

    @precondition(lambda self: self.among(State.STARTING))
    @rule(choice=CHOICE, kind=st.sampled_from(["again", "later", "final"]))
    def start_fails(self, choice: int, kind: str) -> None:
        instance = self.pick(choice, State.STARTING)
        error = RuntimeError("no start")
        self.perform(self.core.start_failed(instance, self.now, error, final=kind == "final", later=kind == "later"))

    @precondition(lambda self: self.among(State.STEM, State.STARTING, State.IDLE, State.FROZEN, State.RESERVED, State.FINISHING))
    @rule(choice=CHOICE)
    def die(self, choice: int) -> None:
        instance = self.pick(choice, State.STEM, State.STARTING, State.IDLE, State.FROZEN, State.RESERVED, State.FINISHING)
        self.perform(self.core.died(instance, self.now))

    @precondition(lambda self: self.among(State.STOPPING))
    @rule(choice=CHOICE)
    def stop(self, choice: int) -> None:
        instance = self.pick(choice, State.STOPPING)
        self.instances.remove(instance)
        self.lingered.discard(instance)
        self.perform(self.core.stopped(instance, self.now))

    @precondition(lambda self: self.among(State.STOPPING))
    @rule(choice=CHOICE, used_mb=st.integers(0, 200))
    def weighed(self, choice: int, used_mb: int) -> None:
        """It has extensions, which take their time."""
        instance = self.pick(choice, State.STOPPING)
        if instance not in self.weighed_already:
            self.weighed_already.add(instance)
            self.lingered.add(instance)
            self.perform(self.core.weighed(instance, used_mb * MIB, self.now))

    @precondition(lambda self: self.frozen)
    @rule(choice=CHOICE, used_mb=st.integers(0, 200))
    def measure(self, choice: int, used_mb: int) -> None:
        instance = self.frozen.pop(choice % len(self.frozen))
        self.perform(self.core.measured(instance, used_mb * MIB, self.now))

    @rule(name=NAMES)
    def update_function(self, name: str) -> None:
        old = self.versions[name]
        self.versions[name] = dataclasses.replace(old, generation=old.generation + 1)
        self.perform(self.core.retired((old.name, old.version, old.generation), self.now))
        self.targets[name] = 0

    @rule(name=NAMES, kind=st.sampled_from([PYTHON, NODE, "sha256:a", "sha256:b", "sha256:c"]))
    def change_runtime(self, name: str, kind: StemKey | str) -> None:
        """As the pool does it: stems of a runtime that nobody uses any more go."""
        old = self.versions[name]
        image = of_image(kind) if isinstance(kind, str) else None
        runtime = "" if isinstance(kind, str) else kind.runtime
        new = dataclasses.replace(old, generation=old.generation + 1, runtime=runtime, image=image)
        if new.stem == old.stem:
            return
        self.versions[name] = new
        self.perform(self.core.retired((old.name, old.version, old.generation), self.now))
        self.targets[name] = 0
        self.perform(self.core.used(new.stem, 1, self.now))
        self.perform(self.core.used(old.stem, -1, self.now))

    @rule(name=NAMES)
    def say_something_else_of_a_function(self, name: str) -> None:
        """What is no change of code or configuration, as of an alias: another record of the same generation."""
        self.versions[name] = dataclasses.replace(self.versions[name], description=f"at {self.now}")

    @rule(name=NAMES, limit=st.sampled_from([None, 0, 1, 2]))
    def change_concurrency(self, name: str, limit: int | None) -> None:
        self.perform(self.core.reserved(name, limit, self.now))
        self.most_used.clear()  # what is in use moves with it, and may be more than there is

    @rule(name=NAMES, keep=st.sampled_from(KEEPS))
    def change_what_is_kept(self, name: str, keep: Keep | None) -> None:
        self.perform(self.core.kept(name, keep, self.now))

    @rule()
    def the_host_lacks_memory(self) -> None:
        pinned, idle = list(self.core.index.pinned), list(self.core.index.warm)
        self.perform(self.core.pressed(self.now))
        assert (list(self.core.index.pinned), list(self.core.index.warm)) == (pinned, idle), "only what nobody wants kept goes"

    @rule(name=NAMES, count=st.sampled_from([0, 1, 2, 3]))
    def provision(self, name: str, count: int) -> None:
        self.perform(self.core.provisioned(self.versions[name], count, self.now))
        self.targets[name] = count

    @rule(ahead_s=st.sampled_from([1e3, 1e7]))
    def the_clock_jumps(self, ahead_s: float) -> None:
        """As after a suspension: all that was due is late, and nobody called in between."""
        self.now += ahead_s
        self.perform(self.core.tick(self.now))
        self.time_passes(0.0)

    @rule(passed_s=st.sampled_from([0.001, 0.02, 0.15, 0.3, 6.0, 61.0]))
    def time_passes(self, passed_s: float) -> None:
        until = self.now + passed_s
        for _ in range(10_000):
            if self.core.wake_s > until:
                break
            self.now = max(self.now, self.core.wake_s)
            self.perform(self.core.tick(self.now))
        else:
            raise AssertionError(f"tick never rests: {self.core!r}")
        self.now = until

    # --- what must be true after each step

    @invariant()
    def each_invocation_has_one_fate(self) -> None:
        assert all(count == 1 for ticket, count in self.fates.items() if ticket not in self.open)
        assert all(not self.fates[ticket] for ticket in self.open)
        assert len(self.open) == len(set(self.open))

    def groups(self) -> set[Group]:
        """Retired ones too."""
        bound = {
            instance.group for instance in self.instances if hasattr(instance, "group") and instance.state is not State.STOPPING
        }
        return bound | set(self.core.groups.values()) | {ticket.group for ticket in self.open} | set(self.claims())

    def claims(self) -> list[Group]:
        return [group for supply in self.core.supplies.values() for group, _ in supply.claims]

    @invariant()
    def groups_count_right(self) -> None:
        claims = self.claims()
        for group in self.groups():
            own = Counter(instance.state for instance in self.instances if getattr(instance, "group", None) is group)
            assert group.busy == own[State.RESERVED], group
            assert group.finishing == own[State.FINISHING], group
            kept = group.provision
            starting, idle = (len(kept.starting), kept.idle) if kept is not None else (0, {})
            assert group.coming == own[State.STARTING] - starting + claims.count(group), group
            assert group.warm + len(group.frozen) + len(idle) == own[State.IDLE] + own[State.FROZEN], group
            warm = list(group.idle)
            assert [one.state for one in warm] == [State.IDLE] * group.warm, group
            assert warm == [one for one in reversed(self.core.index.warm) if one.group is group], "newest first"
            assert [one.newer for one in warm] == [None, *warm][: group.warm], group
            assert {one.state for one in group.frozen} <= {State.FROZEN}, group
            assert not (group.retired and (group.warm or group.frozen or idle)), "what is retired keeps nothing"
            assert group.plain == (not group.retired and kept is None)
            assert list(group.waiting) == [one for one in group.waiting if one.place is Place.QUEUED], group
            assert set(group.waiting) == {one for one in self.open if one.group is group and one.place is Place.QUEUED}, group
            assert group.held == sum(one.group is group and one.place is Place.HELD for one in self.open), group
            assert group.retired == (self.core.groups.get(group.key) is not group) or group.empty
            assert group.waiting or group.waiting is NOBODY, group
            if group.busy:
                began = [i.since_s for i in self.among(State.RESERVED) if i.group is group]
                assert math.isclose(group.begun_sum_s, sum(began), abs_tol=1e-6)
        assert not any(group.empty for group in self.core.groups.values()), "an empty group is forgotten"
        assert all(group.version.group is group and group.owner is self.core for group in self.core.groups.values())
        assert all(group.version.group is not group for group in self.groups() if group.retired or group.forgotten)
        assert not NOBODY
        assert self.core.waiting == sum(len(group.waiting) for group in self.groups())
        assert self.core.coming == sum(group.coming for group in self.groups())

    @invariant()
    def each_sandbox_is_in_exactly_one_index(self) -> None:
        assert list(self.core.index.warm) == sorted(self.core.index.warm, key=lambda one: one.since_s)
        assert list(self.core.index.frozen) == sorted(self.core.index.frozen, key=lambda one: one.since_s)
        ordinary = [one for one in self.instances if not one.provisioned]
        assert set(self.core.index.warm) == {one for one in ordinary if one.state is State.IDLE}
        pinned = set(self.core.index.pinned)
        assert not pinned & set(self.core.index.frozen)
        assert pinned | set(self.core.index.frozen) == {one for one in ordinary if one.state is State.FROZEN}
        for group in self.groups():
            held = sum(one in pinned for one in group.frozen)
            assert held <= (group.keep.min_warm if group.keep is not None else 0), group
        for instance in self.core.index.frozen:
            assert instance in instance.group.frozen
        for key, supply in self.core.supplies.items():
            own = Counter(instance.state for instance in self.instances if instance.stem == key)
            assert set(supply.ready) == {one for one in self.among(State.STEM) if one.stem == key}
            assert (supply.making, supply.starting) == (own[State.MAKING], own[State.STARTING])
            assert supply.users == sum(one.stem == key for one in self.versions.values()) or self.core.closing
            assert supply.users or not supply.ready, "stems of a runtime that no function uses"
            assert supply.groups == sum(group.stem == key for group in self.groups())
            assert supply in self.core.stirring or (supply.quiet(self.now) and not supply.forsaken), "nobody would see to it"
        assert set(self.core.stems) == set(self.among(State.STEM))
        assert set(self.core.stirring) <= set(self.core.supplies.values())

    @invariant()
    def what_is_provisioned_is_kept(self) -> None:
        provisions = self.core.provisions
        found = {group.provision for group in self.groups() if group.provision is not None}
        assert {one.group.key[0]: one.target for one in found} == {name: n for name, n in self.targets.items() if n}
        for provision in found:
            own = [one for one in self.instances if one.provisioned and one.group is provision.group]
            assert set(provision.starting) == {one for one in own if one.state is State.STARTING}
            assert set(provision.idle) == {one for one in own if one.state in (State.IDLE, State.FROZEN)}
            assert set(provision.members) == set(own) - set(provision.starting), provision
            assert provision.claimed == self.core.supplies[provision.group.stem].provisions.count(provision)
            assert (provision in provisions.lacking) == (provision.lacks > 0)
            assert provision.lacks >= 0, "never more than wanted"
            for instance in own:
                assert instance.state is not State.STOPPING
                assert instance.memory_bytes == provision.group.memory_bytes
            if provision.lacks:
                assert provisions.under_way or self.core.wake_s < math.inf, "nothing will come"
        provisioned = [one for one in self.instances if one.provisioned]
        claimed = sum(one.claimed for one in found)
        assert provisions.under_way == claimed + sum(one.state is State.STARTING for one in provisioned) <= PARALLEL
        assert provisions.count == claimed + len(provisioned)
        assert provisions.reserved_bytes == sum(
            one.group.memory_bytes * (one.claimed + len(one.starting) + len(one.members)) for one in found
        )
        assert list(provisions.idle) == sorted(provisions.idle, key=lambda one: one.since_s)
        assert set(provisions.idle) == {one for one in provisioned if one.state is State.IDLE}

    @invariant()
    def memory_is_within_budget(self) -> None:
        budget = self.core.budget
        for instance in self.among(State.STARTING, State.RESERVED, State.FINISHING):
            assert instance.memory_bytes == instance.group.memory_bytes, instance
        provisions = [provision.group for supply in self.core.supplies.values() for provision in supply.provisions]
        claimed = sum(group.memory_bytes - POLICY.stem_bytes for group in [*self.claims(), *provisions])
        assert budget.used_bytes == claimed + sum(instance.memory_bytes for instance in self.instances)
        assert budget.used_count == len(self.instances)
        idle = [one for one in self.among(State.STEM, State.IDLE, State.FROZEN) if not one.provisioned]
        assert (budget.idle_bytes, budget.idle_count) == (sum(one.memory_bytes for one in idle), len(idle))
        stopping = self.among(State.STOPPING)
        assert (budget.stopping_bytes, budget.stopping_count) == (sum(one.memory_bytes for one in stopping), len(stopping))
        assert set(self.core.lingering) == self.lingered
        lingering = sum(one.memory_bytes for one in self.lingered)
        assert (budget.lingering_bytes, budget.lingering_count) == (lingering, len(self.lingered))
        assert budget.cooling_bytes == sum(one.group.memory_bytes for one in self.frozen)
        assert budget.used_bytes - min(budget.stopping_bytes, budget.grace_bytes) <= POLICY.memory_bytes
        assert budget.used_count <= POLICY.max_sandboxes
        assert (budget.earmarked_bytes, budget.earmarked_count) == (0, 0)

    @invariant()
    def slots_are_true_and_within_limits(self) -> None:
        admission = self.core.admission
        held = {ticket for ticket in self.open if ticket.place is Place.HELD}
        quotas = {share.quota for share in admission.shares.values()} | {admission.account}
        for share in admission.shares.values():
            kept = [i for i in self.among(State.IDLE, State.FROZEN) if i.provisioned and i.group.share is share]
            assert share.kept == len(kept), share.name
            working = [i for i in self.among(State.RESERVED, State.FINISHING) if i.group.share is share]
            queued = [t for t in self.open if t.place is Place.QUEUED and t.group.share is share]
            assert share.used == len(working) + len(queued), share.name
            assert share.finishing == sum(one.state is State.FINISHING for one in working), share.name
            assert set(share.groups) == {group for group in self.groups() if group.share is share and not group.forgotten}
            assert {group.quota for group in share.groups} <= {share.quota}
        for quota in quotas:
            parts = [share for share in admission.shares.values() if share.quota is quota]
            assert quota.used == sum(share.used for share in parts)
            assert quota.finishing == sum(share.finishing for share in parts)
            assert quota.kept == sum(share.kept for share in parts)
            assert quota.open == quota.limit - quota.kept
            assert not quota.waiting or quota.used >= quota.open, "a free slot beside one who waits for it"
            assert quota.used <= max(quota.limit, self.most_used.get(quota, quota.used)), "more at once than the limit"
            self.most_used[quota] = max(quota.limit, quota.used)
        assert {ticket for quota in quotas for ticket in quota.waiting} == held
        reserved = sum(quota.limit for quota in quotas if quota is not admission.account)
        assert admission.account.limit == max(0, POLICY.concurrency - reserved)

    @invariant()
    def nobody_waits_without_cause(self) -> None:
        for group in self.groups():
            if not group.waiting:
                assert group not in self.core.starved
                continue
            assert not group.warm, f"an idle match beside a waiter: {group}"
            assert group.provision is None or not group.provision.idle, f"a provisioned match beside a waiter: {group}"
            assert group in self.core.rechecks
            assert group.coming or group.busy or group.finishing or group in self.core.starved, f"nothing will come: {group}"
            assert len(group.waiting) - group.coming <= POLICY.queue_max_per_key + POLICY.max_sandboxes
            assert not group.frozen or group in self.core.starved, f"a frozen match beside a waiter, and no lack: {group}"
        if self.open:
            assert self.core.wake_s < math.inf

    def come_to_rest(self) -> None:
        """Everything that was begun ends well, and nothing new comes."""
        for _ in range(1000):
            for instance in list(self.instances):
                match instance.state:
                    case State.MAKING:
                        self.perform(self.core.made(instance, self.now))
                    case State.STARTING:
                        self.perform(self.core.started(instance, self.now))
                    case State.RESERVED:
                        self.core.settled(instance, self.now)
                    case State.FINISHING:
                        del self.running[instance]
                        self.perform(self.core.idled(instance, self.now))
                    case State.STOPPING:
                        self.instances.remove(instance)
                        self.lingered.discard(instance)
                        self.perform(self.core.stopped(instance, self.now))
            while self.frozen:
                self.perform(self.core.measured(self.frozen.pop(), 20 * MIB, self.now))
            settled = not self.core.provisions.lacking or self.core.wake_s > self.now + 3 * 60
            if settled and not self.among(State.MAKING, State.STARTING, State.RESERVED, State.FINISHING, State.STOPPING):
                break
            self.time_passes(1.0)

    def teardown(self) -> None:
        """Whatever happened, at rest there is what is provisioned, and closing ends with nothing, also amid all that."""
        if len(self.fates) % 2:
            self.check_rest()
        self.check_closing()

    def check_all(self) -> None:
        for check in self.invariants:
            check.function(self)

    def check_rest(self) -> None:
        """Once nothing comes any more, what was begun ends, and all that is provisioned is there."""
        for name in MEMORY_MB:
            self.perform(self.core.reserved(name, None, self.now))
        self.time_passes(61.0)
        self.come_to_rest()
        for group in self.core.groups.values():
            if group.provision is not None:
                standing = group.provision.standing
                if standing.status is Status.FAILED:
                    assert "too few" in str(standing.reason), standing
                else:
                    assert standing.allocated == standing.available == standing.target

    def check_closing(self) -> None:
        """Nobody is let in, who was let in is served or told, and nothing is left."""
        self.perform(self.core.closed(self.now))
        self.targets = dict.fromkeys(MEMORY_MB, 0)
        ticket = Ticket(self.now + 1)
        self.open.append(ticket)
        (refusal,) = self.core.arrived(ticket, self.versions["small"], self.now)
        assert isinstance(refusal, Refuse)
        assert refusal.why is Why.CLOSING
        self.open.remove(ticket)
        for instance in self.among(State.RESERVED)[::2]:  # some finish in time
            self.core.settled(instance, self.now)
            del self.running[instance]
            self.perform(self.core.idled(instance, self.now))
        self.check_all()
        self.perform(self.core.abandoned(self.now))
        assert not self.open
        self.frozen.clear()  # nobody measures what is stopped
        while self.instances:
            for instance in list(self.instances):
                match instance.state:
                    case State.MAKING:
                        self.perform(self.core.made(instance, self.now))
                    case State.STOPPING:
                        self.instances.remove(instance)
                        self.lingered.discard(instance)
                        self.perform(self.core.stopped(instance, self.now))
                    case _:
                        self.perform(self.core.died(instance, self.now))
        core = self.core
        assert (core.budget.used_bytes, core.budget.used_count) == (0, 0)
        assert (core.waiting, core.coming, core.groups) == (0, 0, {})
        assert not core.index.warm
        assert not core.index.frozen
        assert all(share.used == 0 and not share.groups for share in core.admission.shares.values())
        assert all(share.quota is not core.admission.account for share in core.admission.shares.values())


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestScheduler = Machine.TestCase


#: How often each thing happens in a long walk, which gets into crowded states that short ones never see.
WEIGHTS = {
    "arrive": 7.0,
    "settle": 5,
    "idle": 5,
    "dead_on_hand_over": 0.3,
    "client_leaves": 0.5,
    "client_of_a_running_one_leaves": 0.3,
    "stem_is_made": 4,
    "stem_is_not_made": 0.5,
    "start": 4,
    "start_fails": 0.5,
    "die": 0.3,
    "stop": 4,
    "measure": 4,
    "weighed": 1,
    "update_function": 0.3,
    "change_runtime": 0.1,
    "say_something_else_of_a_function": 0.3,
    "change_concurrency": 0.2,
    "change_what_is_kept": 0.3,
    "the_host_lacks_memory": 0.1,
    "provision": 0.4,
    "the_clock_jumps": 0.1,
    "time_passes": 4,
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_a_long_walk(seed: int) -> None:
    rng = random.Random(seed)
    policy = keepalive.NAMES[seed % len(keepalive.NAMES)]
    machine = type(f"Machine_{policy}", (Machine,), {"keep_alive": policy})()
    for _ in range(250):
        possible = [rule for rule in machine.rules if all(condition(machine) for condition in rule.preconditions)]
        chosen = rng.choices(possible, [WEIGHTS[rule.function.__name__] for rule in possible])[0]
        arguments = {name: draw(rng) for name, draw in DRAWS.items() if name in chosen.arguments}
        chosen.function(machine, **arguments)
        machine.check_all()
    machine.teardown()


#: What a rule's arguments are in a long walk.
DRAWS: dict[str, Callable[[random.Random], object]] = {
    "choice": lambda rng: rng.randrange(1_000_000),
    "name": lambda rng: rng.choices(list(MEMORY_MB), [10, 10, 10, 1])[0],
    "patience_s": lambda rng: rng.choice([0.005, 0.5, 30.0, 30.0]),
    "final": lambda rng: rng.random() < 0.1,
    "kind": lambda rng: rng.choice(["again", "later", "final"]),
    "used_mb": lambda rng: rng.randrange(200),
    "keep": lambda rng: rng.choice(KEEPS),
    "count": lambda rng: rng.choice([0, 1, 1, 2, 3]),
    "ahead_s": lambda rng: rng.choice([1e3, 1e7]),
    "limit": lambda rng: rng.choice([None, None, 0, 1, 2]),
    "passed_s": lambda rng: rng.choice([0.001, 0.02, 0.02, 0.15, 0.3, 0.3, 6.0, 61.0]),
}
