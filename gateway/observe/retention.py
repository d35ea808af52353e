"""How long function logs are kept and how much of the disk they may take, all together.

A function's own files are bounded by its `LogFiles`. Here is what no single function can see to: a file that nothing was written
to for so many days goes, and when all files together are more than their share of the disk, those go that were written to longest
ago, until there is some room again. What is left of a function whose last file went is an empty directory, which goes too.
Appending opens a file by its name each time, so one that is removed under it is just made anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Final

DAY_S: Final = 86_400
SLACK: Final = 0.1  #: of the bound, that is made free at once and may be written before the next look


@dataclasses.dataclass(frozen=True, slots=True)
class Keep:
    """`age_s` since the last line of a file, and `total_bytes` of all files. None: without end."""

    age_s: float | None
    total_bytes: int | None

    @property
    def look_after_bytes(self) -> int | None:
        """So much may be written until the next look, that `total_bytes` are never exceeded by more than one write."""
        return None if self.total_bytes is None else int(self.total_bytes * SLACK)


def expire(directory: Path, keep: Keep, now_s: float) -> int:
    """Remove what is not to be kept any more; the number of files that went. Raises OSError where the directory cannot be read.

    `now_s` is the wall's time, as file times are. Blocks: some 20 µs a file.
    """
    files: list[tuple[float, int, str]] = []
    for function in _entries(directory):
        if function.is_dir(follow_symlinks=False):
            for entry in _entries(Path(function.path)):
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    files.append((found.st_mtime, found.st_size, entry.path))
    files.sort()
    left = sum(size for _, size, _ in files)
    most = None if keep.total_bytes is None or left <= keep.total_bytes * (1 - SLACK) else keep.total_bytes * (1 - SLACK)
    removed = 0
    for written_s, size, path in files:
        old = keep.age_s is not None and written_s < now_s - keep.age_s
        if not old and (most is None or left <= most):
            break
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with contextlib.suppress(OSError):  # others are still in it
            os.rmdir(os.path.dirname(path))
        left -= size
        removed += 1
    return removed


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            return list(found)
    except FileNotFoundError:
        return []
