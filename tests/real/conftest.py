"""Fixtures of the tests on real sandboxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.cli.bench.instance import Instance
from gateway.up import owner_of
from tests import leftovers
from tests.real.product import Product

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

FEW = 4  #: stems: those that nobody needs only take time to make


@pytest.fixture
def product(lambent_up: Instance, lambda_client: LambdaClient) -> Iterator[Product]:
    """The session's Lambent; what the test makes there is removed after it."""
    found = Product(lambent_up, lambda_client)
    yield found
    found.clear()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    """Starts Lambents on one data directory, one after the other; nothing of them may be left."""
    data_dir = tmp_path / "data"
    running: list[Instance] = []

    def start(*wrapper: str, **settings: object) -> Instance:
        running.append(Instance(data_dir, {"stems_min": FEW, **settings}, wrapper))
        return running[-1]

    yield start
    for instance in running:
        instance.close()
    found = leftovers.labelled([owner_of(data_dir)], [data_dir])
    assert not found, f"left behind: {found}"
