"""`lambent demo`: what `lambent up --demo` runs once the gateway is ready."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Final

import click

from gateway.cli.api import FUNCTION_URLS, Api, endpoint_option, function_path
from gateway.cli.archive import files_of, pack, read_ignore
from gateway.cli.deploy import Wish, publish_url, put, python_runtimes

EXAMPLE: Final = Path(__file__).parent / "example"
NAME: Final = "hello"


@click.command("demo")
@endpoint_option
def command(endpoint: str) -> None:
    """Deploy the example function and say how to call it. A function of the user's own that has its name is left alone."""
    api = Api(endpoint)
    package = pack(files_of(EXAMPLE, read_ignore(EXAMPLE)), lambda _: None)
    there = api.find("GET", function_path(NAME, "/configuration"))
    if there is not None and there["CodeSha256"] != base64.b64encode(hashlib.sha256(package).digest()).decode():
        url = (api.find("GET", f"{FUNCTION_URLS}/{NAME}/url") or {}).get("FunctionUrl")
        click.echo(f"""
  There is a function {NAME!r} already, with code of its own: it stays as it is, and the example is not put online.
    {url or f"It has no URL; lambent invoke {NAME} calls it."}
""")
        return
    runtime = python_runtimes(api)[0]
    put(api, Wish(name=NAME, runtime=runtime, handler="lambda_function.lambda_handler", timeout_s=10), package)
    url = publish_url(api, NAME)
    click.echo(f"""
  The example function {NAME!r} ({runtime}) is online. Its source: {EXAMPLE}
    {url}
  Call it:
    curl '{url}?name=Ada'
""")
