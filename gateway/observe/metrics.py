"""The page of ``GET /metrics``: what was counted, with names, help texts and labels, in Prometheus's formats.

A `Picture` is copied in one step of the event loop, so that all figures are of one moment; `render` may then take its time in
another thread. Every series is listed in DESIGN.md of this directory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.utils import floatToGoString

from gateway.observe import process
from gateway.observe.exposition import page
from gateway.tally import DURATION_FINE_S, DURATION_S, Histogram, Kinds, Tally, Totals

#: How soon a sandbox in a state can answer: at once, after thawing, after a start, or not at all.
TEMPERATURES: Final[Mapping[str, str]] = {
    "making": "stem",
    "stem": "stem",
    "starting": "cold",
    "idle": "warm",
    "reserved": "warm",
    "finishing": "warm",
    "frozen": "frozen",
    "stopping": "gone",
}
_DURATIONS: Final = list(zip(map(floatToGoString, DURATION_S), map(DURATION_FINE_S.index, DURATION_S), strict=True))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Everything at one moment; what is in it changes no more."""

    version: str
    driver: str
    functions: list[tuple[str, Tally]]  #: label and counts
    totals: Totals
    lag_s: Histogram
    sandboxes: Mapping[str, int]  #: by the scheduler's state; what is not there is 0
    running: int
    waiting: int
    concurrency_limit: int
    memory_used_bytes: int
    memory_budget_bytes: int
    spawner_restarts: int


def render(picture: Picture, accept: str) -> tuple[str, bytes]:
    """Content type and body, in the format that an ``Accept`` header asks for: OpenMetrics, or the older text format."""
    return page(families(picture), accept)


def families(picture: Picture) -> Iterator[Metric]:
    """Everything that /metrics tells, in its order."""
    yield InfoMetricFamily("lambent", "What serves here.", value={"version": picture.version, "driver": picture.driver})
    yield from _invocations(picture.functions)
    yield from _starts(picture)
    yield from _sandboxes(picture)
    lag = HistogramMetricFamily("lambent_event_loop_lag_seconds", "How late a timer of the gateway's event loop was.")
    lag.add_metric([], *_buckets(picture.lag_s))
    yield lag
    yield from process.figures()


def _invocations(functions: list[tuple[str, Tally]]) -> Iterator[Metric]:
    invocations = CounterMetricFamily("lambent_invocations", "Invocations that a sandbox ran to an end.", labels=["function"])
    duration = HistogramMetricFamily(
        "lambent_invocation_duration_seconds", "From handing the event over to the answer, as REPORT has it.", labels=["function"]
    )
    waits = SummaryMetricFamily(
        "lambent_function_queue_wait_seconds", "Waiting for a sandbox, of those who waited and got one.", labels=["function"]
    )
    extensions = SummaryMetricFamily(
        "lambent_post_runtime_extensions_seconds", "What extensions took after the answer, of those invocations where they did.",
        labels=["function"],
    )  # fmt: skip
    colds = CounterMetricFamily(
        "lambent_cold_starts",
        "Sandboxes started for the function, without those of provisioned concurrency.",
        labels=["function"],
    )
    failed = CounterMetricFamily("lambent_failed_starts", "Sandboxes lost while they started.", labels=["function"])
    for name, tally in functions:
        label = [name]
        invocations.add_metric(label, tally.duration_s.count)
        duration.add_metric(label, _durations(tally.duration_s), tally.duration_s.total)
        waits.add_metric(label, tally.waited, tally.waited_s)
        if tally.extensions:
            extensions.add_metric(label, tally.extensions, tally.extensions_s)
        colds.add_metric(label, tally.cold_starts)
        if tally.failed_starts:
            failed.add_metric(label, tally.failed_starts)
    yield invocations
    yield _by_kind(
        "lambent_errors", "Invocations that ended otherwise than well: error, failure, timeout.", "kind",
        ((name, tally.errors) for name, tally in functions),
    )  # fmt: skip
    yield _by_kind(
        "lambent_throttles", "Invocations answered 429: account, reserved, rate, reserved_rate, scaling, full, late.", "reason",
        ((name, tally.throttles) for name, tally in functions),
    )  # fmt: skip
    yield _by_kind(
        "lambent_not_run", "Invocations that got no sandbox through our fault: failed, late_start, too_large, closing.", "reason",
        ((name, tally.not_run) for name, tally in functions),
    )  # fmt: skip
    yield _by_kind(
        "lambent_provisioned_invocations", "Invocations of versions with provisioned concurrency: used, spilled.", "kind",
        ((name, tally.provisioned) for name, tally in functions),
    )  # fmt: skip
    yield from (duration, waits, extensions, colds, failed)


def _by_kind(name: str, help: str, label: str, functions: Iterable[tuple[str, Kinds]]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help, labels=["function", label])
    for function, kinds in functions:
        for kind, count in kinds.items():
            family.add_metric([function, kind], count)
    return family


def _starts(picture: Picture) -> Iterator[Metric]:
    totals = picture.totals
    phases = HistogramMetricFamily(
        "lambent_cold_start_seconds", "Of a cold start: waiting for a stem, then its code and Init. make: making a stem ahead.",
        labels=["phase"],
    )  # fmt: skip
    for phase, histogram in (("make", totals.make_s), ("stem", totals.stem_s), ("init", totals.init_s)):
        phases.add_metric([phase], *_buckets(histogram))
    yield phases
    wait = HistogramMetricFamily("lambent_queue_wait_seconds", "Waiting for a sandbox, of those who waited and got one.")
    wait.add_metric([], *_buckets(totals.wait_s))
    yield wait
    yield _counter("lambent_failed_stems", "Stems that could not be made.", "runtime", totals.stem_failures)


def _sandboxes(picture: Picture) -> Iterator[Metric]:
    totals = picture.totals
    family = GaugeMetricFamily("lambent_sandboxes", "Sandboxes that there are now.", labels=["state", "temperature"])
    for state, temperature in TEMPERATURES.items():
        family.add_metric([state, temperature], picture.sandboxes.get(state, 0))
    yield family
    evictions = {state: totals.evictions.get(state, 0) for state in ("frozen", "idle", "stem")}
    yield _counter("lambent_evictions", "Sandboxes stopped to make room, by what they were.", "state", evictions)
    yield CounterMetricFamily("lambent_freezes", "Idle sandboxes that were frozen.", value=totals.freezes)
    yield CounterMetricFamily("lambent_thaws", "Frozen sandboxes that were given work.", value=totals.thaws)
    yield CounterMetricFamily("lambent_prewarms", "Sandboxes that were started before anybody asked.", value=totals.prewarms)
    yield CounterMetricFamily("lambent_lost_sandboxes", "Sandboxes that went away by themselves.", value=totals.lost)
    yield CounterMetricFamily(
        "lambent_spawner_restarts", "Times the spawner ended by itself and was started again.", value=picture.spawner_restarts
    )  # fmt: skip
    yield GaugeMetricFamily("lambent_running", "Invocations that hold a sandbox now.", value=picture.running)
    yield GaugeMetricFamily("lambent_waiting", "Invocations that wait for a sandbox now.", value=picture.waiting)
    yield GaugeMetricFamily(
        "lambent_concurrency_limit", "Invocations that may run at once, without what functions reserved.",
        value=picture.concurrency_limit,
    )  # fmt: skip
    yield GaugeMetricFamily(
        "lambent_memory_used_bytes", "What the sandboxes count: all they may use, or what frozen ones were measured to use.",
        value=picture.memory_used_bytes,
    )  # fmt: skip
    yield GaugeMetricFamily(
        "lambent_memory_budget_bytes", "Memory for all sandboxes together.", value=picture.memory_budget_bytes
    )  # fmt: skip


def _counter(name: str, help: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help, labels=[label])
    for kind, count in counts.items():
        family.add_metric([kind], count)
    return family


def _durations(histogram: Histogram) -> list[tuple[str, float]]:
    """The buckets that /metrics has, of the finer ones that are counted."""
    below = list(accumulate(histogram.counts))
    return [*((name, below[at]) for name, at in _DURATIONS), ("+Inf", below[-1])]


def _buckets(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """As Prometheus has them: each with all below it."""
    bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.total
