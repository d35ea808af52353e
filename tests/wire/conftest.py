"""Fixtures of the wire tests: one control plane a module, and boto3's own client for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from tests.wire.control_plane import REGION, Served

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A control plane, without anything to run functions with."""
    found = Served(tmp_path_factory.mktemp("data"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def module_client(served: Served) -> LambdaClient:
    """Sends whatever it is told to, so that it is the server that finds what is wrong."""
    config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)
    client: LambdaClient = boto3.client(
        "lambda",
        endpoint_url=served.endpoint,
        region_name=REGION,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=config,
    )
    return client


@pytest.fixture
def aws(served: Served, module_client: LambdaClient) -> Iterator[Any]:
    """boto3's client, untyped: tests look at what is there and what is not. Afterwards no connection is left."""
    yield module_client
    module_client.close()
    served.run(served.connections_gone())


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A function's name that no other test of the module has."""
    return (
        str(request.node.name).replace("[", "-").replace("]", "").replace("_", "-").translate(dict.fromkeys(map(ord, "$.")))[:60]
    )
