"""An init that was brought to where it is: no copy of a zygote that lives there, but a copy of the porter, which is outside.

It has the porter's interpreter, which is the host's, so what waits for a function is not a copy of itself: it is the image's own
interpreter, started now and waiting; or Node.js, the same; or a copy that only waits to become the function's own program.
"""

import contextlib
import fcntl
import os
import socket

from . import init, launch, messages, program, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable  # noqa: F401  for the types in comments

_STEM = "/var/runtime/lambent_stem.py"
_ENVIRONMENT = {"LANG": "en_US.UTF-8", "LC_CTYPE": "C.UTF-8"}


class BroughtSandbox(init.Sandbox):
    """`interpreters`: where a Python may be in the image, `waiting`: its Node.js; neither if functions bring their programs."""

    clones = False

    def __init__(self, control, cgroup_fds, uid, interpreters, waiting):
        # type: (socket.socket, list[int], int, list[str], program.Program | None) -> None
        super().__init__(control, cgroup_fds, uid)
        self.interpreters = interpreters
        self.waiting = waiting

    def wait(self, go, api, ahead):
        # type: (socket.socket, socket.socket, bool) -> None
        if self.waiting is not None and ahead:
            launch.default_signals()
            program.be_stem(self.waiting, go, api)
        if not self.interpreters:
            go.send(b"r")
            message, _ = messages.receive(go)
            if message is None:
                os._exit(0)
            if self.waiting is None:
                message["python"] = "none"
            launch.launch(go, api.detach(), message, self.waiting)
            return
        os.set_inheritable(go.fileno(), True)
        for path in self.interpreters:
            with contextlib.suppress(OSError):
                os.execve(path, [path, _STEM, path, str(go.fileno()), str(api.fileno())], _ENVIRONMENT)
        go.send("the image has none of {}".format(", ".join(self.interpreters)).encode())


def become(fds, message, enter):
    # type: (list[int], dict[str, object], Callable[[int, list[tuple[str, int]]], None]) -> None
    """Be the init of a sandbox. Never returns.

    `fds`: the place (what holds the container, or the root of an image), control socket, log pipe, network namespace, then as
    many mounts as the message names, then the cgroups to join. `enter` is given the place and the mounts with their targets, goes
    there, and closes them.
    """
    control = None
    try:
        uid, targets, interpreters, waiting = (message[key] for key in ("uid", "mounts", "interpreters", "waiting"))
        assert isinstance(uid, int)
        assert isinstance(targets, list)
        assert isinstance(interpreters, list)
        assert waiting is None or isinstance(waiting, dict)
        node = None
        if waiting is not None:
            node = program.Program(path=waiting["path"], main=waiting["main"], environment=waiting["environment"])
        kept = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
        os.dup2(kept[1], init.CONTROL_FD, False)
        os.dup2(kept[2], init.LOG_FD, False)
        place, network, mounts, cgroups = kept[0], kept[3], kept[4 : 4 + len(targets)], kept[4 + len(targets) :]
        syscalls.close_all_but([init.CONTROL_FD, init.LOG_FD, place, network, *mounts, *cgroups])
        control = socket.socket(fileno=init.CONTROL_FD)
        init.arrive(control, uid, network)
        sandbox = BroughtSandbox(control, cgroups, uid, interpreters, node)
        # Where it needs nothing of the image to be ready it is let go now, in a root that holds nothing.
        connection = sandbox.fork() if message["image"] and not interpreters and waiting is None else None
        enter(place, list(zip(targets, mounts)))
        init.serve(sandbox, connection)
    except BaseException as error:
        init.fail(control, error)
    finally:
        os._exit(0)
