"""`lambent bench lifecycle`: what extensions, telemetry and Node.js cost, how exactly environments end, how answers stream.

Each part is a function of its own module: it gets a directory, a number of cold starts and a progress bar, and gives figures.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from gateway.cli.bench import extensions, node, streaming, telemetry
from gateway.cli.bench.instance import Instance, NotReady
from gateway.cli.bench.report import Figure, progress, show

#: (its name and directory's, what measures it, what it needs: without that there are no figures)
PARTS: Final = (
    ("extensions", extensions.measure, "a C compiler"),
    ("node", node.measure, "Node.js"),
    ("streaming", streaming.measure, ""),
    ("telemetry", telemetry.measure, "a C compiler and wrk"),
)


@click.command(
    "lifecycle", epilog="\b\nExamples:\n  sudo lambent bench lifecycle\n  sudo lambent bench lifecycle --json > lifecycle.json\n"
)
@click.option("--count", type=click.IntRange(min=5), default=30, show_default=True, help="Cold starts of each kind, one by one.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--check", is_flag=True, help="Exit with 1 if a figure misses its bar, or can't be measured.")
def command(count: int, as_json: bool, check: bool) -> None:
    """Measure the life cycle of execution environments.

    What one external extension, written in C, adds to a cold start (needs a C compiler); and when 50 extensions that ignore
    SIGTERM and their SHUTDOWN event, all at once and on a busy machine, are killed: 2,000 ms after it began. What a Node.js
    cold start takes from a stem, against `node` started fresh with the same handler (needs Node.js). How soon the first
    byte of a streamed answer is there, how fast 200 MB are and what they cost the gateway. What telemetry costs of throughput
    (needs wrk as well).
    """
    figures: list[Figure] = []
    complete = True
    try:
        with tempfile.TemporaryDirectory(prefix="lambent-bench-") as directory, progress(len(PARTS) * (count + 5)) as step:
            base = Path(directory)
            for name, measure, needed in PARTS:
                found = measure(base / name, count, step)
                figures += found
                if not found:
                    complete = False
                    click.echo(f"lambent: no figures of {name}: {needed} is needed", err=True)
            with Instance(base / "own", {}) as instance:
                isolation = str(instance.status()["isolation"])
    except NotReady as error:
        raise click.ClickException(str(error)) from error
    show("lifecycle", figures, as_json=as_json, check=check, isolation=isolation)
    if check and not complete:
        sys.exit(1)
