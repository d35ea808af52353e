"""`lambent top`: what runs now, function by function.

The gateway tells counts since its start; rates and percentiles are of what came between two looks. A single look (a pipe,
`--once`, `--json`) has no rates, and percentiles of all since the start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from gateway.cli.api import Api, Unreachable, endpoint_option
from gateway.cli.percentile import percentile_s

if TYPE_CHECKING:
    from rich.text import Text

MIB: Final = 1 << 20
PATH: Final = "/_lambent/top"
PIPE_WIDTH: Final = 160
_HEAD_LINES: Final = 8  # above the rows: what is said of the whole, what is wrong, and the names of the columns
SORTS: Final = ("calls", "p50", "p99", "errors", "queue", "memory", "name")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One function. What is None is not known: rates at the first look, counts of a function that has none of its own."""

    name: str
    calls: int | None
    calls_per_s: float | None
    errors: int | None  #: since the last look, or the start
    throttles: int | None
    cold_starts: int | None
    p50_ms: float | None
    p99_ms: float | None
    running: int
    queue: int
    warm: int
    frozen: int
    cold: int  #: starting
    memory_mb: float


def rows(now: Any, before: Any | None, sort: str) -> list[Row]:
    """What the gateway told, by what `sort` says. `before` is what it told the time before."""
    if before is not None and before["uptime_s"] > now["uptime_s"]:  # another gateway, whose counts begin at 0
        before = None
    earlier = {} if before is None else {row["name"]: row for row in before["functions"]}
    over_s = now["uptime_s"] - (before["uptime_s"] if before is not None else 0.0)
    found = [
        _row(row, earlier.get(row["name"], {}), now["bounds_s"], None if before is None else over_s) for row in now["functions"]
    ]
    return sorted(found, key=lambda row: _rank(row, sort))


def _row(now: Any, before: Any, bounds_s: list[float], over_s: float | None) -> Row:
    def since(member: str) -> int | None:
        """A function that is deleted and made anew begins at 0."""
        count = now.get(member)
        return None if count is None else count - (before.get(member, 0) if before.get(member, 0) <= count else 0)

    calls = since("invocations")
    earlier = dict(before.get("durations", ()))
    durations = {at: more for at, count in now.get("durations", ()) if (more := count - earlier.get(at, 0)) > 0}
    sandboxes = now.get("sandboxes", {})
    p50_s, p99_s = (percentile_s(bounds_s, durations, share) for share in (0.5, 0.99))
    return Row(
        name=now["name"],
        calls=now.get("invocations"),
        calls_per_s=calls / over_s if calls is not None and over_s else None,
        errors=since("errors"),
        throttles=since("throttles"),
        cold_starts=since("cold_starts"),
        p50_ms=None if p50_s is None else round(p50_s * 1000, 3),
        p99_ms=None if p99_s is None else round(p99_s * 1000, 3),
        running=now.get("running", 0),
        queue=now.get("waiting", 0),
        warm=sandboxes.get("warm", 0),
        frozen=sandboxes.get("frozen", 0),
        cold=sandboxes.get("cold", 0),
        memory_mb=round(now.get("memory_bytes", 0) / MIB, 1),
    )


def _rank(row: Row, sort: str) -> tuple[float, float, str]:
    """Most first, but names in their order. Of those that are equal, the one that was called more."""
    of = {"p50": row.p50_ms, "p99": row.p99_ms, "errors": row.errors, "queue": row.queue, "memory": row.memory_mb, "name": 0}
    first = of.get(sort, row.calls if row.calls_per_s is None else row.calls_per_s)
    return -(first or 0), 0 if sort == "name" else -(row.calls or 0), row.name


def late_p99_ms(now: Any, before: Any | None) -> float | None:
    """How late the gateway's event loop is in the worst hundredth of the time: whatever it does waits for that."""
    earlier = {}
    if before is not None and before["uptime_s"] <= now["uptime_s"]:
        earlier = dict(before["late"]["counts"])
    counts = {at: more for at, count in now["late"]["counts"] if (more := count - earlier.get(at, 0)) > 0}
    late_s = percentile_s(now["late"]["bounds_s"], counts, 0.99)
    return None if late_s is None else round(late_s * 1000, 3)


def document(now: Any) -> str:
    """The same for programs."""
    whole = {name: now[name] for name in ("version", "endpoint", "uptime_s", "running", "waiting", "concurrency_limit", "memory")}
    whole["late_p99_ms"] = late_p99_ms(now, None)
    functions = [dataclasses.asdict(row) for row in rows(now, None, "calls")]
    for function in functions:
        del function["calls_per_s"]
    return json.dumps({**whole, "sandboxes": now["sandboxes"], "stems": now["stems"], "functions": functions}, indent=2)


#: Heading, what of a row, its colour unless it is 0. On a narrow terminal the last of `DROPPED` goes first.
COLUMNS: Final[tuple[tuple[str, Callable[[Row], str], str], ...]] = (
    ("calls", lambda row: _whole(row.calls), ""),
    ("/s", lambda row: _rate(row.calls_per_s), ""),
    ("p50 ms", lambda row: _ms(row.p50_ms), ""),
    ("p99 ms", lambda row: _ms(row.p99_ms), ""),
    ("errors", lambda row: _whole(row.errors), "red"),
    ("429", lambda row: _whole(row.throttles), "yellow"),
    ("starts", lambda row: _whole(row.cold_starts), ""),
    ("running", lambda row: _whole(row.running), ""),
    ("queue", lambda row: _whole(row.queue), "yellow"),
    ("warm", lambda row: _whole(row.warm), "green"),
    ("frozen", lambda row: _whole(row.frozen), "cyan"),
    ("cold", lambda row: _whole(row.cold), "magenta"),
    ("MB", lambda row: f"{row.memory_mb:,.0f}", ""),
)
DROPPED: Final = ("running", "errors", "calls", "429", "starts")
NAME_WIDTH: Final = (12, 48)


def page(now: Any, before: Any | None, sort: str, width: int, most: int | None, problem: str = "") -> Text:
    """For people, in lines of `width` columns; of the functions the first `most`, all where that is None.

    Laid out here: rich takes ten times as long for a table, and this is drawn again and again.
    """
    from rich.text import Text

    found = rows(now, before, sort)
    shown = found[:most]
    memory, states, late = now["memory"], now["sandboxes"], late_p99_ms(now, before)
    stems = ", ".join(f"{count} {runtime}" for runtime, count in sorted(now["stems"].items()) if count)
    first = f"Lambent {now['version']} at {now['endpoint']}, up {_time(now['uptime_s'])}"
    if before is not None:
        first += f"; the last {now['uptime_s'] - before['uptime_s']:.1f} s"
    if len(found) > len(shown):
        first += f"; {len(found) - len(shown)} functions more"
    kinds = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    head = (
        first,
        f"invocations  {now['running']:,} running, {now['waiting']:,} waiting, limit {now['concurrency_limit']:,}",
        f"sandboxes    {sum(states.values()):,}{': ' if kinds else ''}{kinds}",
        f"ready        {stems or 'no stems'}",
        f"memory       {memory['used_bytes'] / MIB:,.0f} of {memory['budget_bytes'] / MIB:,.0f} MB",
        f"event loop   {'' if late is None else f'p99 {_ms(late)} ms late'}",
    )
    text = Text("\n".join(line[:width] for line in head) + "\n", no_wrap=True, overflow="crop")
    text.append(problem[:width] + "\n", "red")
    _table(text, shown, width)
    return text


def _table(text: Text, shown: list[Row], width: int) -> None:
    cells = {heading: [value(row) for row in shown] for heading, value, _ in COLUMNS}
    widths = {heading: max(len(heading), *map(len, column), 0) for heading, column in cells.items()}
    dropped = list(DROPPED)
    while dropped and NAME_WIDTH[0] + sum(2 + each for each in widths.values()) > width:
        del widths[dropped.pop()]
    room = width - sum(2 + each for each in widths.values())
    name_width = min(max(NAME_WIDTH[0], *(len(row.name) for row in shown), 0), max(NAME_WIDTH[0], min(NAME_WIDTH[1], room)))
    text.append(f"{'function':{name_width}}" + "".join(f"  {heading:>{each}}" for heading, each in widths.items()), "bold")
    colours = {heading: colour for heading, _, colour in COLUMNS}
    for at, row in enumerate(shown):
        name = row.name if len(row.name) <= name_width else row.name[: name_width - 1] + "…"
        text.append(f"\n{name:{name_width}}")
        for heading, each in widths.items():
            cell = cells[heading][at]
            text.append(f"  {cell:>{each}}", "dim" if cell == "0" else colours[heading])


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _whole(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _rate(per_s: float | None) -> str:
    return "" if per_s is None else f"{per_s:,.1f}" if per_s < 100 else f"{per_s:,.0f}"


def _ms(ms: float | None) -> str:
    return "" if ms is None else f"{ms:,.2f}" if ms < 10 else f"{ms:,.0f}"


@click.command(
    "top",
    epilog="""\\b
Examples:
  lambent top
  lambent top --sort p99 --interval 5
  lambent top --once | head
  lambent top --json | jq '.functions[] | {name, p99_ms}'
""",
)
@click.option(
    "--interval", type=click.FloatRange(0.2, 3600), default=2.0, show_default=True, metavar="S", help="How often to look."
)
@click.option("--sort", type=click.Choice(SORTS), default="calls", show_default=True, help="Which functions come first.")
@click.option("--once", is_flag=True, help="Look once and end, as in a pipe.")
@click.option("--json", "as_json", is_flag=True, help="Look once; for programs.")
@endpoint_option
def command(interval: float, sort: str, once: bool, as_json: bool, endpoint: str) -> None:
    """Show what runs now: functions, their sandboxes, queues and durations. Ctrl-C ends it.

    warm sandboxes answer at once, frozen ones after a thaw, cold ones are just starting. Counts of errors, 429 and starts are
    since the last look; with --once, like the percentiles, since the gateway's start.
    """
    if as_json:
        click.echo(document(_look(endpoint)))
        return
    from rich.console import Console

    if once or not sys.stdout.isatty():
        console = Console()
        width = console.width if sys.stdout.isatty() else PIPE_WIDTH
        console.print(page(_look(endpoint), None, sort, width, None), soft_wrap=True)
        return
    with contextlib.suppress(KeyboardInterrupt):
        _live(Console(), endpoint, interval, sort)


def _look(endpoint: str) -> Any:
    """One look on a connection of its own: the next may be an hour later."""
    api = Api(endpoint, timeout_s=10)
    try:
        return api.call("GET", PATH).json()
    finally:
        api.close()


def _live(console: Any, endpoint: str, interval_s: float, sort: str) -> None:
    """Look and show for ever. A gateway that is away is waited for, with what was seen last."""
    from rich.live import Live

    now, before = _look(endpoint), None
    problem = ""
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(page(now, before, sort, console.width, max(1, console.height - _HEAD_LINES), problem), refresh=True)
            time.sleep(interval_s)
            try:
                now, before = _look(endpoint), now
                problem = ""
            except Unreachable as error:
                problem = error.message
