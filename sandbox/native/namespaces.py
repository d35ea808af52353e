"""Network namespaces by descriptor. They have no names: one goes with the last process, socket or descriptor that holds it.

A thread can be in another one than its process, so whoever comes here does it in a thread that has nothing else to do meanwhile;
what that thread starts (a program, a socket) is where the thread is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from sandbox.guest import syscalls


def current() -> int:
    """The one that this thread is in. The descriptor is the caller's."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def make() -> int:
    """A new one, with nothing but a loopback that is down; the descriptor is the caller's. 0.4 ms. Raises OSError."""
    home = current()
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        try:
            return current()
        finally:
            syscalls.setns(home, syscalls.CLONE_NEWNET)
    finally:
        os.close(home)


@contextlib.contextmanager
def inside(namespace: int) -> Iterator[None]:
    """This thread is in `namespace` meanwhile, which may be the pidfd of a process that is in it. Raises OSError."""
    home = current()
    try:
        syscalls.setns(namespace, syscalls.CLONE_NEWNET)
        try:
            yield
        finally:
            syscalls.setns(home, syscalls.CLONE_NEWNET)
    finally:
        os.close(home)
