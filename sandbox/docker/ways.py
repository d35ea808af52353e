"""How containers are dealt with: the quick way each, or, where this machine does not let us, one that only needs the engine.

    runtime API   inside   the container goes to a network of Lambent's own, and the Runtime API listens in it
                  bridge   it has one of the engine's, and the Runtime API listens at that bridge's address (`bridge.py`)
    mounts        move     what a function needs comes as detached mounts that are moved into the container
                  spread   it is mounted on the host, below directories that the container shares from its creation (`spread.py`)
    freeze        cgroup   a write to the container's cgroup
                  pause    the engine's own pause and unpause (`pausing.py`)

`auto` is the first of a pair where this machine lets us, which is tried once, at the start.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import threading
from pathlib import Path
from typing import Final, Literal

from sandbox.guest import syscalls
from sandbox.native import cgroups, namespaces

log = logging.getLogger("lambent.spawner")

RuntimeApi = Literal["auto", "inside", "bridge"]
Mounts = Literal["auto", "move", "spread"]
Freeze = Literal["auto", "cgroup", "pause"]

_NAMESPACE: Final = "/proc/thread-self/ns/mnt"
_SAID: Final = {
    "inside": "Runtime API inside each container",
    "bridge": "Runtime API at the address of a bridge of the engine's",
    "move": "mounts moved in",
    "spread": "mounts spread from the host",
    "cgroup": "frozen through the cgroup",
    "pause": "frozen by the engine's pause",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Ways:
    """What was chosen; none of it is ``auto``."""

    runtime_api: RuntimeApi
    mounts: Mounts
    freeze: Freeze
    why: tuple[str, ...] = ()  #: what kept from a quick way that was not ruled out, for people

    def __str__(self) -> str:
        return ", ".join((*(_SAID[way] for way in (self.runtime_api, self.mounts, self.freeze)), *self.why))


def find(runtime_api: RuntimeApi, mounts: Mounts, freeze: Freeze) -> Ways:
    """Choose where nobody has chosen. Blocks for some milliseconds, and must not be called in an event loop's own thread."""
    why = []
    if runtime_api == "auto":
        runtime_api = "inside"
        if refused := _refusal_of_networks():
            runtime_api = "bridge"
            why.append(f"no network namespace can be made: {refused}")
    if mounts == "auto":
        mounts = "move"
        if refused := _refusal_of_mounts():
            mounts = "spread"
            why.append(f"mounts cannot be moved into another mount namespace: {refused}")
    if freeze == "auto":
        freeze = "cgroup"
        if refused := refusal_of_freezer():
            freeze = "pause"
            why.append(refused)
    return Ways(runtime_api, mounts, freeze, tuple(why))


def refusal_of_freezer() -> str:
    """Why cgroups cannot be frozen from here; empty where they can."""
    place = cgroups.find_hierarchies().of("freezer")
    if place is None:
        return "no cgroup hierarchy that can freeze is mounted"
    return "" if os.access(place, os.W_OK) else f"{place} cannot be written"


def _refusal_of_networks() -> str:
    try:
        os.close(namespaces.make())
    except OSError as error:
        return str(error)
    return ""


def _refusal_of_mounts() -> str:
    """Tried with a mount namespace that goes with its thread."""
    refusals: list[OSError] = []
    place = Path(__file__).parent

    def attempt() -> None:
        try:
            tree = syscalls.open_tree(-100, str(place))
            try:
                home = os.readlink(_NAMESPACE)
                syscalls.unshare(syscalls.CLONE_NEWNS)
                if os.readlink(_NAMESPACE) == home:  # nothing of this must ever happen to the host's own mounts
                    raise OSError(errno.EPERM, "unshare did nothing")
                syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
                syscalls.move_mount(tree, str(place))
            finally:
                os.close(tree)
        except OSError as error:
            refusals.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return str(refusals[0]) if refusals else ""
