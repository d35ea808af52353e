"""Concurrency slots: taken once, given back once, and moved when a function's reservation changes; rates; who makes room."""

from __future__ import annotations

import pytest

from gateway.scheduler.admission import ACCOUNT, RESERVED, Admission
from gateway.scheduler.commands import Freeze, Make, Refuse, Run, Specialise, Why
from gateway.scheduler.core import Core
from gateway.scheduler.policy import MIB, Policy
from gateway.scheduler.state import Instance
from gateway.scheduler.waiting import Place, Ticket
from tests.sim.records import version


def test_the_account_has_so_many_slots_for_all_together() -> None:
    admission = Admission(3)
    one, other = admission.share("one"), admission.share("other")
    assert [share.quota.enter(0.0) for share in (one, other, one, other)] == [True, True, True, False]
    assert one.quota.reason == ACCOUNT
    one.quota.leave(answered=False)
    assert other.quota.enter(0.0)


def test_reserved_slots_are_the_functions_own_and_nobody_elses() -> None:
    admission = Admission(3)
    admission.reserve("mine", 2)
    mine, other = admission.share("mine"), admission.share("other")
    assert [other.quota.enter(0.0), other.quota.enter(0.0)] == [True, False]
    assert [mine.quota.enter(0.0), mine.quota.enter(0.0), mine.quota.enter(0.0)] == [True, True, False]
    assert mine.quota.reason == RESERVED


def test_no_reserved_slot_at_all_is_the_switch_that_turns_a_function_off() -> None:
    admission = Admission(3)
    admission.reserve("off", 0)
    share = admission.share("off")
    assert not share.quota.enter(0.0)
    assert not share.quota.soon_free, "nothing will come free"
    admission.reserve("off", None)
    assert share.quota.enter(0.0)


def test_what_is_in_use_moves_with_a_reservation() -> None:
    core = Core(Policy(memory_bytes=1 << 40, concurrency=5, request_rate=0))
    admission, group = core.admission, core.new_group(("f", "$LATEST", 1), version("f"), 0.0)
    for _ in range(3):
        assert group.quota.enter(0.0)
    group.busy, group.finishing = 2, 1
    group.quota.finishing += 1
    admission.reserve("f", 2)
    assert (admission.account.used, admission.account.limit) == (0, 3)
    assert (group.quota.used, group.quota.finishing, group.quota.limit) == (3, 1, 2)
    assert not group.quota.enter(0.0), "three of two are in use"
    group.quota.leave(answered=True)
    group.finishing = 0
    admission.reserve("f", None)
    assert (admission.account.used, admission.account.finishing, admission.account.limit) == (2, 0, 5)
    group.quota.leave(answered=False)
    group.quota.leave(answered=False)
    assert admission.account.used == 0


def test_more_reserved_than_there_is_leaves_nothing_for_the_others() -> None:
    admission = Admission(5)
    admission.reserve("f", 9)
    assert admission.account.limit == 0
    admission.reserve("f", 4)
    assert admission.account.limit == 1


def test_a_slot_is_soon_free_for_as_many_as_have_answered() -> None:
    admission = Admission(2)
    share = admission.share("f")
    share.quota.enter(0.0)
    share.quota.enter(0.0)
    assert not admission.account.soon_free
    share.quota.finishing += 1
    assert admission.account.soon_free


def test_shares_that_say_nothing_are_forgotten() -> None:
    admission = Admission(5)
    for number in range(100):
        admission.forget(admission.share(f"f{number}"))
    admission.reserve("kept", 1)
    assert list(admission.shares) == ["kept"]
    admission.reserve("kept", None)
    assert not admission.shares


def test_nobody_waits_for_a_quota_that_is_gone() -> None:
    core = Core(Policy(memory_bytes=1 << 40))
    core.reserved("f", 1, 0.0)
    first, second = Ticket(30.0), Ticket(30.0)
    (make,) = core.arrived(first, version("f"), 0.0)
    assert isinstance(make, Make)
    (specialise,) = core.made(make.instance, 0.0)
    (run,) = core.started(make.instance, 0.0)
    assert isinstance(specialise, Specialise)
    assert isinstance(run, Run)
    core.settled(run.instance, 0.0)
    assert not core.arrived(second, version("f"), 0.0), "a slot is about to come free"
    core.reserved("f", 0, 0.0)
    core.reserved("f", None, 0.0)
    assert second.place is Place.QUEUED


def test_a_quota_lets_in_ten_invocations_a_second_for_each_slot_and_a_seconds_worth_at_once() -> None:
    admission = Admission(3, rate=10)
    share = admission.share("f")

    def let_in(now: float, tries: int) -> int:
        entered = 0
        for _ in range(tries):
            if share.quota.enter(now):
                share.quota.leave(answered=False)
                entered += 1
        return entered

    assert let_in(100.0, 50) == 30, "a second's worth"
    assert 0 < share.quota.rate_wait_s(100.0) <= 1 / 30
    assert let_in(100.1, 50) == 3
    assert let_in(109.9, 500) == 30, "what was not used is not saved up"
    assert sum(let_in(200 + step / 100, 5) for step in range(1000)) == pytest.approx(330, abs=2), (
        "10 s at 500 a second: the rate, and the bucket"
    )


@pytest.mark.parametrize(("reserved", "reason"), [(None, Why.RATE), (2, Why.RESERVED_RATE)])
def test_too_many_invocations_a_second_are_told_so_and_when_to_try_again(reserved: int | None, reason: Why) -> None:
    core = Core(Policy(memory_bytes=1 << 40, concurrency=200, request_rate=0.5))
    core.reserved("f", reserved, 0.0)
    rate = 0.5 * (reserved or 200)
    instance = _warm(core)
    for _ in range(round(rate) - 1):  # the first one was let in already
        (run,) = core.arrived(Ticket(30.0), version("f"), 0.0)
        assert isinstance(run, Run)
        core.settled(instance, 0.0)
        core.idled(instance, 0.0)
    (refusal,) = core.arrived(Ticket(30.0), version("f"), 0.0)
    assert isinstance(refusal, Refuse)
    assert refusal.why is reason
    assert refusal.retry_s == pytest.approx(1 / rate, rel=0.6)
    (run,) = core.arrived(Ticket(30.0), version("f"), refusal.retry_s or 0.0)
    assert isinstance(run, Run)


def test_a_function_that_is_switched_off_is_not_worth_trying_again() -> None:
    core = Core(Policy(memory_bytes=1 << 40))
    core.reserved("f", 0, 0.0)
    (refusal,) = core.arrived(Ticket(30.0), version("f"), 0.0)
    assert isinstance(refusal, Refuse)
    assert (refusal.why, refusal.retry_s) == (Why.RESERVED, None)


def test_a_functions_sandboxes_are_started_at_the_scaling_rate_and_not_faster() -> None:
    core = Core(Policy(memory_bytes=1 << 40, max_sandboxes=1000, scaling_rate=20, stems_min=0, stems_max=0))
    now = 0.0
    makes = [_warm(core, run_s=100.0)]  # long ones: each needs a sandbox of its own
    refused = 0

    def burst(name: str, count: int) -> None:
        nonlocal refused
        backlog = [command for _ in range(count) for command in core.arrived(Ticket(now + 30), version(name), now)]
        while backlog:
            match backlog.pop(0):
                case Make() as make:
                    makes.append(make.instance)
                    backlog += core.made(make.instance, now)
                case Specialise(instance):
                    backlog += core.started(instance, now + 0.1)
                case Refuse(_, why, _, retry_s):
                    assert why is Why.SCALING
                    assert retry_s == pytest.approx(0.5, rel=0.6)
                    refused += 1

    for _ in range(59):
        burst("f", 1)
    assert (len(makes), refused) == (20, 39)
    burst("other", 1)
    assert len(makes) == 21, "another function has a rate of its own"
    now = 1.0
    for _ in range(10):
        burst("f", 1)
    assert len(makes) == 23, "refilled at 2 a second"


def test_who_only_waits_in_a_long_line_makes_room_for_another_function() -> None:
    """One function is flooded: all slots are taken by those who wait for its one sandbox."""
    core = Core(Policy(memory_bytes=2 * 128 * MIB, concurrency=6, stems_min=0, stems_max=0, request_rate=0))
    _warm(core)
    flood = [Ticket(30.0) for _ in range(6)]
    for ticket in flood:
        core.arrived(ticket, version("f"), 0.0)
    last = [ticket for ticket in flood if ticket.place is Place.QUEUED][-1]
    ticket = Ticket(30.0)
    commands = core.arrived(ticket, version("g"), 0.0)
    assert [command.ticket for command in commands if isinstance(command, Refuse)] == [last]
    assert ticket.place is Place.QUEUED
    again = Ticket(30.0)
    (refusal,) = core.arrived(again, version("f"), 0.0)
    assert isinstance(refusal, Refuse)
    assert refusal.ticket is again, "it takes nothing from others by waiting more"
    assert core.admission.account.used == 6


def test_a_wait_that_cannot_end_in_time_is_told_at_once() -> None:
    """Memory for one sandbox, which takes a second an invocation."""
    core = Core(Policy(memory_bytes=136 * MIB, stems_min=0, stems_max=0, request_rate=0))
    _warm(core, run_s=1.0)
    core.arrived(Ticket(1000.0), version("f"), 1.0)
    waiting = [Ticket(11.0) for _ in range(30)]
    refusals = [one for ticket in waiting for one in core.arrived(ticket, version("f"), 1.0) if isinstance(one, Refuse)]
    kept = sum(ticket.place is Place.QUEUED for ticket in waiting)
    assert 10 <= kept <= 25, "as many as may be served in time, and some, for nobody knows exactly"
    assert {refusal.why for refusal in refusals} == {Why.LATE}
    assert len(refusals) == 30 - kept


def test_who_only_waits_for_an_eviction_is_not_refused_for_how_long_others_take() -> None:
    """Memory for two sandboxes: one works for minutes, the other idles and is another function's."""
    core = Core(Policy(memory_bytes=264 * MIB, stems_min=0, stems_max=0, request_rate=0))
    _warm(core, "g")
    _warm(core, run_s=300.0)
    core.arrived(Ticket(1000.0), version("f"), 301.0)
    ticket = Ticket(361.0)
    (command,) = core.arrived(ticket, version("f"), 302.0)
    assert ticket.place is Place.QUEUED
    assert isinstance(command, Freeze), "what idles is frozen first; it goes if that is not enough"
    late = Ticket(361.0)
    (refusal,) = core.arrived(late, version("f"), 302.0)
    assert isinstance(refusal, Refuse)
    assert refusal.why is Why.LATE, "there is no room for a third"


def _warm(core: Core, name: str = "f", run_s: float = 0.0) -> Instance:
    """A sandbox of a function that has served one invocation, and the time is 0 again."""
    commands = list(core.arrived(Ticket(30.0), version(name), 0.0))
    while commands:
        match commands.pop(0):
            case Make(instance):
                commands += core.made(instance, 0.0)
            case Specialise(instance):
                commands += core.started(instance, 0.0)
            case Run(_, instance):
                instance.since_s = -run_s
                core.settled(instance, 0.0)
                core.idled(instance, 0.0)
                return instance
    raise AssertionError("it got no sandbox")
