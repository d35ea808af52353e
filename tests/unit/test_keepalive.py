"""What keep-alive policies learn, and whom they let go."""

from __future__ import annotations

import gc
import itertools
import random
import tracemalloc

import pytest

from gateway.scheduler.core import Core
from gateway.scheduler.group import Group
from gateway.scheduler.keepalive import NAMES, Prewarm, keep_alive
from gateway.scheduler.keepalive.base import Prewarms
from gateway.scheduler.keepalive.gaps import BINS, EDGES, FULL, Gaps, age_density, bin_of
from gateway.scheduler.keepalive.hybrid import BIN_S, ENOUGH, Application, IdleTimes
from gateway.scheduler.keepalive.hybrid import BINS as MINUTES
from gateway.scheduler.keepalive.learner import REMEMBERED
from gateway.scheduler.keepalive.overrides import Keep, keep_of
from gateway.scheduler.keepalive.rhythm import Rhythm
from gateway.scheduler.keepalive.use import LEVELS, UNKNOWN_S, Use
from gateway.scheduler.keepalive.worth import Worth
from gateway.scheduler.policy import MIB, Policy
from gateway.scheduler.state import Instance, State
from sandbox.spec import Architecture, StemKey
from tests.sim.records import version

STEM = StemKey("python3.11", Architecture.X86_64)


def histogram(*gaps_s: float) -> Gaps:
    gaps = Gaps()
    for gap_s in gaps_s:
        gaps.add(gap_s)
    return gaps


def rhythm_of(times_s: list[float]) -> Rhythm:
    rhythm = Rhythm(times_s[0], times_s[1])
    for before, now in itertools.pairwise(times_s[1:]):
        rhythm.called(before, now)
    return rhythm


@pytest.mark.parametrize("gap_s", [0.0, 1.0, 1.2, 59.9, 3600.0, 1e9, 2.0**18])
def test_every_gap_has_a_bin(gap_s: float) -> None:
    number = bin_of(gap_s)
    assert 0 <= number < BINS
    if 1 <= gap_s < EDGES[-1]:
        assert EDGES[number] <= gap_s < EDGES[number + 1]


def test_the_nearer_the_usual_time_the_more_it_is_worth() -> None:
    gaps = histogram(*[600.0] * 20)
    densities = [gaps.density(idle_s) for idle_s in (1.0, 200.0, 400.0, 550.0)]
    assert densities == sorted(densities)
    assert gaps.density(5000.0) < densities[0], "its time is over"


def test_bursts_are_worth_much_only_at_once() -> None:
    gaps = histogram(*[2.0] * 30, *[7200.0] * 10)
    assert gaps.density(1.0) > 20 * gaps.density(60.0)


def test_who_is_called_often_is_worth_more_than_who_was_called_once() -> None:
    assert histogram(*[60.0] * 20).density(30.0) > 2 * age_density(30.0)


def test_a_histogram_forgets_and_does_not_grow() -> None:
    gaps = histogram(*[10.0] * 10_000)
    assert gaps.total <= FULL
    for _ in range(2000):
        gaps.add(5000.0)
    assert gaps.density(300.0) < 2 / 4000, "what it was long ago is no more"
    assert len(gaps.counts) == BINS


def test_clocks_are_recognised() -> None:
    rhythm = rhythm_of([100.0 + 300 * beat for beat in range(5)])
    assert rhythm.sure
    assert rhythm.next_s == pytest.approx(100 + 300 * 5)


def test_a_clock_stays_one_though_somebody_calls_by_hand_and_a_beat_is_missed() -> None:
    beats = [3600.0 * beat for beat in range(12)]
    rhythm = rhythm_of(sorted([*beats[:7], 3600 * 3 + 1000.0, *beats[8:]]))
    assert rhythm.sure
    assert rhythm.next_s == pytest.approx(3600.0 * 12, abs=rhythm.margin_s)


def test_it_is_told_how_many_calls_come_beside_the_beats() -> None:
    beats = [300.0 * beat for beat in range(40)]
    rng = random.Random(1)
    by_hand = [rng.uniform(0, beats[-1]) for _ in range(40)]
    assert rhythm_of(beats).stray < 0.01
    mixed = rhythm_of(sorted([*beats, *by_hand]))
    assert mixed.sure
    assert 0.3 < mixed.stray < 0.7


def test_a_clock_that_changes_its_period_is_found_again() -> None:
    times = [300.0 * beat for beat in range(20)]
    times += [times[-1] + 70.0 * beat for beat in range(1, 30)]
    rhythm = rhythm_of(times)
    assert rhythm.sure
    assert rhythm.period_s == pytest.approx(70, rel=0.05)


def test_chance_is_no_clock() -> None:
    rng = random.Random(1)
    sure = 0
    for _ in range(300):
        now, times = 0.0, []
        for _ in range(30):
            now += rng.expovariate(1 / 600)
            times.append(now)
        sure += rhythm_of(times).sure
    assert sure < 15, "of 300 random functions hardly any looks like a clock"


def test_clocks_that_jump_do_no_harm() -> None:
    use = Use(version(), 0.0)
    for now in (100.0, 50.0, 1e9, 10.0, 11.0, 1e12):
        use.used(1, now)
        use.freed(1, now)
    assert use.density(1, 0.0, 0.0) > 0
    assert use.density(1, 1e12, 1e13) > 0
    rhythm = rhythm_of([0.0, 10.0, -500.0, 1e9, 0.0, 5.0])
    assert rhythm.period_s > 0


def test_levels_are_learned_apart() -> None:
    use = Use(version(), 0.0)
    for minute in range(20):
        now = minute * 60.0
        use.used(1, now)
        if not minute % 10:
            use.used(2, now)
            use.freed(2, now + 1)
        use.freed(1, now + 1)
    now = 19 * 60 + 30.0
    assert use.density(1, now, now) > 2 * use.density(2, now, now)
    for level in range(1, 3 * LEVELS):
        use.used(level, 5000.0)
    for level in range(3 * LEVELS - 1, 0, -1):
        use.freed(level, 5001.0)
    assert len(use.free_s) + 1 == len(use.gaps) == LEVELS
    assert use.density(LEVELS + 1, 5900.0, 6000.0) == age_density(100.0), "of so many it is only known when each was used"


def idle_times(*gaps_s: float) -> IdleTimes:
    times = IdleTimes(0.0)
    for gap_s in gaps_s:
        times.add(gap_s)
    return times


def test_the_hybrid_policy_has_the_windows_of_the_study() -> None:
    regular = idle_times(*[1230.0] * ENOUGH)
    assert regular.windows() == pytest.approx((20 * BIN_S * 0.9, 21 * BIN_S * 1.1)), "all gaps are in the 21st minute"
    flat = idle_times(*(minute * BIN_S + 30 for minute in range(MINUTES)))
    assert flat.windows() == (0.0, MINUTES * BIN_S), "a flat histogram says nothing"
    long = idle_times(20_000.0, 20_000.0)
    assert long.windows() == pytest.approx((17_000, 23_000)), "beyond the histogram it is forecast"


def test_the_hybrid_policy_tells_levels_apart() -> None:
    use = Application(version(), 0.0)
    for call in range(20):
        now = call * 600.0
        for level in (1, 2) if call % 4 == 0 else (1,):
            use.used(level, now)
        for level in (2, 1) if call % 4 == 0 else (1,):
            use.freed(level, now + 1)
    assert [times.total for times in use.levels] == [19, 4]
    assert use.levels[1].free_s == 16 * 600.0 + 1


def frozen(core: Core, name: str, since_s: float, memory_mb: int = 100, calls: int = 1, cold_s: float = 0.1) -> Instance:
    """A sandbox that was used so often, about a minute apart but not regularly, last at `since_s`."""
    rng = random.Random(calls)
    gaps_s = [rng.uniform(20, 100) for _ in range(calls)]
    group = core.new_group((name, "$LATEST", 1), version(name), 0.0)
    group.cold_s.add(cold_s)
    for call in range(calls):
        now = since_s - sum(gaps_s[call + 1 :])
        if group.pattern is not None:
            group.pattern.used(1, now)
            group.pattern.freed(1, now)
    instance = Instance(len(core.groups), STEM, memory_mb * MIB)
    instance.group = group
    instance.since_s = since_s
    core.index.add(instance)
    core.cooling.keep(instance, since_s)
    core.index.freeze(instance)
    instance.state = State.FROZEN
    return instance


def core_of(policy: str) -> Core:
    return Core(Policy(memory_bytes=1 << 40, keep_alive=policy))


@pytest.mark.parametrize("policy", NAMES)
def test_the_spared_one_is_never_the_victim(policy: str) -> None:
    core = core_of(policy)
    assert core.keepalive.victim(core.index, None, 0.0) is None
    only = frozen(core, "only", 1.0)
    assert core.keepalive.victim(core.index, only, 2.0) is None
    other = frozen(core, "other", 2.0)
    assert core.keepalive.victim(core.index, only, 3.0) is other
    assert core.keepalive.victim(core.index, other, 3.0) is only
    core.index.remove(other)
    assert core.keepalive.victim(core.index, None, 3.0) is only, "one that is used is none"


@pytest.mark.parametrize("policy", ["fixed", "lru", "hybrid"])
def test_the_simple_ones_let_go_what_was_used_longest_ago(policy: str) -> None:
    core = core_of(policy)
    oldest = frozen(core, "oldest", 1000.0, calls=10)
    frozen(core, "newest", 2000.0)
    assert core.keepalive.victim(core.index, None, 2001.0) is oldest


@pytest.mark.parametrize("policy", ["greedy-dual", "worth"])
@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"calls": 1}, {"calls": 10}),
        ({"memory_mb": 1000}, {"memory_mb": 100}),
        ({"cold_s": 0.1}, {"cold_s": 2.0}),
    ],
)
def test_what_is_rare_large_and_cheap_to_start_goes_first(policy: str, worse: dict[str, int], better: dict[str, int]) -> None:
    core = core_of(policy)
    kept = frozen(core, "kept", 1000.0, **{"calls": 3, **better})
    victim = frozen(core, "victim", 1000.0, **{"calls": 3, **worse})
    assert core.keepalive.victim(core.index, None, 1020.0) is victim
    assert core.keepalive.victim(core.index, victim, 1020.0) is kept


def test_greedy_dual_ages_what_is_not_used() -> None:
    core = core_of("greedy-dual")
    old = frozen(core, "old", 1.0, calls=20)
    for number in range(40):  # each is worth less than the old one, but the clock rises with each that goes
        frozen(core, f"f{number}", 100.0 + number, calls=1)
        victim = core.keepalive.victim(core.index, None, 200.0)
        assert victim is not None
        core.index.remove(victim)
        if victim is old:
            return
    raise AssertionError("it would have been kept for ever")


def test_a_clock_s_sandbox_goes_first_between_beats_and_last_before_one() -> None:
    core = core_of("worth")
    clock = frozen(core, "clock", 6000.0)
    use = clock.group.pattern
    assert isinstance(use, Use)
    use.rhythm = rhythm_of([600.0 * beat for beat in range(11)])
    other = frozen(core, "other", 5800.0, calls=3)
    assert core.keepalive.victim(core.index, None, 6010.0) is clock
    assert core.keepalive.victim(core.index, None, 6599.0) is other


def test_what_is_also_called_between_its_beats_is_kept_for_that() -> None:
    core = core_of("worth")
    clock, often = frozen(core, "clock", 6000.0, calls=20), frozen(core, "often", 6000.0, calls=20)
    rare = frozen(core, "rare", 5000.0, calls=1)
    for instance, stray in ((clock, 0.0), (often, 0.5)):
        use = instance.group.pattern
        assert isinstance(use, Use)
        use.rhythm = rhythm_of([600.0 * beat for beat in range(11)])
        use.rhythm.stray = stray
    assert core.keepalive.victim(core.index, None, 6010.0) is clock
    assert core.keepalive.victim(core.index, clock, 6010.0) is rare


def test_wishes_are_told_once_in_time_and_only_the_last() -> None:
    prewarms = Prewarms()
    for due_s in (50.0, 10.0, 20.0):
        prewarms.add(Prewarm(version("f"), due_s, due_s + 5))
    prewarms.add(Prewarm(version("late"), 1.0, 2.0))
    prewarms.add(Prewarm(version("gone"), 1.0, 99.0))
    prewarms.drop(("gone", "$LATEST"))
    assert prewarms.next_s() == 1.0
    assert [one.version.name for one in prewarms.due(21.0)] == ["f"], "late's time is over, gone is gone"
    assert list(prewarms.due(100.0)) == []
    assert prewarms.next_s() == float("inf")
    for number in range(10_000):
        prewarms.add(Prewarm(version("f"), float(number), 1e9))
    assert len(prewarms) == 1
    assert len(prewarms._heap) < 200


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("policy", ["worth", "hybrid"])
def test_a_million_functions_called_once_are_not_remembered(policy: str) -> None:
    known = keep_alive(Policy(memory_bytes=1 << 40, keep_alive=policy))
    core = core_of(policy)
    template = core.new_group(("f", "$LATEST", 1), version(), 0.0)

    def call(number: int) -> None:
        group = Group((f"f{number}", "$LATEST", 1), template.version, template.share, template.tally)
        pattern = known.known(group, float(number))
        assert pattern is not None
        pattern.used(1, float(number))
        pattern.freed(1, number + 0.1)

    for number in range(REMEMBERED):
        call(number)
    tracemalloc.start()
    try:
        for number in range(REMEMBERED, 3 * REMEMBERED):  # as many more as it takes to see that nothing grows
            call(number)
        grown_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown_bytes < 24 * MIB, "what is forgotten makes room for what is new"


@pytest.mark.parametrize("policy", NAMES)
def test_what_is_used_and_goes_by_itself_leaves_nothing(policy: str) -> None:
    """Nobody ever has to go for memory, so nothing is swept on that occasion."""
    core = core_of(policy)
    again = frozen(core, "again", 0.0)
    for number in range(2000):
        now = 10.0 * number
        core.index.remove(again)
        again.since_s = now
        core.index.add(again)
        core.cooling.keep(again, now)
        core.index.freeze(again)
        once = frozen(core, f"f{number}", now)
        core.index.remove(once)
        once.state = State.GONE
        core.forget(once.group)
    del once
    gc.collect()
    assert sum(isinstance(one, Instance) for one in gc.get_objects()) < 300
    assert sum(isinstance(one, Group) for one in gc.get_objects()) < 300
    if policy != "hybrid":  # which may have let it go
        assert core.keepalive.victim(core.index, None, 20_001.0) is again


def test_whoever_was_called_last_is_remembered() -> None:
    core = core_of("worth")
    policy = core.keepalive
    assert isinstance(policy, Worth)
    first = frozen(core, "first", 1.0)
    for number in range(REMEMBERED):
        group = Group((f"f{number}", "$LATEST", 1), version(), first.group.share, first.group.tally)
        policy.known(group, float(number))
    assert policy.victim(core.index, None, 10.0) is first, "a group that lives has what it learned, remembered or not"


def test_what_nothing_is_known_of_is_kept_for_a_day() -> None:
    core = core_of("worth")
    assert frozen(core, "once", 100.0).kept_s == 100 + UNKNOWN_S
    assert frozen(core, "often", 1000.0, calls=16).kept_s < 1000 + 700, "its gaps were a minute, so ten minutes are enough"


def test_there_is_no_such_policy() -> None:
    with pytest.raises(ValueError, match="no keep-alive policy 'best'; there are worth, fixed, lru, greedy-dual, hybrid"):
        Core(Policy(memory_bytes=1 << 30, keep_alive="best"))


# --- what is said for one function


@pytest.mark.parametrize(
    ("tags", "keep"),
    [
        ({}, None),
        ({"team": "a"}, None),
        ({"lambent:idle-ttl-s": "1.5"}, Keep(idle_ttl_s=1.5)),
        ({"lambent:min-warm": "1", "lambent:max-warm": "3", "team": "a"}, Keep(min_warm=1, max_warm=3)),
    ],
)
def test_tags_say_what_is_kept(tags: dict[str, str], keep: Keep | None) -> None:
    assert keep_of(tags) == keep


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"lambent:min-warn": "1"}, "there is no tag lambent:min-warn; there are lambent:idle-ttl-s, lambent:min-warm and"),
        ({"lambent:min-warm": "many"}, "lambent:min-warm is 'many', which is not a whole number from 0 to 100000"),
        ({"lambent:min-warm": "1.5"}, "which is not a whole number"),
        ({"lambent:max-warm": "-1"}, "lambent:max-warm is '-1'"),
        ({"lambent:idle-ttl-s": "nan"}, "lambent:idle-ttl-s is 'nan', which is not a number from 0 to 2678400"),
        ({"lambent:idle-ttl-s": "1e99"}, "lambent:idle-ttl-s is '1e99'"),
        ({"lambent:min-warm": "3", "lambent:max-warm": "2"}, "lambent:min-warm is 3, which is more than lambent:max-warm, 2"),
    ],
)
def test_tags_that_make_no_sense(tags: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        keep_of(tags)
