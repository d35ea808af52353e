"""`lambent bench containers`: cold starts in containers and of images, with what the engine itself takes beside them.

The engine's own figure is create and start through its API, of the same image and without a network, taken in turn with the cold
starts: whatever else the machine does meanwhile, it does to both.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from gateway.cli.api import Api, function_path
from gateway.cli.bench.cold import at_rest, cold, wait
from gateway.cli.bench.functions import deploy
from gateway.cli.bench.instance import Instance, NotReady
from gateway.cli.bench.load import burst_ms, now_s, percentile, quiet
from gateway.cli.bench.report import Figure, progress, show
from gateway.cli.deploy import IMAGE_SETTLED_WITHIN_S, settle
from sandbox.docker import cgroups
from sandbox.errors import SandboxError
from sandbox.images.engine import DEFAULT_URL, Engine
from sandbox.images.programs import DEFAULT_IMAGES
from sandbox.native.driver import HOST_ARCHITECTURE
from sandbox.spec import Architecture

T = TypeVar("T")
Step = Callable[[str], None]

STEMS: Final = 2
BURST: Final = 50
ROLE: Final = "arn:aws:iam::000000000000:role/any"
#: An image's own program: it asks for events by HTTP, as every runtime client does.
PROGRAM: Final = """
import http.client, os
connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
while True:
    connection.request("GET", "/2018-06-01/runtime/invocation/next")
    event = connection.getresponse()
    body = event.read()
    path = "/2018-06-01/runtime/invocation/%s/response" % event.headers["Lambda-Runtime-Aws-Request-Id"]
    connection.request("POST", path, body)
    connection.getresponse().read()
"""


@click.command(
    "containers",
    epilog="\b\nExamples:\n  sudo lambent bench containers\n  sudo lambent bench containers --json > containers.json\n",
)
@click.option("--docker-host", default=DEFAULT_URL, show_default=True, help="Address of the Docker Engine.")
@click.option("--runtime", default="python3.11", show_default=True, help="Runtime whose image is used.")
@click.option("--count", type=click.IntRange(min=3), default=20, show_default=True, help="Cold starts of each kind.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--check", is_flag=True, help="Exit with 1 if a figure misses its bar.")
def command(docker_host: str, runtime: str, count: int, as_json: bool, check: bool) -> None:
    """Measure first invocations of zip functions in stem containers, of image functions on both drivers, and thawing.

    Beside them: the engine's own create and start, and its own unpause.
    """
    image = DEFAULT_IMAGES.format(runtime=runtime, architecture=HOST_ARCHITECTURE or Architecture.X86_64)
    engine = Docker(docker_host, image)
    try:
        with tempfile.TemporaryDirectory(prefix="lambent-bench-") as directory, progress(4 * count + 3) as step, engine:
            base = Path(directory)
            figures, isolation = _containers(base / "docker", engine, count, step)
            figures += _images(base, engine, image, count, step)
    except NotReady as error:
        raise click.ClickException(str(error)) from error
    except SandboxError as error:
        raise click.ClickException(f"{error}; needed are an engine and the image {image} (deploy/images/build)") from error
    show("containers", figures, as_json=as_json, check=check, isolation=isolation)


class Docker:
    """The engine as its own clients use it, one call after the other."""

    def __init__(self, url: str, image: str) -> None:
        self.url = url
        self._image = image
        self._runner = asyncio.Runner()
        self._engine = Engine(url)

    def __enter__(self) -> Docker:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._engine.close())
        self._runner.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def created_ms(self) -> float:
        """Create and start one container, which is removed again."""
        name, took_ms, _ = self._run(self._started())
        self._run(self._engine.remove(name))
        return took_ms

    async def _started(self) -> tuple[str, float, int]:
        name = f"lambent-bench-{secrets.token_hex(6)}"
        config = {"Image": self._image, "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}}
        try:
            began_s = now_s()
            one = await self._engine.create(name, config, HOST_ARCHITECTURE or Architecture.X86_64)
            pid = await self._engine.start(one)
            return name, (now_s() - began_s) * 1000, pid
        except BaseException:
            await self._engine.remove(name)
            raise

    def crowd_ms(self, count: int) -> float:
        """Until the last of so many containers has been created and started that were asked for at once."""
        return self._run(self._crowd(count))

    async def _crowd(self, count: int) -> float:
        began_s = now_s()
        made = await asyncio.gather(*(self._started() for _ in range(count)), return_exceptions=True)
        took_ms = (now_s() - began_s) * 1000
        await asyncio.gather(*(self._engine.remove(one[0]) for one in made if not isinstance(one, BaseException)))
        for one in made:
            if isinstance(one, BaseException):
                raise one
        return took_ms

    def thawed_ms(self, count: int) -> tuple[list[float], list[float]]:
        """Milliseconds of unpausing one container through the API, and of thawing it by a write to its cgroup."""
        name, _, pid = self._run(self._started())
        try:
            group = cgroups.find(pid)
            freeze, thaw = (word.encode() for word in group.freezer_words)
            fd = group.freeze_fd()
            api, own = [], []
            try:
                for _ in range(count):
                    self._run(self._engine.pause(name))
                    began_s = now_s()
                    self._run(self._engine.unpause(name))
                    api.append((now_s() - began_s) * 1000)
                    os.write(fd, freeze)
                    began_s = now_s()
                    os.write(fd, thaw)
                    own.append((now_s() - began_s) * 1000)
            finally:
                os.close(fd)
            return api, own
        finally:
            self._run(self._engine.remove(name))


def _containers(data_dir: Path, engine: Docker, count: int, step: Step) -> tuple[list[Figure], str]:
    with Instance(data_dir, {"driver": "docker", "docker_host": engine.url, "stems_min": STEMS, "queue_wait_s": 60}) as instance:
        api = instance.api
        names = [f"cold-{number}" for number in range(count + 1)]
        targets = {name: deploy(instance, api, name) for name in names}
        cold(instance, targets[names[0]], names[0], 0)
        took, engines = [], []
        for name in names[1:]:
            step("cold starts in stem containers")
            took.append(cold(instance, targets[name], name, STEMS))
            engines.append(engine.created_ms())
        step(f"{BURST} containers at once")
        crowd = {f"burst-{number}": deploy(instance, api, f"burst-{number}") for number in range(BURST)}
        wait(instance, at_rest)
        answered = burst_ms(list(crowd.values()))
        isolation = str(instance.status()["isolation"])
    crowd_ms = engine.crowd_ms(BURST)
    step("thawing")
    unpaused, thawed = engine.thawed_ms(count)
    own = percentile(engines, 0.5)
    return [
        Figure(name="Docker's own create and start, p50", value=own, unit="ms"),
        Figure(name="zip function, cold start in a stem container, p50", value=percentile(took, 0.5), unit="ms", most=0.27 * own),
        Figure(name="zip function, cold start in a stem container, p99", value=percentile(took, 0.99), unit="ms"),
        Figure(name=f"{BURST} containers at once, answered", value=len(answered), unit="", least=BURST),
        Figure(name=f"{BURST} containers at once, last answer", value=max(answered), unit="ms"),
        Figure(name=f"Docker's own create and start of {BURST} at once", value=crowd_ms, unit="ms"),
        Figure(name="Docker's own unpause, p50", value=percentile(unpaused, 0.5), unit="ms"),
        Figure(name="thaw through the cgroup, p50", value=percentile(thawed, 0.5), unit="ms"),
        Figure(name="  times as quick", value=percentile(unpaused, 0.5) / percentile(thawed, 0.5), unit="×", least=50),
    ], isolation


def _images(base: Path, engine: Docker, image: str, count: int, step: Step) -> list[Figure]:
    """From request to answer, less the program's own Init, which is the image's."""
    settings = {"docker_host": engine.url, "stems_max": 0}
    found: dict[str, list[float]] = {"docker": [], "native": []}
    engines: list[float] = []
    with contextlib.ExitStack() as opened:
        instances = {
            driver: opened.enter_context(Instance(base / f"images-{driver}", {**settings, "driver": driver, "stems_min": 0}))
            for driver in found
        }
        for number in range(count):
            for driver, instance in instances.items():
                step(f"image functions, {driver} driver")
                found[driver].append(_image_ms(instance, f"image-{number}", image))
            engines.append(engine.created_ms())
    own = percentile(engines, 0.5)
    return [
        Figure(name="Docker's own create and start meanwhile, p50", value=own, unit="ms"),
        Figure(
            name="image function, docker driver, without its Init, p50",
            value=percentile(found["docker"], 0.5),
            unit="ms",
            most=1.15 * own,
        ),
        Figure(
            name="image function, native driver, without its Init, p50",
            value=percentile(found["native"], 0.5),
            unit="ms",
            most=30,
        ),
    ]


def _image_ms(instance: Instance, name: str, image: str) -> float:
    api: Api = instance.api
    try:
        api.call(
            "POST",
            "/2015-03-31/functions",
            {
                "FunctionName": name,
                "PackageType": "Image",
                "Role": ROLE,
                "Timeout": 10,
                "Code": {"ImageUri": image},
                "Architectures": [str(HOST_ARCHITECTURE or Architecture.X86_64)],
                "ImageConfig": {"EntryPoint": ["python3"], "Command": ["-c", PROGRAM], "WorkingDirectory": "/"},
            },
        )
        settle(api, name, IMAGE_SETTLED_WITHIN_S)  # the first one is unpacked
        wait(instance, at_rest)
        with quiet():
            began_s = now_s()
            answer = api.call("POST", function_path(name, "/invocations"), b"{}", headers={"X-Amz-Log-Type": "Tail"})
            took_ms = (now_s() - began_s) * 1000
        headers = {key.lower(): value for key, value in answer.headers.items()}
        log = base64.b64decode(headers.get("x-amz-log-result", "")).decode(errors="replace")
        init = re.search(r"Init Duration: ([\d.]+) ms", log)
        if init is None or "x-amz-function-error" in headers:
            raise click.ClickException(f"the image {image} did not run: {answer.body.decode(errors='replace')}")
        return took_ms - float(init[1])
    finally:
        api.close()
