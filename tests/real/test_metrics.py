"""``/metrics`` of the whole product, after what a user did with it."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.real.product import Product, eventually

pytestmark = [pytest.mark.real, pytest.mark.slow]

CODE = """
def handler(event, context):
    return 1 / event
"""


def series(product: Product) -> dict[tuple[str, ...], float]:
    status, headers, body = product.fetch("/metrics")
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_what_was_done_is_counted_until_the_function_is_deleted(product: Product) -> None:
    before = series(product)
    name = product.deploy(CODE)
    for event in (1, 0, 2):
        product.invoke(name, event)
    found = series(product)
    assert found["lambent_invocations_total", name] == found["lambent_invocation_duration_seconds_count", name] == 3
    assert found["lambent_errors_total", name, "error"] == 1
    assert found["lambent_cold_starts_total", name] == 1
    init_s = found["lambent_cold_start_seconds_sum", "init"] - before["lambent_cold_start_seconds_sum", "init"]
    assert 0 < init_s < 10
    assert 0 < found["lambent_memory_used_bytes",] < found["lambent_memory_budget_bytes",]
    assert found["process_open_fds",] > 10
    eventually(lambda: series(product)["lambent_event_loop_lag_seconds_count",] > found["lambent_event_loop_lag_seconds_count",])
    product.remove(name)
    assert not [labels for labels in series(product) if name in labels]
