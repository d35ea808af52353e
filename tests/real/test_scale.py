"""Many sandboxes at once: what each costs, and that they are all still there when they are wanted."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import urllib.parse
from collections.abc import Callable, Sequence

import pytest

from gateway.cli.bench.instance import Instance
from tests.processes import Family, descriptors
from tests.real.product import PYTHON, ROLE, package

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]

CODE = "import os\ndef handler(event, context):\n return os.environ['AWS_LAMBDA_FUNCTION_NAME']\n"
IDLE = 100
FROZEN = 500
BURST = 50  #: at once
NEVER_MS = 3_600_000
MOST_MB = 6.0
MOST_DESCRIPTORS = 10  #: of the gateway, each sandbox
PASSING = 5  #: descriptors that belong to no sandbox, like a connection that its client has just closed
REST_S = 60.0


@pytest.fixture
def functions(up: Callable[..., Instance]) -> Callable[..., tuple[Instance, list[str]]]:
    """A Lambent of the test's own with so many functions, none of which has a sandbox; no runtime was started yet."""

    def start(count: int, **settings: object) -> tuple[Instance, list[str]]:
        instance = up(stems_min=0, stems_max=0, **settings)
        names = [f"many-{number}" for number in range(count)]
        wanted = {"Runtime": PYTHON, "Handler": "app.handler", "Role": ROLE, "Timeout": 30}
        code = {"ZipFile": base64.b64encode(package({"app.py": CODE})).decode()}
        api = instance.api
        for name in names:
            api.call("POST", "/2015-03-31/functions", {"FunctionName": name, "Code": code, **wanted})
        api.close()
        assert Family(instance.process.pid).zygotes == []
        return instance, names

    return start


async def all_answer(instance: Instance, names: Sequence[str]) -> float:
    """Call every function once, some at a time; the longest wait for an answer, in seconds."""
    parts = urllib.parse.urlsplit(instance.endpoint)
    some = asyncio.Semaphore(BURST)

    async def call(name: str) -> float:
        async with some:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            began_s = time.monotonic()
            head = f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            writer.write(f"{head}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
            answer = await reader.read()
            took_s = time.monotonic() - began_s
            writer.close()
            await writer.wait_closed()
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert json.loads(answer.rpartition(b"\r\n\r\n")[2]) == name
        return took_s

    return max(await asyncio.gather(*(call(name) for name in names)))


async def come_to(instance: Instance, states: dict[str, int]) -> None:
    deadline_s = time.monotonic() + REST_S
    while (found := (await asyncio.to_thread(instance.status))["sandboxes"]) != states:
        assert time.monotonic() < deadline_s, found
        await asyncio.sleep(0.05)


def available_mb() -> float:
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("MemAvailable"))


async def test_what_an_idle_sandbox_costs(functions: Callable[..., tuple[Instance, list[str]]]) -> None:
    """All of it: the kernel's memory, the init, and its share of the zygote, which was not there before.

    What others on this host take meanwhile is in it, too, so one of three has to be right.
    """
    found_mb = []
    for _ in range(3):
        instance, names = functions(IDLE, freeze_after_ms=NEVER_MS)
        family = Family(instance.process.pid)
        before_mb, before = available_mb(), descriptors(family.gateway)
        await all_answer(instance, names)
        await come_to(instance, {"idle": IDLE})
        found_mb.append((before_mb - available_mb()) / IDLE)
        opened = descriptors(family.gateway) - before
        print(f"each of {IDLE} idle sandboxes: {found_mb[-1]:.2f} MB, {opened / IDLE:.2f} descriptors of the gateway")
        assert opened <= IDLE * MOST_DESCRIPTORS + PASSING
        if found_mb[-1] <= MOST_MB:
            return
    raise AssertionError(f"MB each: {found_mb}")


async def test_hundreds_sleep_and_all_wake(functions: Callable[..., tuple[Instance, list[str]]]) -> None:
    instance, names = functions(FROZEN)
    before = available_mb()
    await all_answer(instance, names)
    await come_to(instance, {"frozen": FROZEN})
    inits = set(Family(instance.process.pid).inits)
    assert len(inits) == FROZEN
    each_mb = (before - available_mb()) / FROZEN
    slowest_s = await all_answer(instance, names)
    print(f"{FROZEN} frozen sandboxes: {each_mb:.2f} MB each; slowest answer with {BURST} at a time {slowest_s * 1000:.0f} ms")
    await come_to(instance, {"frozen": FROZEN})
    assert set(Family(instance.process.pid).inits) == inits, "some were replaced"
