"""The map from behaviours to tests leads to tests that are there."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", (TESTS / "MAP.md").read_text())


@functools.cache
def found_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_is_named_is_there() -> None:
    assert len(NAMED) > 50
    gone = [
        f"{path}::{name}"
        for path, name in NAMED
        if name not in found_in(TESTS.parent / path if path.startswith("tests/") else TESTS / "real" / path)
    ]
    assert gone == []
