"""A directory as a deployment package: the same files always make the same bytes, so the same code has the same hash.

What never belongs in a package is left out, and whatever `.lambentignore` in the directory says, in the syntax of .gitignore.
.gitignore itself is not heeded: it often names what a build put there to be deployed.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

IGNORE_FILE: Final = ".lambentignore"
ALWAYS_LEFT_OUT: Final = (
    ".git/", ".hg/", ".svn/", "__pycache__/", "*.pyc", ".venv/", "venv/", ".mypy_cache/", ".ruff_cache/", ".pytest_cache/",
    ".DS_Store", ".idea/", ".vscode/", IGNORE_FILE,
    "*~", ".*.sw[a-z]", ".#*", "\\#*#", "*___jb_tmp___", "*___jb_old___", ".goutputstream-*",  # editors put these there
)  # fmt: skip
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can tell


class Unfit(Exception):
    """What is in the directory cannot be made a package; the message says what, and why."""


class Ignore:
    """Patterns of .gitignore: the last match decides; ``!`` takes back, ``/`` anchors, ``/`` at the end is for directories."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        """Raises re.error for what is no pattern."""
        self._rules = [rule for line in patterns if (rule := _rule(line)) is not None]

    def __call__(self, path: str, *, directory: bool) -> bool:
        """Whether `path`, relative and with ``/``, is left out."""
        result = False
        for leave_out, directories_only, expression in self._rules:
            if leave_out != result and (directory or not directories_only) and expression.fullmatch(path):
                result = leave_out
        return result


def _rule(line: str) -> tuple[bool, bool, re.Pattern[str]] | None:
    """Whether it leaves out, whether directories only, and which paths; None for a line that says nothing. Raises re.error."""
    text = line.rstrip()
    if not text or text.startswith("#"):
        return None
    leave_out = not text.startswith("!")
    text = text.removeprefix("!").removeprefix("\\")
    directory = text.endswith("/")
    text = text.rstrip("/")
    anchored = "/" in text
    expression = _expression(text.removeprefix("/"))
    return leave_out, directory, re.compile(expression if anchored else rf"(?:.*/)?{expression}")


def _expression(glob: str) -> str:
    parts = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    tokens = re.split(r"(\*\*/|/\*\*$|\*\*|\*|\?|\[!?[^\]]+\])", glob)
    return "".join(
        parts.get(token) or (token.replace("[!", "[^", 1) if token.startswith("[") else re.escape(token)) for token in tokens
    )


def read_ignore(directory: Path) -> Ignore:
    """The patterns for this directory. Raises OSError or UnicodeDecodeError for its file, Unfit for what is no pattern in it."""
    own = directory / IGNORE_FILE
    lines = own.read_text().splitlines() if own.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            _rule(line)
        except re.error as error:
            raise Unfit(f"{own}, line {number}: {line!r} is no pattern: {error.msg}") from error
    return Ignore((*ALWAYS_LEFT_OUT, *lines))


def files_of(directory: Path, ignore: Ignore) -> list[tuple[Path, str]]:
    """(file, name in the package) of all that is not left out, in the order of names. Symbolic links are followed.

    Raises OSError, and Unfit for a name that a package cannot hold.
    """
    found = sorted(_walk(directory, "", ignore, frozenset()), key=lambda found: found[1])
    for path, name in found:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise Unfit(
                f"{os.fsencode(path)!r}: the name is not UTF-8, as names in a package are; {IGNORE_FILE} can leave it out"
            ) from error
    return found


def _walk(directory: Path, prefix: str, ignore: Ignore, above: frozenset[str]) -> Iterator[tuple[Path, str]]:
    real = os.path.realpath(directory)
    if real in above:  # a link that leads back up
        return
    for entry in os.scandir(directory):
        name = prefix + entry.name
        if entry.is_dir():
            if not ignore(name, directory=True):
                yield from _walk(Path(entry.path), name + "/", ignore, above | {real})
        elif entry.is_file() and not ignore(name, directory=False):
            yield Path(entry.path), name


def pack(files: list[tuple[Path, str]], progress: Callable[[int], None], *, compress: bool = True) -> bytes:
    """The files as a zip; `progress` is told the number of bytes of each as it is done. Only permission to execute is kept."""
    target = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(target, "w", method) as archive:
        for path, name in files:
            data = path.read_bytes()
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = method
            info.external_attr = (0o100755 if path.stat().st_mode & 0o111 else 0o100644) << 16
            archive.writestr(info, data)
            progress(len(data))
    return target.getvalue()
