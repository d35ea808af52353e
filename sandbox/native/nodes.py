"""Which Node.js this host has, and which AWS runtime each of them can serve.

Found and believed as Pythons are (`searching.py`): in PATH, /usr, /usr/local, /opt, and what nvm, fnm, volta, n, asdf and mise
keep under every home that can be read. AWS has even major versions only; of each the newest is taken.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from sandbox.driver import Support
from sandbox.native import searching

MAJORS = (18, 20, 22, 24, 26)
NODE_RUNTIMES = tuple(f"nodejs{major}.x" for major in MAJORS)

_NAME = re.compile(r"node(js)?(-?\d+)?")
PLACES = searching.Places(
    system=("usr/bin", "usr/local/bin", "bin", "opt/*/bin", "opt/node*/*/bin", "usr/local/n/versions/node/*/bin"),
    homes=(
        ".nvm/versions/node/*/bin",
        ".local/share/fnm/node-versions/*/installation/bin",
        ".fnm/node-versions/*/installation/bin",
        ".volta/tools/image/node/*/bin",
        "n/n/versions/node/*/bin",
        ".n/n/versions/node/*/bin",
        ".asdf/installs/nodejs/*/bin",
        ".local/share/mise/installs/node/*/bin",
    ),
    variables=(
        ("NVM_DIR", "versions/node/*/bin"),
        ("FNM_DIR", "node-versions/*/installation/bin"),
        ("VOLTA_HOME", "tools/image/node/*/bin"),
        ("N_PREFIX", "n/versions/node/*/bin"),
        ("XDG_DATA_HOME", "fnm/node-versions/*/installation/bin"),
    ),
)
_QUESTION = """
const own = require('path').resolve(process.execPath, '../../lib') + '/'
let mapped = ''
try { mapped = require('fs').readFileSync('/proc/self/maps', 'latin1') } catch {}
const linked = mapped.split('\\n').some((line) => line.includes(' ' + own))
console.log(JSON.stringify([process.release.name, process.versions.node, linked && own !== '/usr/lib/' ? own : null]))
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """One Node.js that ran."""

    version: tuple[int, int, int]
    executable: Path
    libraries: Path | None = None  #: of shared libraries that came with it (Conda's, for instance), where there are any

    @property
    def runtime(self) -> str:
        return f"nodejs{self.version[0]}.x"

    def __str__(self) -> str:
        return f"Node.js {'.'.join(map(str, self.version))} at {self.executable}"


def is_name(name: str) -> bool:
    """Whether a program of that name may be a Node.js."""
    return _NAME.fullmatch(name) is not None


def inspect(path: Path) -> Node | None:
    """Run what is at `path`; None for what is no Node.js of a version that AWS has."""
    return read_answer(path, searching.answer(path, "-e", _QUESTION))


def read_answer(path: Path, answer: str) -> Node | None:
    """None for what is something else (bun and deno have a `node` too) or of another major version."""
    try:
        name, version, libraries = json.loads(answer)
    except (ValueError, TypeError):
        return None
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", str(version))
    if name != "node" or match is None or int(match[1]) not in MAJORS:
        return None
    return Node((int(match[1]), int(match[2]), int(match[3])), path, Path(libraries) if libraries else None)


def find_nodes(root: Path = Path("/"), homes: Iterable[Path] | None = None) -> list[Node]:
    """The newest of each major version that AWS has, oldest first. Takes some 50 ms per Node.js the first time. Blocks.

    `root` and `homes` say where the usual places are looked for; PATH counts in any case.
    """
    homes = searching.home_directories() if homes is None else homes
    directories = PLACES.directories(root, list(homes), dict(os.environ))
    return best(searching.inspected(searching.candidates(directories, is_name), inspect))


def best(found: Iterable[Node]) -> list[Node]:
    """The newest of each major version, oldest first."""
    return searching.best(found, lambda node: node.version[0], lambda node: node.version)


def support(nodes: Iterable[Node]) -> dict[str, Support]:
    """For every Node.js runtime: by what, or what to install."""
    serving = {node.runtime: node for node in nodes}
    result = {}
    for major, runtime in zip(MAJORS, NODE_RUNTIMES, strict=True):
        node = serving.get(runtime)
        ways = f"`nvm install {major}`, `fnm install {major}` or your package manager brings it"
        missing = Support(False, f"Node.js {major} is not installed; {ways}")
        result[runtime] = missing if node is None else Support(True, str(node))
    return result
