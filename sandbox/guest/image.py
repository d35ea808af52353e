"""Init of an image function: its root is the image's files, and nothing of the host is in reach any more.

The namespaces are made (`porter.py` cloned into them); the image's root comes as a detached, read-only mount. /proc, /dev and
what came along are mounted into it, then it becomes the root.
"""

import contextlib
import fcntl
import os
import signal
import socket

from . import container, devices, init, messages, syscalls


def main(fds, message):
    # type: (list[int], dict[str, object]) -> None
    """`fds`: the image's root, control socket, log pipe, network namespace, then as many mounts as the message names, then the
    cgroups to join. Never returns."""
    control = None
    try:
        uid, targets, staging = message["uid"], message["mounts"], message["staging"]
        assert isinstance(uid, int)
        assert isinstance(targets, list)
        assert isinstance(staging, str)
        kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
        os.dup2(kept[1], init.CONTROL_FD, False)
        os.dup2(kept[2], init.LOG_FD, False)
        root, network, mounts, cgroups = kept[0], kept[3], kept[4 : 4 + len(targets)], kept[4 + len(targets) :]
        syscalls.close_all_but([init.CONTROL_FD, init.LOG_FD, root, network, *mounts, *cgroups])
        control = socket.socket(fileno=init.CONTROL_FD)
        control.setblocking(True)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.fchown(init.LOG_FD, uid, uid)
        syscalls.setns(network, syscalls.CLONE_NEWNET)
        os.close(network)
        socket.sethostname("169-254-100-1")
        syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.move_mount(root, staging)
        os.close(root)
        os.chdir(staging)
        devices.make("dev")
        for target, fd in zip(targets, mounts):
            syscalls.move_mount(fd, target.lstrip("/"))
            os.close(fd)
        syscalls.pivot_root(".", ".")
        syscalls.umount(".", syscalls.MNT_DETACH)
        os.chdir("/")
        init.mount_proc()
        syscalls.drop_bounding_set()
        init.serve(container.ContainerSandbox(control, cgroups, uid, []))
    except BaseException as error:
        if control is not None:
            with contextlib.suppress(OSError):
                messages.send(control, {"event": "failed", "reason": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(0)
