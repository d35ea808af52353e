"""`python -m loadtests keep-alive`: every figure of KEEP-ALIVE.md and its plot, from one run of the code as it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import click

from loadtests.simulate import progress_bar
from loadtests.simulation import page
from loadtests.simulation.compare import ORDER, Progress, memory_of_fixed, side_by_side
from loadtests.simulation.plot import NoPlot, plot
from loadtests.simulation.synthetic import KINDS, synthetic
from loadtests.simulation.trace import Trace, TraceError
from loadtests.simulation.versions import Machine

PAGE: Final = page.ROOT / "loadtests" / "KEEP-ALIVE.md"
PLOT: Final = page.ROOT / "loadtests" / "keep-alive.svg"
SHARES: Final = (0.5, 0.75, 1.0)
KINDS_SHARE: Final = 2 / 3  #: of the hours, for every kind of trace
LESS: Final = 0.75  #: of the memory, for the line that shows what ours does with less

Bar = Callable[[Trace], Progress]


@click.command("keep-alive")
@click.option("--seed", type=click.IntRange(0), default=20, show_default=True, help="First seed.")
@click.option("--seeds", type=click.IntRange(1, 100), default=10, show_default=True, help="How many, for the Azure-shaped trace.")
@click.option("--functions", type=click.IntRange(2), default=100, show_default=True, help="Of the Azure-shaped trace.")
@click.option("--hours", type=click.FloatRange(0.1), default=12.0, show_default=True, help="Of the Azure-shaped trace.")
@click.option("--write", is_flag=True, help=f"Write them into {PAGE.name} and {PLOT.name} instead of printing them.")
def keep_alive(seed: int, seeds: int, functions: int, hours: float, write: bool) -> None:
    """Make the tables and the plot of KEEP-ALIVE.md, all of the code as it is now.

    The Azure-shaped trace with several seeds and the memory that the fixed ten minutes need; then every kind of trace, half as
    many functions for two thirds of the time, with three amounts of memory. Ten seeds take some five minutes of one core.
    """
    began = page.fingerprint()
    machine = Machine()
    with progress_bar(quiet=not sys.stderr.isatty()) as bar:
        try:
            azure = _azure(range(seed, seed + seeds), functions, hours, machine, bar)
            cells = _kinds(seed, functions // 2, hours * KINDS_SHARE, machine, bar)
        except TraceError as error:
            raise click.ClickException(str(error)) from error
    if page.fingerprint() != began:
        raise click.ClickException("the code was changed meanwhile: these are figures of no one version")
    asked = f"--seed {seed} --seeds {seeds} --functions {functions} --hours {hours:g}"
    folders = " and ".join(f"`{folder}`" for folder in page.CODE)
    kinds = f"{functions // 2} functions, {hours * KINDS_SHARE:g} hours, seed {seed}:"
    blocks = {
        "made": f"```sh\n.venv/bin/python -m loadtests keep-alive {asked} --write\n```\n\n"
        f"The code is that with fingerprint {began} (of {folders}).",
        "azure": azure,
        "kinds": f"{kinds}\n\n{page.kinds_table(cells)}\n\n{page.lost(cells)}",
    }
    if not write:
        click.echo("\n\n".join(blocks.values()))
        return
    try:
        PAGE.write_text(page.placed(PAGE.read_text(), blocks))
        draw(cells, PLOT)
    except (NoPlot, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{PAGE} and {PLOT}")


def draw(cells: Sequence[page.Cell], path: Path) -> None:
    """Cold starts against memory, a panel for each kind. Raises NoPlot."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for cell in cells:
        for name in cell.runs:
            panels.setdefault(cell.kind, {}).setdefault(name, []).append((cell.share, cell.ratio(name)))
    plot(panels, path)


def _azure(seeds: range, functions: int, hours: float, machine: Machine, bar: Bar) -> str:
    made = [synthetic("azure", seed, functions, hours) for seed in seeds]
    memories = [memory_of_fixed(one, machine, bar(one)) for one in made]
    runs = side_by_side(made, memories, machine, ORDER, progress=bar)
    less = side_by_side(made, [int(memory * LESS) for memory in memories], machine, (page.OURS,), progress=bar)
    return (
        f"{functions} functions, {hours:g} hours, seeds {seeds.start} to {seeds.stop - 1}:\n\n"
        f"{page.policies_table(runs, {f'`{page.OURS}` with {LESS:g} of the memory': less[page.OURS]})}\n\n"
        "p50 and p99 are those of the worst seed. By seed, cold starts:\n\n"
        f"{page.seeds_table(runs, seeds)}\n\n{page.bar_met(runs)}"
    )


def _kinds(seed: int, functions: int, hours: float, machine: Machine, bar: Bar) -> list[page.Cell]:
    cells = []
    for kind in KINDS:
        trace = synthetic(kind, seed, functions, hours)
        need = memory_of_fixed(trace, machine, bar(trace))
        cells += [
            page.Cell(kind, share, side_by_side([trace], [int(need * share)], machine, ORDER, progress=bar)) for share in SHARES
        ]
    return cells
