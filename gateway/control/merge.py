"""Several layers become one tree: what is at /opt where a function has more than one.

It is made once for each set of layers, of hard links: layers never change, so that a file can be in any number of trees and takes
no space again, nor memory in the page cache. As on AWS, where each layer is unzipped over those before it, the last one wins.
Everything is decided before anything is written, and nothing is written through a link that a layer brought.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path


def merge(layers: Sequence[Path], target: Path) -> None:
    """Make the empty directory `target` what all of `layers` are together. Blocks: for a worker thread. Raises OSError."""
    tree = _Tree()
    for layer in layers:
        tree.add(os.fspath(layer))
    root = os.fspath(target)
    for path in tree.directories:
        os.mkdir(f"{root}/{path}")
    for path, source in tree.files.items():
        _link(source, f"{root}/{path}")
    for path in tree.directories:
        os.chmod(f"{root}/{path}", 0o755)
    os.chmod(root, 0o755)


def size_bytes(directory: str) -> int:
    """What all files in a directory are together, links not followed: as `archive.unpack` counts. Blocks. Raises OSError."""
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                total += size_bytes(entry.path)
            elif entry.is_file(follow_symlinks=False):
                total += entry.stat(follow_symlinks=False).st_size
    return total


class _Tree:
    """What will be where, by path: directories, parents before what is in them, and where every other entry comes from."""

    def __init__(self) -> None:
        self.directories: dict[str, None] = {}
        self.files: dict[str, str] = {}

    def add(self, source: str, path: str = "") -> None:
        with os.scandir(source) as entries:
            for entry in entries:
                inside = f"{path}/{entry.name}" if path else entry.name
                if entry.is_dir(follow_symlinks=False):
                    self.files.pop(inside, None)
                    self.directories[inside] = None
                    self.add(entry.path, inside)
                else:
                    if inside in self.directories:
                        self._forget(inside)
                    self.files[inside] = entry.path

    def _forget(self, path: str) -> None:
        below = f"{path}/"
        self.directories = {one: None for one in self.directories if one != path and not one.startswith(below)}
        self.files = {one: source for one, source in self.files.items() if not one.startswith(below)}


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EMLINK, errno.EPERM, errno.ENOTSUP):  # linked too often, or a file system without links
            raise
        shutil.copy2(source, target, follow_symlinks=False)
