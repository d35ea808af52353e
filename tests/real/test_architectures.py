"""Functions for the other architecture, zip and image, under qemu-user; and what is said where they cannot run."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli.bench.instance import Instance
from gateway.cli.main import main
from sandbox.images.emulation import emulation
from sandbox.spec import Architecture
from tests.conftest import client_for
from tests.engine import ROOT, DockerEngine
from tests.oci import layout
from tests.real.product import ROLE, Product, eventually, package

pytestmark = [pytest.mark.real, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]

HERE = "x86_64" if platform.machine() == "x86_64" else "arm64"
OTHER, MACHINE = ("arm64", "aarch64") if HERE == "x86_64" else ("x86_64", "x86_64")
REGISTRY = Path("/proc/sys/fs/binfmt_misc")
LOOK = """
import os, platform

def handler(event, context):
    return {"machine": platform.machine(), "environment": os.environ["AWS_EXECUTION_ENV"], "event": event}
"""


@pytest.fixture(scope="module")
def emulated(docker_engine: DockerEngine) -> Iterator[str]:
    """The other architecture can run here, and has its image; that image's name. What was mounted for it is unmounted again."""
    mounted = REGISTRY.joinpath("register").exists()
    done = subprocess.run([str(ROOT / "deploy/images/emulate")], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{OTHER} cannot be emulated here: {done.stderr.strip()}")
    yield docker_engine.build("python3.11", OTHER)
    if not mounted:
        subprocess.run(["umount", str(REGISTRY)], check=True)


@pytest.fixture(scope="module")
def image(emulated: str, docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT / "tests/images/plain", directory, dirs_exist_ok=True)
    docker_engine.docker("build", "--build-arg", f"BASE={emulated}", "--tag", "plain:other", str(directory))
    return "plain:other"


@pytest.fixture(scope="module", params=["native", "docker"])
def containers(
    request: pytest.FixtureRequest, docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    settings = {"driver": request.param, "docker_host": docker_engine.url, "drain_s": 5, "queue_wait_s": 120}
    with Instance(tmp_path_factory.mktemp(request.param), settings) as instance:
        client = client_for(instance.endpoint)
        yield Product(instance, client)
        client.close()


@pytest.fixture
def make(containers: Product) -> Iterator[Callable[..., str]]:
    count = iter(range(100))

    def made(uri: str, **settings: Any) -> str:
        name = f"image-{next(count)}"
        containers.made.append(name)
        containers.client.create_function(
            FunctionName=name,
            PackageType="Image",
            Code={"ImageUri": uri},
            Role=ROLE,
            Timeout=60,
            Architectures=[OTHER],
            **settings,
        )
        containers.client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 0, "MaxAttempts": 5000})
        return name

    yield made
    containers.clear()


def test_image_function(containers: Product, image: str, make: Callable[..., str]) -> None:
    name = make(image)
    assert containers.invoke(name, 5).value == {"machine": MACHINE, "event": 5}
    containers.publish_url(name)
    status, _, body = containers.fetch(containers.url_path(name))
    assert status == 200
    assert json.loads(body)["machine"] == MACHINE


def test_image_from_an_oci_archive(
    containers: Product, image: str, make: Callable[..., str], docker_engine: DockerEngine, tmp_path: Path
) -> None:
    docker_engine.docker("save", "--output", str(tmp_path / "saved.tar"), image)
    name = make(f"oci-archive:{layout(tmp_path / 'saved.tar', tmp_path / 'image.tar')}")
    assert containers.invoke(name, 5).value["machine"] == MACHINE
    containers.publish_url(name)
    status, _, body = containers.fetch(containers.url_path(name))
    assert status == 200
    assert json.loads(body)["machine"] == MACHINE


def test_zip_function(containers: Product, emulated: str) -> None:
    """On both drivers in the files of the same image; functions of the host's own architecture beside it are none the wiser."""
    name = containers.deploy(LOOK, Runtime="python3.11", Architectures=[OTHER], Timeout=60)
    expected = {"machine": MACHINE, "environment": "AWS_Lambda_python3.11", "event": 5}
    assert containers.invoke(name, 5).value == expected
    both = containers.deploy(LOOK, Runtime="python3.11", Architectures=[HERE])
    assert containers.invoke(both, 5).value["machine"] == platform.machine()
    containers.publish_url(name)
    status, _, body = containers.fetch(containers.url_path(name))
    assert status == 200
    assert json.loads(body)["machine"] == MACHINE


def test_function_that_changes_its_architecture(containers: Product, emulated: str) -> None:
    """Its sandboxes of before are not used for it any more."""
    name = containers.deploy(LOOK, Runtime="python3.11", Architectures=[HERE], Timeout=60)
    assert containers.invoke(name, 5).value["machine"] == platform.machine()
    code = package({"app.py": LOOK})
    assert containers.client.update_function_code(FunctionName=name, ZipFile=code, Architectures=[OTHER])["Architectures"] == [
        OTHER
    ]
    containers.updated(name)
    assert containers.invoke(name, 5).value["machine"] == MACHINE


def test_layers_are_there_and_what_they_are_for_is_looked_at(containers: Product, emulated: str) -> None:
    client = containers.client
    layer = client.publish_layer_version(
        LayerName="words",
        Content={"ZipFile": package({"python/words.py": "WORD = 'from the layer'"})},
        CompatibleArchitectures=[HERE],
        CompatibleRuntimes=["python3.11"],
    )["LayerVersionArn"]
    code = "import words\ndef handler(event, context):\n    return words.WORD\n"
    name = containers.deploy(code, Runtime="python3.11", Architectures=[OTHER], Layers=[layer], Timeout=60)
    assert containers.invoke(name).value == "from the layer", "as on AWS, which takes any layer for any function"
    warning = f"function {name}: layer {layer} says that it is for {HERE}, not for {OTHER}"
    assert warning in containers.instance.log.read_text()


def test_errors_and_resets_are_as_natively(containers: Product, emulated: str) -> None:
    code = "import os\ndef handler(event, context):\n    if event: os._exit(3)\n    raise ValueError('no')\n"
    name = containers.deploy(code, Runtime="python3.11", Architectures=[OTHER], Timeout=60)
    assert containers.invoke(name, 0).value["errorMessage"] == "no"
    assert containers.invoke(name, 1).value["errorType"] == "Runtime.ExitError"
    assert containers.invoke(name, 0).value["errorMessage"] == "no"


def test_zip_function_without_an_engine(emulated: str, up: Callable[..., Instance], tmp_path: Path) -> None:
    """The image is a file; when the last such function has gone and Lambent starts anew, its files are gone too."""
    command = [str(ROOT / "deploy/images/build"), "--archive", str(tmp_path / "roots"), "python3.11", OTHER]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert made == str(tmp_path / f"roots/python3.11-{OTHER}.tar")
    names = f"docker-archive:{tmp_path}/roots/{{runtime}}-{{architecture}}.tar"
    settings = {"docker_host": "unix:///nowhere.sock", "runtime_images": names, "drain_s": 5, "queue_wait_s": 120}
    instance = up(**settings)
    directory = tmp_path / "function"
    directory.mkdir()
    (directory / "app.py").write_text(LOOK)
    deploy = ["deploy", str(directory), "--architecture", OTHER, "--timeout", "60", "--endpoint", instance.endpoint]
    done = CliRunner().invoke(main, [*deploy, "--runtime", "python3.11", "--handler", "app.handler"])
    assert done.exit_code == 0
    assert "cannot run" not in done.output
    done = CliRunner().invoke(main, [*deploy, "--name", "other", "--runtime", "nodejs18.x", "--handler", "app.handler"])
    assert done.exit_code == 0, "it is taken, as on AWS"
    assert f"lambent: other: it cannot run here: nodejs18.x for {OTHER} runs in the files of an image" in done.output
    assert f"deploy/images/build nodejs18.x {OTHER}" in done.output
    assert "function other: it cannot run here:" in instance.log.read_text()
    client = client_for(instance.endpoint)
    product = Product(instance, client)
    assert product.invoke("function", 5).value["machine"] == MACHINE
    with pytest.raises(product.client.exceptions.InvalidRuntimeException, match=r"deploy/images/build nodejs18\.x"):
        product.invoke("other", 5)
    client.delete_function(FunctionName="function")
    client.close()
    images = instance.data_dir / "images"
    assert len(list(images.iterdir())) == 1
    instance.close()
    up(**settings)
    eventually(lambda: list(images.iterdir()) == [], within_s=60)


def test_what_cannot_run_says_what_to_install(tmp_path: Path) -> None:
    """Whether an emulator is there, is on, and can be used in containers is read from the kernel's own list."""
    other = Architecture(OTHER)
    assert emulation(Architecture(HERE), tmp_path) is None
    assert "apt-get install qemu-user-static" in (emulation(other, tmp_path) or "")
    entry = tmp_path / f"qemu-{MACHINE}"
    entry.write_text("disabled\ninterpreter /usr/bin/qemu\nflags: F\n")
    assert "disabled" in (emulation(other, tmp_path) or "")
    entry.write_text("enabled\ninterpreter /usr/bin/qemu\nflags: OC\n")
    assert "without flag F" in (emulation(other, tmp_path) or "")
    entry.write_text("enabled\ninterpreter /usr/bin/qemu\nflags: OCF\n")
    assert emulation(other, tmp_path) is None
