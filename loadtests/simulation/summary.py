"""What several runs of one policy come to, and the table of all policies."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Sequence
from typing import Any, Final

from loadtests.simulation.measures import Measures

YARDSTICK: Final = "fixed"
HEADING: Final = (
    f"{'policy':<12} {'cold':>8} {'of all':>8} {'of fixed':>9} {'worst':>7} {'p50 ms':>7} {'p99 ms':>7} {'wasted GiB h':>13} "
    f"{'ahead':>7} {'evicted':>8} {'runs/s':>8}"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A policy on all traces of one kind."""

    total: Measures
    of_fixed: float | None  #: cold starts, as a share of the yardstick's; None if that was not run or had none
    worst: float | None  #: the highest such share of any single trace


def row(runs: Sequence[Measures], yardsticks: Sequence[Measures]) -> Row:
    """`yardsticks` are the fixed times' runs on the same traces, or nothing."""
    total = _summed(runs)
    ratios = [run.cold / fixed.cold for run, fixed in zip(runs, yardsticks, strict=False) if fixed.cold]
    fixed_cold = sum(fixed.cold for fixed in yardsticks)
    return Row(total, total.cold / fixed_cold if fixed_cold else None, max(ratios, default=None))


def table(rows: Sequence[Row]) -> str:
    """Everything in lines."""
    return "\n".join([HEADING, *(_line(row) for row in rows)])


def values(one: Row) -> dict[str, Any]:
    """For JSON."""
    return {**one.total.values(), "cold_of_fixed": one.of_fixed, "cold_of_fixed_worst": one.worst}


def _line(row: Row) -> str:
    total = row.total
    bound = total.policy == "clairvoyant"
    return (
        f"{total.policy:<12} {total.cold:8,} {total.cold_ratio:8.3%} {_share(row.of_fixed):>9} {_share(row.worst):>7} "
        f"{'' if bound else f'{total.wait_ms(0.5):.1f}':>7} {'' if bound else f'{total.wait_ms(0.99):.1f}':>7} "
        f"{total.wasted_gib_h:13,.1f} {'' if bound else f'{total.prewarms:,}':>7} {'' if bound else f'{total.evictions:,}':>8} "
        f"{'' if bound else f'{total.per_s:,.0f}':>8}"
    )


def _share(share: float | None) -> str:
    return "" if share is None else f"{share:.2f}"


def _summed(runs: Sequence[Measures]) -> Measures:
    total = Measures(runs[0].policy, max(run.memory_bytes for run in runs))
    waits_s = array("d")
    for run in runs:
        for name in (
            "invocations",
            "cold",
            "refused",
            "starts",
            "prewarms",
            "evictions",
            "wasted_byte_s",
            "duration_s",
            "took_s",
        ):
            setattr(total, name, getattr(total, name) + getattr(run, name))
        total.most_bytes = max(total.most_bytes, run.most_bytes)
        waits_s.extend(run.waits_s)
    total.waits_s = waits_s
    return total
