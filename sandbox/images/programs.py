"""What of an image's files runs zip functions: the interpreter of their runtime, wherever images have it.

Any image will do that has it where AWS's, Docker's own or Debian's images have it, or a bootstrap at /var/runtime/bootstrap.
`deploy/images/build` makes such images from Debian's packages.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from sandbox.environment import ambient
from sandbox.errors import RuntimeUnavailable
from sandbox.guest import syscalls
from sandbox.guest.program import Program

DEFAULT_IMAGES: Final = "lambent/{runtime}:{architecture}"
#: What init executes in a stem of Node.js; the files are Lambent's own.
NODE_MAIN: Final = "/var/runtime/lambent_node/bootstrap.js"
_PLACES: Final = ("/var/lang/bin/{}", "/usr/local/bin/{}", "/usr/bin/{}")


@dataclasses.dataclass(frozen=True, slots=True)
class Programs:
    """What waits in a stem; neither where functions, or the image, bring programs of their own."""

    interpreters: tuple[str, ...] = ()  #: of Python: the first that can be executed
    waiting: Program | None = None  #: of Node.js

    @property
    def ours(self) -> bool:
        """Lambent's own files at /var/runtime are needed, as they are a part of the runtime."""
        return bool(self.interpreters) or self.waiting is not None

    def message(self) -> dict[str, Any]:
        """For init; see `guest.brought`."""
        return {"interpreters": self.interpreters, "waiting": self.waiting}


OWN: Final = Programs()  #: of an image function


def programs(root: int, runtime: str) -> Programs:
    """What serves a runtime in the image whose root directory this descriptor is.

    Raises RuntimeUnavailable where an interpreter that Lambent starts itself is not there.
    """
    if runtime.startswith("python"):
        return Programs(interpreters=(_find(root, runtime, runtime),))
    if runtime.startswith("nodejs"):
        path = _find(root, runtime, "node")
        return Programs(waiting=Program(path=path, main=NODE_MAIN, environment=ambient(runtime)))
    return OWN


def _find(root: int, runtime: str, name: str) -> str:
    for pattern in _PLACES:
        path = pattern.format(name)
        if syscalls.exists_in_root(root, path):
            return path
    raise RuntimeUnavailable(f"the image of {runtime} has no interpreter at {_PLACES[0].format(name)}")
