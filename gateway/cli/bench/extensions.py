"""What an external extension costs a cold start, and when those that will not end are killed.

The extension is written in C, so that what is measured is Lambent's part; without a compiler these figures are left out.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import selectors
import shutil
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.api import FUNCTIONS, Api
from gateway.cli.bench.cold import at_rest, cold, wait
from gateway.cli.bench.functions import deploy
from gateway.cli.bench.instance import Instance
from gateway.cli.bench.load import Target, burst_ms, percentile
from gateway.cli.bench.report import Figure
from gateway.cli.deploy import Wish, publish_url, put, python_runtimes, settle
from gateway.clock import SystemClock
from sandbox.native.processes import descendants

NAME: Final = "lambent-bench"  #: of the extension, as extension.c has it
SANDBOXES: Final = 50
BURSTS: Final = 10  #: at most, until so many are there
BUDGET_MS: Final = 2000
SLOW: Final = "import time\n\ndef handler(event, context):\n    time.sleep(1)\n    return {'statusCode': 200, 'body': ''}\n"

Step = Callable[[str], None]


def compiled(source: str, executable: Path) -> bool:
    """Make `executable` of a C file beside this one, if this host has a compiler."""
    program = shutil.which("gcc") or shutil.which("cc")
    if program is None:
        return False
    command = [program, "-O2", "-D_GNU_SOURCE", "-o", str(executable), str(Path(__file__).with_name(source))]
    subprocess.run([*command, "-static"], check=False, capture_output=True)
    if not executable.exists():  # no static C library
        subprocess.run(command, check=True)
    return True


def measure(base: Path, count: int, step: Step) -> list[Figure]:
    """All figures about extensions; none where nothing can compile one."""
    base.mkdir()
    executable = base / NAME
    if not compiled("extension.c", executable):
        return []
    return _cost(base / "cost", executable, count, step) + shutdown(base / "shutdown", executable, step)


def _cost(data_dir: Path, extension: Path, count: int, step: Step) -> list[Figure]:
    """Cold starts with and without in pairs, now one first, now the other: a machine's mood changes from second to second."""
    plain_ms: list[float] = []
    extended_ms: list[float] = []
    with Instance(data_dir, {"stems_min": 4}) as instance:
        api = instance.api
        arn = layer(api, extension)
        plain = {f"plain-{number}": deploy(instance, api, f"plain-{number}") for number in range(count + 1)}
        extended = {f"extended-{number}": deploy(instance, api, f"extended-{number}") for number in range(count + 1)}
        for name in extended:
            configure(api, name, Layers=[arn])
        pair = [("plain", plain, plain_ms), ("extended", extended, extended_ms)]
        for number in range(count + 1):
            step("cold starts with and without an extension")
            for kind, targets, took_ms in pair:
                name = f"{kind}-{number}"
                took_ms.append(cold(instance, targets[name], name, 4))
            pair.reverse()
    del plain_ms[0], extended_ms[0]  # the first ones find no zygote
    added = [extended - plain for plain, extended in zip(plain_ms, extended_ms, strict=True)]
    return [
        Figure(name="cold start without extensions, p50", value=percentile(plain_ms, 0.5), unit="ms"),
        Figure(name="cold start with one external extension in C, p50", value=percentile(extended_ms, 0.5), unit="ms"),
        Figure(name="one external extension adds, median of pairs", value=statistics.median(added), unit="ms", most=15),
    ]


def shutdown(data_dir: Path, extension: Path, step: Step) -> list[Figure]:
    """Sandboxes, frozen by then, whose extension ignores SIGTERM and SHUTDOWN, all told to end at once on a busy machine."""
    step(f"shutdown of {SANDBOXES} sandboxes that resist")
    settings = {"max_sandboxes": SANDBOXES, "stems_min": 0, "stems_max": 0}
    with Instance(data_dir, settings) as instance, contextlib.closing(instance.api) as api:
        name = "stays"
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as package:
            package.writestr("app.py", SLOW)
        put(api, Wish(name=name, runtime=python_runtimes(api)[0], handler="app.handler", timeout_s=30), archive.getvalue())
        configure(api, name, Layers=[layer(api, extension)], Environment={"Variables": {"STAY": "1"}})
        target = Target.of(publish_url(api, name), instance.endpoint)
        there = 0
        for _ in range(BURSTS):  # some requests wait for those that are done, so fewer start than are asked for
            burst_ms([target] * (SANDBOXES * 3 // 2))
            at_last = wait(instance, lambda now: at_rest(now) and set(now["functions"][name]) == {"frozen"})
            there = at_last["functions"][name]["frozen"]
            if there == SANDBOXES:
                break
        else:
            raise click.ClickException(f"{BURSTS} bursts made {there} sandboxes, not {SANDBOXES}")
        watched = _processes(instance.process.pid)
        if len(watched) != there:
            raise click.ClickException(f"{len(watched)} extensions run, not {there}")
        with _busy():
            configure(api, name, Description="another generation: the old one's sandboxes are stopped")
            ended_ms = _ends(watched)
        told_ms = _told(api, name, there)
    after = sorted(ended_ms[who] - (told_ms[who] - BUDGET_MS) for who in ended_ms)
    return [
        Figure(name=f"{there} at once, the first is killed after", value=after[0], unit="ms", least=BUDGET_MS - 20),
        Figure(name=f"{there} at once, killed after, p50", value=percentile(after, 0.5), unit="ms"),
        Figure(name=f"{there} at once, the last is killed after", value=after[-1], unit="ms", most=BUDGET_MS + 20),
    ]


def layer(api: Api, extension: Path) -> str:
    """Publish a layer with this program as an external extension; its ARN."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as package:
        entry = zipfile.ZipInfo(f"extensions/{extension.name}")
        entry.external_attr = 0o755 << 16
        package.writestr(entry, extension.read_bytes())
    content = {"ZipFile": base64.b64encode(archive.getvalue()).decode()}
    return str(api.call("POST", f"/2018-10-31/layers/{extension.name}/versions", {"Content": content}).json()["LayerVersionArn"])


def configure(api: Api, name: str, **changes: Any) -> None:
    """Change a function's configuration, and wait until that is done."""
    api.call("PUT", f"{FUNCTIONS}/{name}/configuration", changes)
    settle(api, name)


def _processes(supervisor: int) -> dict[tuple[int, int], int]:
    """The extensions of one Lambent: by user and number inside, as they know themselves, the number outside."""
    found: dict[tuple[int, int], int] = {}
    for pid in descendants(supervisor):
        with contextlib.suppress(OSError):
            directory = Path(f"/proc/{pid}")
            command = (directory / "cmdline").read_bytes().split(b"\0")[0]
            if command.endswith(f"/extensions/{NAME}".encode()):
                status = (directory / "status").read_text()
                user, inside = re.search(r"\nUid:\t(\d+)", status), re.search(r"\nNSpid:.*?(\d+)\n", status)
                if user is not None and inside is not None:
                    found[int(user[1]), int(inside[1])] = pid
    return found


def _ends(watched: dict[tuple[int, int], int]) -> dict[tuple[int, int], float]:
    """When each of them ended, in milliseconds since the epoch.

    Whoever looks must not be late itself: with the right to it, as a real-time task.
    """
    clock = SystemClock()
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(2))
    ended: dict[tuple[int, int], float] = {}
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for who, pid in watched.items():
            pidfd = os.pidfd_open(pid)
            stack.callback(os.close, pidfd)
            selector.register(pidfd, selectors.EVENT_READ, who)
        while len(ended) < len(watched):
            ready = selector.select(30)
            now_ms = clock.wall() * 1000
            if not ready:
                raise click.ClickException(f"{len(watched) - len(ended)} extensions still run")
            for key, _ in ready:
                ended[key.data] = now_ms
                selector.unregister(key.fileobj)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return ended


def _told(api: Api, name: str, count: int) -> dict[tuple[int, int], float]:
    """Until when each was given time, as its SHUTDOWN event said."""
    told: dict[tuple[int, int], float] = {}
    for _ in range(200):
        for line in api.call("GET", f"/_lambent/logs/{name}").body.splitlines():
            found = re.fullmatch(rf"{NAME} (\d+) (\d+) (.*)", json.loads(line)["message"].rstrip("\n"))
            if found is not None:
                told[int(found[1]), int(found[2])] = json.loads(found[3])["deadlineMs"]
        if len(told) == count:
            return told
        time.sleep(0.02)
    raise click.ClickException(f"only {len(told)} of {count} extensions were told to end")


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    """As many processes that only compute as there are processors."""
    children = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()
