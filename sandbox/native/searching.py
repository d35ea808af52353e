"""How an interpreter of this host is found and believed, whatever its language.

Looked for where people and version managers put them, known by the real path, trusted by owner, and run once. Nothing is run that
somebody else could have put there: this process may be root, and zygotes are. Trusted are files that belong, with all directories
above them, to root, to this process's user, or to the user who called sudo.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pwd
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

RUN_S = 3.0  #: an interpreter that takes longer to say its version is not one
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """Patterns of directories that hold programs."""

    system: tuple[str, ...]  #: below the root of all
    homes: tuple[str, ...]  #: below a home directory
    variables: tuple[tuple[str, str], ...]  #: below the directory that an environment variable names

    def directories(self, root: Path, homes: Iterable[Path], environ: dict[str, str]) -> Iterator[Path]:
        """Where it may be, likeliest first; some may not exist, some may come twice."""
        yield from (Path(entry) for entry in environ.get("PATH", "").split(":") if entry.startswith("/"))
        patterns = [(root, pattern) for pattern in self.system]
        patterns += [(Path(environ[name]), pattern) for name, pattern in self.variables if environ.get(name, "").startswith("/")]
        patterns += [(home, pattern) for home in homes if home != Path("/") for pattern in self.homes]
        for base, pattern in patterns:
            with contextlib.suppress(OSError):
                yield from sorted(base.glob(pattern))


def home_directories() -> Iterator[Path]:
    """Every home directory that there may be; some may come twice."""
    yield Path.home()
    with contextlib.suppress(KeyError, OSError):
        yield from {Path(entry.pw_dir) for entry in pwd.getpwall()}
    with contextlib.suppress(OSError):
        yield from Path("/home").iterdir()


def candidates(directories: Iterable[Path], is_name: Callable[[str], bool]) -> list[Path]:
    """Real paths of the programs that have such names, each once."""
    found: dict[Path, None] = {}
    for directory in dict.fromkeys(directories):
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(directory), reverse=True):
                if is_name(name):
                    path = (directory / name).resolve()
                    if path not in found and is_program(path):
                        found[path] = None
    return list(found)


def is_program(path: Path) -> bool:
    """No script: pyenv's shims are, and would run something else."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return os.access(path, os.X_OK) and file.read(2) not in (b"#!", b"")
    return False


def is_trusted(path: Path, owners: frozenset[int] | None = None) -> bool:
    """`owners` are user ids; by default root, ourselves and whoever called sudo."""
    if owners is None:
        sudo = os.environ.get("SUDO_UID", "")
        owners = frozenset({0, os.geteuid(), *([int(sudo)] if sudo.isdigit() and os.geteuid() == 0 else [])})
    try:
        found = [part.stat() for part in (path, *path.parents)]
    except OSError:
        return False
    return all(each.st_uid in owners and (not each.st_mode & stat.S_IWOTH or each.st_mode & stat.S_ISVTX) for each in found)


def answer(path: Path, *arguments: str) -> str:
    """What the program says when it is run so, or nothing. Asked once as long as the file stays the same."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return _run(path, arguments, status.st_mtime_ns, status.st_size)


@functools.cache
def _run(path: Path, arguments: tuple[str, ...], _modified_ns: int, _size: int) -> str:
    command = [str(path), *arguments]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env={}, cwd="/", text=True, timeout=RUN_S)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def inspected(paths: Iterable[Path], inspect: Callable[[Path], T | None]) -> list[T]:
    """What `inspect`, which may run them, makes of those that are trusted; a few at a time."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return [found for found in pool.map(inspect, filter(is_trusted, paths)) if found is not None]


def best(found: Iterable[T], kind: Callable[[T], Any], rank: Callable[[T], Any]) -> list[T]:
    """Of each kind the one that ranks highest, in the order of kinds."""
    chosen: dict[Any, T] = {}
    for one in found:
        known = chosen.get(kind(one))
        if known is None or rank(one) > rank(known):
            chosen[kind(one)] = one
    return [chosen[each] for each in sorted(chosen)]
