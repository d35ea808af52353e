"""How a function is started in a stem: as what waits there, by a fresh process, or as its own program. [P]

Going on as the copy of the zygote is quickest, but the copy has read its environment and imported its modules already. What a
function sets or brings to change those things would come too late, so such a function gets a fresh interpreter. The same goes for
a Node.js that waits: it has read what decides about flags, certificates, locale and threads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

Python = Literal["fork", "exec", "none"]

_READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_TUNABLES")
_NODE_READS_AT_START = ("NODE_", "LD_", "MALLOC_", "GLIBC_TUNABLES", "LANG", "LC_", "OPENSSL_", "SSL_", "UV_")
_NODE_READS_LATER = frozenset({"NODE_ENV", "NODE_PATH", "NODE_TLS_REJECT_UNAUTHORIZED"})


def choose(runtime: str, environment: Iterable[str], top_level: Iterable[str], preloaded: Collection[str]) -> Python:
    """`environment`: names of the function's own variables; `top_level`: names at the top of its package."""
    if runtime.startswith("nodejs"):
        early = (name.startswith(_NODE_READS_AT_START) and name not in _NODE_READS_LATER for name in environment)
        return "exec" if any(early) or "AWS_LAMBDA_EXEC_WRAPPER" in environment else "fork"
    if not runtime.startswith("python"):
        return "none"
    if any(name.startswith(_READ_AT_START) or name == "AWS_LAMBDA_EXEC_WRAPPER" for name in environment):
        return "exec"
    if any(name.partition(".")[0] in preloaded for name in top_level):
        return "exec"
    return "fork"
