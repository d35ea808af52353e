"""What a Node.js cold start costs: from a stem, through its function URL, against `node` started fresh with the same handler.

The fresh one is generous to `node`: no HTTP, no sandbox, it loads the file, calls the handler and prints the answer. Both
alternate, since a machine's mood changes from one second to the next; without Node.js these figures are left out.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from gateway.cli.api import Api
from gateway.cli.bench.instance import Instance
from gateway.cli.bench.load import Client, Target, now_s, percentile, quiet
from gateway.cli.bench.report import Figure
from gateway.cli.deploy import Wish, publish_url, put
from sandbox.native.nodes import Node, find_nodes

STEMS: Final = 4
WAIT_S: Final = 60.0
LOAD_AND_RUN: Final = (
    "import(process.argv[1]).then((module) => module.handler({})).then((answer) => process.stdout.write(JSON.stringify(answer)))"
)
#: what the two kinds of module are called, their file, and their text
KINDS: Final = (
    ("CommonJS", "index.cjs", "exports.handler = async (event) => ({statusCode: 200, body: event.body ?? 'Hello, world!'})"),
    (
        "ES module",
        "index.mjs",
        "export const handler = async (event) => ({statusCode: 200, body: event.body ?? 'Hello, world!'})",
    ),
)

Step = Callable[[str], None]


def measure(base: Path, count: int, step: Step) -> list[Figure]:
    """All figures about Node.js, `count` cold starts of each kind of module; none where there is no Node.js."""
    found = find_nodes()
    if not found:
        return []
    base.mkdir()
    stemmed: dict[str, list[float]] = {kind: [] for kind, _, _ in KINDS}
    fresh: dict[str, list[float]] = {kind: [] for kind, _, _ in KINDS}
    with Instance(base / "data", {"stems_min": STEMS}) as instance:
        for number in range(count + 1):
            step("cold starts of Node.js")
            for kind, name, code in KINDS:
                file = base / name
                file.write_text(code)
                target = _deploy(instance.api, instance.endpoint, f"{file.suffix[1:]}-{number}", found[-1].runtime, file)
                stemmed[kind].append(_cold_ms(instance, target, found[-1].runtime, STEMS if number else 0))
                fresh[kind].append(_fresh_ms(found[-1], file))
    return [figure for kind, _, _ in KINDS for figure in _figures(kind, stemmed[kind][1:], fresh[kind][1:])]  # 0: no zygote yet


def _figures(kind: str, stemmed: list[float], fresh: list[float]) -> list[Figure]:
    ratio = statistics.median(ours / theirs for ours, theirs in zip(stemmed, fresh, strict=True))
    return [
        Figure(name=f"Node.js, {kind}: cold start from a stem, p50", value=percentile(stemmed, 0.5), unit="ms"),
        Figure(name=f"Node.js, {kind}: `node` started fresh, p50", value=percentile(fresh, 0.5), unit="ms"),
        Figure(name=f"Node.js, {kind}: ratio, median of pairs", value=ratio, unit="×", most=0.5),
    ]


def _cold_ms(instance: Instance, target: Target, runtime: str, stems: int) -> float:
    _wait_for_stems(instance, runtime, stems)
    with contextlib.closing(Client(target)) as client, quiet():
        return client.timed_ms()


def _fresh_ms(node: Node, file: Path) -> float:
    began_s = now_s()
    subprocess.run([str(node.executable), "-e", LOAD_AND_RUN, str(file)], check=True, capture_output=True)
    return (now_s() - began_s) * 1000


def _deploy(api: Api, endpoint: str, name: str, runtime: str, file: Path) -> Target:
    """Code of its own, so that nothing of one function helps another."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        package.writestr(file.name, f"// {name}\n{file.read_text()}")
    put(api, Wish(name=name, runtime=runtime, handler="index.handler", timeout_s=10), archive.getvalue())
    return Target.of(publish_url(api, name), endpoint)


def _wait_for_stems(instance: Instance, runtime: str, wanted: int) -> None:
    """Until they are ready and nothing else is under way."""
    deadline_s = now_s() + WAIT_S
    busy = {"making", "starting", "reserved", "finishing", "stopping"}
    while True:
        status = instance.status()
        if status["stems"].get(runtime, 0) >= wanted and not status["sandboxes"].keys() & busy:
            return
        if now_s() > deadline_s:
            raise click.ClickException(f"the gateway has no {wanted} stems of {runtime} after {WAIT_S:g} s: {status}")
        time.sleep(0.02)
