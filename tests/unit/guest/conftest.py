"""Warm interpreters, one per runtime, shared by all tests of the guest."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.unit.guest.harness import RUNTIME, Forker, every_interpreter, interpreters

sys.path.insert(0, str(RUNTIME))  # its modules import one another by their own names, as in a sandbox


@pytest.fixture(scope="session")
def _forkers() -> Iterator[dict[str, Forker]]:
    """All at once, before the first test that needs one: none of them counts as left over by it."""
    started = {runtime: Forker(found.executable) for runtime, found in interpreters.items()}
    for forker in started.values():
        forker.wait_until_ready()
    yield started
    for forker in started.values():
        forker.close()


@pytest.fixture(params=every_interpreter())
def forker(request: pytest.FixtureRequest, _forkers: dict[str, Forker]) -> Forker:
    runtime: str = request.param
    return _forkers[runtime]
