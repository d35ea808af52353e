"""`lambent provision`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final

import click

from gateway.cli.api import Api, endpoint_option

PATH: Final = "/2019-09-30/functions/{}/provisioned-concurrency"
POLL_S: Final = 0.1


@click.command(
    "provision",
    epilog="""\b
Examples:
  lambent provision hello:live 5     # keep 5 sandboxes of what the alias live points to
  lambent provision hello:7 2        # the same for version 7
  lambent provision hello:live 0     # no longer
  lambent provision hello:live       # how far it is

$LATEST cannot be provisioned, as on AWS: publish a version first.""",
)
@click.argument("target", metavar="NAME:QUALIFIER")
@click.argument("count", type=click.IntRange(min=0), metavar="[N]", required=False)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until they are ready, or cannot be.")
@endpoint_option
def command(target: str, count: int | None, wait: bool, endpoint: str) -> None:
    """Keep N sandboxes of a version or an alias initialised, whatever else is going on; 0 ends that."""
    name, colon, qualifier = target.rpartition(":")
    if not colon or not name or not qualifier:
        raise click.BadParameter(f"{target!r} names no version and no alias; say NAME:QUALIFIER", param_hint="NAME:QUALIFIER")
    api = Api(endpoint)
    path, query = PATH.format(name), {"Qualifier": qualifier}
    if count == 0:
        api.call("DELETE", path, query=query)
        click.echo(f"{target} is not provisioned any more")
        return
    if count is None:
        click.echo(_sentence(target, api.call("GET", path, query=query).json()))
        return
    now = api.call("PUT", path, {"ProvisionedConcurrentExecutions": count}, query=query).json()
    if wait and now["Status"] == "IN_PROGRESS":
        now = _waited(api, path, query, target)
    if now["Status"] == "FAILED":
        raise click.ClickException(_sentence(target, now))
    click.echo(_sentence(target, now))


def _waited(api: Api, path: str, query: dict[str, str], target: str) -> Any:
    """Its configuration when it is in progress no more; shows how far it is, on a terminal."""
    if not sys.stderr.isatty():
        return _poll(api, path, query, lambda done, total: None)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(target, total=None)
        return _poll(api, path, query, lambda done, total: bars.update(task, completed=done, total=total))


def _poll(api: Api, path: str, query: dict[str, str], report: Callable[[int, int], None]) -> Any:
    while True:
        now = api.call("GET", path, query=query).json()
        report(now["AllocatedProvisionedConcurrentExecutions"], now["RequestedProvisionedConcurrentExecutions"])
        if now["Status"] != "IN_PROGRESS":
            return now
        time.sleep(POLL_S)


def _sentence(target: str, now: Any) -> str:
    ready, wanted = now["AllocatedProvisionedConcurrentExecutions"], now["RequestedProvisionedConcurrentExecutions"]
    reason = f": {now['StatusReason']}" if now.get("StatusReason") else ""
    return f"{target}: {ready} of {wanted} ready, {now['AvailableProvisionedConcurrentExecutions']} idle, {now['Status']}{reason}"
