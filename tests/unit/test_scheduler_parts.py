"""The parts of the scheduler that can be said on their own: the table, scaling, deadlines, stems, keeping alive."""

from __future__ import annotations

import itertools
import math

import pytest

from gateway.scheduler.commands import Freeze, Make, Run, Specialise, Stop
from gateway.scheduler.cooling import SWEEP, Cooling, Due
from gateway.scheduler.core import Core
from gateway.scheduler.group import Group
from gateway.scheduler.index import Index
from gateway.scheduler.keepalive.fixed import Fixed
from gateway.scheduler.policy import MIB, Policy
from gateway.scheduler.scaling import UNDOUBTED, Mean, worth_starting
from gateway.scheduler.state import NEXT, Event, IllegalEvent, Instance, State, following
from gateway.scheduler.stems import CALM_S, DECAY_S, PARALLEL, RETRY_FINAL_S, RETRY_FIRST_S, RETRY_MOST_S, Supply
from gateway.scheduler.waiting import RECHECK_S, RECHECK_SHARE, Deadlines, Place, Rechecks, Ticket, again_s
from sandbox.spec import Architecture, StemKey
from tests.sim.records import version

STEM = StemKey("python3.11", Architecture.X86_64)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_what_the_table_does_not_allow_changes_nothing(state: State, event: Event) -> None:
    instance = Instance(1, STEM, 8 * MIB)
    instance.state = state
    if event in NEXT[state]:
        assert following(state, event) is NEXT[state][event]
        return
    with pytest.raises(IllegalEvent, match=f"{event.value} while {state.value}"):
        instance.see(event)
    assert instance.state is state


def test_every_state_can_be_reached_and_only_the_end_is_final() -> None:
    reached = {State.MAKING} | {after for events in NEXT.values() for after in events.values()}
    assert reached == set(State)
    assert [state for state in State if not NEXT[state]] == [State.GONE]


def test_nobody_who_works_can_be_retired() -> None:
    assert not [state for state in (State.RESERVED, State.FINISHING, State.STARTING) if Event.RETIRED in NEXT[state]]


def starts(
    waiting: int, *, run_s: float | None, cold_s: float = 0.1, busy: int = 0, elapsed_s: float = 0.0, waited_s: float = 0.0
) -> int:
    """How many starts a burst gets; the first one settles what was waited before."""
    coming = 0
    while worth_starting(
        waiting=waiting, coming=coming, busy=busy, run_s=run_s, elapsed_s=elapsed_s, waited_s=waited_s, cold_s=cold_s
    ):
        coming += 1
        waited_s = 0.0
    return coming


@pytest.mark.parametrize(
    ("waiting", "run_s", "expected"),
    [
        (1, None, 1),
        (3, None, 3),
        (100, None, 25),
        (100, 0.01, 10),
        (100, 0.001, 1),
        (100, 0.1, 100),
        (100, 10.0, 100),
    ],
)
def test_a_burst_gets_what_its_work_needs(waiting: int, run_s: float | None, expected: int) -> None:
    assert starts(waiting, run_s=run_s) == expected


def test_a_few_starts_for_the_unknown_are_not_thought_about() -> None:
    assert starts(UNDOUBTED, run_s=None) == UNDOUBTED


def test_what_runs_for_long_is_evidence_enough() -> None:
    assert starts(10, run_s=0.001, busy=2) == 0
    assert starts(10, run_s=0.001, busy=2, elapsed_s=1.0) == 10


def test_a_busy_sandbox_is_waited_for_if_that_is_shorter_than_a_start() -> None:
    assert starts(1, run_s=0.05, busy=1) == 0
    assert starts(1, run_s=0.2, busy=1) == 1


def test_a_little_waiting_adds_up_to_a_start() -> None:
    assert starts(2, run_s=0.001, busy=1, waited_s=0.09) == 0
    assert starts(2, run_s=0.001, busy=1, waited_s=0.11) == 1


def test_a_mean_begins_with_the_first_and_follows() -> None:
    mean, empty = Mean(), Mean()
    assert empty.value is None
    mean.add(1.0)
    assert mean.value == 1.0
    for _ in range(50):
        mean.add(3.0)
    assert mean.value == pytest.approx(3.0, abs=0.01)


def test_deadlines_come_in_order_and_only_of_those_who_still_wait() -> None:
    deadlines = Deadlines()
    tickets = {due_s: Ticket(due_s) for due_s in (3.0, 1.0, 2.0, 4.0)}
    for due_s, ticket in tickets.items():
        ticket.place = Place.QUEUED
        deadlines.add(ticket, due_s)
    tickets[1.0].place = Place.PLACED
    assert deadlines.next_s() == 2.0
    assert deadlines.pop(1.9) is None
    assert deadlines.pop(3.5) is tickets[2.0]
    deadlines.add(tickets[3.0], 5.0)  # it waits somewhere else now, and longer
    assert deadlines.pop(4.5) is tickets[4.0]
    assert deadlines.pop(4.5) is None
    assert deadlines.pop(5.0) is tickets[3.0]
    assert deadlines.next_s() is None


def test_deadlines_of_those_who_were_served_do_not_pile_up() -> None:
    deadlines = Deadlines()
    for number in range(100_000):
        ticket = Ticket(1e6 + number)
        ticket.place = Place.QUEUED
        deadlines.add(ticket, ticket.deadline_s)
        ticket.place = Place.PLACED
    assert len(deadlines._heap) < 200


def supply(*, least: int = 2, most: int = 6) -> Supply:
    supply = Supply(STEM, least, most, 0.0)
    supply.users = 1
    return supply


def test_stems_follow_the_misses_and_forget_them_slowly() -> None:
    stems = supply()
    for _ in range(10):
        stems.missed(0.0)
    assert stems.target == 6
    now = 0.0
    for expected in (5, 4, 3, 2, 2):
        now += DECAY_S
        stems.decay(now - 0.001)
        stems.decay(now)
        assert stems.target == expected


def test_stems_are_refilled_a_few_at_a_time_and_off_the_path_of_a_start() -> None:
    stems = supply(least=6)
    assert stems.refill(0.0) == PARALLEL
    stems.making = 1
    assert stems.refill(0.0) == PARALLEL - 1
    stems.making = 0
    stems.starting = 1
    assert stems.refill(0.0) == 1, "the next start would find none"
    stems.ready[Instance(1, STEM, 0)] = None
    assert stems.refill(0.0) == 0
    stems.starting = 0
    stems.disturbed(1.0)
    assert stems.refill(1.0) == 0
    assert stems.refill(1.0 + CALM_S) == PARALLEL


def test_failures_are_retried_later_and_later() -> None:
    stems = supply()
    now, gaps = 0.0, []
    for _ in range(8):
        stems.back_off(now, OSError())
        stems.back_off(now, OSError())  # another that was under way
        gaps.append(stems.retry_s - now)
        now = stems.retry_s
    assert gaps[0] == pytest.approx(RETRY_FIRST_S)
    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx(RETRY_MOST_S)
    stems.back_off(now, OSError(), final=True)
    assert stems.retry_s == now + RETRY_FINAL_S


def test_the_newest_is_taken_and_the_oldest_let_go() -> None:
    core = Core(Policy(memory_bytes=1 << 40))
    group = core.new_group(("f", "$LATEST", 1), version("f"), 0.0)
    index = Index()
    instances = [Instance(number, STEM, 0) for number in range(3 * SWEEP)]
    for instance in instances:
        instance.group = group
        instance.since_s = float(instance.number)
        index.add(instance)
    assert index.take(group) is instances[-1]
    cooling = Cooling(index, Fixed(30), freeze_after_s=10, keep_alive_s=30)
    due = list(cooling.due(12.0))
    assert [(one.number, what) for one, what in due] == [(0, Due.FREEZE), (1, Due.FREEZE), (2, Due.FREEZE)]
    for instance, _ in due:
        index.freeze(instance)
    assert index.newest_frozen(group) is instances[2]
    assert cooling.next_s() == 13.0
    due = list(cooling.due(31.0))
    assert [(one.number, what) for one, what in due if what is Due.STOP] == [(0, Due.STOP), (1, Due.STOP)]
    assert len(due) == SWEEP + 2, "the rest waits for the next sweep"


def test_one_that_was_used_meanwhile_is_kept_from_its_last_use() -> None:
    core = Core(Policy(memory_bytes=1 << 40))
    group = core.new_group(("f", "$LATEST", 1), version("f"), 0.0)
    index = Index()
    cooling = Cooling(index, Fixed(30), freeze_after_s=1, keep_alive_s=30)
    instance = Instance(1, STEM, 0)
    instance.group = group
    for since_s in (0.0, 20.0, 40.0):
        instance.since_s = since_s
        index.add(instance)
        assert list(cooling.due(since_s + 1)) == [(instance, Due.FREEZE)]
        index.freeze(instance)
        if since_s < 40:
            index.remove(instance)
    assert list(cooling.due(69.0)) == []
    assert cooling.next_s() == 70.0
    assert list(cooling.due(70.0)) == [(instance, Due.STOP)]


def group_of(name: str) -> Group:
    return Core(Policy(memory_bytes=1 << 40)).new_group((name, "$LATEST", 1), version(name), 0.0)


def test_who_waits_long_is_thought_about_seldom_but_soon_enough() -> None:
    began_s = now = 1000.003
    asked = 0
    while now - began_s < 60:
        again = again_s(now - began_s, now)
        late_s = again - now
        assert 0 < late_s <= max(2 * RECHECK_S, 2 * RECHECK_SHARE * (now - began_s)), "a small part of the wait"
        now = again
        asked += 1
    assert asked < 320


def test_many_who_wait_long_are_thought_about_together() -> None:
    times_s = {again_s(20 + 0.01 * number, 1000 + 0.001 * number) for number in range(1000)}
    assert len(times_s) < 45, "in one second"


def test_the_sooner_time_stands_and_each_group_comes_once() -> None:
    rechecks = Rechecks()
    first, second = group_of("a"), group_of("b")
    rechecks.add(first, 5.0)
    rechecks.add(second, 2.0)
    rechecks.add(first, 1.0)  # somebody new waits
    rechecks.add(first, 3.0)
    assert (len(rechecks), set(rechecks), rechecks.next_s()) == (2, {first, second}, 1.0)
    assert rechecks.pop(0.5) is None
    assert rechecks.pop(1.0) is first
    assert first not in rechecks
    assert [rechecks.pop(9.0), rechecks.pop(9.0), rechecks.next_s()] == [second, None, math.inf]


def test_a_flood_leaves_little_in_the_rechecks() -> None:
    rechecks = Rechecks()
    group = group_of("a")
    for number in range(10_000):
        rechecks.add(group, 10.0 + 0.001 * number)
    assert len(rechecks._heap) == 1


def test_functions_that_are_called_once_leave_nothing_behind() -> None:
    """Of a million of them as of these: what the core keeps is bounded by its sandboxes."""
    core = Core(Policy(memory_bytes=1 << 50, max_sandboxes=20, concurrency=10_000, request_rate=0, stems_min=0, stems_max=0))
    now = 0.0
    for number in range(3000):
        backlog = [*core.arrived(Ticket(now + 30), version(f"f{number}"), now)]
        if core.wake_s <= now:
            backlog += core.tick(now)
        while backlog:
            now += 0.001
            match backlog.pop(0):
                case Make(instance):
                    backlog += core.made(instance, now)
                case Specialise(instance):
                    backlog += core.started(instance, now)
                case Freeze(instance):
                    backlog += core.measured(instance, 30 * MIB, now)
                case Stop(instance):
                    backlog += core.stopped(instance, now)
                case Run(_, instance):
                    core.settled(instance, now)
                    backlog += core.idled(instance, now)
    assert len(core.groups) <= 20
    assert len(core.admission.shares) <= 20
    assert len(core.supplies) == 1
    assert len(core.rechecks) <= 64
    assert core.budget.used_count <= 20
