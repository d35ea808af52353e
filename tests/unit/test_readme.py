"""The README says what is so: its settings are the settings, its files are there."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.cli.main import COMMANDS
from gateway.settings import DEFINITIONS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_first_line_says_what_it_costs() -> None:
    assert README.splitlines()[0].endswith("Apache-2.0, no token, no telemetry, no caps.")


def test_every_setting_is_in_the_table_with_its_default_and_help() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*)`)? ?\| (.*) \|$", README, re.MULTILINE)
    shown = {name: (default, text) for name, default, text in rows}
    assert list(shown) == [definition.name for definition in DEFINITIONS]
    for definition in DEFINITIONS:
        default = definition.default if isinstance(definition.default, str | int | float) else ""
        text = str(default).lower() if isinstance(default, bool) else str(default)
        assert shown[definition.name] == (text, definition.help)


def test_commands_that_it_names_are_there() -> None:
    for command in ("deploy/quickstart", "tests/check"):
        assert f"\n    {command}\n" in README
        assert (ROOT / command).stat().st_mode & 0o111
    named = set(re.findall(r"(?:^|`|bin/)lambent (\w+)", README, re.MULTILINE))
    assert {"up", "deploy", "invoke", "list", "logs", "remove", "bench"} <= named <= COMMANDS.keys()


def test_ci_runs_what_the_readme_says() -> None:
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "exec tests/check"
