"""Fixtures of the tests on real sandboxes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from gateway.cli.bench.instance import Instance
from tests.real.product import Product

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


@pytest.fixture
def product(lambent_up: Instance, lambda_client: LambdaClient) -> Iterator[Product]:
    """The session's Lambent; what the test makes there is removed after it."""
    found = Product(lambent_up, lambda_client)
    yield found
    found.clear()
