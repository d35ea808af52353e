"""The `lambent` command: a group whose commands are imported when they are asked for, so that each starts quickly."""

from __future__ import annotations

import importlib
from typing import Final

import click

from gateway.cli.group import Group

#: command: (module, what `lambent --help` says of it)
COMMANDS: Final = {
    "up": ("up", "Start Lambent here and keep it running."),
    "deploy": ("deploy", "Put a directory online as a function."),
    "invoke": ("invoke", "Run a function and print its answer."),
    "list": ("list", "Show the functions that there are."),
    "logs": ("logs", "Show what a function wrote."),
    "top": ("top", "Show what runs now."),
    "provision": ("provision", "Keep sandboxes of a version or alias ready."),
    "remove": ("remove", "Delete functions."),
    "doctor": ("doctor", "Tell what this machine lacks, and what mends it."),
    "bench": ("bench", "Measure this machine: warm, cold, containers, lifecycle, scheduler."),
    "version": ("version", "Show the version."),
    "demo": ("demo", ""),
}
HIDDEN: Final = frozenset({"demo"})


class LazyGroup(Group):
    """Knows its commands by name; `--help` of the group imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if name not in HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"gateway.cli.{COMMANDS[cmd_name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Begin with `lambent up --demo`, then `lambent deploy DIR` in another terminal.",
)
@click.version_option(package_name="lambent", message="lambent %(version)s")
def main() -> None:
    """AWS Lambda on your own machine: function URLs and the Lambda API, answered by real sandboxes."""
