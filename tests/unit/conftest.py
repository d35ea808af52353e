"""What the tests of commands share."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.unit.stub import Stub


@pytest.fixture
def stub() -> Iterator[Stub]:
    server = Stub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
