"""`lambent bench scheduler`: what the scheduler's decisions cost, and what it makes of more work than the machine can do."""

from __future__ import annotations

import click

from gateway.cli.bench import decisions, overload, simulator
from gateway.cli.bench.report import Figure, progress, show


@click.command("scheduler", epilog="\b\nExamples:\n  lambent bench scheduler\n  lambent bench scheduler --json --check\n")
@click.option(
    "--seconds", type=click.IntRange(min=1), default=20, show_default=True, help="Length of each load, in virtual time."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--check", is_flag=True, help="Exit with 1 if a figure misses its bar.")
def command(seconds: int, as_json: bool, check: bool) -> None:
    """Measure the scheduler alone: no sandboxes, no root.

    The cost of a decision is the processor time of arrival, answer and end of one warm invocation, with few functions and
    with 100,000, in turns: for ten of these, and for all 10,000 that have a sandbox in random order. Then what is known of each
    has to come from memory, which costs a bare look-up in a dictionary as well: one more ratio is without that. After a pause
    of two seconds the keep-alive policy learns, which is more work. Overload is the same code in virtual time on a machine for 40
    sandboxes. How quickly the simulator of the load tests goes is shown where they
    are, in a checkout.
    """
    with progress(3) as step:
        step("the simulator")
        simulated = simulator.figures()
        step("loads from half to four times of what the machine can do")
        load = overload.measure(seconds)
        step("decisions, 10 and 100,000 functions")
        cost = decisions.measure()
    figures = [
        Figure(name="a decision, 10 functions, 10 sandboxes", value=cost.few, unit="µs"),
        Figure(name="a decision, 100,000 functions, 10,000 sandboxes, ten of these", value=cost.among_many, unit="µs"),
        Figure(name="  ratio, ten of these", value=cost.among_many / cost.few, unit="×", most=1.5),
        Figure(name="a decision, the same, all of these in random order", value=cost.all_over, unit="µs"),
        Figure(name="  ratio, all of these", value=cost.all_over / cost.few, unit="×", most=1.5),
        Figure(name="  what a bare look-up costs more of these", value=cost.memory, unit="µs"),
        Figure(name="  ratio without that", value=(cost.all_over - cost.memory) / cost.few, unit="×"),
        Figure(name="a decision after a pause, 10 functions", value=cost.learned_few, unit="µs"),
        Figure(name="  ratio, all of 10,000 in random order", value=cost.learned_all_over / cost.learned_few, unit="×"),
        Figure(name="peak goodput", value=load.peak, unit="/s"),
        Figure(name="goodput at 4 × capacity", value=load.goodput, unit="/s"),
        Figure(name="  ratio to the peak", value=load.goodput / load.peak, unit="×", least=0.9),
        Figure(name="p99 of the waits of what was accepted", value=load.wait_p99_s, unit="s", most=overload.WAIT_S),
        Figure(name="of a function's few calls beside a flood, done", value=load.neighbour, unit="×", least=0.9),
        *simulated,
    ]
    show("scheduler", figures, as_json=as_json, check=check, isolation="the scheduler's core alone")
