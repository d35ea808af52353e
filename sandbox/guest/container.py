"""Init in a container: not PID 1, which is the engine's process that holds the container, but the parent of all else in it.

The container has its root file system, host name and limits from the engine. Its network is one of Lambent's own, as every
sandbox has it, with the listeners made already. Init adds what came along as detached mounts (/tmp, the runtime's files, the
user's name, name servers), makes the runtime's process, and is then what it is everywhere. Killing the container's
PID 1 ends it, as it ends everything in that pid namespace.
"""

import os

from . import syscalls

NAMESPACES = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS


def enter(holder, mounts):
    # type: (int, list[tuple[str, int]]) -> None
    """`holder`: a pidfd of who holds the container. See `brought.become`."""
    syscalls.setns(holder, NAMESPACES)
    os.close(holder)
    syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)  # orphans are init's to reap, not the holder's
    for target, fd in mounts:
        if os.path.exists(target):  # an image need not have an /etc/passwd
            syscalls.move_mount(fd, target)
        os.close(fd)
