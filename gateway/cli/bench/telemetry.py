"""What telemetry costs the throughput of warm invocations, when its listener does as little as one can.

Two functions with the same extension, one of them subscribed, are loaded in turns. What is held to the bar is the gateway's own
processor time for a request: throughput is one processor's worth of requests, and processor time is what other work on the
machine, and the listener's, changes least. The clock on the wall is told as well.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from gateway.cli.bench.extensions import NAME, compiled, configure, layer
from gateway.cli.bench.functions import deploy
from gateway.cli.bench.instance import Instance
from gateway.cli.bench.load import Target, wrk
from gateway.cli.bench.report import Figure

ROUNDS: Final = 12
SECONDS: Final = 1
CONNECTIONS: Final = 4


class Run(NamedTuple):
    """One second of load."""

    requests_per_s: float
    processor_us: float  #: of the gateway, for each request


def measure(base: Path, count: int, step: Callable[[str], None]) -> list[Figure]:
    """Nothing without a C compiler and wrk."""
    base.mkdir()
    executable = base / NAME
    if shutil.which("wrk") is None or not compiled("extension.c", executable):
        return []
    off: list[Run] = []
    on: list[Run] = []
    with Instance(base / "data", {"request_rate": 0}) as instance:
        api = instance.api
        arn = layer(api, executable)
        plain, told = deploy(instance, api, "untold"), deploy(instance, api, "told")
        configure(api, "untold", Layers=[arn], Environment={"Variables": {"SILENT": "1"}})
        configure(api, "told", Layers=[arn], Environment={"Variables": {"SILENT": "1", "TELEMETRY": "1"}})
        for target in (plain, told):
            wrk(target, connections=CONNECTIONS, seconds=1)
        pair = [(plain, off), (told, on)]
        for _ in range(ROUNDS):
            step("throughput with and without telemetry")
            for target, runs in pair:
                runs.append(_run(instance, target))
            pair.reverse()  # now one is first, now the other: a machine's mood changes
    return figures(off, on)


def _run(instance: Instance, target: Target) -> Run:
    before_s = time.clock_gettime(instance.gateway_clock)
    found = wrk(target, connections=CONNECTIONS, seconds=SECONDS)
    used_s = time.clock_gettime(instance.gateway_clock) - before_s
    return Run(found.requests_per_s, used_s * 1e6 / found.requests)


def figures(off: list[Run], on: list[Run]) -> list[Figure]:
    """Runs in pairs: of each pair what it costs, of those the median."""
    untold, told = "an extension without telemetry", "the same, subscribed to platform and function"
    used = [(untold, off, " (gateway's processor time a request)"), (told, on, "")]
    costs = [1 - plain.processor_us / other.processor_us for plain, other in zip(off, on, strict=True)]
    slower = [1 - other.requests_per_s / plain.requests_per_s for plain, other in zip(off, on, strict=True)]
    return [
        *(
            Figure(name=f"{name}{what}", value=statistics.median(run.processor_us for run in runs), unit="µs")
            for name, runs, what in used
        ),
        Figure(name="  telemetry costs of throughput, by that", value=statistics.median(costs) * 100, unit="%", most=10),
        *(
            Figure(name=name, value=statistics.median(run.requests_per_s for run in runs), unit="requests/s")
            for name, runs, _ in used
        ),
        Figure(name="  telemetry costs, by the clock", value=statistics.median(slower) * 100, unit="%"),
    ]
