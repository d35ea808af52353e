"""Which CPythons this host has, and which AWS runtime each of them can serve.

Found and believed as `searching.py` has it: in PATH, /usr, /usr/local, /opt, and what pyenv, uv, asdf and mise keep under every
home that can be read. A virtual environment leads to the interpreter that it was made from. Of each minor version the best is
taken: complete before incomplete, newest patch first.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from sandbox.driver import Support
from sandbox.native import searching

OLDEST = (3, 8)
PYTHON_RUNTIMES = tuple(f"python3.{minor}" for minor in range(8, 15))
PROVIDED_RUNTIMES = ("provided.al2", "provided.al2023")

_NAME = re.compile(r"python3(\.\d+)?")
PLACES = searching.Places(
    system=(
        "usr/bin",
        "usr/local/bin",
        "bin",
        "opt/*/bin",
        "opt/python/*/bin",
        "opt/pyenv/versions/*/bin",
        "usr/local/pyenv/versions/*/bin",
    ),
    homes=(
        ".pyenv/versions/*/bin",
        ".local/share/uv/python/*/bin",
        ".asdf/installs/python/*/bin",
        ".local/share/mise/installs/python/*/bin",
    ),
    variables=(
        ("PYENV_ROOT", "versions/*/bin"),
        ("UV_PYTHON_INSTALL_DIR", "*/bin"),
        ("XDG_DATA_HOME", "uv/python/*/bin"),
    ),
)

# Runs under whatever is found, so nothing newer than Python 3.0, and nothing that costs an import.
_QUESTION = """
import os, sys
from importlib._bootstrap_external import PathFinder
wanted = ("_ctypes", "_socket", "_ssl", "zlib", "_sqlite3", "_bz2", "_lzma", "_decimal")
missing = [name for name in wanted if name not in sys.builtin_module_names and PathFinder.find_spec(name) is None]
print(repr((sys.implementation.name, tuple(sys.version_info), sys.base_prefix, sys.base_exec_prefix, missing)))
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Interpreter:
    """One CPython that ran."""

    version: tuple[int, int, int]
    executable: Path  #: below `prefix`
    prefix: Path  #: the tree that holds it whole; a sandbox has it at /var/lang
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


def is_name(name: str) -> bool:
    """Whether a program of that name may be a Python from 3.8 on."""
    match = _NAME.fullmatch(name)
    return match is not None and not (match[1] and int(match[1][1:]) < OLDEST[1])


def inspect(path: Path) -> Interpreter | None:
    """Run what is at `path`; None for what is no interpreter that we can use."""
    return read_answer(path, searching.answer(path, "-I", "-S", "-c", _QUESTION))


def read_answer(path: Path, answer: str) -> Interpreter | None:
    """None for what we can't use: no CPython, too old, or not all in one tree."""
    try:
        implementation, version, prefix, exec_prefix, missing = ast.literal_eval(answer)
    except (ValueError, SyntaxError):
        return None
    tree = Path(prefix).resolve()
    if implementation != "cpython" or version[:2] < OLDEST or Path(exec_prefix).resolve() != tree:
        return None
    if not path.is_relative_to(tree):  # a copy in a virtual environment
        path = tree / "bin" / f"python{version[0]}.{version[1]}"
        if not searching.is_trusted(path):
            return None
    return Interpreter(version[:3], path, tree, tuple(missing), version[3] == "final")


def find_interpreters(root: Path = Path("/"), homes: Iterable[Path] | None = None) -> list[Interpreter]:
    """One for each minor version from 3.8 on, oldest first. Takes some 20 ms per interpreter the first time. Blocks.

    `root` and `homes` say where the usual places are looked for. PATH counts in any case, and so does the interpreter that runs
    this.
    """
    own = Path(getattr(sys, "_base_executable", sys.executable)).parent
    homes = searching.home_directories() if homes is None else homes
    directories = [*PLACES.directories(root, list(homes), dict(os.environ)), own]
    return best(searching.inspected(searching.candidates(directories, is_name), inspect))


def best(found: Iterable[Interpreter]) -> list[Interpreter]:
    """One for each minor version, oldest first."""
    return searching.best(found, lambda each: each.version[:2], _rank)


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
