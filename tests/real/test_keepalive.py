"""What is kept warm, with real sandboxes: the policies of `--keep-alive`, and the rules that tags make for single functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.config import Config

from gateway.cli.bench.instance import Instance
from gateway.scheduler.keepalive import NAMES
from tests.real.product import Product, eventually

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
CODE = """
import uuid
MINE = str(uuid.uuid4())
def handler(event, context):
    return MINE
"""


def client_of(instance: Instance) -> Any:
    return boto3.client(
        "lambda",
        endpoint_url=instance.endpoint,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"max_attempts": 0}),
    )


def test_tags_rule_single_functions(up: Callable[..., Instance]) -> None:
    instance = up(keep_alive="fixed", keep_alive_s=0.5, freeze_after_ms=50)
    client = client_of(instance)
    product = Product(instance, client)
    kept, usual = product.deploy(CODE, Tags={"lambent:min-warm": "1"}), product.deploy(CODE)
    mine, other = product.invoke(kept).value, product.invoke(usual).value
    eventually(lambda: not product.sandboxes(usual))
    assert product.invoke(usual).value != other
    assert product.sandboxes(kept) == {"frozen": 1}
    assert product.invoke(kept).value == mine, "the same sandbox, though its time is long over"
    client.untag_resource(Resource=ARN + kept, TagKeys=["lambent:min-warm"])
    eventually(lambda: not product.sandboxes(kept))
    client.close()


@pytest.mark.parametrize("policy", NAMES)
def test_each_policy_serves_more_functions_than_there_is_memory_for(up: Callable[..., Instance], policy: str) -> None:
    instance = up(keep_alive=policy, freeze_after_ms=0, memory_budget_mb=300, stems_min=1, stems_max=1)
    client = client_of(instance)
    product = Product(instance, client)
    names = [product.deploy(CODE, MemorySize=200) for _ in range(4)]
    for _ in range(2):
        for name in names:
            assert len(product.invoke(name).value) == 36
    memory = instance.status()["memory"]
    assert memory["used_bytes"] <= memory["budget_bytes"] == 300 << 20
    client.close()
