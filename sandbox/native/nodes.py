"""Which Node.js this host has, and which AWS runtime each of them can serve.

Found and believed as Pythons are (`interpreters.py`): looked for where people and version managers put them (PATH, /usr,
/usr/local, /opt; nvm, fnm, volta, n, asdf and mise under every home that can be read), known by the real path, trusted by owner,
and run once. AWS has even major versions only; of each the newest is taken.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sandbox.driver import Support
from sandbox.native import interpreters

MAJORS = (18, 20, 22, 24, 26)
NODE_RUNTIMES = tuple(f"nodejs{major}.x" for major in MAJORS)

_NAME = re.compile(r"node(js)?(-?\d+)?")
_HOME_DIRECTORIES = (
    ".nvm/versions/node/*/bin",
    ".local/share/fnm/node-versions/*/installation/bin",
    ".fnm/node-versions/*/installation/bin",
    ".volta/tools/image/node/*/bin",
    "n/n/versions/node/*/bin",
    ".n/n/versions/node/*/bin",
    ".asdf/installs/nodejs/*/bin",
    ".local/share/mise/installs/node/*/bin",
)
_SYSTEM_DIRECTORIES = ("usr/bin", "usr/local/bin", "bin", "opt/*/bin", "opt/node*/*/bin", "usr/local/n/versions/node/*/bin")
_VARIABLES = (
    ("NVM_DIR", "versions/node/*/bin"),
    ("FNM_DIR", "node-versions/*/installation/bin"),
    ("VOLTA_HOME", "tools/image/node/*/bin"),
    ("N_PREFIX", "n/versions/node/*/bin"),
    ("XDG_DATA_HOME", "fnm/node-versions/*/installation/bin"),
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


def search_directories(root: Path, homes: Iterable[Path], environ: dict[str, str]) -> Iterator[Path]:
    """Where it may be, likeliest first; some may not exist, some may come twice."""
    yield from (Path(entry) for entry in environ.get("PATH", "").split(":") if entry.startswith("/"))
    patterns = [(root, pattern) for pattern in _SYSTEM_DIRECTORIES]
    patterns += [(Path(environ[name]), pattern) for name, pattern in _VARIABLES if environ.get(name, "").startswith("/")]
    patterns += [(home, pattern) for home in homes if home != Path("/") for pattern in _HOME_DIRECTORIES]
    for base, pattern in patterns:
        with contextlib.suppress(OSError):
            yield from sorted(base.glob(pattern))


def candidates(directories: Iterable[Path]) -> list[Path]:
    """Real paths of what looks like Node.js, each once."""
    found: dict[Path, None] = {}
    for directory in dict.fromkeys(directories):
        with contextlib.suppress(OSError):
            for name in sorted(os.listdir(directory)):
                if _NAME.fullmatch(name):
                    path = (directory / name).resolve()
                    if interpreters.is_program(path):
                        found[path] = None
    return list(found)


@functools.cache
def _run(path: Path, _modified_ns: int, _size: int) -> str:
    """What it answers, or nothing. Asked once as long as the file stays the same."""
    command = [str(path), "-e", _QUESTION]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env={}, cwd="/", text=True, timeout=interpreters.RUN_S
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def inspect(path: Path) -> Node | None:
    """Run what is at `path`; None for what is no Node.js of a version that AWS has."""
    try:
        status = path.stat()
    except OSError:
        return None
    return read_answer(path, _run(path, status.st_mtime_ns, status.st_size))


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
    directories = search_directories(root, list(interpreters.home_directories()) if homes is None else homes, dict(os.environ))
    paths = list(filter(interpreters.is_trusted, candidates(directories)))
    with ThreadPoolExecutor(max_workers=4) as pool:
        return best(found for found in pool.map(inspect, paths) if found is not None)


def best(found: Iterable[Node]) -> list[Node]:
    """The newest of each major version, oldest first."""
    chosen: dict[int, Node] = {}
    for node in found:
        known = chosen.get(node.version[0])
        if known is None or node.version > known.version:
            chosen[node.version[0]] = node
    return [chosen[major] for major in sorted(chosen)]


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
