"""`lambent remove`."""

from __future__ import annotations

import click

from gateway.cli.api import Api, endpoint_option, function_path


@click.command("remove", epilog="\b\nExample:\n  lambent remove hello\n")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@endpoint_option
def command(names: tuple[str, ...], endpoint: str) -> None:
    """Delete functions NAME... with all their versions, aliases and URLs."""
    api = Api(endpoint)
    for name in names:
        api.call("DELETE", function_path(name))
        click.echo(f"removed {name}")
