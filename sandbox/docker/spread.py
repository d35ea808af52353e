"""What a function needs, mounted on the host where its container sees it: for where mounts cannot be moved into a container.

    <directory>/                  a shared mount of itself, so that what is mounted below is propagated to who follows it
    <directory>/NAME/tmp, …       one directory for each place of one container, which the engine binds as `rslave`

What is known when the container is made (the runtime's files, the user's name) are the engine's own binds of those files. The
engine must see the directory by the same name, and as a shared mount: a spawner in a container of its own has it from the host
with `rshared`. Mounts on the host have names, so what a crash left is removed at the next start.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from sandbox.guest import syscalls

PLACES: Final = {"/tmp": "tmp", "/var/task": "task", "/opt": "opt"}
_SHARED: Final = 1 << 20  # MS_SHARED


class Spread:
    """Everything below `directory`, which is made by `open` and goes with `close`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def open(self) -> None:
        """Raises OSError."""
        self.close()
        self._directory.mkdir(mode=0o711, parents=True)
        path = str(self._directory)
        syscalls.mount(path, path, "", syscalls.MS_BIND)
        syscalls.mount("none", path, "", syscalls.MS_PRIVATE)  # its own circle, whatever that of the file system is
        syscalls.mount("none", path, "", _SHARED)

    def binds(self, name: str, places: list[str]) -> list[str]:
        """Make the directories of one container; for the engine to bind. Raises OSError."""
        found = []
        for place in places:
            directory = self._directory / name / PLACES[place]
            directory.mkdir(mode=0o755, parents=True)
            found.append(f"{directory}:{place}:ro,rslave")
        return found

    def put(self, name: str, place: str, tree: int) -> None:
        """Have the container see this detached mount, in the place of what it saw there before. Raises OSError."""
        target = str(self._directory / name / PLACES[place])
        with contextlib.suppress(OSError):  # there was none
            syscalls.umount(target, syscalls.MNT_DETACH)
        syscalls.move_mount(tree, target)

    def drop(self, name: str) -> None:
        """Its container has ended. Never raises: what stays goes at the next start."""
        for place in PLACES.values():
            with contextlib.suppress(OSError):
                syscalls.umount(str(self._directory / name / place), syscalls.MNT_DETACH)
            with contextlib.suppress(OSError):
                (self._directory / name / place).rmdir()
        with contextlib.suppress(OSError):
            (self._directory / name).rmdir()

    def close(self) -> None:
        """Raises OSError when something does not go."""
        if self._directory.exists():
            _clear(self._directory)


def _clear(directory: Path) -> None:
    """Unmount all that is mounted there, then remove the directories, which must be empty by then."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in reversed(mounted):  # later mounts lie upon earlier ones
        if path == str(directory) or path.startswith(f"{directory}/"):
            syscalls.umount(path, syscalls.MNT_DETACH)
    for path, _, _ in os.walk(directory, topdown=False):
        os.rmdir(path)
