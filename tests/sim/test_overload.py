"""Far more work than the machine can do: the scheduler's core in virtual time, as `lambent bench scheduler` measures it."""

from __future__ import annotations

import pytest

from gateway.cli.bench import overload
from gateway.cli.bench.decisions import Crowd
from gateway.cli.bench.overload import CAPACITY, WAIT_S, Machine
from gateway.scheduler.provision import Status

pytestmark = pytest.mark.slow
EVEN = [1.0] * 5


@pytest.mark.parametrize("seed", range(3))
def test_four_times_too_much_is_done_as_quickly_as_the_machine_can(seed: int) -> None:
    peak = max(Machine(EVEN, seed).offer(factor * CAPACITY, 4).goodput for factor in (0.9, 1.2))
    over = Machine(EVEN, seed).offer(4 * CAPACITY, 4)
    assert peak > 0.75 * CAPACITY
    assert over.goodput > 0.9 * peak
    assert over.wait_p99_s <= WAIT_S
    shares = [done / sum(over.done) for done in over.done]
    assert max(shares) < 2 * min(shares), "nobody gets more than the others for long"


@pytest.mark.parametrize("seed", range(3))
def test_a_flood_starves_nobody(seed: int) -> None:
    found = Machine([4.0, 0.01, 0.01, 0.05], seed).offer(4 * CAPACITY, 4)
    assert min(found.served(number) for number in (1, 2, 3)) > 0.85
    assert found.goodput > 0.75 * CAPACITY


@pytest.mark.parametrize("shares", [[4.0, 0.0], [4.0, 0.01, 0.01, 0.0], [1.0, 1.0, 1.0, 0.0]])
def test_what_is_provisioned_is_there_whatever_floods_the_machine(shares: list[float]) -> None:
    """All memory is at work, and whatever answers has its next invocation waiting."""
    machine = Machine(shares)
    machine.offer(4 * CAPACITY, 2)
    core, kept = machine.core, machine.versions[-1]
    machine.perform(core.provisioned(kept, 4, machine.now))
    machine.offer(4 * CAPACITY, 1)
    standing = core.standing((kept.name, kept.version, kept.generation))
    assert standing is not None
    assert (standing.allocated, standing.status) == (4, Status.READY)


def test_after_a_flood_all_is_as_before() -> None:
    machine = Machine(EVEN)
    before = machine.offer(0.5 * CAPACITY, 5)
    machine.offer(4 * CAPACITY, 3)
    machine.offer(0.5 * CAPACITY, 3)  # what waited is done
    after = machine.offer(0.5 * CAPACITY, 5)
    assert after.goodput == pytest.approx(before.goodput, rel=0.1)
    assert after.wait_p99_s < 0.3


def test_a_decision_costs_the_same_among_many_functions() -> None:
    """The bar is `lambent bench scheduler`'s; here, beside other tests, it is what would be noticed of anything linear."""
    few, many = Crowd(10, 10), Crowd(3000, 1000)
    rounds = [(few.decide_us(), many.decide_us(10)) for _ in range(3)]
    assert min(one for _, one in rounds) < 5 * min(one for one, _ in rounds)


def test_the_benchmark_measures_all_of_it() -> None:
    found = overload.measure(1.0)
    assert found.goodput > 0.8 * found.peak
    assert found.neighbour > 0.5
