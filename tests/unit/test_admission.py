"""Concurrency slots: taken once, given back once, and moved when a function's reservation changes."""

from __future__ import annotations

from gateway.scheduler.admission import ACCOUNT, RESERVED, Admission
from gateway.scheduler.commands import Make, Run, Specialise
from gateway.scheduler.core import Core
from gateway.scheduler.policy import Policy
from gateway.scheduler.waiting import Place, Ticket
from tests.sim.records import version


def test_the_account_has_so_many_slots_for_all_together() -> None:
    admission = Admission(3)
    one, other = admission.share("one"), admission.share("other")
    assert [one.enter(), other.enter(), one.enter(), other.enter()] == [True, True, True, False]
    assert one.quota.reason == ACCOUNT
    one.leave(answered=False)
    assert other.enter()


def test_reserved_slots_are_the_functions_own_and_nobody_elses() -> None:
    admission = Admission(3)
    admission.reserve("mine", 2)
    mine, other = admission.share("mine"), admission.share("other")
    assert [other.enter(), other.enter()] == [True, False]
    assert [mine.enter(), mine.enter(), mine.enter()] == [True, True, False]
    assert mine.quota.reason == RESERVED


def test_no_reserved_slot_at_all_is_the_switch_that_turns_a_function_off() -> None:
    admission = Admission(3)
    admission.reserve("off", 0)
    share = admission.share("off")
    assert not share.enter()
    assert not share.quota.soon_free, "nothing will come free"
    admission.reserve("off", None)
    assert share.enter()


def test_what_is_in_use_moves_with_a_reservation() -> None:
    admission = Admission(5)
    share = admission.share("f")
    for _ in range(3):
        assert share.enter()
    share.answered()
    admission.reserve("f", 2)
    assert (admission.account.used, admission.account.limit) == (0, 3)
    assert (share.quota.used, share.quota.finishing, share.quota.limit) == (3, 1, 2)
    assert not share.enter(), "three of two are in use"
    share.leave(answered=True)
    admission.reserve("f", None)
    assert (admission.account.used, admission.account.finishing, admission.account.limit) == (2, 0, 5)
    share.leave(answered=False)
    share.leave(answered=False)
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
    share.enter()
    share.enter()
    assert not admission.account.soon_free
    share.answered()
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
