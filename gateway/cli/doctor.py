"""`lambent doctor`: what this host gives, what it means where something is not as it should be, and the command that mends it.

The facts come from where they are used: `sandbox.native.probe` and `surroundings` know what sandboxes need, `checks` what the
gateway does. Here they are put in order and shown. Runtimes are many and nobody needs all, so a missing one is no failure.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from gateway.cli import checks
from gateway.cli.progress import waiting
from sandbox.native import probe, surroundings
from sandbox.native.probe import Fact, Level

COLOURS: Final = {Level.GOOD: "green", Level.DEGRADED: "yellow", Level.MISSING: "red"}
_NAME_WIDTH: Final = 26


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """Facts that belong together. `needed`: what is missing of them keeps Lambent from working as it should."""

    title: str
    needed: bool
    facts: tuple[Fact, ...]


def examine(flags: dict[str, str | bool | None], config: Path | None) -> list[Section]:
    """Every check, on this host, now. Blocks for up to three seconds; leaves nothing behind."""
    gateway = checks.gateway(flags, os.environ, config)  # first: it forks, and the others have threads
    with waiting("looking at this machine"):
        return _sections(gateway, lambda: checks.engine(flags, os.environ, config))


def _sections(gateway: list[Fact], engine: Callable[[], Fact]) -> list[Section]:
    found = probe.host()
    runtimes = [fact for fact in found if fact.name.startswith("runtime ")]
    host = [fact for fact in found if fact not in runtimes]
    after = [fact.name for fact in host].index("cgroups") + 1
    host.insert(after, probe.guarded("delegation", surroundings.delegation))
    return [
        Section("Sandboxes", True, tuple(host)),
        Section("Network of functions", True, tuple(surroundings.network())),
        Section("Gateway", True, tuple(gateway)),
        Section("Runtimes", False, tuple(runtimes)),
        Section("For those who want them", False, tuple(surroundings.surroundings(engine))),
    ]


def healthy(sections: list[Section]) -> bool:
    """Nothing that is needed is missing, and some runtime is there."""
    needed = all(fact.level is not Level.MISSING for section in sections if section.needed for fact in section.facts)
    runtimes = [fact for section in sections for fact in section.facts if fact.name.startswith("runtime ")]
    return needed and any(fact.level is not Level.MISSING for fact in runtimes)


def document(sections: list[Section]) -> str:
    """The same for programs."""
    return json.dumps(
        {
            "healthy": healthy(sections),
            "checks": [
                {**dataclasses.asdict(fact), "level": fact.level.value, "section": section.title, "needed": section.needed}
                for section in sections
                for fact in section.facts
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def report(sections: list[Section], width: int) -> str:
    """For people; lines are at most `width` columns wide, but commands are not broken."""
    lines = []
    for section in sections:
        lines += ["", click.style(section.title, bold=True)]
        for fact in section.facts:
            lines += _lines(fact, width)
    return "\n".join([*lines, "", _verdict(sections)])


def _lines(fact: Fact, width: int) -> list[str]:
    mark = click.style(f"{fact.level.value:9}", fg=COLOURS[fact.level])
    indent = " " * (2 + 9 + _NAME_WIDTH)
    first, *more = textwrap.wrap(fact.detail, max(width - len(indent), 30))
    lines = [f"  {mark}{fact.name:{_NAME_WIDTH}}{first}", *(indent + line for line in more)]
    if fact.remedy:
        lines += textwrap.wrap("→ " + fact.remedy, width, initial_indent=indent, subsequent_indent=indent + "  ")
    if fact.command:
        lines.append(f"{indent}  {click.style('$ ' + fact.command, bold=True)}")
    return lines


def _verdict(sections: list[Section]) -> str:
    levels = [fact.level for section in sections if section.needed for fact in section.facts]
    missing, degraded = levels.count(Level.MISSING), levels.count(Level.DEGRADED)
    if missing:
        return f"{missing} of what Lambent needs missing, {degraded} degraded."
    if not healthy(sections):
        return "There is no runtime: no function can run."
    return f"Everything that Lambent needs is here{f', {degraded} of it degraded' if degraded else ''}."


@click.command(
    "doctor",
    epilog="\b\nExamples:\n  sudo lambent doctor\n  lambent doctor --json | jq '.checks[] | select(.level != \"good\")'\n",
)
@click.option(
    "--json", "as_json", is_flag=True, help="As JSON: healthy, and for each check name, level, detail, remedy, command."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    envvar="LAMBENT_CONFIG",
    help="The TOML file with settings of `up`.",
)
@click.option("--port", metavar="N", help="As for `up`.")
@click.option("--data-dir", metavar="DIR", help="As for `up`.")
def command(as_json: bool, config: Path | None, port: str | None, data_dir: str | None) -> None:
    """Tell what this machine gives to Lambent, what is missing, and the command that mends it.

    Run it as who will run `up`: what root can do is told to root only. Changes nothing. Exit code 1 if something that Lambent
    needs is missing.
    """
    sections = examine({"port": port, "data_dir": data_dir}, config)
    if as_json:
        click.echo(document(sections))
    else:
        text = report(sections, shutil.get_terminal_size((120, 24)).columns)
        click.echo(text, color=False if os.environ.get("NO_COLOR") else None)
    sys.exit(0 if healthy(sections) else 1)
