"""A warm interpreter that is never a function itself: each sandbox begins as a copy of it, by one clone(2) call.

It is started once per runtime, inside the root that the sandboxes will have (`native/rootfs.py` made it and exec'ed this), with
an empty environment plus AWS's LD_LIBRARY_PATH, and single-threaded. What a cold start must not wait for is done here: the
interpreter is up, the runtime client is imported, the filter program is assembled, garbage is collected and frozen so that
copies share their pages.

CLONE_PARENT makes the spawner, not the zygote, the parent of each init: sandboxes outlive their zygote, and the spawner
reaps them.
"""

import gc
import json
import os
import signal
import socket
import sys

import lambent_bootstrap

from . import init, messages, syscalls

NAMESPACES = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_PARENT
CONTROL_FD = 3


def write_passwd(uid):
    # type: (int) -> None
    """The sandbox's user by its name on AWS; each sandbox has another uid outside, and sees only its own line."""
    path = f"/etc/users/{uid}"
    if os.path.exists(path):
        return
    lines = ["root:x:0:0:root:/root:/sbin/nologin", "nobody:x:65534:65534:nobody:/:/sbin/nologin"]
    lines.append(f"sbx_user1051:x:{uid}:{uid}::/home/sbx_user1051:/sbin/nologin")
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
    os.rename(path + ".new", path)


def serve(control):
    # type: (socket.socket) -> None
    """One message, one sandbox; until the spawner goes."""
    while True:
        message, fds = messages.receive(control)
        if message is None:
            return
        uid = message["uid"]
        assert isinstance(uid, int)
        reply = {"id": message["id"]}  # type: dict[str, object]
        try:
            write_passwd(uid)
            pid = syscalls.clone_process(NAMESPACES)
            if pid == 0:
                init.main(fds, uid)
            reply["pid"] = pid
        except OSError as error:
            reply["error"] = str(error)
        for fd in fds:
            os.close(fd)
        messages.send(control, reply)


def begin():
    # type: () -> socket.socket
    """What this process and all its copies are, for good; its control socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    syscalls.drop_bounding_set()
    control = socket.socket(fileno=CONTROL_FD)
    control.setblocking(True)
    return control


def main():
    # type: () -> None
    control = begin()
    init.Sandbox.waiting = json.loads(sys.argv[1])
    preloaded = sorted(lambent_bootstrap.prepare())
    gc.collect()
    gc.freeze()
    messages.send(control, {"ready": sys.version.split()[0], "preloaded": preloaded})
    serve(control)
