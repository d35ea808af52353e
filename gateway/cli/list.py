"""`lambent list`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from gateway.cli.api import FUNCTION_URLS, FUNCTIONS, Api, endpoint_option
from gateway.cli.progress import waiting


@click.command("list", epilog="\b\nExamples:\n  lambent list\n  lambent list --json | jq -r '.[].FunctionName'\n")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with all that the API tells.")
@endpoint_option
def command(as_json: bool, endpoint: str) -> None:
    """Show the functions that there are, with their URLs."""
    api = Api(endpoint)
    with waiting("asking for the functions"):
        functions = _all(api)
    if as_json:
        click.echo(json.dumps(functions, indent=2))
        return
    if not functions:
        click.echo("There are no functions yet. `lambent deploy DIR` makes one.")
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("Name", "Runtime", "Memory", "Timeout", "Changed", "URL"):
        table.add_column(heading, no_wrap=True)
    with waiting("asking for their URLs"):
        urls = [api.find("GET", f"{FUNCTION_URLS}/{function['FunctionName']}/url") for function in functions]
    for function, url in zip(functions, urls, strict=True):
        table.add_row(
            function["FunctionName"],
            function.get("Runtime", "image"),
            f"{function['MemorySize']} MB",
            f"{function['Timeout']} s",
            function["LastModified"][:16].replace("T", " "),
            url["FunctionUrl"] if url else "",
        )
    Console(width=None if sys.stdout.isatty() else 1000).print(table, soft_wrap=True)


def _all(api: Api) -> list[dict[str, Any]]:
    functions: list[dict[str, Any]] = []
    query: dict[str, str] = {}
    while True:
        page = api.call("GET", FUNCTIONS + "/", query=query).json()
        functions.extend(page["Functions"])
        if not page.get("NextMarker"):
            return functions
        query = {"Marker": page["NextMarker"]}
