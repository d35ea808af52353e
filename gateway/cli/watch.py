"""`lambent deploy --watch`: every save is put online at once.

The kernel tells what changes below the directory (inotify, by watchfiles). Editors save in many ways: they write in place, or a
new file that is renamed over the old one, and leave others beside it meanwhile; builds and `git checkout` change many files. So
what is told is only the reason to look: once it has been quiet for a moment the whole directory is packed, and if that gives
another package than the last time, it is sent. A file that vanishes while it is packed is looked at again, and a directory
that is replaced as a whole is watched anew.

What goes wrong (a syntax error, a package that is refused, a gateway that is down) is told once and watching goes on: the code
from before still runs. Where the same may work later without another save, it is tried again every second. How long a save
took is counted from the time at which the file system says the file changed to the answer that the new code is what runs next.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import watchfiles

from gateway.cli.api import Api, ApiProblem, Unreachable
from gateway.cli.archive import IGNORE_FILE, Ignore, Unfit, read_ignore
from gateway.cli.deploy import Source, Wish, publish_url, put
from gateway.clock import SystemClock

QUIET_MS: Final = 20  #: without a change, before what changed is looked at
LONGEST_MS: Final = 1000  #: it is looked at even if there is no rest
TICK_MS: Final = 1000  #: how often is looked whether the directory itself is still the same
MISSING_S: Final = 0.1  #: a directory that is being replaced is gone for a moment
_AGAIN: Final = frozenset({409, 429})  #: like 5xx: another update, or too many


class Watch:
    """Keeps the function at `endpoint` as `source` says; `wish` and `package` are what is online. `url`: with a public URL."""

    def __init__(self, source: Source, endpoint: str, wish: Wish, package: bytes, *, url: bool) -> None:
        self._source = source
        self._endpoint = endpoint
        self._wish = wish
        self._package = package
        self._url = url
        self._clock = SystemClock()
        self._told: str | None = None  # what went wrong, so that it is told once
        self.pending = False  #: what is not online yet may be without another save

    def run(self) -> None:
        """Until Ctrl-C. Raises click.ClickException where this host lets nobody watch."""
        click.echo(f"watching {self._source.directory}; Ctrl-C ends it", err=True)
        with contextlib.suppress(KeyboardInterrupt):
            for changed in changes(self._source.directory):
                if changed is not None or self.pending:
                    self.look(changed or [])

    def look(self, changed: list[Path]) -> None:
        """Deploy if there is anything new, and tell how that went. `changed` is what is known to have been saved."""
        began_s = self._clock.wall()
        saved_s = max([at_s for path in changed if (at_s := _changed_s(path)) is not None and at_s <= began_s], default=began_s)
        try:
            if self._deployed():
                took_ms = (self._clock.wall() - saved_s) * 1000
                click.echo(f"{_time()} {_names(changed, self._source.directory)}: live {took_ms:.0f} ms after the save", err=True)
            elif self._told is not None:
                click.echo(f"{_time()} what is online is up to date", err=True)
            self._told, self.pending = None, False
        except click.ClickException as error:
            in_passing = isinstance(error, Moving) and not self.pending
            self.pending = isinstance(error, Unreachable | Moving) or (
                isinstance(error, ApiProblem) and (error.status >= 500 or error.status in _AGAIN)
            )
            if error.message != self._told and not in_passing:
                self._told = error.message
                then = "it is tried again until then" if isinstance(error, Unreachable) else "the code from before still runs"
                click.echo(f"{_time()} lambent: {error.message.rstrip('.')}; {then}", err=True)

    def _deployed(self) -> bool:
        """Whether there was anything to deploy. A connection of its own, since the last one was closed long ago."""
        api = Api(self._endpoint)
        try:
            with _moving():
                wish, _ = self._source.wish(api)
                package = self._source.package(lambda done, total: None, quickly=True)
            if package == self._package and wish == self._wish:
                return False
            if put(api, wish, package, code_only=wish == self._wish) and self._url:  # somebody had removed it
                click.echo(publish_url(api, wish.name))
            self._wish, self._package = wish, package
            return True
        finally:
            api.close()


class Moving(click.ClickException):
    """Files went away while they were read."""


@contextlib.contextmanager
def _moving() -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise Moving(error.message) from error
        raise


def changes(directory: Path) -> Iterator[list[Path] | None]:
    """What changed below `directory` and belongs to the package, each time that it is quiet again; None every `TICK_MS`.

    An empty list when watching has begun, or begins anew with another directory of this name: what was saved before is in none.
    """
    yield from _changes_of(directory, _wait_for(directory))
    while True:
        watched = _wait_for(directory)
        yield []
        yield from _changes_of(directory, watched)


def _changes_of(directory: Path, watched: tuple[int, int]) -> Iterator[list[Path] | None]:
    began = False
    notices = watchfiles.watch(
        directory,
        watch_filter=None,
        debounce=LONGEST_MS,
        step=QUIET_MS,
        rust_timeout=TICK_MS,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    try:
        for notice in notices:
            found = _that_matter(directory, sorted({Path(path) for _, path in notice}))
            if found or not began:
                began = True
                yield found
            elif not notice:
                yield None
            if _identity(directory) != watched:
                return
    except (OSError, RuntimeError) as error:
        if _identity(directory) != watched:
            return
        raise click.ClickException(
            f"cannot watch {directory}: {error}. With many directories: sysctl fs.inotify.max_user_watches=524288"
        ) from error
    finally:
        notices.close()


def _that_matter(directory: Path, paths: list[Path]) -> list[Path]:
    try:
        ignore = read_ignore(directory)
    except (OSError, UnicodeDecodeError, Unfit):
        return paths  # packing will say what is wrong
    return [path for path in paths if path == directory / IGNORE_FILE or not _ignored(ignore, directory, path)]


def _ignored(ignore: Ignore, directory: Path, path: Path) -> bool:
    """Whether it, or a directory that it is in, is left out of the package."""
    try:
        parts = path.relative_to(directory).parts
    except ValueError:
        return False
    above = ("/".join(parts[:end]) for end in range(1, len(parts)))
    return any(ignore(name, directory=True) for name in above) or ignore("/".join(parts), directory=path.is_dir())


def _identity(directory: Path) -> tuple[int, int] | None:
    try:
        found = directory.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _wait_for(directory: Path) -> tuple[int, int]:
    while (found := _identity(directory)) is None:
        time.sleep(MISSING_S)
    return found


def _changed_s(path: Path) -> float | None:
    """When the file was written, or got this name; None for one that was removed."""
    try:
        return os.lstat(path).st_ctime
    except OSError:
        return None


def _names(paths: list[Path], directory: Path) -> str:
    if not paths:
        return directory.name
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{os.path.relpath(paths[0], directory)}{more}"


def _time() -> str:
    return time.strftime("%H:%M:%S")
