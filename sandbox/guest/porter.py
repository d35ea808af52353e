"""A warm interpreter outside of every sandbox, whose copies become inits where no zygote could live: in containers and images.

A container of an engine has namespaces and a root file system, and nothing in it but a process that holds it open. What a
sandbox needs beside that (a network with its listeners, a stem, exits with their signals, resets) init does, so init is
brought in: this process is an interpreter of the host with all of init in memory, and a copy of it enters the container. So
init is the same for every image and every architecture, also for an image without any interpreter.

The pid namespace is entered before the clone, because only children live in it; all others after it, by the child. What is
imported later than this is not found any more: everything that init needs is imported here.
"""

import gc
import os
import sys

import lambent_bootstrap

from . import brought, container, image, messages, syscalls, zygote

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket  # noqa: F401  for the types in comments


def serve(control):
    # type: (socket.socket) -> None
    """One message, one sandbox; until the spawner goes. The first descriptor of each is a pidfd of who holds the container, or
    the root of an image that has none."""
    home = os.pidfd_open(os.getpid())
    while True:
        message, fds = messages.receive(control)
        if message is None:
            return
        reply = {"id": message["id"]}  # type: dict[str, object]
        try:
            reply["pid"] = _image(fds, message) if message["image"] else _container(fds, message, home)
        except OSError as error:
            reply["error"] = str(error)
        for fd in fds:
            os.close(fd)
        messages.send(control, reply)


def _container(fds, message, home):
    # type: (list[int], dict[str, object], int) -> int
    """`home` is our own pidfd. Raises OSError."""
    syscalls.setns(fds[0], syscalls.CLONE_NEWPID)
    try:
        pid = syscalls.clone_process(syscalls.CLONE_PARENT)
        if pid == 0:
            brought.become(fds, message, container.enter)
    finally:
        syscalls.setns(home, syscalls.CLONE_NEWPID)
    return pid


def _image(fds, message):
    # type: (list[int], dict[str, object]) -> int
    """Raises OSError."""
    pid = syscalls.clone_process(zygote.NAMESPACES)
    if pid == 0:
        brought.become(fds, message, image.enter)
    return pid


def main():
    # type: () -> None
    control = zygote.begin()
    preloaded = sorted(lambent_bootstrap.loaded())
    image.settle(sys.argv[1])
    gc.collect()
    gc.freeze()
    messages.send(control, {"ready": sys.version.split()[0], "preloaded": preloaded})
    serve(control)
