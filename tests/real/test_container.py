"""Lambent in a container of a real engine: the recipe of its image, the compose file, and that neither leaves anything behind."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.settings import PREFIX
from gateway.up import owner_of
from sandbox.native.probe import CAP_SYS_RESOURCE
from tests import leftovers
from tests.conftest import LABELS, client_for
from tests.engine import ROOT, DockerEngine
from tests.real.product import eventually, package

pytestmark = [pytest.mark.real, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]  # Debian is unpacked once

COMPOSE_FILE = ROOT / "deploy/compose.yaml"
HEALTHY_WITHIN_S = 60.0
CODE = """
import os, time
def handler(event, context):
    with open("/tmp/written", "w") as file:
        file.write("x" * 1000)
    if isinstance(event, int):
        time.sleep(event)
    return {"statusCode": 200, "body": f"{os.getuid()} {sorted(os.listdir('/var/task'))}"}
"""


@functools.cache
def compose_command() -> tuple[str, ...]:
    """The plugin of newer engines, or the program of its own that Debian 12 has; empty where neither is installed."""
    plugin = ("docker", "compose")
    if subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode == 0:
        return plugin
    return ("docker-compose",) if shutil.which("docker-compose") else ()


def compose_file(directory: Path) -> Path:
    """The one that users have; without the one capability that sandboxes can do without, where this host's own root lacks it."""
    status = Path("/proc/self/status").read_text().splitlines()
    bounds = next(int(line.split()[1], 16) for line in status if line.startswith("CapBnd:"))
    text = COMPOSE_FILE.read_text()
    if not bounds >> CAP_SYS_RESOURCE & 1:
        text = text.replace("      - SYS_RESOURCE\n", "")
    copy = directory / COMPOSE_FILE.name
    copy.write_text(text)
    return copy


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Composed:
    """A project of compose with one gateway in it, on a data directory of its own."""

    def __init__(self, engine: DockerEngine, directory: Path, **settings: object) -> None:
        self.engine = engine
        self.data_dir = directory / "data"
        self.endpoint = f"http://127.0.0.1:{free_port()}"
        self._file = compose_file(directory)
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self._environment |= {
            "DOCKER_HOST": engine.url,
            "HOME": os.environ.get("HOME", "/root"),  # where plugins are
            "COMPOSE_PROJECT_NAME": f"lambent-{uuid.uuid4().hex[:8]}",
            "LAMBENT_DOCKER_SOCKET": str(engine.socket),
            "LAMBENT_DATA_DIR": str(self.data_dir),
            "LAMBENT_PORT": self.endpoint.rpartition(":")[2],
            "LAMBENT_URL_STYLE": "path",
            **{f"{PREFIX}{name.upper()}": str(value) for name, value in settings.items()},
        }

    def compose(self, *arguments: str) -> str:
        done = subprocess.run(
            [*compose_command(), "--file", str(self._file), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=150,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip()

    @property
    def container(self) -> str:
        return self.engine.docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self._project}")

    @property
    def _project(self) -> str:
        return self._environment["COMPOSE_PROJECT_NAME"]

    def state(self) -> Any:
        return json.loads(self.engine.docker("inspect", "--format", "{{json .State}}", self.container))

    def up(self) -> None:
        """Returns when it answers."""
        self.compose("up", "-d")
        try:
            eventually(self._answers, HEALTHY_WITHIN_S)
        except AssertionError:
            pytest.fail(f"no answer: {self.state()}\n{self.compose('logs')}")

    def _answers(self) -> bool:
        try:
            return fetch(f"{self.endpoint}/healthz") != ""
        except OSError:
            return False

    def left(self) -> list[str]:
        label = owner_of(self.data_dir)
        return leftovers.labelled([label], [self.data_dir]) + self.engine.containers(f"lambent.owner={label}")


@pytest.fixture(scope="module")
def image(docker_engine: DockerEngine) -> str:
    """Made by the recipe that users have; at once where it was made before."""
    environment = {**os.environ, "DOCKER_HOST": docker_engine.url, "HOME": str(docker_engine.directory), "PYTHON": sys.executable}
    done = subprocess.run([str(ROOT / "deploy/images/gateway")], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.fixture
def composed(
    docker_engine: DockerEngine, image: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Composed]]:
    if not compose_command():
        pytest.skip("neither `docker compose` nor docker-compose is here: apt-get install docker-compose")
    projects: list[Composed] = []

    def make(**settings: object) -> Composed:
        projects.append(Composed(docker_engine, tmp_path, **settings))
        request.config.stash[LABELS].add(owner_of(projects[-1].data_dir))
        return projects[-1]

    yield make
    for project in projects:
        project.compose("down")
        assert project.left() == []


def deploy(client: Any, name: str) -> str:
    """A function with a URL; the URL."""
    code = {"ZipFile": package({"app.py": CODE})}
    role = "arn:aws:iam::000000000000:role/any"
    client.create_function(FunctionName=name, Runtime="python3.11", Handler="app.handler", Role=role, Code=code, Timeout=30)
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0, "MaxAttempts": 200})
    url = client.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
    common = {"FunctionName": name, "Principal": "*"}
    client.add_permission(StatementId="url", Action="lambda:InvokeFunctionUrl", FunctionUrlAuthType="NONE", **common)
    client.add_permission(StatementId="invoke", Action="lambda:InvokeFunction", InvokedViaFunctionUrl=True, **common)
    return str(url)


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("driver", ["native", "docker"])
def test_function_answers_from_its_url_and_the_end_is_clean(composed: Callable[..., Composed], driver: str) -> None:
    project = composed(driver=driver)
    project.up()
    eventually(lambda: project.state()["Health"]["Status"] == "healthy", HEALTHY_WITHIN_S)
    with contextlib.closing(client_for(project.endpoint)) as client:
        url = deploy(client, "hello")
        uid, _, files = fetch(url).partition(" ")
        assert int(uid) > 2_000_000_000, "a user of its own"
        assert files == "['app.py']"
        assert bool(project.engine.containers(f"lambent.owner={owner_of(project.data_dir)}")) is (driver == "docker")
        answers: list[Any] = []
        slow = threading.Thread(target=lambda: answers.append(client.invoke(FunctionName="hello", Payload="3")))
        slow.start()
        eventually(lambda: json.loads(fetch(f"{project.endpoint}/_lambent/status"))["functions"]["hello"].get("reserved"))
        project.compose("stop")
        slow.join()
        assert json.loads(answers[0]["Payload"].read())["statusCode"] == 200, "what ran was let finish"
    assert project.state()["ExitCode"] == 0
    assert project.left() == []


def test_killed_container_comes_back_and_has_swept(composed: Callable[..., Composed]) -> None:
    project = composed()
    project.up()
    with contextlib.closing(client_for(project.endpoint)) as client:
        url = deploy(client, "hello")
        before = fetch(url)
        project.engine.docker("kill", project.container)
        project.up()
        assert fetch(url).partition(" ")[2] == before.partition(" ")[2], "functions are kept"
    project.compose("down")
    assert project.left() == []
