"""The devices that a function has, and no others."""

import os
import stat

from . import syscalls

DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


def make(directory):
    # type: (str) -> None
    """Mount them there: nodes of our own where the host allows to make them, else those of the host. Raises OSError."""
    syscalls.mount("tmpfs", directory, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, "mode=755,size=64k")
    for name, (major, minor) in DEVICES.items():
        path = f"{directory}/{name}"
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
            os.chmod(path, 0o666)
        except PermissionError:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
            syscalls.mount(f"/dev/{name}", path, "", syscalls.MS_BIND)
    for name, target in LINKS.items():
        os.symlink(target, f"{directory}/{name}")
    syscalls.mount_setattr(-100, directory, syscalls.MOUNT_ATTR_RDONLY)
