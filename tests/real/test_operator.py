"""What an operator meets: full disks, directories that cannot be written or are gone, logs of all processes that fit together."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from gateway.cli.bench.instance import Instance
from gateway.up import owner_of
from tests import leftovers
from tests.conftest import client_for
from tests.real.product import Product, eventually
from tests.real.test_up import refuse

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]

Up = Callable[..., Instance]
SAY = "def handler(event, context):\n print('said', event)\n return 'done'\n"


@pytest.fixture
def on(up: Up) -> Iterator[Callable[..., Product]]:
    """Starts a Lambent and gives a client of it."""
    with contextlib.ExitStack() as opened:

        def start(**settings: object) -> Product:
            instance = up(**settings)
            client = client_for(instance.endpoint)
            opened.callback(client.close)
            return Product(instance, client)

        yield start
    gc.collect()


@pytest.fixture
def on_small_disk(tmp_path: Path) -> Iterator[Product]:
    """A Lambent whose data directory is on a file system of 64 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs", disk], check=True)
    try:
        with Instance(disk / "data", {"stems_min": 1, "drain_s": 5}) as instance:
            client = client_for(instance.endpoint)
            yield Product(instance, client)
            client.close()
        found = leftovers.labelled([owner_of(disk / "data")], [disk / "data"])
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    gc.collect()  # botocore keeps a connection that broke in a cycle with its error
    assert not found, f"left behind: {found}"


def fill(directory: Path) -> Path:
    """Write until nothing fits any more."""
    file = directory / "filler"
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(b"x" * size)
    return file


def test_a_full_disk(on_small_disk: Product) -> None:
    """What is online goes on; what needs room is refused in a sentence; with room, all is as before."""
    product = on_small_disk
    name = product.deploy(SAY)
    assert product.invoke(name).value == "done"
    gateway = product.family.gateway
    filler = fill(product.instance.data_dir.parent)

    with pytest.raises(ClientError) as refused:
        product.deploy(SAY + "# another\n" + "#" * 100_000, FunctionName="another")
    error = refused.value.response["Error"]
    assert error["Code"] in ("CodeStorageExceededException", "ServiceException")
    assert "no space" in error["Message"].lower() or "full" in error["Message"], error
    for _ in range(3):
        assert product.invoke(name, "x" * 100_000).value == "done"
    eventually(lambda: "logs of functions cannot be written" in product.instance.log.read_text())
    assert "Traceback" not in product.instance.log.read_text()

    filler.unlink()
    assert product.invoke(product.deploy(SAY)).value == "done"
    assert product.invoke(name, "after").value == "done"
    eventually(lambda: "logs of functions are written again" in product.instance.log.read_text())
    eventually(lambda: any("lines are missing here" in line for line in product.log(name)))
    assert any("said after" in line for line in product.log(name))
    assert product.family.gateway == gateway


def test_a_data_directory_that_cannot_be_written(tmp_path: Path, up: Up) -> None:
    """Not even where all that is needed was made before."""
    data_dir = tmp_path / "data"
    assert up().close() == 0
    subprocess.run(["mount", "--bind", data_dir, data_dir], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", data_dir], check=True)
    try:
        said = refuse("--data-dir", str(data_dir), "--port", "0").splitlines()
    finally:
        subprocess.run(["umount", data_dir], check=True)
    why = "it is on a read-only file system"
    assert said == [f"lambent: data_dir: cannot use {data_dir}: {why}. Another one can be given with --data-dir."]


def test_a_data_directory_of_a_newer_version(tmp_path: Path, up: Up) -> None:
    data_dir = tmp_path / "data"
    assert up().close() == 0
    with contextlib.closing(sqlite3.connect(data_dir / "state" / "lambent.db")) as database:
        database.execute("PRAGMA user_version = 999")
    lines = refuse("--data-dir", str(data_dir), "--port", "0").splitlines()
    [said] = [line for line in lines if line.startswith("lambent: ")]
    assert "has schema 999" in said
    assert "written by a newer version" in said


def test_a_data_directory_that_is_removed_under_a_lambent(tmp_path: Path, on: Callable[..., Product]) -> None:
    """A second one must not take the first one's sandboxes for leftovers of an earlier run."""
    product = on()
    name = product.deploy(SAY)
    assert product.invoke(name).value == "done"
    before = product.family.inits
    shutil.rmtree(tmp_path / "data")
    said = refuse("--data-dir", str(tmp_path / "data"), "--port", "0")
    assert "another `lambent up` still runs with" in said
    assert "removed or replaced under it" in said
    assert set(before) <= set(product.family.inits)
    assert product.invoke(name).value == "done"
    assert product.instance.close() == 0
    assert on().instance.close() == 0, "then there is nobody in the way"


def test_one_request_id_through_answer_and_logs_of_every_process(on: Callable[..., Product]) -> None:
    product = on(log_format="json", log_level="debug")
    log = product.instance.log
    name = product.deploy(SAY)
    answer = product.invoke(name)
    with pytest.raises(ClientError) as refused:
        product.client.get_function(FunctionName="nobody")
    of_error = refused.value.response["ResponseMetadata"]["RequestId"]
    eventually(lambda: any(line.startswith(f"START RequestId: {answer.request_id}") for line in product.log(name)))

    gateway = product.family.gateway
    os.kill(gateway, signal.SIGKILL)
    eventually(lambda: "starting it again" in log.read_text() and "the gateway disconnected" in log.read_text())
    entries = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert {entry["process"] for entry in entries} == {"gateway", "spawner", "supervisor"}
    told = {entry.get("requestId"): entry["message"] for entry in entries}
    assert told[answer.request_id] == f"POST /2015-03-31/functions/{name}/invocations: 200"
    assert "404" in told[of_error]
    [made] = [entry for entry in entries if entry["message"] == f"CreateFunction {name}"]
    assert (made["level"], made["function"]) == ("info", name)
    eventually(lambda: product.family.gateway not in (0, gateway))


def test_what_failed_leads_to_its_function_and_its_sandbox(on: Callable[..., Product]) -> None:
    product = on(log_format="json", log_level="debug")
    name = product.deploy("import os\ndef handler(event, context):\n os._exit(3)\n")
    answer = product.invoke(name)
    assert answer.function_error is not None
    entries = [json.loads(line) for line in product.instance.log.read_text().splitlines() if line.startswith("{")]
    [entry] = [entry for entry in entries if entry.get("requestId") == answer.request_id and "ended with" in entry["message"]]
    assert entry["function"] == name
    assert entry["message"] == f"{name}:$LATEST ended with failure Runtime.ExitError"
    assert any(f"RequestId: {answer.request_id}" in line for line in product.log(name))


def test_restarts_of_the_spawner_are_counted(on: Callable[..., Product]) -> None:
    product = on(log_level="error")

    def restarts() -> list[str]:
        page = product.fetch("/metrics")[2].decode()
        return [line.split()[1] for line in page.splitlines() if line.startswith("lambent_spawner_restarts_total ")]

    assert restarts() == ["0.0"]
    os.kill(product.family.spawner, signal.SIGKILL)
    eventually(lambda: restarts() == ["1.0"])
    said = product.instance.log.read_text()
    assert "the spawner ended" in said
    assert "starting it again" not in said, "that is a warning, and errors were asked for"
    assert product.invoke(product.deploy(SAY)).value == "done"


def test_a_variable_that_nothing_reads(up: Up) -> None:
    said = up(drian_s=5).log.read_text()
    assert "lambent: LAMBENT_DRIAN_S: there is no such setting (from the environment); did you mean LAMBENT_DRAIN_S?" in said
