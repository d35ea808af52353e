"""The plot of a comparison: cold starts against memory, a panel for each trace, a line for each policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

COLOURS: Final = {
    "fixed": "#888888",
    "lru": "#4477aa",
    "greedy-dual": "#228833",
    "hybrid": "#ccbb44",
    "worth": "#cc3311",
    "clairvoyant": "#000000",
}

Points = Mapping[
    str, Sequence[tuple[float, float]]
]  #: by policy: memory as a share of the yardstick's, and the share of cold ones


class NoPlot(Exception):
    """matplotlib is not installed."""


def _percent(value: float, place: int) -> str:
    """Only 1, 2 and 5 of each decade, in plain figures."""
    return f"{value:g}" if f"{value:e}"[0] in "125" else ""


def plot(panels: Mapping[str, Points], path: Path) -> None:
    """Write it; the suffix of the file says in which format. Raises NoPlot, ValueError for a suffix that means nothing."""
    try:
        import matplotlib
    except ImportError as error:
        raise NoPlot("matplotlib is missing: pip install 'lambent[loadtests]'") from error
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "lambent"  # the same figures give the same file
    from matplotlib.figure import Figure

    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * lines), layout="constrained")
    all_axes = figure.subplots(lines, columns, squeeze=False)
    for axes in all_axes.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, points) in zip(all_axes.flat, panels.items(), strict=False):
        for policy, values in points.items():
            axes.plot(
                [memory for memory, _ in values],
                [max(share, 1e-5) * 100 for _, share in values],
                label=policy,
                color=COLOURS.get(policy),
                linestyle="--" if policy == "clairvoyant" else "-",
                marker="o",
                markersize=3,
            )
        axes.set_title(title, fontsize=10)
        axes.set_yscale("log")
        axes.set_xlabel("memory (1: what the fixed 10 minutes need)", fontsize=8)
        axes.set_ylabel("cold starts, % of invocations", fontsize=8)
        axes.tick_params(labelsize=8, which="both")
        axes.yaxis.set_major_formatter(_percent)
        axes.yaxis.set_minor_formatter(_percent)
        axes.grid(alpha=0.3, which="both")
    figure.legend(*all_axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
