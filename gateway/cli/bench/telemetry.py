"""What telemetry costs the throughput of warm invocations, when its listener does as little as one can."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.cli.bench.extensions import compiled, configure, layer
from gateway.cli.bench.functions import deploy
from gateway.cli.bench.instance import Instance
from gateway.cli.bench.load import wrk
from gateway.cli.bench.report import Figure

ROUNDS: Final = 9
SECONDS: Final = 1
CONNECTIONS: Final = 4
NAME: Final = "lambent-listener"  #: of the extension, as listener.c has it


def measure(base: Path, count: int, step: Callable[[str], None]) -> list[Figure]:
    """Both functions have the same extension, one of them is subscribed. Nothing without a C compiler and wrk."""
    base.mkdir()
    executable = base / NAME
    if shutil.which("wrk") is None or not compiled("listener.c", executable):
        return []
    off: list[float] = []
    on: list[float] = []
    with Instance(base / "data", {"request_rate": 0}) as instance:
        api = instance.api
        arn = layer(api, executable)
        plain, told = deploy(instance, api, "untold"), deploy(instance, api, "told")
        configure(api, "untold", Layers=[arn])
        configure(api, "told", Layers=[arn], Environment={"Variables": {"TELEMETRY": "1"}})
        for target in (plain, told):
            wrk(target, connections=CONNECTIONS, seconds=1)
        for _ in range(ROUNDS):  # in turns, since a machine's mood changes
            step("throughput with and without telemetry")
            off.append(wrk(plain, connections=CONNECTIONS, seconds=SECONDS).requests_per_s)
            on.append(wrk(told, connections=CONNECTIONS, seconds=SECONDS).requests_per_s)
    without, with_it = max(off), max(on)  # other work on the machine only ever takes away
    return [
        Figure(name="an extension without telemetry, best of the rounds", value=without, unit="requests/s"),
        Figure(name="the same, subscribed to platform and function", value=with_it, unit="requests/s"),
        Figure(name="  telemetry costs", value=(1 - with_it / without) * 100, unit="%", most=10),
    ]
