"""What a sandbox sees as its root file system, beyond what its zygote's has: the part that differs, and what is kept from it."""

import os

from . import syscalls

# What /proc tells about the host, or lets root change; the function is not root, but one lock is no lock.
MASKED = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sysrq-trigger", "/proc/latency_stats", "/proc/sched_debug")
READ_ONLY = ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/fs")
HIDDEN = ("/proc/acpi", "/proc/scsi")


def mount_proc():
    # type: () -> None
    """As this pid namespace sees it, without what tells about the host."""
    syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    for path in MASKED:
        if os.path.exists(path):
            syscalls.mount("/dev/null", path, "", syscalls.MS_BIND)
    for path in READ_ONLY:
        if os.path.exists(path):
            syscalls.mount(path, path, "", syscalls.MS_BIND)
            syscalls.mount_setattr(-100, path, syscalls.MOUNT_ATTR_RDONLY)
    for path in HIDDEN:
        if os.path.exists(path):
            syscalls.mount("tmpfs", path, "tmpfs", syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV, "size=0")


def make_file_system(tmp_fd, uid):
    # type: (int, int) -> None
    """The zygote's root is this sandbox's root already, as a private copy; what is left is what differs per sandbox."""
    mount_proc()
    syscalls.mount(f"/etc/users/{uid}", "/etc/passwd", "", syscalls.MS_BIND)
    syscalls.mount_setattr(-100, "/etc/passwd", syscalls.MOUNT_ATTR_RDONLY)
    syscalls.move_mount(tmp_fd, "/tmp")
    syscalls.mount_setattr(-100, "/", syscalls.MOUNT_ATTR_RDONLY)
