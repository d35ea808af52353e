"""An interpreter of an image that waits, warm, to be a function: what a fork of a zygote is where there can be no zygote.

Run by init as `lambent_stem.py INTERPRETER GO API`, confined already. Whether going on as this process is good enough is decided
when the function's code is there: a package that brings a module that is loaded here gets a fresh interpreter.
"""

import os
import socket
import sys

import lambent_bootstrap

from . import launch, messages

_LAYERS = ("/opt/python/lib/python{}.{}/site-packages".format(*sys.version_info), "/opt/python")


def _brought():
    # type: () -> set[str]
    """Top-level names that the function and its layers bring."""
    names = set()  # type: set[str]
    for directory in ("/var/task", *_LAYERS):
        if os.path.isdir(directory):
            names.update(name.partition(".")[0] for name in os.listdir(directory))
    return names


def main():
    # type: () -> None
    interpreter, go_fd, api_fd = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.set_inheritable(go_fd, False)
    go = socket.socket(fileno=go_fd)
    preloaded = lambent_bootstrap.prepare()
    go.send(b"r")
    message, _ = messages.receive(go)
    if message is None:
        os._exit(0)
    message["interpreter"] = interpreter
    if message["python"] == "fork" and _brought() & preloaded:
        message["python"] = "exec"
    launch.launch(go, api_fd, message)
    os._exit(launch.LAUNCH_FAILED)
