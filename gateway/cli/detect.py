"""What a directory's files say about the runtime and handler that they were written for."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PYTHON_FILES: Final = ("lambda_function.py", "app.py", "main.py", "handler.py", "index.py", "function.py")
PYTHON_NAMES: Final = ("lambda_handler", "handler", "main")
NODE_FILES: Final = tuple(f"{stem}.{kind}" for stem in ("index", "app", "handler", "main") for kind in ("mjs", "js", "cjs"))
_NODE_EXPORT: Final = re.compile(
    r"\bexports\.(\w*[hH]andler)\s*=|\bexport\s+(?:async\s+)?(?:const|let|function)\s+(\w*[hH]andler)\b"
)


class NothingFound(Exception):
    """The files do not tell; the message says what was looked for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Detected:
    """What to run, and from what it was concluded."""

    runtime: str
    handler: str
    because: str


def detect(directory: Path, python: Sequence[str]) -> Detected:
    """`python` is the Python runtimes that can be had, the best first, for a directory that names none. Raises NothingFound."""
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
                function = match[1] or match[2]
                return Detected("nodejs22.x", f"{Path(name).stem}.{function}", f"{name}: {function}")
    raise NothingFound(
        f"found no handler in {directory}: no file `bootstrap`, no function {' or '.join(PYTHON_NAMES)} in "
        f"{', '.join(PYTHON_FILES)} (or in the only .py file), no exported handler in index.mjs or index.js. "
        "Say it with --runtime and --handler."
    )


def _python_handler(path: Path) -> str | None:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        line = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise NothingFound(f"{path} cannot be parsed: {error.args[0]}{line}") from error
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
