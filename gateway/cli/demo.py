"""`lambent demo`: what `lambent up --demo` runs once the gateway is ready."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from gateway.cli.api import Api, endpoint_option
from gateway.cli.archive import files_of, pack, read_ignore
from gateway.cli.deploy import Wish, publish_url, put, python_runtimes

EXAMPLE: Final = Path(__file__).parent / "example"
NAME: Final = "hello"


@click.command("demo")
@endpoint_option
def command(endpoint: str) -> None:
    """Deploy the example function and say how to call it."""
    api = Api(endpoint)
    package = pack(files_of(EXAMPLE, read_ignore(EXAMPLE)), lambda _: None)
    runtime = python_runtimes(api)[0]
    put(api, Wish(name=NAME, runtime=runtime, handler="lambda_function.lambda_handler", timeout_s=10), package)
    url = publish_url(api, NAME)
    click.echo(f"""
  The example function {NAME!r} ({runtime}) is online. Its source: {EXAMPLE}
    {url}
  Call it:
    curl '{url}?name=Ada'
""")
