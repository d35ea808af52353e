"""`python -m loadtests`: the open-loop generator at one rate, the search for the knee, the generators' limits, the simulator."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import uvloop

from gateway.cli.api import endpoint_option
from gateway.cli.group import Group
from loadtests import limits, report, soak
from loadtests.connections import Requests, connected
from loadtests.functions import KINDS, Functions
from loadtests.keep_alive import keep_alive
from loadtests.knee import Bar, Search, conclusion, sweep
from loadtests.open_loop import Outcome, generate
from loadtests.sigv4 import Signer
from loadtests.simulate import simulate
from loadtests.timer import KernelTimer

_WARM_S = 0.5  #: at each rate before it counts: sandboxes are made then


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Constant load on a gateway that is up. Functions are put online before and removed after.

    `simulate` and `keep-alive` need no gateway: they ask the scheduler alone what it would do.
    """


main.add_command(simulate)
main.add_command(keep_alive)


def _load_options(function: Callable[..., Any]) -> Callable[..., Any]:
    kinds = click.Choice([name for name in KINDS if name != "cold"])
    connections = click.IntRange(1, 10_000)
    options = [
        endpoint_option,
        click.option("--kind", type=kinds, default="echo", show_default=True, help="What the function does."),
        click.option("--api", is_flag=True, help="Call the signed API instead of the function's URL."),
        click.option("--connections", type=connections, default=64, show_default=True, help="Requests that may be under way."),
        click.option("--json", "as_json", is_flag=True, help="As JSON."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@main.command("open")
@click.option("--rate", type=click.FloatRange(0.1, 1e6), required=True, help="Requests a second.")
@click.option("--seconds", type=click.FloatRange(0.1, 86_400), default=10.0, show_default=True, help="For how long.")
@click.option("--hgrm", type=click.Path(dir_okay=False, path_type=Path), help="Write the percentile distribution to this file.")
@_load_options
def open_loop(
    rate: float, seconds: float, hgrm: Path | None, endpoint: str, kind: str, api: bool, connections: int, as_json: bool
) -> None:
    """Send at one constant rate. Latency counts from the time at which a request was meant to be sent."""

    async def run(requests: Requests) -> Outcome:
        async with connected(requests, connections) as sender:
            with KernelTimer() as timer:
                await generate(sender, timer, rate, _WARM_S)
                return await generate(sender, timer, rate, seconds)

    with _online(endpoint, kind, api) as requests:
        _say(f"sending {rate:g} requests a second for {seconds:g} s")
        outcome = uvloop.run(run(requests))
    if hgrm is not None:
        with hgrm.open("wb") as out:
            outcome.latency.write(out)
    click.echo(json.dumps(report.values(outcome), indent=2) if as_json else report.page(outcome))


@main.command("sweep")
@click.option("--from", "first", type=click.FloatRange(0.1, 1e6), default=100.0, show_default=True, help="First rate.")
@click.option("--to", "most", type=click.FloatRange(0.1, 1e6), default=50_000.0, show_default=True, help="Highest rate.")
@click.option("--seconds", type=click.FloatRange(0.1, 3600), default=3.0, show_default=True, help="Length of a step.")
@click.option("--p99-ms", type=click.FloatRange(0.1), default=50.0, show_default=True, help="What it is to keep up.")
@_load_options
def knee(
    first: float, most: float, seconds: float, p99_ms: float, endpoint: str, kind: str, api: bool, connections: int, as_json: bool
) -> None:
    """Find the knee: the highest rate with 99.9 % right answers and a p99 below --p99-ms."""
    with _online(endpoint, kind, api) as requests:
        found = uvloop.run(_swept(requests, Search(first, most), Bar(p99_ms), connections, seconds, quiet=as_json))
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(found["conclusion"])


@main.command("soak")
@click.option("--rate", type=click.FloatRange(0.1, 1e6), required=True, help="Requests a second: 70 % of the knee, say.")
@click.option("--minutes", type=click.FloatRange(0.1, 100_000), default=10.0, show_default=True, help="For how long.")
@_load_options
def long_load(rate: float, minutes: float, endpoint: str, kind: str, api: bool, connections: int, as_json: bool) -> None:
    """Send at one rate for long, and look whether anything grows: memory, descriptors, processes, cgroups, mounts.

    On the gateway's own host, as root, to see all of it. Exits with 1 where something grows or a request failed.
    """
    seconds = minutes * 60
    looks: list[soak.Look] = []

    def told(look: soak.Look) -> None:
        _say(", ".join(f"{value:,.0f} {name}" for name, value in look.items()))

    async def run(requests: Requests) -> Outcome:
        async with connected(requests, connections) as sender:
            with KernelTimer() as timer:
                await generate(sender, timer, rate, _WARM_S)
                watcher = asyncio.create_task(
                    soak.watch(looks, lambda: soak.look(endpoint), min(10.0, seconds / 20), told), name="soak"
                )
                try:
                    return await generate(sender, timer, rate, seconds)
                finally:
                    watcher.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await watcher

    with _online(endpoint, kind, api) as requests:
        _say(f"sending {rate:g} requests a second for {minutes:g} minutes")
        try:
            outcome = uvloop.run(run(requests))
        except OSError as error:
            raise click.ClickException(f"{endpoint} cannot be looked at: {error}") from error
    try:
        found = soak.trends(looks)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        grown = [dataclasses.asdict(one) | {"flat": one.flat} for one in found]
        click.echo(json.dumps({"load": report.values(outcome), "looks": looks, "trends": grown}, indent=2))
    else:
        click.echo(f"{report.page(outcome)}\n\n{soak.table(found)}")
    if outcome.right < outcome.requests or not all(one.flat for one in found):
        sys.exit(1)


@main.command("limits")
@click.option("--seconds", type=click.IntRange(1, 600), default=3, show_default=True, help="Length of each run.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def own_limits(seconds: int, as_json: bool) -> None:
    """Measure the generators themselves, against an aiohttp hello world. Needs no gateway."""
    with limits.hello_world() as target:
        _say(f"three runs of {seconds} s and a search")
        reference = limits.of_hello_world(target, seconds)
        locust = limits.of_locust(target, seconds)
        search = Search(1000.0, 100_000.0)
        opened = uvloop.run(_swept(Requests.hello(target), search, Bar(), limits.USERS, seconds, quiet=as_json))
    if as_json:
        click.echo(json.dumps({"hello_world_by_wrk": reference, "locust": locust, "open_loop": opened}, indent=2))
        return
    if reference is not None:
        click.echo(f"hello world, by wrk:     {reference['per_s']:9,.0f} requests/s")
    click.echo(f"locust, one process:     {locust['per_s']:9,.0f} requests/s")
    click.echo(f"open loop, one process:  {opened['knee_per_s'] or 0:9,.0f} requests/s. {opened['conclusion']}")
    busiest = max(step["generator"]["busy"] for step in opened["steps"])
    if busiest < report.BUSY:
        click.echo(f"The open loop used {busiest:.0%} of a core at most: there the hello world was the limit, not the generator.")


def _say(what: str) -> None:
    """What it will be busy with, for who sits there; no bar, for a thread that draws one would be measured too."""
    if sys.stderr.isatty():
        click.echo(what, err=True)


@contextlib.contextmanager
def _online(endpoint: str, kind: str, api: bool) -> Iterator[Requests]:
    functions = Functions(endpoint)
    try:
        function = functions.deploy(kind)
        yield Requests.api(function, Signer.of_environment()) if api else Requests.url(function)
    finally:
        functions.remove()


async def _swept(
    requests: Requests, search: Search, bar: Bar, connections: int, seconds: float, *, quiet: bool
) -> dict[str, Any]:
    steps: list[Outcome] = []

    def told(outcome: Outcome, kept: bool) -> None:
        steps.append(outcome)
        if not quiet:
            click.echo(f"{report.line(outcome)}  {'kept up' if kept else 'did not keep up'}")

    if not quiet:
        click.echo(report.HEADING)
    async with connected(requests, connections) as sender:
        with KernelTimer() as timer:

            async def step(rate_per_s: float) -> Outcome:
                await generate(sender, timer, rate_per_s, _WARM_S)
                return await generate(sender, timer, rate_per_s, seconds)

            best = await sweep(step, search, bar, told)
    return {
        "knee_per_s": search.knee_per_s,
        "missed_per_s": search.missed_per_s,
        "conclusion": conclusion(search, bar, steps),
        "at_the_knee": None if best is None else report.values(best),
        "steps": [report.values(outcome) for outcome in steps],
    }


if __name__ == "__main__":
    main(prog_name="python -m loadtests")
