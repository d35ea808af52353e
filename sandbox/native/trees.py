"""What of the host's files each runtime is made of, and what runs it: the two searches put together. [P]

Every sandbox needs a Python, because its init is one; a Python function's own is that Python. A Node.js function has Node.js at
/var/lang, where AWS has it, and the Python for init at /var/lambent. Of Node.js it is the program alone, and what it is linked
with: the directory above its `bin` may be somebody's home.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from sandbox.driver import Support
from sandbox.environment import ambient
from sandbox.guest import program
from sandbox.images.programs import NODE_MAIN
from sandbox.native import interpreters, nodes
from sandbox.native.interpreters import Interpreter
from sandbox.native.nodes import Node

LANG = "/var/lang"
BESIDE = "/var/lambent"  #: where init's Python is, if the runtime is something else
NODE = f"{LANG}/bin/node"


@dataclasses.dataclass(frozen=True, slots=True)
class Tree:
    """What of the host a runtime's sandboxes see, and the paths inside of what is executed there."""

    parts: dict[str, str]  #: place inside → directory or file of the host
    python: str  #: what runs init, as a path inside
    program: program.Program | None = None  #: what stems start ahead of need; None where they fork the zygote
    links: dict[str, str] = dataclasses.field(default_factory=dict)  #: symbolic links in the root: where → to what

    @property
    def home(self) -> str:
        """The directory inside that is the Python's whole tree."""
        return BESIDE if self.python.startswith(f"{BESIDE}/") else LANG

    @property
    def interpreter(self) -> str:
        """What executes the function, as a path inside."""
        return self.program["path"] if self.program else self.python


def newest(found: Iterable[Interpreter]) -> Interpreter | None:
    """The Python for what is not Python; None where there is none."""
    usable = [each for each in found if each.usable]
    return max(usable, key=lambda each: (each.final, each.version)) if usable else None


def trees(found: Iterable[Interpreter], found_nodes: Iterable[Node]) -> dict[str, Tree]:
    """By runtime; those that this host cannot serve are missing."""
    found = list(found)
    made = {
        runtime: Tree({LANG: str(each.prefix)}, f"{LANG}/{each.executable.relative_to(each.prefix)}")
        for runtime, each in interpreters.by_runtime(found).items()
    }
    python = newest(found)
    for node in found_nodes if python is not None else ():
        assert python is not None
        parts = {BESIDE: str(python.prefix), NODE: str(node.executable)}
        if node.libraries is not None:
            parts[f"{LANG}/lib"] = str(node.libraries)
        made[node.runtime] = Tree(
            parts,
            f"{BESIDE}/{python.executable.relative_to(python.prefix)}",
            program.Program(path=NODE, main=NODE_MAIN, environment=ambient(node.runtime)),
            _module_links(node.version[0]),
        )
    return made


def _module_links(major: int) -> dict[str, str]:
    """Where `import` looks on its way up from /var/task: it knows nothing of NODE_PATH, and on AWS it finds layers' packages."""
    return {
        "/var/node_modules": f"/opt/nodejs/node{major}/node_modules",
        "/node_modules": "/opt/nodejs/node_modules",
    }


def support(found: Iterable[Interpreter], found_nodes: Iterable[Node]) -> dict[str, Support]:
    """For every runtime that the native driver knows."""
    found = list(found)
    result = interpreters.support(found)
    if newest(found) is None:
        no_python = Support(False, "what surrounds a Node.js function needs a Python 3.8 or newer; none is installed")
        return result | dict.fromkeys(nodes.NODE_RUNTIMES, no_python)
    return result | nodes.support(found_nodes)
