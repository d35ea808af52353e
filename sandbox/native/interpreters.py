"""Which CPythons this host has, and which AWS runtime each of them can serve.

Found by looking where people put them (PATH, /usr, /usr/local, /opt, pyenv, uv, asdf and mise under every home that can be
read), known by their real path, and believed only after each was run once. A virtual environment leads to the interpreter that
it was made from. Of each minor version the best is taken: complete before incomplete, newest patch first.

Nothing is run that somebody else could have put there: this process may be root, and zygotes are. Trusted are files that belong,
with all directories above them, to root, to this process's user, or to the user who called sudo.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import os
import pwd
import re
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sandbox.driver import Support

OLDEST = (3, 8)
PYTHON_RUNTIMES = tuple(f"python3.{minor}" for minor in range(8, 15))
PROVIDED_RUNTIMES = ("provided.al2", "provided.al2023")
RUN_S = 3.0  #: an interpreter that takes longer to say its version is not one

_NAME = re.compile(r"python3(\.\d+)?")
_HOME_DIRECTORIES = (
    ".pyenv/versions/*/bin",
    ".local/share/uv/python/*/bin",
    ".asdf/installs/python/*/bin",
    ".local/share/mise/installs/python/*/bin",
)
_SYSTEM_DIRECTORIES = (
    "usr/bin",
    "usr/local/bin",
    "bin",
    "opt/*/bin",
    "opt/python/*/bin",
    "opt/pyenv/versions/*/bin",
    "usr/local/pyenv/versions/*/bin",
)

# Runs under whatever is found, so nothing newer than Python 3.0, and nothing that costs an import.
_QUESTION = """
import os, sys
library = ""
try:
    for line in open("/proc/self/maps"):
        if "/libpython3" in line:
            library = line[line.index("/"):].strip()
            break
except OSError:
    pass
from importlib._bootstrap_external import PathFinder
wanted = ("_ctypes", "_socket", "_ssl", "zlib", "_sqlite3", "_bz2", "_lzma", "_decimal")
missing = [name for name in wanted if name not in sys.builtin_module_names and PathFinder.find_spec(name) is None]
print(repr((sys.implementation.name, tuple(sys.version_info), sys.base_prefix, sys.base_exec_prefix, library, missing)))
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Interpreter:
    """One CPython that ran."""

    version: tuple[int, int, int]
    executable: Path  #: below `prefix`
    prefix: Path  #: the tree that holds it whole; a sandbox has it at /var/lang
    library_directory: Path | None  #: of libpython, where the executable is linked with it
    missing: tuple[str, ...]  #: of the modules that a usual build has, those that this one lacks
    final: bool = True  #: no alpha, beta or candidate

    @property
    def runtime(self) -> str:
        return f"python{self.version[0]}.{self.version[1]}"

    @property
    def usable(self) -> bool:
        """Ours needs ctypes and sockets itself."""
        return not {"_ctypes", "_socket"} & set(self.missing)

    def __str__(self) -> str:
        lacks = f", without {', '.join(self.missing)}" if self.missing else ""
        return f"CPython {'.'.join(map(str, self.version))} at {self.executable}{lacks}"


def home_directories() -> Iterator[Path]:
    """Every home directory that there may be; some may come twice."""
    yield Path.home()
    with contextlib.suppress(KeyError, OSError):
        yield from {Path(entry.pw_dir) for entry in pwd.getpwall()}
    with contextlib.suppress(OSError):
        yield from Path("/home").iterdir()


def search_directories(root: Path, homes: Iterable[Path], environ: dict[str, str]) -> Iterator[Path]:
    """Where interpreters may be, likeliest first; some may not exist, some may come twice."""
    yield from (Path(entry) for entry in environ.get("PATH", "").split(":") if entry.startswith("/"))
    patterns = [(root, pattern) for pattern in _SYSTEM_DIRECTORIES]
    for variable, pattern in (
        ("PYENV_ROOT", "versions/*/bin"),
        ("UV_PYTHON_INSTALL_DIR", "*/bin"),
        ("XDG_DATA_HOME", "uv/python/*/bin"),
    ):
        if environ.get(variable, "").startswith("/"):
            patterns.append((Path(environ[variable]), pattern))
    patterns += [(home, pattern) for home in homes if home != Path("/") for pattern in _HOME_DIRECTORIES]
    for base, pattern in patterns:
        with contextlib.suppress(OSError):
            yield from sorted(base.glob(pattern))


def candidates(directories: Iterable[Path]) -> list[Path]:
    """Real paths of what looks like an interpreter from Python 3.8 on, each once."""
    found: dict[Path, None] = {}
    for directory in dict.fromkeys(directories):
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(directory), reverse=True):
                match = _NAME.fullmatch(name)
                if match is None or (match[1] and int(match[1][1:]) < OLDEST[1]):
                    continue
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


@functools.cache
def _run(path: Path, _modified_ns: int, _size: int) -> str:
    """What the interpreter answers, or nothing. Asked once as long as the file stays the same."""
    command = [str(path), "-I", "-S", "-c", _QUESTION]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env={}, cwd="/", text=True, timeout=RUN_S)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def inspect(path: Path) -> Interpreter | None:
    """Run what is at `path`; None for what is no interpreter that we can use."""
    try:
        status = path.stat()
    except OSError:
        return None
    return read_answer(path, _run(path, status.st_mtime_ns, status.st_size))


def read_answer(path: Path, answer: str) -> Interpreter | None:
    """None for what we can't use: no CPython, too old, or not all in one tree."""
    try:
        implementation, version, prefix, exec_prefix, library, missing = ast.literal_eval(answer)
    except (ValueError, SyntaxError):
        return None
    tree = Path(prefix).resolve()
    if implementation != "cpython" or version[:2] < OLDEST or Path(exec_prefix).resolve() != tree:
        return None
    if not path.is_relative_to(tree):  # a copy in a virtual environment
        path = tree / "bin" / f"python{version[0]}.{version[1]}"
        if not is_trusted(path):
            return None
    return Interpreter(
        version[:3], path, tree, Path(library).resolve().parent if library else None, tuple(missing), version[3] == "final"
    )


def find_interpreters(root: Path = Path("/"), homes: Iterable[Path] | None = None) -> list[Interpreter]:
    """One for each minor version from 3.8 on, oldest first. Takes some 20 ms per interpreter the first time. Blocks.

    `root` and `homes` say where the usual places are looked for. PATH counts in any case, and so does the interpreter that runs
    this.
    """
    own = Path(getattr(sys, "_base_executable", sys.executable)).parent
    directories = [*search_directories(root, list(home_directories()) if homes is None else homes, dict(os.environ)), own]
    paths = list(filter(is_trusted, candidates(directories)))
    with ThreadPoolExecutor(max_workers=8) as pool:
        return best(found for found in pool.map(inspect, paths) if found is not None)


def best(found: Iterable[Interpreter]) -> list[Interpreter]:
    """One for each minor version, oldest first."""
    chosen: dict[tuple[int, int], Interpreter] = {}
    for interpreter in found:
        known = chosen.get(interpreter.version[:2])
        if known is None or _rank(interpreter) > _rank(known):
            chosen[interpreter.version[:2]] = interpreter
    return [chosen[version] for version in sorted(chosen)]


def _rank(interpreter: Interpreter) -> tuple[bool, int, bool, tuple[int, int, int]]:
    return interpreter.usable, -len(interpreter.missing), interpreter.final, interpreter.version


def by_runtime(interpreters: Iterable[Interpreter]) -> dict[str, Interpreter]:
    """What serves each runtime here; `provided` ones need an interpreter too, for what surrounds the function's own program."""
    usable = [interpreter for interpreter in interpreters if interpreter.usable]
    serving = {interpreter.runtime: interpreter for interpreter in usable if interpreter.runtime in PYTHON_RUNTIMES}
    if usable:
        newest = max(usable, key=lambda interpreter: (interpreter.final, interpreter.version))
        serving.update(dict.fromkeys(PROVIDED_RUNTIMES, newest))
    return serving


def support(interpreters: Iterable[Interpreter]) -> dict[str, Support]:
    """For every Python and provided runtime of AWS's: by what, or what to install."""
    interpreters = list(interpreters)
    serving = by_runtime(interpreters)
    broken = {interpreter.runtime: interpreter for interpreter in interpreters if not interpreter.usable}
    result: dict[str, Support] = {}
    for runtime in (*PYTHON_RUNTIMES, *PROVIDED_RUNTIMES):
        number = runtime.removeprefix("python")
        if runtime in PROVIDED_RUNTIMES and runtime in serving:
            result[runtime] = Support(True, "the executable `bootstrap` of the function's package")
        elif runtime in serving:
            result[runtime] = Support(True, str(serving[runtime]))
        elif runtime in broken:
            lacking = ", ".join(broken[runtime].missing)
            detail = f"{broken[runtime].executable} was built without {lacking}; build it again with the libraries for these"
            result[runtime] = Support(False, detail)
        else:
            ways = f"`uv python install {number}`, `pyenv install {number}` or your package manager brings it"
            result[runtime] = Support(False, f"Python {number} is not installed; {ways}")
    return result
