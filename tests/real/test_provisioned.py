"""Provisioned concurrency with real sandboxes: none of its invocations is cold, up to its number, whatever the neighbours do."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from gateway.cli.bench.instance import Instance
from tests.real.product import SOON_S, Product, eventually

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

#: Says how it was initialised, and whether this is its first invocation. Init takes long enough to be noticed.
CODE = """
import os, time
time.sleep(0.2)
KIND, COUNT = os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], 0
def handler(event, context):
    global COUNT
    COUNT += 1
    if event == "exit":
        os._exit(1)
    time.sleep(event.get("sleep_s", 0))
    return {"kind": KIND, "count": COUNT, "version": context.function_version}
"""


def client_of(instance: Instance) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=instance.endpoint,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"max_attempts": 0}, max_pool_connections=20),
    )


@pytest.fixture
def alone(up: Callable[..., Instance]) -> Iterator[Product]:
    """A Lambent of the test's own, with memory for six small sandboxes."""
    instance = up(memory_budget_mb=6 * 128 + 40, freeze_after_ms=50)
    client = client_of(instance)
    yield Product(instance, client)
    client.close()


def provision(product: Product, name: str, qualifier: str, count: int) -> None:
    product.client.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier=qualifier, ProvisionedConcurrentExecutions=count
    )


def config(product: Product, name: str, qualifier: str) -> tuple[str, int, int]:
    found = product.client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
    return (
        found["Status"],
        found["AllocatedProvisionedConcurrentExecutions"],
        found["AvailableProvisionedConcurrentExecutions"],
    )


def published(product: Product, code: str = CODE, **settings: Any) -> str:
    name = product.deploy(code, Timeout=10, **settings)
    product.client.publish_version(FunctionName=name)
    return name


def test_never_cold_while_neighbours_churn(alone: Product) -> None:
    name = published(alone)
    provision(alone, name, "1", 2)
    assert config(alone, name, "1")[0] in ("IN_PROGRESS", "READY")
    eventually(lambda: config(alone, name, "1") == ("READY", 2, 2))
    others = [alone.deploy("def handler(event, context):\n    return 1\n") for _ in range(8)]
    over = threading.Event()

    def churn(other: str) -> int:
        served = 0
        while not over.is_set():
            alone.invoke(other)
            served += 1
        return served

    with ThreadPoolExecutor(len(others)) as threads:
        churning = [threads.submit(churn, other) for other in others]
        try:
            with ThreadPoolExecutor(2) as callers:
                calls = [callers.submit(alone.invoke, name, {}, Qualifier="1") for _ in range(60)]
                answers = [call.result() for call in calls]
        finally:
            over.set()
        assert all(one.result() > 0 for one in churning)
    assert {answer.value["kind"] for answer in answers} == {"provisioned-concurrency"}
    assert sum(answer.value["count"] == 1 for answer in answers) <= 2, "both are those that were there at the beginning"
    assert alone.sandboxes(name).keys() <= {"idle", "reserved", "finishing"}, "never frozen"
    assert sum(alone.sandboxes(name).values()) == 2
    assert config(alone, name, "1") == ("READY", 2, 2)


def test_who_comes_when_all_are_busy_is_on_demand_and_the_dead_are_replaced(alone: Product) -> None:
    name = published(alone)
    provision(alone, name, "1", 1)
    eventually(lambda: config(alone, name, "1") == ("READY", 1, 1))
    with ThreadPoolExecutor(2) as callers:
        both = [callers.submit(alone.invoke, name, {"sleep_s": 1}, Qualifier="1") for _ in range(2)]
        eventually(lambda: config(alone, name, "1") == ("READY", 1, 0))
        kinds = sorted(call.result().value["kind"] for call in both)
    assert kinds == ["on-demand", "provisioned-concurrency"]
    answer = alone.invoke(name, "exit", Qualifier="1")
    assert answer.function_error
    eventually(lambda: config(alone, name, "1") == ("READY", 1, 1))
    again = alone.invoke(name, {}, Qualifier="1").value
    assert (again["kind"], again["count"]) == ("provisioned-concurrency", 1), "a new one, initialised before it was asked for"


def test_one_that_is_killed_while_it_is_idle_is_replaced_before_anybody_asks(alone: Product) -> None:
    name = published(alone)
    provision(alone, name, "1", 1)
    eventually(lambda: config(alone, name, "1") == ("READY", 1, 1))
    assert alone.invoke(name, {}, Qualifier="1").value["count"] == 1
    killed = set(alone.family.inits)  # stems too
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(set(alone.family.inits) - killed) >= len(killed), 3 * SOON_S)
    eventually(lambda: config(alone, name, "1") == ("READY", 1, 1))
    again = alone.invoke(name, {}, Qualifier="1").value
    assert (again["kind"], again["count"]) == ("provisioned-concurrency", 1)


def test_an_alias_moves_when_the_new_version_is_ready_and_not_to_one_that_is_broken(alone: Product) -> None:
    name = published(alone)
    alone.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    provision(alone, name, "live", 1)
    eventually(lambda: config(alone, name, "live")[0] == "READY")
    configure(alone, name, Description="second")
    alone.client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    seen: list[Any] = []

    def moved() -> bool:
        seen.append(alone.invoke(name, {}, Qualifier="live").value)
        return bool(seen[-1]["version"] == "2")

    eventually(moved)
    assert {one["kind"] for one in seen} == {"provisioned-concurrency"}, "nobody waited for the new version"
    configure(alone, name, Handler="app.nothing")
    alone.client.update_alias(FunctionName=name, Name="live", FunctionVersion="3")
    eventually(lambda: config(alone, name, "live")[0] == "FAILED")
    found = alone.client.get_provisioned_concurrency_config(FunctionName=name, Qualifier="live")
    assert found["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE"
    assert alone.invoke(name, {}, Qualifier="live").value["version"] == "2"


def configure(product: Product, name: str, **changes: Any) -> None:
    """Change it and publish that."""
    product.client.update_function_configuration(FunctionName=name, **changes)
    product.updated(name)
    product.client.publish_version(FunctionName=name)


def test_init_may_take_longer_than_ten_seconds(alone: Product) -> None:
    """On demand it is begun again after ten; provisioned it has 130, and nobody has to wait for it."""
    code = "import time\ntime.sleep(10.3)\nLOADED = time.time()\ndef handler(event, context):\n    return LOADED\n"
    name = published(alone, code)
    provision(alone, name, "1", 1)
    eventually(lambda: config(alone, name, "1") == ("READY", 1, 1), within_s=40)
    first, second = (alone.invoke(name, Qualifier="1") for _ in range(2))
    assert first.value == second.value, "one Init"
    assert not [line for line in alone.log(name) if line.startswith("INIT_REPORT")]
    init_ms = re.search(r"Init Duration: ([\d.]+) ms", first.log)
    assert init_ms is None or float(init_ms[1]) > 10_000


def test_it_is_there_again_after_a_restart(up: Callable[..., Instance], tmp_path: Path) -> None:
    first = up()
    product = Product(first, client_of(first))
    name = published(product)
    provision(product, name, "1", 2)
    eventually(lambda: config(product, name, "1") == ("READY", 2, 2))
    first.close()
    second = up()
    product = Product(second, client_of(second))
    eventually(lambda: config(product, name, "1") == ("READY", 2, 2))
    assert product.invoke(name, {}, Qualifier="1").value["kind"] == "provisioned-concurrency"


def test_a_429_says_when_to_come_again(alone: Product) -> None:
    name = alone.deploy(CODE)
    alone.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    with ThreadPoolExecutor(1) as callers:
        running = callers.submit(alone.invoke, name, {"sleep_s": 1})
        eventually(lambda: alone.sandboxes(name).get("reserved"))
        path = f"/2015-03-31/functions/{urllib.parse.quote(name)}/invocations"
        status, headers, body = alone.fetch(path, method="POST", body=b"{}")
        running.result()
    assert (status, headers["retry-after"]) == (429, "1")
    assert json.loads(body)["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
