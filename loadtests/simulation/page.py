"""The tables of KEEP-ALIVE.md, in Markdown, and where in the page they stand."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from loadtests.simulation.compare import BOUND, ORDER
from loadtests.simulation.measures import Measures

ROOT: Final = Path(__file__).parents[2]
CODE: Final = ("gateway/scheduler", "loadtests/simulation")  #: what the figures depend on
BUT: Final = ("page.py", "plot.py", "speed.py")
OURS: Final = "worth"

Runs = Mapping[str, Sequence[Measures]]  #: by policy, one for each seed


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One kind of trace with one share of the memory."""

    kind: str
    share: float
    runs: Runs

    def ratio(self, policy: str) -> float:
        """Cold starts and refusals, of all invocations of all seeds."""
        return sum(run.missed for run in self.runs[policy]) / sum(run.invocations for run in self.runs[policy])

    @property
    def least(self) -> float:
        """That of the best policy, as it is printed."""
        return min(round(self.ratio(policy), 4) for policy in ORDER)


def fingerprint() -> str:
    """Of the code that the figures are of."""
    found = hashlib.sha256()
    for path in sorted(path for folder in CODE for path in (ROOT / folder).rglob("*.py") if path.name not in BUT):
        found.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def policies_table(runs: Runs, less: Mapping[str, Sequence[Measures]]) -> str:
    """A line for each policy, over all seeds; `less` are runs with less memory, by what they are called."""
    columns = (
        "cold starts",
        "of all",
        "of fixed",
        "worst seed",
        "p50 added",
        "p99 added",
        "refused",
        "wasted, GiB h",
        "started ahead",
        "evicted",
    )
    lines = [f"| policy | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    fixed = runs["fixed"]
    for name, of_one in {**runs, **less}.items():
        missed, calls = sum(run.missed for run in of_one), sum(run.invocations for run in of_one)
        worst = max(run.missed / max(1, base.missed) for run, base in zip(of_one, fixed, strict=True))
        of_fixed = f"{missed / max(1, sum(base.missed for base in fixed)):.2f} | {worst:.2f}"
        waits = " | ".join(f"{max(run.wait_ms(share) for run in of_one):.0f} ms" for share in (0.5, 0.99))
        wasted = f"{sum(run.refused for run in of_one):,} | {sum(run.wasted_gib_h for run in of_one):,.0f}"
        did = f"{sum(run.prewarms for run in of_one):,} | {sum(run.evictions for run in of_one):,}"
        if name == BOUND:
            waits, did = " | ", " | "
        lines.append(f"| {_code(name)} | {missed:,} | {missed / calls:.2%} | {of_fixed} | {waits} | {wasted} | {did} |")
    return "\n".join(lines)


def seeds_table(runs: Runs, seeds: Sequence[int]) -> str:
    """Cold starts by seed."""
    lines = [f"| seed | memory, MB | calls | {' | '.join(runs)} |", "|---:|---:|---:|" + "---:|" * len(runs)]
    for at, seed in enumerate(seeds):
        first = runs["fixed"][at]
        cold = " | ".join(f"{of_one[at].missed:,}" for of_one in runs.values())
        lines.append(f"| {seed} | {first.memory_bytes >> 20:,} | {first.invocations:,} | {cold} |")
    return "\n".join(lines)


def kinds_table(cells: Sequence[Cell]) -> str:
    """Shares of cold starts by kind of trace and memory, the lowest of the policies in bold."""
    columns = (*ORDER, BOUND)
    lines = [f"| trace | memory | {' | '.join(columns)} |", "|---|---:|" + "---:|" * len(columns)]
    for cell in cells:
        shown = [f"{cell.ratio(name):.2%}" for name in columns]
        marked = [
            f"**{text}**" if name in ORDER and round(cell.ratio(name), 4) == cell.least else text
            for name, text in zip(columns, shown, strict=True)
        ]
        lines.append(f"| {cell.kind} | {cell.share:g} | {' | '.join(marked)} |")
    return "\n".join(lines)


def lost(cells: Sequence[Cell]) -> str:
    """In words: where ours does not have the fewest cold starts."""
    found = []
    for cell in cells:
        ours = round(cell.ratio(OURS), 4)
        if ours > cell.least:
            best = [f"`{name}`" for name in ORDER if round(cell.ratio(name), 4) == cell.least]
            where = f"{cell.kind} with {cell.share:g} of the memory"
            found.append(f"{where} ({' and '.join(best)}: {cell.least:.2%}, ours {ours:.2%})")
    if not found:
        return f"`{OURS}` has the fewest cold starts, or as few as the best, on all of them."
    return f"`{OURS}` loses on: {'; '.join(found)}."


def bar_met(runs: Runs) -> str:
    """In words: the bar, seed by seed."""
    ours = runs[OURS]
    most = max(run.missed / max(1, base.missed) for run, base in zip(ours, runs["fixed"], strict=True))
    beaten = ", ".join(
        f"fewer than `{name}` on {sum(run.missed < other.missed for run, other in zip(ours, runs[name], strict=True))}"
        for name in ORDER
        if name not in (OURS, "fixed")
    )
    return f"Of {len(ours)} seeds, `{OURS}` has at most {most:.2f} of the cold starts of the fixed time, and {beaten}."


def placed(page: str, blocks: Mapping[str, str]) -> str:
    """A page with what stands between `<!-- NAME -->` and `<!-- /NAME -->` replaced. Raises ValueError for a missing mark."""
    for name, text in blocks.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"there is no {begin} ... {end}")
        page = f"{before}{begin}\n{text}\n{end}{after}"
    return page


def _code(name: str) -> str:
    return name if name == BOUND else f"`{name}`" if name in ORDER else name
