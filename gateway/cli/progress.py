"""What a terminal shows while something takes time: a bar where it is known how much is left, a turning sign where it is not.

Always on standard error, and nothing at all where that is no terminal, so that pipes and logs stay clean. What draws it is
imported when something is drawn: a command that is over in a moment does not wait for it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final

Report = Callable[[int, int], None]  #: is told how much is done, and how much there is in all, in bytes
Step = Callable[..., Report]

PATIENCE_S: Final = 0.5  #: nobody wants to see what is over before
FOLLOW_S: Final = 0.1  #: how often somebody else's work is looked at


def _ignored(*_: object) -> Report:
    return lambda done, total: None


@contextlib.contextmanager
def bars() -> Iterator[Step]:
    """Gives ``step(name, then="")``, which makes a bar. `then` is what follows when it is full, for as long as that takes."""
    if not sys.stderr.isatty():
        yield _ignored
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description:>9}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:

        def step(name: str, then: str = "") -> Report:
            task = shown.add_task(name, total=None)

            def report(done: int, total: int) -> None:
                shown.update(task, completed=done, total=total)
                if then and done >= total:
                    shown.add_task(then, total=None)

            return report

        yield step


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Shows `what` and a turning sign from half a second on until the block ends. Nothing may be printed meanwhile."""

    def show(over: threading.Event) -> None:
        from rich.console import Console

        with Console(stderr=True).status(what):
            over.wait()

    with _beside(show):
        yield


@contextlib.contextmanager
def following(what: str, far: Callable[[], tuple[int, int] | None]) -> Iterator[None]:
    """Shows a bar of what somebody else does, from half a second on until the block ends. Nothing may be printed meanwhile.

    `far`, which is called in a thread, tells how much is done and how much there is in all, in bytes; None or 0: nobody knows.
    """

    def show(over: threading.Event) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
            task = shown.add_task(what, total=None)
            while not over.wait(FOLLOW_S):
                done, total = far() or (0, 0)
                shown.update(task, completed=done, total=total or None)

    with _beside(show):
        yield


@contextlib.contextmanager
def _beside(show: Callable[[threading.Event], None]) -> Iterator[None]:
    """`show` in a thread, if this takes longer than anybody wants to know of and there is a terminal, until the event."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()

    def patiently() -> None:
        if not over.wait(PATIENCE_S):
            show(over)

    shower = threading.Thread(target=patiently, name="progress", daemon=True)
    shower.start()
    try:
        yield
    finally:
        over.set()
        shower.join()
