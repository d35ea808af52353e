"""`lambent logs`."""

from __future__ import annotations

import contextlib
import datetime
import re
import sys

import click

from gateway.cli.api import Api, endpoint_option
from gateway.clock import SystemClock

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@click.command(
    "logs",
    epilog="""\b
Examples:
  lambent logs hello
  lambent logs hello -f
  lambent logs hello --since 10m
  lambent logs hello --since 2026-05-04T12:00:00
""",
)
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on as more is written, until Ctrl-C.")
@click.option("--since", metavar="WHEN", help="Only what is newer: 30s, 10m, 2h, 1d, or a date and time.")
@endpoint_option
def command(name: str, follow: bool, since: str | None, endpoint: str) -> None:
    """Show what function NAME wrote, with the START, END and REPORT lines of each invocation."""
    query = {"follow": "1"} if follow else {}
    if since is not None:
        query["since"] = str(int(_moment(since) * 1000))
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        for entry in Api(endpoint).lines(f"/_lambent/logs/{name}", query):
            seconds, ms = divmod(entry["timestamp"], 1000)
            click.echo(f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%dT%H:%M:%S}.{ms:03}Z  {entry['message']}")
            sys.stdout.flush()
        if follow:
            raise click.ClickException(f"{endpoint} ended: there is nothing more to follow")


def _moment(since: str) -> float:
    """Seconds since the epoch."""
    short = re.fullmatch(r"(\d+)([smhd])", since)
    if short:
        return SystemClock().wall() - int(short[1]) * _UNITS_S[short[2]]
    try:
        moment = datetime.datetime.fromisoformat(since)
    except ValueError:
        raise click.BadParameter(f"{since!r} is neither like 10m nor a date and time", param_hint="--since") from None
    return moment.astimezone().timestamp()
