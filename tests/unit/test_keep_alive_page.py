"""The page of keep-alive policies: its tables, and that they are where they belong."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtests import keep_alive
from loadtests.__main__ import main
from loadtests.simulation import page
from loadtests.simulation.compare import BOUND, ORDER
from loadtests.simulation.measures import Measures


def measured(policy: str, cold: int, invocations: int = 1000) -> Measures:
    return Measures(policy, 1 << 30, invocations=invocations, cold=cold)


def runs(**cold: int) -> page.Runs:
    return {name: [measured(name, cold.get(name.replace("-", "_"), 100))] for name in (*ORDER, BOUND)}


def test_the_lowest_is_marked_and_what_is_lost_is_said() -> None:
    cells = [
        page.Cell("poisson", 1.0, runs(worth=20, lru=10, clairvoyant=1)),
        page.Cell("bursty", 0.5, runs(worth=5, lru=5)),
    ]
    table = page.kinds_table(cells)
    assert "| poisson | 1 | 10.00% | **1.00%** | 10.00% | 10.00% | 2.00% | 0.10% |" in table
    assert "| bursty | 0.5 | 10.00% | **0.50%** | 10.00% | 10.00% | **0.50%** | 10.00% |" in table
    assert page.lost(cells) == "`worth` loses on: poisson with 1 of the memory (`lru`: 1.00%, ours 2.00%)."
    assert page.lost(cells[1:]).startswith("`worth` has the fewest cold starts, or as few as the best")


def test_the_bar_is_said_seed_by_seed() -> None:
    two = {
        name: [*one, *other] for (name, one), other in zip(runs(worth=50).items(), runs(worth=20, lru=10).values(), strict=True)
    }
    said = page.bar_met(two)
    assert "at most 0.50 of the cold starts of the fixed time" in said
    assert "fewer than `lru` on 1, fewer than `greedy-dual` on 2, fewer than `hybrid` on 2" in said
    assert "| 21 | 1,024 | 1,000 | 100 | 10 | 100 | 100 | 20 | 100 |" in page.seeds_table(two, range(20, 22))
    table = page.policies_table(two, {"less": [measured("worth", 60), measured("worth", 60)]})
    assert "| `worth` | 70 | 3.50% | 0.35 | 0.50 | 0 ms | 0 ms | 0 | 0 | 0 | 0 |" in table
    assert len({line.count("|") for line in table.splitlines()}) == 1, "as many cells in each line"
    assert "| less | 120 | 6.00% | 0.60 | 0.60 |" in table


def test_blocks_are_replaced_where_they_stand() -> None:
    before = "a\n<!-- one -->\nold\n<!-- /one -->\nb <!-- two --><!-- /two -->\n"
    assert page.placed(before, {"one": "new", "two": "more"}) == (
        "a\n<!-- one -->\nnew\n<!-- /one -->\nb <!-- two -->\nmore\n<!-- /two -->\n"
    )
    with pytest.raises(ValueError, match="there is no <!-- three -->"):
        page.placed(before, {"three": ""})


def test_the_page_has_all_marks() -> None:
    assert page.placed(keep_alive.PAGE.read_text(), dict.fromkeys(("made", "azure", "kinds"), ""))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_command_fills_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = tmp_path / "page.md"
    written.write_text("".join(f"<!-- {name} --><!-- /{name} -->\n" for name in ("made", "azure", "kinds")))
    monkeypatch.setattr(keep_alive, "PAGE", written)
    monkeypatch.setattr(keep_alive, "PLOT", tmp_path / "plot.svg")
    drawn: list[int] = []
    monkeypatch.setattr(keep_alive, "draw", lambda cells, path: drawn.append(len(cells)))  # matplotlib keeps its fonts open
    arguments = ["keep-alive", "--seed", "100", "--seeds", "2", "--functions", "12", "--hours", "1.5", "--write"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    text = written.read_text()
    assert "python -m loadtests keep-alive --seed 100 --seeds 2 --functions 12 --hours 1.5 --write" in text
    assert page.fingerprint() in text
    assert text.count("\n| 10") >= 2, "a line for each seed"
    for kind in ("azure", "poisson", "diurnal", "bursty", "periodic", "heavy-tailed", "once"):
        assert text.count(f"\n| {kind} |") == 3
    assert drawn == [21]
