"""Limits of the account that no longer fit what functions have."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.control.control import Control
from gateway.store.functions import SqliteStore
from tests.sim.records import function, version


@pytest.mark.parametrize(("limit", "told"), [(1000, False), (100, True)])
async def test_more_set_aside_than_the_account_has_is_told_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, limit: int, told: bool
) -> None:
    store = await SqliteStore.open(tmp_path / "lambent.db")
    await store.save(None, function(version(), reserved_concurrency=300))
    await store.close()
    control = await Control.open(
        data_dir=tmp_path,
        account_id="123456789012",
        region="us-east-1",
        clock=SystemClock(),
        url_for=str,
        concurrency_limit=limit,
    )
    await control.close()
    warned = [record.getMessage() for record in caplog.records if "concurrency_limit" in record.getMessage()]
    assert bool(warned) is told
    if told:
        assert warned[0].startswith("functions have 300 of concurrency reserved or provisioned, and concurrency_limit is 100")
