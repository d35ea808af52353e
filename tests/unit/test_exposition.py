"""The page of /metrics is byte for byte what prometheus-client makes of the same families."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.observe import exposition
from gateway.observe.exposition import page
from gateway.observe.metrics import Picture, families
from gateway.tally import LAG_S, Histogram, Tally, Totals

ACCEPTS = (
    "",
    "text/plain",
    "application/openmetrics-text; version=1.0.0,text/plain;q=0.5",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8",
    "application/openmetrics-text",
    "application/openmetrics-text;version=1.0.0;escaping=dots",
    "text/plain;version=1.0.0;escaping=values",
)


class _Given(Collector):
    def __init__(self, given: list[Metric]) -> None:
        self._given = given

    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        return self._given


def by_the_library(given: list[Metric], accept: str) -> tuple[str, bytes]:
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry()
    registry.register(_Given(given))
    return content_type, encode(registry)


@pytest.mark.parametrize("accept", ACCEPTS)
def test_of_a_gateway(accept: str) -> None:
    tally, totals = Tally(), Totals()
    tally.failed_starts = 1
    for value in (0.0, 0.0003, 0.2, 61, 1e7):
        tally.duration_s.add(value)
    for kinds in (tally.errors, tally.throttles, tally.not_run, tally.provisioned, totals.stem_failures):
        kinds.add("some")
    picture = Picture(
        version='1"\\\n', driver="native", functions=[("echo", tally), ("(rest)", Tally())], totals=totals,
        lag_s=Histogram(LAG_S), sandboxes={"idle": 3}, running=1, waiting=2, concurrency_limit=1000,
        memory_used_bytes=123_456_789_012, memory_budget_bytes=1 << 40, spawner_restarts=2,
    )  # fmt: skip
    given = list(families(picture))
    assert page(given, accept) == by_the_library(given, accept)
    assert page(given, accept) == by_the_library(given, accept), "what is kept of the first page is right for the second"


@given(
    st.lists(st.tuples(st.text(), st.floats())),
    st.lists(st.floats(0, 1e12), min_size=2, max_size=5),
    st.sampled_from(ACCEPTS),
)
def test_of_anything(samples: list[tuple[str, float]], buckets: list[float], accept: str) -> None:
    gauge = GaugeMetricFamily("a_gauge", 'help \\ with\n"signs"', labels=["z", "a"])
    counter = CounterMetricFamily("a_counter", "help", labels=["kind"])
    for text, value in samples:
        gauge.add_metric([text, "x"], value)
        counter.add_metric([text], value)
    histogram = HistogramMetricFamily("a_histogram", "help", buckets=[(str(b), b) for b in buckets], sum_value=1.5)
    given: list[Metric] = [gauge, counter, histogram]
    assert page(given, accept) == by_the_library(given, accept)


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=x",
        "text/plain; version=latest",
        "text/plain; version=1..0",
        "application/openmetrics-text; version=" + "9" * 5000,
        "application/openmetrics-text; version=2.\xe9",
        'application/openmetrics-text; version="1.0.0"',
    ],
)
def test_a_version_that_is_none_gives_the_older_format(accept: str) -> None:
    given: list[Metric] = [GaugeMetricFamily("a_plain_gauge", "help", value=1)]
    assert page(given, accept) == by_the_library(given, "")


def test_what_is_kept_does_not_grow_with_what_clients_ask_for() -> None:
    given: list[Metric] = [GaugeMetricFamily("another_gauge", "help", value=1)]
    for number in range(100):
        for escaping in ("underscores", "dots", f"e{number}"):
            accept = f"application/openmetrics-text; version=1.0.{number}; escaping={escaping}"
            assert page(given, accept) == by_the_library(given, accept)
    assert len([key for key in exposition._heads if "another_gauge" in key]) == 1
