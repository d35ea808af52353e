"""`lambent bench cold`: first invocations, one by one and a hundred at once, and what many sandboxes cost in memory.

Cold means that nothing of a function, no process, no mount, no sandbox, is there before its first byte: each function is deployed
but was never invoked, and the gateway is asked what it has of it right before.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.bench.functions import deploy
from gateway.cli.bench.instance import Instance, NotReady
from gateway.cli.bench.load import Client, Target, burst_ms, now_s, percentile, quiet
from gateway.cli.bench.report import Figure, progress, show

BURST: Final = 100
BURSTS: Final = 3
SETTLED_S: Final = 0.3  #: without another stem, when they are all there
IDLE: Final = 100
FROZEN: Final = 500
NEVER_MS: Final = 3_600_000
WAIT_S: Final = 60.0

Step = Callable[[str], None]


@click.command(
    "cold", epilog="\b\nExamples:\n  sudo lambent bench cold\n  sudo lambent bench cold --count 50 --json > cold.json\n"
)
@click.option(
    "--count", type=click.IntRange(min=10), default=100, show_default=True, help="Cold starts of each kind, one by one."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--check", is_flag=True, help="Exit with 1 if a figure misses its bar.")
def command(count: int, as_json: bool, check: bool) -> None:
    """Measure first invocations of Python functions through their URLs, from request to answer.

    With stems (sandboxes without a function, kept ready) and without any, each in turn with the network that functions have by
    default and with none; 100 functions at once; then the memory that 100 idle sandboxes take, and whether 500 frozen ones all
    still answer.
    """
    figures: list[Figure] = []
    try:
        with tempfile.TemporaryDirectory(prefix="lambent-bench-") as directory, progress(4 * count + BURSTS + 2) as step:
            base = Path(directory)
            stemmed, unconnected, isolation = _one_by_one(base / "stems", {"stems_min": 4}, count, step)
            bare, bare_unconnected, _ = _one_by_one(base / "bare", {"stems_min": 0, "stems_max": 0}, count, step)
            figures += [
                Figure(name="cold start from a stem, p50", value=percentile(stemmed, 0.5), unit="ms", most=4),
                Figure(name="cold start from a stem, p99", value=percentile(stemmed, 0.99), unit="ms", most=15),
                *_against_none(stemmed, unconnected),
                Figure(name="cold start without stems, p50", value=percentile(bare, 0.5), unit="ms", most=20),
                Figure(name="cold start without stems, p99", value=percentile(bare, 0.99), unit="ms"),
                *_against_none(bare, bare_unconnected),
            ]
            figures += _bursts(base / "burst", step)
            figures += _memory(base / "memory", step)
    except NotReady as error:
        raise click.ClickException(str(error)) from error
    show("cold", figures, as_json=as_json, check=check, isolation=isolation)


def _against_none(connected: list[float], unconnected: list[float]) -> list[Figure]:
    """What the network costs."""
    none = percentile(unconnected, 0.5)
    return [
        Figure(name="  the same with --network none, p50", value=none, unit="ms"),
        Figure(name="  ratio", value=percentile(connected, 0.5) / none, unit="×", most=1.15),
    ]


def _one_by_one(data_dir: Path, settings: Mapping[str, object], count: int, step: Step) -> tuple[list[float], list[float], str]:
    """Milliseconds of `count` first invocations with the usual network, of as many without any, and how sandboxes are isolated.

    Both gateways are up, and each cold start is made when both are at rest, now of one, now of the other: whatever else
    the machine does meanwhile, it does to both.
    """
    wanted = int(str(settings["stems_min"]))
    took: list[list[float]] = [[], []]
    with Instance(data_dir / "usual", settings) as usual, Instance(data_dir / "none", {**settings, "network": "none"}) as none:
        names = [f"cold-{number}" for number in range(count + 1)]
        each = [
            (instance, {name: deploy(instance, instance.api, name) for name in names}, times)
            for instance, times in zip((usual, none), took, strict=True)
        ]
        # One that does not count: the runtime's zygote is there from then on, as it is on any gateway that was used before.
        for instance, targets, _ in each:
            cold(instance, targets[names[0]], names[0], 0)
        for name in names[1:]:
            for instance, targets, times in each:
                step(f"cold starts with {wanted} stems" if wanted else "cold starts without stems")
                _ready(usual if instance is none else none, wanted)  # else its stems are made meanwhile
                times.append(cold(instance, targets[name], name, wanted))
            each.reverse()
        return took[0], took[1], str(usual.status()["isolation"])


def cold(instance: Instance, target: Target, name: str, stems: int) -> float:
    """Milliseconds of the first invocation of `name`, once so many stems are ready and nothing is under way."""
    _nothing_of(_ready(instance, stems), [name])
    client = Client(target)
    with contextlib.closing(client), quiet():
        return client.timed_ms()


def _ready(instance: Instance, stems: int) -> Mapping[str, Any]:
    return wait(instance, lambda now: sum(now["stems"].values()) >= stems and at_rest(now))


def _bursts(data_dir: Path, step: Step) -> list[Figure]:
    """Each on a Lambent of its own: the second burst of one would find what the first has left."""
    bursts = [_burst(data_dir / str(number), step) for number in range(BURSTS)]
    lasts = sorted(max(took) for took in bursts)
    together = [took_ms for took in bursts for took_ms in took]
    return [
        Figure(name=f"{BURST} functions at once, first answer", value=min(together), unit="ms"),
        Figure(name="  p50", value=percentile(together, 0.5), unit="ms"),
        Figure(name=f"  last answer, median of {BURSTS}", value=lasts[BURSTS // 2], unit="ms", most=800),
        Figure(name=f"  last answer, slowest of {BURSTS}", value=lasts[-1], unit="ms"),
    ]


def _burst(data_dir: Path, step: Step) -> list[float]:
    with Instance(data_dir, {}) as instance:
        step(f"{BURST} functions at once")
        targets = {f"burst-{number}": deploy(instance, instance.api, f"burst-{number}") for number in range(BURST + 1)}
        cold(instance, targets.pop("burst-0"), "burst-0", 0)
        _nothing_of(_settled(instance), targets)
        return burst_ms(list(targets.values()))


def _settled(instance: Instance) -> Mapping[str, Any]:
    """Once it is at rest and its stems are no more than they were a while ago."""
    before: object = None
    while True:
        status = wait(instance, at_rest)
        if status["stems"] == before:
            return status
        before = status["stems"]
        time.sleep(SETTLED_S)


def _memory(data_dir: Path, step: Step) -> list[Figure]:
    """By how much the host's available memory falls: zygotes, inits and what the kernel keeps for a sandbox are in it."""
    step(f"memory of {IDLE} idle sandboxes")
    with Instance(data_dir / "idle", {"freeze_after_ms": NEVER_MS, "stems_min": 0, "stems_max": 0}) as instance:
        own_mb = _own_mb(instance.process.pid)
        before_mb = _available_mb()
        targets = {f"idle-{number}": deploy(instance, instance.api, f"idle-{number}") for number in range(IDLE)}
        burst_ms(list(targets.values()))
        wait(instance, lambda now: now["sandboxes"].get("idle", 0) == IDLE)
        idle_mb = (before_mb - _available_mb()) / IDLE
    step(f"{FROZEN} frozen sandboxes")
    with Instance(data_dir / "frozen", {}) as instance:
        targets = {f"frozen-{number}": deploy(instance, instance.api, f"frozen-{number}") for number in range(FROZEN)}
        batches = [list(targets.values())[first : first + BURST] for first in range(0, FROZEN, BURST)]
        for batch in batches:
            burst_ms(batch)
        again: list[float] = []
        for batch in batches:
            wait(instance, lambda now: now["sandboxes"].get("frozen", 0) == FROZEN)
            again += burst_ms(batch)
        still = sum(instance.status()["sandboxes"].get(state, 0) for state in ("idle", "frozen"))
    return [
        Figure(name="supervisor, gateway and spawner", value=own_mb, unit="MB"),
        Figure(name=f"each of {IDLE} idle sandboxes", value=idle_mb, unit="MB", most=6),
        Figure(name=f"of {FROZEN} frozen sandboxes, all answered and are left", value=still, unit="", least=FROZEN),
        Figure(name=f"frozen, {BURST} at once, last answer", value=max(again), unit="ms"),
    ]


def _nothing_of(status: Mapping[str, Any], names: Iterable[str]) -> None:
    there = {name for name in status["functions"] if name in set(names)}
    if there:
        raise click.ClickException(f"not cold: the gateway has sandboxes of {sorted(there)} already")


def at_rest(status: Mapping[str, Any]) -> bool:
    """Nothing is on its way; what stays is idle, frozen or a stem."""
    return not status["sandboxes"].keys() & {"making", "starting", "reserved", "finishing", "stopping"}


def wait(instance: Instance, right: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
    """Until the gateway's status is right; that status. Raises click.ClickException when it never is."""
    deadline_s = now_s() + WAIT_S
    while True:
        status: Mapping[str, Any] = instance.status()
        if right(status):
            return status
        if now_s() > deadline_s:
            raise click.ClickException(f"the gateway did not come to rest in {WAIT_S:g} s: {status}")
        time.sleep(0.02)


def _own_mb(supervisor: int) -> float:
    """Proportional set size of the supervisor and its two children."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    total = 0.0
    for pid in (str(supervisor), *children):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))
    return total


def _available_mb() -> float:
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("MemAvailable"))
