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

from gateway.cli.bench.instance import Instance
from sandbox.images.emulation import emulation
from sandbox.spec import Architecture
from tests.conftest import client_for
from tests.engine import ROOT, DockerEngine
from tests.oci import layout
from tests.real.product import ROLE, Product

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


def test_zip_function(containers: Product, emulated: str) -> None:
    """The native driver has the host's interpreters only: it says where such a function runs."""
    name = containers.deploy(LOOK, Runtime="python3.11", Architectures=[OTHER], Timeout=60)
    if containers.instance.status()["driver"] == "native":
        with pytest.raises(containers.client.exceptions.InvalidRuntimeException, match="--driver docker"):
            containers.invoke(name, 5)
        assert f"function {name} cannot run here: this host is" in containers.instance.log.read_text(), "said when it was made"
        return
    found = containers.invoke(name, 5).value
    assert found == {"machine": MACHINE, "environment": "AWS_Lambda_python3.11", "event": 5}
    both = containers.deploy(LOOK, Runtime="python3.11", Architectures=[HERE])
    assert containers.invoke(both, 5).value["machine"] == platform.machine()


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
