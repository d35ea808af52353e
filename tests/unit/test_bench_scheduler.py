"""`lambent bench scheduler`: which figures it shows, and what it holds them to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli.bench import decisions, overload, simulator
from gateway.cli.main import main
from loadtests.simulation import speed


@pytest.mark.parametrize(
    ("among_many", "all_over", "goodput", "code"),
    [(2.2, 2.9, 780.0, 0), (3.2, 2.9, 780.0, 1), (2.2, 3.1, 780.0, 1), (2.2, 2.9, 700.0, 1)],
)
def test_figures_and_their_bars(
    monkeypatch: pytest.MonkeyPatch, among_many: float, all_over: float, goodput: float, code: int
) -> None:
    monkeypatch.setattr(decisions, "measure", lambda: decisions.Cost(2.0, among_many, all_over, 3.0, 4.2, 0.1, 0.6))
    monkeypatch.setattr(overload, "measure", lambda seconds: overload.Overload(800.0, goodput, 1.5, 0.95))
    monkeypatch.setattr(speed, "measure", lambda: speed.Speed(core=31_000.0, pool=9_000.0))
    result = CliRunner().invoke(main, ["bench", "scheduler", "--json", "--check"])
    assert result.exit_code == code
    figures = {one["name"]: one for one in json.loads(result.stdout)["figures"]}
    assert figures["a decision, 100,000 functions, 10,000 sandboxes, ten of these"]["value"] == among_many
    assert figures["goodput at 4 × capacity"]["value"] == goodput
    bars = [one["most"] or one["least"] for one in figures.values() if one["most"] or one["least"]]
    assert bars == [1.5, 1.5, 0.9, 2.0, 0.9, 30_000, 8_000]


def test_an_installation_has_no_simulator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(simulator, "ROOT", tmp_path)
    monkeypatch.setitem(sys.modules, "loadtests.simulation", None)  # as if it were not there
    assert simulator.figures() == []
