"""`lambent bench`: measures this machine with a Lambent of its own, and says what was measured and how.

Ratios are taken against an aiohttp hello world in the same run, as absolute times say more about a machine than about software.
"""

from __future__ import annotations

import importlib

import click


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["warm", "cold", "containers", "lifecycle", "scheduler"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = importlib.import_module(f"gateway.cli.bench.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    ("warm", "Throughput and latency of warm invocations, against an aiohttp hello world."),
                    ("cold", "Cold starts with and without stems, bursts, and memory."),
                    ("containers", "Cold starts in containers and of images, with the Docker Engine's own beside them."),
                    ("lifecycle", "What extensions, telemetry and Node.js cost, how environments end, how answers stream."),
                    ("scheduler", "The cost of decisions, and goodput at overload; needs no root."),
                ]
            )


@click.group("bench", cls=_Lazy, epilog="\b\nExamples:\n  sudo lambent bench warm\n  sudo lambent bench cold --json --check\n")
def command() -> None:
    """Measure this machine. Each starts a Lambent of its own, on a free port and a temporary directory, and ends it."""
