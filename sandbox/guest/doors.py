"""How a process comes into its sandbox's cgroups without waiting for anybody.

A process that moves to another group by itself, or is moved, makes the kernel wait until no processor is amid a fork: 5 to 16
ms, in which nobody on the host can fork. Two ways avoid that: under cgroup2 a process can be born in a group (clone3 has a flag
for it, since Linux 5.7), and under v1 a thread that moves itself alone is let through (since 5.6). `native.cgroups` opens the
doors.
"""

import os
import stat

from . import syscalls


class Doors:
    """`fds`: files to write ``0`` to; in front of the one of a cgroup2 group that group's directory."""

    def __init__(self, fds):
        # type: (list[int]) -> None
        self._group = next((fd for fd in fds if stat.S_ISDIR(os.fstat(fd).st_mode)), -1)
        files = [fd for fd in fds if fd != self._group]
        self._born = fds[fds.index(self._group) + 1] if self._group >= 0 else -1  # no need to write to it
        self._files = files

    def fork(self):
        # type: () -> tuple[int, bool]
        """(as `os.fork`, whether the child is in its cgroup2 group already); it still has to `join`.

        Raises OSError where there cannot be another process at all. An init that has given up its rights may not have a child
        born there any more, as it is after a reset, and older kernels do not know it: then the child goes there itself.
        """
        if self._group >= 0 and syscalls.can_be_told():
            try:
                return syscalls.clone_process(group=self._group), True
            except OSError:
                pass
        return os.fork(), False

    def join(self, joined):
        # type: (bool) -> None
        """Go where one is not yet. Raises OSError."""
        for fd in self._files:
            if not (joined and fd == self._born):
                os.write(fd, b"0")
