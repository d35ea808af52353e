"""What a directory's files say about the runtime and handler that they were written for."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PYTHON_FILES: Final = ("lambda_function.py", "app.py", "main.py", "handler.py", "index.py", "function.py")
PYTHON_NAMES: Final = ("lambda_handler", "handler", "main")
NODE_FILES: Final = tuple(f"{stem}.{kind}" for stem in ("index", "app", "handler", "main") for kind in ("mjs", "js", "cjs"))
_NODE_EXPORT: Final = re.compile(
    r"\bexports\.(\w*[hH]andler)\s*="
    r"|\bexport\s+(?:async\s+)?(?:const|let|var|function\s*\*?)\s*(\w*[hH]andler)\b"
    r"|\b(?:module\.exports\s*=|export)\s*\{[^}]*?\b(\w*[hH]andler)\b(?!\s+as\b)"
)
_NODE_VERSION_FILES: Final = (".nvmrc", ".node-version")
_NODE_DEFAULT: Final = "nodejs22.x"


class NothingFound(Exception):
    """The files do not tell; the message says what was looked for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Detected:
    """What to run, and from what it was concluded."""

    runtime: str
    handler: str
    because: str


def detect(directory: Path, python: Sequence[str], node: Sequence[str] = ()) -> Detected:
    """`python` and `node` are the runtimes that can be had, the best first, for directories that name none.

    Raises NothingFound, also where a file cannot be read: it may be gone by now, or a link to nothing.
    """
    try:
        return _detected(directory, python, node)
    except OSError as error:
        raise NothingFound(f"cannot read {error.filename or directory}: {error.strerror}") from error


def _detected(directory: Path, python: Sequence[str], node: Sequence[str]) -> Detected:
    if (directory / "bootstrap").is_file():
        return Detected("provided.al2023", "bootstrap", "bootstrap")
    own = sorted(path.name for path in directory.glob("*.py"))
    likely = [name for name in PYTHON_FILES if name in own]
    for name in likely or (own if len(own) == 1 else []):
        function = _python_handler(directory / name)
        if function is not None:
            return Detected(_python_runtime(directory, python), f"{Path(name).stem}.{function}", f"{name}: def {function}")
    for name in NODE_FILES:
        if (directory / name).is_file():
            match = _NODE_EXPORT.search((directory / name).read_text(errors="replace"))
            if match is not None:
                function = match[1] or match[2] or match[3]
                return Detected(_node_runtime(directory, node), f"{Path(name).stem}.{function}", f"{name}: {function}")
    if not directory.is_dir():
        raise NothingFound(f"{directory} is not there any more")
    raise NothingFound(
        f"found no handler in {directory}: no file `bootstrap`, no function {' or '.join(PYTHON_NAMES)} in "
        f"{', '.join(PYTHON_FILES)} (or in the only .py file), no exported handler in index.mjs or index.js. "
        "Say it with --runtime and --handler."
    )


def _python_handler(path: Path) -> str | None:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: it is nested too deeply
        line = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.args[0] if error.args else "too deeply nested"
        raise NothingFound(f"{path} cannot be parsed: {reason}{line}") from error
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names.update(alias.asname or alias.name for alias in node.names)
    return next((name for name in PYTHON_NAMES if name in names), None)


def _python_runtime(directory: Path, python: Sequence[str]) -> str:
    try:
        version = re.match(r"3\.\d+", (directory / ".python-version").read_text().strip())
    except (OSError, UnicodeDecodeError):
        version = None
    return f"python{version[0]}" if version is not None else python[0]


def oversight(directory: Path, runtime: str) -> str | None:
    """What somebody is likely to have forgotten, and what mends it; None where nothing is seen.

    A bootstrap that is not executable, or packages that are named and not there (they may be in a layer, though).
    """
    bootstrap = directory / "bootstrap"
    if runtime.startswith("provided") and bootstrap.is_file() and not bootstrap.stat().st_mode & 0o111:
        return f"bootstrap is not executable, so it cannot be started: chmod +x {shlex.quote(str(bootstrap))}"
    needs = directory / ("package.json" if runtime.startswith("nodejs") else "requirements.txt")
    try:
        text = needs.read_text(errors="replace")
        if runtime.startswith("python"):
            if any(directory.glob("*.dist-info")) or not any(re.match(r"\s*[^\s#]", line) for line in text.splitlines()):
                return None
            mend = f"pip install -r {shlex.quote(str(needs))} --target {shlex.quote(str(directory))}"
        elif runtime.startswith("nodejs"):
            if (directory / "node_modules").is_dir() or not json.loads(text).get("dependencies"):
                return None
            mend = f"npm install --prefix {shlex.quote(str(directory))}"
        else:
            return None
    except (OSError, ValueError, AttributeError, RecursionError):  # there is none, or it is something else
        return None
    return f"{needs.name} names packages, and none are in the directory. If no layer has them: {mend}"


def _node_runtime(directory: Path, node: Sequence[str]) -> str:
    """What the directory says, else the best that can be had. AWS has even major versions only."""
    for name in _NODE_VERSION_FILES:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            match = re.match(r"v?(\d*[02468])(?:\.|$)", (directory / name).read_text().strip())
            if match is not None:
                return f"nodejs{match[1]}.x"
    return node[0] if node else _NODE_DEFAULT
