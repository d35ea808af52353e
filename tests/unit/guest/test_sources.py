"""What runs inside a sandbox runs under every Python that is there: its sources compile with each and import nothing else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sandbox.guest
from sandbox.native.interpreters import Interpreter, find_interpreters

GUEST = Path(sandbox.guest.__file__).parent
SOURCES = sorted(GUEST.rglob("*.py"))
OWN = {path.stem for path in SOURCES}
MAY = sys.stdlib_module_names | OWN | {"sandbox", "_typeshed"}  # the last for type checkers only

_COMPILE = "import sys\nfor path in sys.argv[1:]:\n    compile(open(path, 'rb').read(), path, 'exec', dont_inherit=True)"


@pytest.mark.parametrize("interpreter", find_interpreters(), ids=lambda found: found.runtime)
def test_compiles_everywhere(interpreter: Interpreter) -> None:
    paths = [str(path) for path in SOURCES]
    command = [str(interpreter.executable), "-I", "-S", "-W", "error", "-c", _COMPILE, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_imports_the_standard_library_only(path: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            imported.add(node.module.partition(".")[0])
    assert imported <= MAY, imported - MAY


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_imports_nothing_of_ours_outside_the_guest(path: Path) -> None:
    modules = {
        node.module
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None
    }
    assert all(module.startswith("sandbox.guest") for module in modules if module.split(".")[0] == "sandbox")
