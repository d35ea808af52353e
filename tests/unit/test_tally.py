"""What is counted for /metrics: buckets as Prometheus means them, and never more functions than there are places for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.tally import DURATION_S, REST, Histogram, Tallies

VALUES = st.one_of(st.floats(0, 1000), st.sampled_from(DURATION_S))


@given(st.lists(VALUES))
def test_each_value_is_in_the_first_bucket_whose_bound_is_not_below_it(values: list[float]) -> None:
    histogram = Histogram(DURATION_S)
    for value in values:
        histogram.add(value)
    for at, bound in enumerate(DURATION_S):
        assert sum(histogram.counts[: at + 1]) == sum(value <= bound for value in values)
    assert histogram.count == len(values)


def test_a_copy_stays_as_it_is() -> None:
    tallies = Tallies()
    tally = tallies.of("echo")
    tally.duration_s.add(0.1)
    tally.errors.add("timeout")
    copy, totals = tally.copy(), tallies.totals.copy()
    for histogram in (tally.duration_s, tallies.totals.init_s, tallies.totals.wait_s):
        histogram.add(1.0)
    for kinds in (tally.errors, tally.throttles, tally.not_run, tallies.totals.evictions):
        kinds.add("timeout")
    assert (copy.duration_s.count, copy.duration_s.total, copy.errors, copy.throttles, copy.not_run) == (
        1, 0.1, {"timeout": 1}, {}, {},
    )  # fmt: skip
    assert (totals.init_s.count, totals.wait_s.count, totals.evictions) == (0, 0, {})


def test_the_rest_is_counted_together_and_only_when_there_is_one() -> None:
    tallies = Tallies(2)
    first = tallies.of("a")
    assert tallies.of("b") is not first
    assert [label for label, _ in tallies.items()] == ["a", "b"]
    rest = tallies.of("c")
    assert rest is tallies.of("d")
    assert tallies.of("a") is first
    assert [label for label, _ in tallies.items()] == ["a", "b", REST]


def test_a_deleted_function_gives_its_place_free_and_its_counts_go() -> None:
    tallies = Tallies(1)
    tallies.of("a").duration_s.add(1)
    rest = tallies.of("b")
    tallies.forget("a")
    assert rest.duration_s.count == 0
    assert tallies.of("b") is not rest
    tallies.forget("never seen")
    assert [label for label, _ in tallies.items()] == ["b", REST]


def test_a_million_functions_are_no_million_tallies() -> None:
    tallies = Tallies(100)
    for number in range(1_000_000):
        tallies.of(f"f{number}")
    assert len(list(tallies.items())) == 101
