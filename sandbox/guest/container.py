"""Init in a container: not PID 1, which is the engine's process that holds the container, but the parent of all else in it.

The container has its root file system, host name and limits from the engine. Its network is one of Lambent's own, as every
sandbox has it, with the listeners made already. Init adds what came along as detached mounts (/tmp, the runtime's files, the
user's name, name servers), makes the runtime's process, and is then what it is everywhere. Killing the container's
PID 1 ends it, as it ends everything in that pid namespace.
"""

import contextlib
import fcntl
import os
import signal
import socket

from . import init, launch, messages, syscalls

NAMESPACES = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
_STEM = "/var/runtime/lambent_stem.py"
_ENVIRONMENT = {"LANG": "en_US.UTF-8", "LC_CTYPE": "C.UTF-8"}


class ContainerSandbox(init.Sandbox):
    """`interpreters`: where the runtime's interpreter may be in the image; none if functions bring programs of their own."""

    clones = False

    def __init__(self, control, cgroup_fds, uid, interpreters):
        # type: (socket.socket, list[int], int, list[str]) -> None
        super().__init__(control, cgroup_fds, uid)
        self.interpreters = interpreters

    def wait(self, go, api, ahead):
        # type: (socket.socket, socket.socket, bool) -> None
        """The interpreter of the image waits in place of this copy, which has the host's; a program needs nothing warm."""
        if not self.interpreters:
            go.send(b"r")
            message, _ = messages.receive(go)
            if message is None:
                os._exit(0)
            message["python"] = "none"
            launch.launch(go, api.detach(), message)
            return
        os.set_inheritable(go.fileno(), True)
        for path in self.interpreters:
            with contextlib.suppress(OSError):
                os.execve(path, [path, _STEM, path, str(go.fileno()), str(api.fileno())], _ENVIRONMENT)
        go.send("the image has none of {}".format(", ".join(self.interpreters)).encode())


def main(fds, message):
    # type: (list[int], dict[str, object]) -> None
    """`fds`: who holds the container, control socket, log pipe, network namespace, then as many mounts as the message names, then
    the cgroups to join. Never returns."""
    control = None
    try:
        uid, targets, interpreters = message["uid"], message["mounts"], message["interpreters"]
        assert isinstance(uid, int)
        assert isinstance(targets, list)
        assert isinstance(interpreters, list)
        kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
        os.dup2(kept[1], init.CONTROL_FD, False)
        os.dup2(kept[2], init.LOG_FD, False)
        holder, network, mounts, cgroups = kept[0], kept[3], kept[4 : 4 + len(targets)], kept[4 + len(targets) :]
        syscalls.close_all_but([init.CONTROL_FD, init.LOG_FD, holder, network, *mounts, *cgroups])
        control = socket.socket(fileno=init.CONTROL_FD)
        control.setblocking(True)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.fchown(init.LOG_FD, uid, uid)
        syscalls.setns(holder, NAMESPACES)
        syscalls.setns(network, syscalls.CLONE_NEWNET)
        os.close(holder)
        os.close(network)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)  # orphans are init's to reap, not the holder's
        for target, fd in zip(targets, mounts):
            if os.path.exists(target):  # an image need not have an /etc/passwd
                syscalls.move_mount(fd, target)
            os.close(fd)
        syscalls.drop_bounding_set()
        init.serve(ContainerSandbox(control, cgroups, uid, interpreters))
    except BaseException as error:
        if control is not None:
            with contextlib.suppress(OSError):
                messages.send(control, {"event": "failed", "reason": f"{type(error).__name__}: {error}"})
    finally:
        os._exit(0)
