"""A Lambent of the test's own, to be killed."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.cli.bench.instance import Instance
from gateway.up import owner_of
from tests import leftovers
from tests.conftest import client_for
from tests.real.product import Product

Start = Callable[..., Product]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts Lambents on one data directory, one after the other, each with a client; nothing of them may be left."""
    data_dir = tmp_path / "data"
    with contextlib.ExitStack() as opened:

        def another(**settings: object) -> Product:
            instance = Instance(data_dir, {"drain_s": 5, "stems_min": 4, **settings})
            opened.callback(instance.close)
            client = client_for(instance.endpoint)
            opened.callback(client.close)
            return Product(instance, client)

        yield another
    gc.collect()  # botocore keeps a connection that broke in a cycle with its error
    found = leftovers.labelled([owner_of(data_dir)], [data_dir])
    assert not found, f"left behind: {found}"
