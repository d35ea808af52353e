"""`python -m loadtests simulate`: keep-alive policies side by side, on the gateway's own scheduler in virtual time."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from gateway.scheduler.keepalive import NAMES
from loadtests.simulation.compare import ORDER, Run, memory_of_fixed, side_by_side
from loadtests.simulation.core_run import CoreRun
from loadtests.simulation.plot import NoPlot, plot
from loadtests.simulation.pool_run import PoolRun
from loadtests.simulation.sources import traces
from loadtests.simulation.summary import Row, row, table, values
from loadtests.simulation.synthetic import KINDS
from loadtests.simulation.trace import Trace, TraceError
from loadtests.simulation.versions import Machine

MIB: Final = 1 << 20


@click.command("simulate")
@click.option(
    "--trace", "sources", multiple=True, default=("azure",), show_default=True, metavar="KIND|FILE",
    help=f"What is called when: {', '.join(KINDS)}, or a CSV file: Azure Functions 2019 (invocations_per_function_md...), 2021, "
    "or lines of function,time_ms. May be given several times.",
)  # fmt: skip
@click.option("--policy", "names", multiple=True, type=click.Choice(NAMES), help="Only these policies. Default: all.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="First seed of a trace that is made.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many of them.")
@click.option("--functions", type=click.IntRange(1), help="So many functions. Default: 400, or all that are in the file.")
@click.option("--hours", type=click.FloatRange(0.01), help="So many hours. Default: 24, or all that are in the file.")
@click.option("--memory-mb", type=click.IntRange(64), help="Memory of the machine. Default: what the fixed 10 minutes need.")
@click.option(
    "--memory-share", "shares", multiple=True, type=click.FloatRange(0.01, 100), default=(1.0,), show_default=True,
    help="Take so much of that memory. May be given several times.",
)  # fmt: skip
@click.option("--init-ms", type=click.FloatRange(0), default=250.0, show_default=True, help="How long a cold start's Init takes.")
@click.option("--pool", is_flag=True, help="Through the pool and an event loop as well, not only the scheduler's core.")
@click.option(
    "--plot", "plot_to", type=click.Path(dir_okay=False, path_type=Path), help="Draw cold starts by memory: .svg or .png."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def simulate(
    sources: tuple[str, ...],
    names: tuple[str, ...],
    seed: int,
    seeds: int,
    functions: int | None,
    hours: float | None,
    memory_mb: int | None,
    shares: tuple[float, ...],
    init_ms: float,
    pool: bool,
    plot_to: Path | None,
    as_json: bool,
) -> None:
    """Compare keep-alive policies on a trace. Nothing is started but the scheduler, and time is virtual.

    `of fixed` is the cold starts as a share of those of the fixed 10 minutes with the same memory, `worst` that of the worst
    seed. `wasted` is memory that sandboxes hold while they do not work, `ahead` how many were started before anybody asked.
    """
    machine = Machine(init_s=init_ms / 1000)
    run: Run = PoolRun if pool else CoreRun
    order = tuple(name for name in ORDER if not names or name in names)
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    found: list[dict[str, Any]] = []
    with progress_bar(quiet=not sys.stderr.isatty()) as bar:
        for source in sources:
            try:
                made = traces(source, range(seed, seed + seeds), functions, hours)
            except TraceError as error:
                raise click.ClickException(str(error)) from error
            needs = [memory_mb * MIB if memory_mb is not None else memory_of_fixed(one, machine, bar(one)) for one in made]
            title = Path(source).name
            panel = panels.setdefault(title, {})
            for share in sorted(shares):
                memories = [int(need * share) for need in needs]
                runs = side_by_side(made, memories, machine, order, run, bar)
                rows = [row(of_one, runs.get("fixed", [])) for of_one in runs.values()]
                for one in rows:
                    panel.setdefault(one.total.policy, []).append((share, one.total.cold_ratio))
                found.append(_found(title, made, memories, share, rows))
                if not as_json:
                    click.echo(_page(title, made, memories, share, rows))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    if plot_to is not None:
        try:
            plot(panels, plot_to)
        except (NoPlot, ValueError, OSError) as error:
            raise click.ClickException(f"{plot_to}: {error}") from error


def _found(title: str, made: list[Trace], memories: list[int], share: float, rows: list[Row]) -> dict[str, Any]:
    return {
        "trace": title,
        "invocations": sum(len(one) for one in made),
        "functions": max(len(one.functions) for one in made),
        "memory_mb": [memory >> 20 for memory in memories],
        "memory_share": share,
        "policies": [values(one) for one in rows],
    }


def _page(title: str, made: list[Trace], memories: list[int], share: float, rows: list[Row]) -> str:
    first = made[0]
    sizes = (
        f"{min(memories) >> 20:,}" if min(memories) == max(memories) else f"{min(memories) >> 20:,} to {max(memories) >> 20:,}"
    )
    what = f"{len(first.functions):,} functions, {first.duration_s / 3600:.1f} h, {sum(len(one) for one in made):,} invocations"
    traces_of = f" of {len(made)} traces" if len(made) > 1 else ""
    return f"\n{title}: {what}{traces_of}, {sizes} MB of memory ({share:g} of what the fixed time needs)\n{table(rows)}"


@contextlib.contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Callable[[Trace], Callable[[str, int], None]]]:
    """A progress bar for each run, one after the other, on standard error."""
    columns = (TextColumn("{task.description:<34}"), BarColumn(), TextColumn("{task.percentage:3.0f}%"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("", total=None)

        def of(trace: Trace) -> Callable[[str, int], None]:
            return lambda what, done: progress.update(
                task, description=f"{trace.name}: {what}", completed=done, total=len(trace), refresh=False
            )

        yield of
