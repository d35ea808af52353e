"""Init in an image: its root is the image's files, and nothing of the host is in reach any more.

The namespaces are made (`porter.py` cloned into them); the image's root comes as a detached, read-only mount. /dev and what came
along are mounted into it, then it becomes the root. The porter lives in a root of its own that holds nothing but /dev (`settle`):
so a copy has next to nothing to leave, and leaves it without unmounting, under the sandbox's /proc. To unmount takes the kernel
a grace period, and nobody shall wait for one.
"""

import os
import socket

from . import devices, syscalls, world

_STAGING = "/staging"


def settle(directory):
    # type: (str) -> None
    """Leave the host's files for an almost empty root, made at that directory: nothing can be imported then. Raises OSError."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", directory, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC, "mode=755,size=64k")
    os.chdir(directory)
    os.mkdir("dev")
    os.mkdir(_STAGING.lstrip("/"))
    devices.make("dev")
    syscalls.mount_setattr(-100, directory, syscalls.MOUNT_ATTR_RDONLY)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")


def enter(root, mounts):
    # type: (int, list[tuple[str, int]]) -> None
    """See `brought.become`. Whatever was forked before, and has not moved, is in the image too from then on."""
    socket.sethostname("169-254-100-1")
    dev = syscalls.open_tree(-100, "/dev")
    syscalls.move_mount(root, _STAGING)
    os.close(root)
    os.chdir(_STAGING)
    syscalls.move_mount(dev, "dev")  # before others are here, which may want it
    os.close(dev)
    syscalls.pivot_root(".", "proc")
    os.chdir("/")
    for target, fd in mounts:  # now, so that the image's symlinks lead where they lead in the image
        syscalls.move_mount(fd, target, follow=True)
        os.close(fd)
    world.mount_proc()
