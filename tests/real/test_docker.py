"""`lambent up --driver docker`: zip functions in containers of a real engine, and what they find inside."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.bench.instance import Instance
from gateway.up import owner_of
from sandbox.native.interpreters import find_interpreters
from tests import leftovers
from tests.conftest import client_for
from tests.engine import DockerEngine
from tests.real.product import Product, eventually, package

pytestmark = [pytest.mark.real, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(120)]

RUNTIME = "python3.11"


@contextlib.contextmanager
def lambent(data_dir: Path, engine: DockerEngine, **settings: object) -> Iterator[Product]:
    """A Lambent on this engine; nothing of it may be left, neither here nor there."""
    with Instance(data_dir, {"driver": "docker", "docker_host": engine.url, "drain_s": 5, **settings}) as instance:
        client = client_for(instance.endpoint)
        yield Product(instance, client)
        client.close()
    found = leftovers.labelled([owner_of(data_dir)], [data_dir])
    assert not found, f"left behind: {found}"
    assert engine.containers(f"lambent.owner={owner_of(data_dir)}") == []


@pytest.fixture(scope="module")
def containers(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with lambent(tmp_path_factory.mktemp("docker"), docker_engine) as product:
        yield product


@pytest.fixture
def deploy(containers: Product) -> Callable[..., str]:
    def deployed(code: Any, **settings: Any) -> str:
        return containers.deploy(code, Runtime=RUNTIME, **settings)

    return deployed


LOOK = """
import os, socket, subprocess

def attempt(what):
    try:
        return what() or "allowed"
    except OSError as error:
        return error.strerror

def write(path):
    with open(path, "w") as file:
        file.write("x")

def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return line.split()[1]

def handler(event, context):
    return {
        "uid": os.getuid(),
        "user": next((line.split(":")[0] for line in open("/etc/passwd") if line.split(":")[2] == str(os.getuid())), None),
        "root": attempt(lambda: write("/x")),
        "usr": attempt(lambda: write("/usr/x")),
        "task": attempt(lambda: write("/var/task/x")),
        "tmp": attempt(lambda: write("/tmp/x")),
        "capabilities": [status(name) for name in ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb")],
        "no_new_privileges": status("NoNewPrivs"),
        "seccomp": status("Seccomp"),
        "interfaces": sorted(os.listdir("/sys/class/net")) if os.path.isdir("/sys/class/net") else None,
        "outside": attempt(lambda: socket.create_connection(("192.0.2.1", 80), 1)),
        "host": socket.gethostname(),
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "interpreter": os.path.realpath("/proc/self/exe"),
        "tmp_mb": os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize >> 20,
        "environment": {name: os.environ.get(name) for name in ("AWS_EXECUTION_ENV", "LAMBDA_TASK_ROOT", "MINE", "PATH")},
    }
"""


def test_what_a_function_finds_inside(containers: Product, deploy: Callable[..., str]) -> None:
    name = deploy(LOOK, Environment={"Variables": {"MINE": "yes"}}, EphemeralStorage={"Size": 600})
    found = containers.invoke(name).value
    assert found["uid"] >= 1000
    assert found["user"] == "sbx_user1051"
    assert {found[place] for place in ("root", "usr", "task")} == {"Read-only file system"}
    assert found["tmp"] == "allowed"
    assert 540 < found["tmp_mb"] <= 600
    assert set(found["capabilities"]) == {"0000000000000000"}
    assert found["no_new_privileges"] == "1"
    assert found["seccomp"] == "2"
    assert found["interfaces"] in (["lo"], None)
    assert found["outside"] != "allowed"
    assert found["host"] == "169-254-100-1"
    assert len(found["processes"]) == 3, "the holder, init, itself"
    assert found["interpreter"] == "/usr/bin/python3.11"
    assert found["environment"]["AWS_EXECUTION_ENV"] == "AWS_Lambda_python3.11"
    assert found["environment"]["MINE"] == "yes"


def test_module_that_the_stem_has_loaded_already_is_the_functions_own(containers: Product, deploy: Callable[..., str]) -> None:
    name = deploy({"app.py": "import uuid\ndef handler(event, context):\n    return uuid.MINE\n", "uuid.py": "MINE = 1\n"})
    assert containers.invoke(name).value == 1


def test_stems_need_not_compile(containers: Product, deploy: Callable[..., str]) -> None:
    """The image's interpreter finds bytecode that one of this machine has made, soon after the start."""
    if RUNTIME not in {one.runtime for one in find_interpreters()}:
        pytest.skip(f"there is no {RUNTIME} on this machine to make it")
    name = deploy(
        "import lambent_bootstrap, os\ndef handler(event, context):\n    return os.path.exists(lambent_bootstrap.__cached__)\n"
    )
    eventually(lambda: containers.invoke(name).value, 30)


def test_layers_are_in_opt(containers: Product, deploy: Callable[..., str]) -> None:
    client = containers.client
    archive = package({"python/helper.py": "WORD = 'layer'\n"})
    made = client.publish_layer_version(LayerName="helper", Content={"ZipFile": archive})
    name = deploy("import helper\ndef handler(event, context):\n    return helper.WORD\n", Layers=[made["LayerVersionArn"]])
    assert containers.invoke(name).value == "layer"


def test_url_answers(containers: Product, deploy: Callable[..., str]) -> None:
    name = deploy("def handler(event, context):\n    return {'statusCode': 200, 'body': event['rawPath']}\n")
    containers.publish_url(name)
    status, _, body = containers.fetch(containers.url_path(name))
    assert (status, body) == (200, b"/")


def test_own_program(containers: Product) -> None:
    """`provided` functions need an image too; without one the invocation says how to make it."""
    name = containers.deploy({"bootstrap": "#!/bin/sh\n"}, Runtime="provided.al2023", Handler="x")
    with pytest.raises(containers.client.exceptions.InvalidRuntimeException, match="deploy/images/build"):
        containers.invoke(name)


def test_runtime_without_an_image_says_what_to_do(containers: Product) -> None:
    name = containers.deploy("def handler(event, context): ...", Runtime="python3.9")
    with pytest.raises(containers.client.exceptions.InvalidRuntimeException) as refused:
        containers.invoke(name)
    assert "no image lambent/python3.9:x86_64" in str(refused.value)


def test_forks_without_end_stay_inside(containers: Product, deploy: Callable[..., str]) -> None:
    name = deploy(
        """
import os, signal
def handler(event, context):
    made = 0
    try:
        while True:
            if os.fork() == 0:
                signal.pause()
            made += 1
    except OSError:
        return made
""",
        Timeout=20,
        MemorySize=2048,
    )
    assert 500 < containers.invoke(name).value <= 1024
    assert containers.invoke(deploy("def handler(event, context):\n    return 'well'\n")).value == "well"


def test_memory_is_the_functions(containers: Product, deploy: Callable[..., str]) -> None:
    name = deploy("def handler(event, context):\n    return len(bytearray(event))\n", MemorySize=256, Timeout=10)
    assert containers.invoke(name, 100 << 20).value == 100 << 20
    answer = containers.invoke(name, 400 << 20)
    assert "signal: killed" in json.loads(answer.payload)["errorMessage"]
    assert containers.invoke(name, 1).value == 1


def test_status_tells_the_driver(containers: Product) -> None:
    status = containers.instance.status()
    assert status["driver"] == "docker"
    assert status["runtimes"][RUNTIME]["available"] is True


NODE = """
exports.handler = async (event, context) => {
  const layered = event.layered ? require('words').word : null
  return { version: process.versions.node, environment: process.env.AWS_EXECUTION_ENV, mine: process.env.MINE, layered,
           left: context.getRemainingTimeInMillis() > 0, directory: process.cwd() }
}
"""


def test_node_in_a_container(containers: Product, docker_engine: DockerEngine) -> None:
    """The image's Node.js waits as the host's does: with Lambent's runtime, from a stem, and started anew where it must be."""
    docker_engine.build("nodejs18.x")
    layer = containers.client.publish_layer_version(
        LayerName="words", Content={"ZipFile": package({"nodejs/node_modules/words/index.js": "exports.word = 'from the layer'"})}
    )["LayerVersionArn"]
    for variables in ({"MINE": "1"}, {"MINE": "1", "NODE_OPTIONS": "--no-warnings"}):
        name = containers.deploy(
            {"app.js": NODE},
            Runtime="nodejs18.x",
            Layers=[layer],
            Environment={"Variables": variables},
            MemorySize=256,
            Timeout=20,
        )
        found = containers.invoke(name, {"layered": True}).value
        assert found.pop("version").startswith("18.")
        assert found == {
            "environment": "AWS_Lambda_nodejs18.x",
            "mine": "1",
            "layered": "from the layer",
            "left": True,
            "directory": "/var/task",
        }
    failing = containers.deploy({"app.js": "exports.handler = async () => { throw new TypeError('no') }"}, Runtime="nodejs18.x")
    found = containers.invoke(failing).value
    assert (found["errorType"], found["errorMessage"]) == ("TypeError", "no")
