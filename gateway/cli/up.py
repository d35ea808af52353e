"""`lambent up`: checks the settings and becomes the supervisor."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gateway.settings import DEFINITIONS, Definition, SettingError, load, variable


def _option(definition: Definition) -> click.Option:
    """Text stays text here: settings are parsed in one place, in the same words for flag, environment and file."""
    shown = "" if definition.default is None or definition.kind is bool else f"  [default: {definition.default}]"
    metavar = (
        "|".join(definition.choices) if definition.choices else {int: "N", float: "S", str: "TEXT"}.get(definition.kind, "DIR")
    )
    return click.Option(
        [definition.flag, definition.name],
        help=definition.help + (shown if isinstance(definition.default, str | int | float) else ""),
        is_flag=definition.kind is bool,
        default=None,
        type=None if definition.kind is bool else str,
        metavar=None if definition.kind is bool else metavar,
    )


def _run(*, config: Path | None, demo: bool, **flags: str | bool | None) -> None:
    """Start Lambent in the foreground: the Lambda API and function URLs, until Ctrl-C or SIGTERM.

    Functions run in sandboxes when root starts it, else as plain processes without isolation. What runs at the end may finish
    (--drain-s), and nothing is left behind.
    """
    try:
        settings = load(flags, os.environ, config)
    except SettingError as error:
        raise click.ClickException(str(error)) from error
    environment = {name: value for name, value in os.environ.items() if name not in {variable(d.name) for d in DEFINITIONS}}
    environment.pop("LAMBENT_CONFIG", None)
    command = [sys.executable, "-P", "-m", "gateway.up", *(["--demo"] if demo else [])]
    sys.stdout.flush()
    try:
        os.execve(sys.executable, command, {**environment, **settings.environment()})
    except OSError as error:  # of another user's, say
        raise click.ClickException(f"cannot run {sys.executable}: {error.strerror}") from error


command = click.Command(
    "up",
    callback=_run,
    params=[
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            envvar="LAMBENT_CONFIG",
            help="TOML file with settings: a key for each flag below, with _ instead of -.",
        ),
        click.Option(["--demo"], is_flag=True, help="Put an example function online and show how to call it."),
        *(_option(definition) for definition in DEFINITIONS),
    ],
    help=_run.__doc__,
    epilog="""Each setting can also be an environment variable: --drain-s is LAMBENT_DRAIN_S. A flag wins over the
environment, and that over the file.

\b
Examples:
  lambent up --demo
  sudo lambent up --data-dir /srv/lambent --memory-budget-mb 8192
  lambent up --config lambent.toml
""",
)
