"""`lambent version`."""

from __future__ import annotations

import importlib.metadata
import platform

import click


@click.command("version")
def command() -> None:
    """Show the version of Lambent and of what it runs on."""
    click.echo(f"lambent {importlib.metadata.version('lambent')} (Python {platform.python_version()}, {platform.platform()})")
