"""The Grafana dashboard and the scrape configuration ask for what /metrics answers, series by series and label by label."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.observe.metrics import Picture, render
from gateway.settings import Settings
from gateway.tally import LAG_S, Histogram, Tally, Totals

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/lambent.json").read_text())
GIVEN = {"job", "instance"}  #: labels that Prometheus adds
NAME = re.compile(r"\b(?:lambent|process)_\w+")


def answered() -> dict[str, set[str]]:
    """Labels of every series of a gateway in which everything happened."""
    tally, totals = Tally(), Totals()
    tally.failed_starts = 1
    for kinds in (tally.errors, tally.throttles, tally.not_run, tally.provisioned, totals.stem_failures):
        kinds.add("some")
    picture = Picture(
        version="1", driver="native", functions=[("echo", tally)], totals=totals, lag_s=Histogram(LAG_S), sandboxes={}, running=0,
        waiting=0, concurrency_limit=1, memory_used_bytes=1, memory_budget_bytes=1,
        spawner_restarts=0,
    )  # fmt: skip
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(render(picture, "")[1].decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


SERIES = answered()


def queries() -> Iterator[Any]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield pytest.param(target["expr"], target["legendFormat"], id=f"{panel['title']}, {target['refId']}")


@pytest.mark.parametrize(("expression", "legend"), list(queries()))
def test_each_panel_asks_for_series_and_labels_that_exist(expression: str, legend: str) -> None:
    names = NAME.findall(expression)
    assert names
    known = GIVEN | set.intersection(*[SERIES[name] for name in names])
    selected = set(re.findall(r"(\w+)=~?\"", expression))
    kept = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
    assert selected | kept <= known
    assert set(re.findall(r"{{(\w+)}}", legend)) == kept - {"le"}, "one line for each, with its name"
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)


def test_counters_are_shown_as_rates_and_gauges_are_not() -> None:
    for expression in (target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]):
        rated = re.findall(r"rate\((\w+)", expression)
        for name in NAME.findall(expression):
            assert (name in rated) is name.endswith(("_total", "_bucket", "_sum", "_count")), name


def test_every_series_is_on_it() -> None:
    shown = {name for panel in DASHBOARD["panels"] for target in panel["targets"] for name in NAME.findall(target["expr"])}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in SERIES if name.startswith("lambent_")}
    left = families - {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert left == {"lambent_info", "lambent_function_queue_wait_seconds"}


def test_variables_ask_for_series_and_labels_that_exist() -> None:
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    for one in variables.values():
        if one["type"] == "query":
            match = re.fullmatch(r"label_values\((\w+)(?:{.*})?, (\w+)\)", one["definition"])
            assert match is not None
            assert match[2] in SERIES[match[1]] | GIVEN
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(DASHBOARD)))
    assert used == set(variables)


def test_panels_do_not_overlap() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for at in [panel["gridPos"]]
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_prometheus_scrapes_where_lambent_listens_unless_told_otherwise(tmp_path: Path) -> None:
    text = (DEPLOY / "prometheus/prometheus.yml").read_text()
    settings = Settings(data_dir=tmp_path)
    assert f'targets: ["{settings.host}:{settings.port}"]' in text
    assert "metrics_path: /metrics\n" in text
