"""The gateway has no descriptors free: whatever needs none goes on, nothing is lost, and it recovers by itself."""

from __future__ import annotations

import os
import resource

import pytest
from botocore.exceptions import ClientError

from tests.faults.conftest import Start
from tests.faults.test_kill import at_rest, eventually
from tests.real.product import Product

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]

HELLO = "def handler(event, context):\n return 'hello'\n"


def leave_free(pid: int, count: int) -> tuple[int, int]:
    """Let a process have so many descriptors more than it has; what its limits were."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    limit = next(n for n in range(len(taken) + count + 1) if n - len([fd for fd in taken if fd < n]) == count)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    return before


def answers(product: Product, name: str) -> bool:
    try:
        return bool(product.invoke(name).value == "hello")
    except ClientError:
        return False


def test_a_gateway_without_free_descriptors(start: Start) -> None:
    """From one free to as many as a sandbox needs: wherever it comes to an end, the sandbox is taken back, and nothing else."""
    product = start(stems_min=0, stems_max=0, queue_wait_s=0.3)
    warm = product.deploy(HELLO)
    assert eventually(lambda: answers(product, warm))
    before = product.family
    statuses: list[int] = []
    for free in range(1, 12):
        cold = product.deploy(HELLO)
        assert eventually(lambda: at_rest(product)), product.instance.status()
        limits = leave_free(before.gateway, free)
        try:
            product.invoke(cold)
        except ClientError as error:
            statuses.append(error.response["ResponseMetadata"]["HTTPStatusCode"])
        assert product.invoke(warm).value == "hello"
        resource.prlimit(before.gateway, resource.RLIMIT_NOFILE, limits)
        assert eventually(lambda cold=cold: answers(product, cold))  # type: ignore[misc]
        product.client.delete_function(FunctionName=cold)
    assert 3 <= len(statuses) < 11
    assert set(statuses) <= {429, 500, 503}, statuses
    assert "no descriptors free for another sandbox" in product.instance.log.read_text()
    assert eventually(lambda: at_rest(product)), product.instance.status()
    after = product.family
    assert (after.gateway, after.spawner) == (before.gateway, before.spawner)
    assert set(after.inits) >= set(before.inits), "a sandbox that had nothing to do with it is gone"
