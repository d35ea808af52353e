"""Images from a registry, which takes its time and wants to know who asks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.bench.instance import Instance
from gateway.up import owner_of
from tests import leftovers
from tests.conftest import client_for
from tests.engine import DockerEngine
from tests.real.product import ROLE, Product, eventually
from tests.real.test_images import built
from tests.registry import Registry

pytestmark = [pytest.mark.real, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def saved(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A function's image, with a layer that the engine does not have any more."""
    directory = tmp_path_factory.mktemp("pulled")
    base = built(docker_engine, directory / "ric")
    (directory / "noise").write_bytes(os.urandom(4 << 20))
    (directory / "Dockerfile").write_text(f"FROM {base}\nCOPY noise /noise\n")
    docker_engine.docker("build", "--tag", "only-saved", str(directory))
    docker_engine.docker("save", "--output", str(directory / "saved.tar"), "only-saved")
    docker_engine.docker("rmi", "--force", "only-saved")
    return directory / "saved.tar"


@pytest.fixture
def registry(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """It is known to Docker's own configuration."""
    with Registry(saved) as found:
        found.log_in(tmp_path)
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        yield found


@pytest.fixture(params=["docker", "native"])
def product(request: pytest.FixtureRequest, docker_engine: DockerEngine, registry: Registry, tmp_path: Path) -> Iterator[Product]:
    data_dir = tmp_path / "data"
    with Instance(data_dir, {"driver": request.param, "docker_host": docker_engine.url, "drain_s": 5}) as instance:
        client = client_for(instance.endpoint)
        yield Product(instance, client)
        client.close()
    assert not leftovers.labelled([owner_of(data_dir)], [data_dir])
    for image in set(docker_engine.docker("image", "ls", "--quiet", "--no-trunc", f"{registry.address}/*").split()):
        docker_engine.docker("rmi", "--force", image)  # with its layers, so that the next test pulls them


def create(product: Product, name: str, uri: str) -> dict[str, Any]:
    product.made.append(name)
    found: dict[str, Any] = product.client.create_function(
        FunctionName=name, PackageType="Image", Code={"ImageUri": uri}, Role=ROLE, Timeout=10
    )
    return found


def settled(product: Product, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(product.client.get_function_configuration(FunctionName=name))
        return found["State"] != "Pending" and found.get("LastUpdateStatus") != "InProgress"

    eventually(over, 60)
    return found


def test_function_is_pending_until_its_image_is_here(product: Product, registry: Registry) -> None:
    uri = f"{registry.address}/mine:1"
    registry.go_on.clear()
    made = create(product, "slow", uri)
    assert (made["State"], made["StateReasonCode"], made["CodeSha256"]) == ("Pending", "Creating", "")
    with pytest.raises(product.client.exceptions.ResourceConflictException, match="Pending"):
        product.invoke("slow")
    eventually(lambda: product.instance.status()["pulls"][uri]["done_bytes"] > 0)
    far = product.instance.status()["pulls"][uri]
    assert far["done_bytes"] < far["total_bytes"]
    registry.go_on.set()
    found = settled(product, "slow")
    assert (found["State"], found["LastUpdateStatus"], len(found["CodeSha256"])) == ("Active", "Successful", 64)
    code = product.client.get_function(FunctionName="slow")["Code"]
    assert code == {**code, "ImageUri": uri, "ResolvedImageUri": f"{registry.address}/mine@{registry.digest}"}
    assert product.invoke("slow").value["body"] == "from x86_64"
    assert product.instance.status()["pulls"] == {}


def test_image_that_breaks_on_its_way(product: Product, registry: Registry) -> None:
    whole = registry.blobs[registry.last_layer]
    registry.blobs[registry.last_layer] = whole[: len(whole) // 2] + b"x" * (len(whole) - len(whole) // 2)
    registry.go_on.clear()
    create(product, "broken", f"{registry.address}/mine:1")
    registry.go_on.set()
    found = settled(product, "broken")
    assert (found["State"], found["StateReasonCode"]) == ("Failed", "InvalidImage")
    assert registry.address in found["StateReason"]
    with pytest.raises(product.client.exceptions.ResourceConflictException, match="Failed"):
        product.invoke("broken")


def test_what_the_registry_refuses_is_refused_at_once(product: Product, registry: Registry, tmp_path: Path) -> None:
    refusal = product.client.exceptions.InvalidParameterValueException
    with pytest.raises(refusal, match=f"Source image {registry.address}/mine:2 does not exist"):
        create(product, "missing", f"{registry.address}/mine:2")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(refusal, match=r"credentials|denied|unauthorized"):
        create(product, "unknown", f"{registry.address}/mine:1")
