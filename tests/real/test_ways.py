"""The docker driver where nothing but the engine helps: Runtime API at a bridge, mounts spread from the host, engine's pause."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.cli.bench.instance import Instance
from gateway.up import owner_of
from sandbox.spec import StemKey
from sandbox.testing import PlainLog
from tests import leftovers
from tests.conftest import client_for
from tests.engine import DockerEngine
from tests.real.product import ROLE, Product, eventually
from tests.real.spawned import Spawned, call, spawned
from tests.real.test_images import built

pytestmark = [pytest.mark.real, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(120)]

RUNTIME = "python3.11"
LEAST = {"docker_runtime_api": "bridge", "docker_mounts": "spread", "docker_freeze": "pause"}
CONNECT = """
import socket

def handler(event, context):
    host, port = event["to"].split(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
        return "connected"
    except OSError as error:
        return type(error).__name__
"""


@contextlib.contextmanager
def lambent(data_dir: Path, engine: DockerEngine) -> Iterator[Product]:
    settings = {"driver": "docker", "docker_host": engine.url, "drain_s": 5, "freeze_after_ms": 50, "network": "none", **LEAST}
    with Instance(data_dir, settings) as instance:
        client = client_for(instance.endpoint)
        yield Product(instance, client)
        client.close()


def nothing_left(data_dir: Path, engine: DockerEngine) -> None:
    owner = owner_of(data_dir)
    found = leftovers.labelled([owner], [data_dir])
    assert not found, f"left behind: {found}"
    assert engine.containers(f"lambent.owner={owner}") == []
    assert engine.docker("network", "ls", "--quiet", "--filter", f"label=lambent.owner={owner}") == ""


def paused(engine: DockerEngine, data_dir: Path) -> int:
    label = f"label=lambent.owner={owner_of(data_dir)}"
    return len(engine.docker("ps", "--quiet", "--filter", label, "--filter", "status=paused").split())


@pytest.fixture
async def bridged(docker_engine: DockerEngine, tmp_path: Path, owner: str) -> AsyncIterator[Spawned]:
    async with spawned(tmp_path, owner, engine=docker_engine.url, docker_runtime_api="bridge") as host:
        yield host


async def test_no_container_can_speak_for_another(bridged: Spawned) -> None:
    """Nor can a program of this machine: there is no connection at all but from the one that the port is for."""
    spec = bridged.spec(CONNECT, runtime=RUNTIME)
    handles = [await bridged.driver.create(StemKey(RUNTIME, spec.architecture)) for _ in range(2)]
    addresses = [address for handle in handles for address in (handle.runtime_api, handle.lambda_api)]
    assert len(set(addresses)) == 4
    assert not any(address.startswith("127.") for address in addresses)
    host, _, port = addresses[0].partition(":")
    with pytest.raises(TimeoutError):
        socket.create_connection((host, int(port)), 0.1)
    for handle in handles:
        await handle.stop()
    one, other = await bridged.open(spec), await bridged.open(spec)
    try:
        for sandbox in (one, other):
            await sandbox.init(spec, PlainLog())
        own, foreign = one._handle.runtime_api, other._handle.runtime_api
        assert (await call(one, f'{{"to": "{own}"}}'.encode())).payload == b'"connected"'
        assert (await call(one, f'{{"to": "{foreign}"}}'.encode())).payload == b'"TimeoutError"'
        assert (await call(other, f'{{"to": "{foreign}"}}'.encode())).payload == b'"connected"'
    finally:
        await one.stop()
        await other.stop()


def test_zip_and_image_functions_run(docker_engine: DockerEngine, tmp_path: Path) -> None:
    """The image's client asks for its events by TCP; both are paused and run on."""
    data_dir = tmp_path / "data"
    with lambent(data_dir, docker_engine) as product:
        for words in ("bridge", "spread from the host", "engine's pause"):
            assert words in product.instance.status()["isolation"]
        code = product.deploy(
            "import os\ndef handler(event, context):\n    open('/tmp/kept', 'a').write('x')\n"
            "    s = os.statvfs('/tmp')\n    return [open('/tmp/kept').read(), s.f_blocks * s.f_frsize >> 20]\n",
            Runtime=RUNTIME, EphemeralStorage={"Size": 600},
        )  # fmt: skip
        image = "image"
        product.made.append(image)
        uri = built(docker_engine, tmp_path / "build")
        product.client.create_function(FunctionName=image, PackageType="Image", Code={"ImageUri": uri}, Role=ROLE, Timeout=10)
        product.client.get_waiter("function_active_v2").wait(FunctionName=image, WaiterConfig={"Delay": 0, "MaxAttempts": 200})
        for count in (1, 2):
            kept, size_mb = product.invoke(code).value
            assert kept == "x" * count
            assert 540 < size_mb <= 600
            assert product.invoke(image).value["body"] == "from x86_64"
            eventually(lambda: paused(docker_engine, data_dir) == 2)
    nothing_left(data_dir, docker_engine)


def test_a_start_after_a_crash_removes_mounts_networks_and_paused_containers(docker_engine: DockerEngine, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with lambent(data_dir, docker_engine) as product:
        name = product.deploy("def handler(event, context):\n    return event\n", Runtime=RUNTIME)
        assert product.invoke(name, 1).value == 1
        eventually(lambda: product.sandboxes(name) == {"frozen": 1})
        family = product.family
        for pid in (family.supervisor, family.gateway, family.spawner):
            os.kill(pid, signal.SIGKILL)
    mounts = f"/run/lambent/{owner_of(data_dir)}/mounts"
    assert mounts in Path("/proc/self/mountinfo").read_text(), "nobody could clear up"
    with lambent(data_dir, docker_engine) as product:
        assert product.invoke(name, 2).value == 2
    nothing_left(data_dir, docker_engine)
