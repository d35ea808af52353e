"""`lambent bench warm`: throughput and latency against a hello world, in alternating rounds; the cost of a thaw."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click

from gateway.cli.bench.functions import deploy
from gateway.cli.bench.instance import Instance, NotReady
from gateway.cli.bench.load import Client, Target, Wrk, percentile, quiet, wrk
from gateway.cli.bench.report import Figure, progress, show

CONNECTIONS: Final = 16
ROUNDS: Final = 7
FREEZE_AFTER_S: Final = 0.03
AWAKE_PAUSE_S: Final = 0.01
FROZEN_PAUSE_S: Final = 0.06
THAWS: Final = 150


@click.command(
    "warm",
    epilog="\b\nExamples:\n  sudo lambent bench warm\n  sudo lambent bench warm --seconds 10 --json > warm.json\n",
)
@click.option("--seconds", type=click.IntRange(min=1), default=2, show_default=True, help="Length of each of the runs of wrk.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--check", is_flag=True, help="Exit with 1 if a figure misses its bar.")
def command(seconds: int, as_json: bool, check: bool) -> None:
    """Measure warm invocations through a function URL.

    wrk loads an aiohttp hello world and an echo function in turn, at 16 connections and at one, seven rounds each. A ratio is
    the median of those of the rounds: what a shared machine does meanwhile, it does to both halves of a round. The cost of a
    thaw is the difference of medians between a sandbox that was frozen and one that was idle just as long as it takes not to be.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="lambent-bench-") as directory, _hello() as hello:
            wide: list[tuple[Wrk, Wrk]] = []
            narrow: list[tuple[Wrk, Wrk]] = []
            with progress(4 * ROUNDS + 1) as step:
                with Instance(Path(directory) / "warm", {"request_rate": 0}) as instance:
                    isolation = str(instance.status()["isolation"])
                    target = deploy(instance, instance.api, "echo")
                    wrk(target, connections=CONNECTIONS, seconds=1)
                    for _ in range(ROUNDS):
                        for connections, rounds in ((CONNECTIONS, wide), (1, narrow)):
                            step(f"hello world, {connections} connections")
                            reference = wrk(hello, connections=connections, seconds=seconds)
                            step(f"echo function, {connections} connections")
                            rounds.append((reference, wrk(target, connections=connections, seconds=seconds)))
                step("thaws")
                thaw_ms, awake_ms = _thaw(Path(directory) / "thaw")
    except NotReady as error:
        raise click.ClickException(str(error)) from error
    show("warm", _figures(wide, narrow, thaw_ms, awake_ms), as_json=as_json, check=check, isolation=isolation)


def _figures(
    wide: list[tuple[Wrk, Wrk]], narrow: list[tuple[Wrk, Wrk]], thaw_ms: list[float], awake_ms: list[float]
) -> list[Figure]:
    def medians(rounds: list[tuple[Wrk, Wrk]], value: Callable[[Wrk], float]) -> tuple[float, float, float]:
        pairs = [(value(hello), value(ours)) for hello, ours in rounds]
        hellos, all_ours = zip(*pairs, strict=True)
        ratio = statistics.median(ours / hello for hello, ours in pairs)
        return statistics.median(hellos), statistics.median(all_ours), ratio

    hello_rate, rate, of_rate = medians(wide, lambda run: run.requests_per_s)
    hello_p50, p50, of_p50 = medians(narrow, lambda run: run.p50_ms)
    hello_p99, p99, of_p99 = medians(narrow, lambda run: run.p99_ms)
    return [
        Figure(name=f"hello world, {CONNECTIONS} connections", value=hello_rate, unit="requests/s"),
        Figure(name=f"echo function, {CONNECTIONS} connections", value=rate, unit="requests/s"),
        Figure(name="  ratio", value=of_rate, unit="×", least=0.35),
        Figure(name="hello world, one connection, p50", value=hello_p50, unit="ms"),
        Figure(name="echo function, one connection, p50", value=p50, unit="ms"),
        Figure(name="  ratio", value=of_p50, unit="×", most=6),
        Figure(name="hello world, one connection, p99", value=hello_p99, unit="ms"),
        Figure(name="echo function, one connection, p99", value=p99, unit="ms"),
        Figure(name="  ratio", value=of_p99, unit="×", most=10),
        Figure(name="after a pause, not frozen, p50", value=percentile(awake_ms, 0.5), unit="ms"),
        Figure(name="after a pause, frozen, p50", value=percentile(thaw_ms, 0.5), unit="ms"),
        Figure(name="  thaw adds", value=percentile(thaw_ms, 0.5) - percentile(awake_ms, 0.5), unit="ms", most=0.3),
    ]


def _thaw(data_dir: Path) -> tuple[list[float], list[float]]:
    """(frozen, not frozen): milliseconds of requests to two functions after the same pauses, one of which is never frozen."""
    frozen: list[float] = []
    awake: list[float] = []
    with Instance(data_dir, {"freeze_after_ms": int(FREEZE_AFTER_S * 1000)}) as instance:
        client = Client(deploy(instance, instance.api, "thaw"))
        with contextlib.closing(client), quiet():
            client.timed_ms()
            for _ in range(THAWS):
                time.sleep(FROZEN_PAUSE_S)
                frozen.append(client.timed_ms())
                time.sleep(AWAKE_PAUSE_S)
                awake.append(client.timed_ms())
            time.sleep(FROZEN_PAUSE_S)
        states = instance.status()["sandboxes"]
        if not states.get("frozen"):
            raise click.ClickException(f"the sandbox that should be frozen is not: {states}")
    return frozen, awake


@contextlib.contextmanager
def _hello() -> Iterator[Target]:
    process = subprocess.Popen([sys.executable, "-P", "-m", "gateway.cli.bench.hello"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise click.ClickException("the hello world to compare with did not start")
        yield Target("127.0.0.1", int(port), "/", "127.0.0.1")
    finally:
        process.kill()
        process.communicate()
