"""Figures, the bars that they are held to, and how they are shown."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence

import click


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number. At most one of `least` and `most` is the bar that --check holds it to."""

    name: str
    value: float
    unit: str
    least: float | None = None
    most: float | None = None

    @property
    def good(self) -> bool:
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    @property
    def bar(self) -> str:
        if self.least is not None:
            return f"≥ {self.least:g}"
        return f"≤ {self.most:g}" if self.most is not None else ""


def show(title: str, figures: Sequence[Figure], *, as_json: bool, check: bool, isolation: str) -> None:
    """Print the figures; with `check`, exit with 1 if one misses its bar."""
    if as_json:
        document = {
            "benchmark": title,
            "machine": {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
            "isolation": isolation,
            "figures": [{**dataclasses.asdict(figure), "good": figure.good} for figure in figures],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _table(title, figures, isolation)
    if check and (missed := [figure for figure in figures if not figure.good]):
        for figure in missed:
            click.echo(f"lambent: {figure.name}: {figure.value:.3g} {figure.unit}, wanted {figure.bar}", err=True)
        sys.exit(1)


def _table(title: str, figures: Sequence[Figure], isolation: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"lambent bench {title}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("", "measured", "", "bar", ""):
        table.add_column(heading, justify="right" if heading in ("measured", "bar") else "left")
    for figure in figures:
        verdict = "" if not figure.bar else "[green]ok[/]" if figure.good else "[red]missed[/]"
        table.add_row(
            figure.name,
            f"{figure.value:,.3g}" if figure.value < 1000 else f"{figure.value:,.0f}",
            figure.unit,
            figure.bar,
            verdict,
        )
    console = Console()
    console.print(table)
    console.print(
        f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}; {isolation}", style="dim"
    )


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar of `total` steps; each call is a step and says what comes next. On a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=total)
        yield lambda what: bars.update(task, advance=1, description=what)
