"""From a process that waits to one that runs a function: by going on as the interpreter that it is, or by exec.

The process is confined already, and gets the word on `go`, the socket that leads to init: the environment, and how to begin.
"""

import errno
import os
import signal
import time

import lambent_bootstrap

from . import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket  # noqa: F401  for the types in comments
    from typing import NoReturn  # noqa: F401

BOOTSTRAPS = ("/var/runtime/bootstrap", "/var/task/bootstrap", "/opt/bootstrap")
WRAPPER_NOT_FOUND = 127  # as a shell ends, and recorded from AWS
LAUNCH_FAILED = 253  # exit status of a child that could not exec; the reason went to init through the go socket


def launch(go, api_fd, message, waiting=None):
    # type: (socket.socket, int, dict[str, object], program.Program | None) -> None
    """Returns only when there is nothing that could be run; then `go` has the reason, and LAUNCH_FAILED is to be the status.

    A command that comes with the message is an image's entry point; else the function is the interpreter's, or has a bootstrap.
    """
    environment = message["environment"]
    command = message.get("command")
    directory = str(message.get("directory") or "/var/task")
    assert isinstance(environment, dict)
    try:
        os.chdir(directory)
    except OSError as error:
        _say(go, f"workdir chdir {directory}: {os.strerror(error.errno or 0).lower()}")
        return
    if message["python"] == "fork":
        go.close()
        os.environ.clear()
        os.environ.update(environment)
        time.tzset()
        lambent_bootstrap.main(api_fd)
    if message["python"] == "exec":
        if waiting is not None:
            command = program.command(waiting, int(environment["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]))
            os.close(api_fd)
        else:
            command = [str(message["interpreter"]), "/var/runtime/lambent_bootstrap.py", "--fd", str(api_fd)]
        wrapper = environment.get("AWS_LAMBDA_EXEC_WRAPPER")  # AWS has none for provided runtimes
        if wrapper:
            if not os.path.exists(wrapper):
                os._exit(WRAPPER_NOT_FOUND)
            command.insert(0, wrapper)
    else:
        os.close(api_fd)
    if command == []:
        _say(go, "fork/exec : the image has no entry point and no command")
        return
    if not isinstance(command, list):
        command = [path for path in BOOTSTRAPS if os.path.exists(path)][:1]
        if not command:
            _say(go, "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")
            return
    if message.get("foreign"):  # an image of another architecture than the function's
        _say(go, f"fork/exec {command[0]}: {os.strerror(errno.ENOEXEC).lower()}")
        return
    _say(go, execute([str(part) for part in command], environment))


def execute(command, environment):
    # type: (list[str], dict[str, str]) -> str
    """Become that program, found along the PATH that it will have; why not, in Go's words, where it cannot be."""
    default_signals()
    try:
        _exec(command, environment)
    except OSError as error:
        return f"fork/exec {command[0]}: {os.strerror(error.errno or 0).lower()}"


def default_signals():
    # type: () -> None
    """An interpreter ignores these, and what it becomes by exec would inherit that."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def _exec(command, environment):
    # type: (list[str], dict[str, str]) -> NoReturn
    """A name without a slash is looked for along the function's own PATH. Raises OSError."""
    if "/" in command[0]:
        os.execve(command[0], command, environment)
    for directory in environment.get("PATH", "").split(":"):
        path = os.path.join(directory or ".", command[0])
        if os.access(path, os.X_OK) and os.path.isfile(path):
            os.execve(path, command, environment)
    raise FileNotFoundError(2, "no such file or directory")


def _say(go, text):
    # type: (socket.socket, str) -> None
    go.send(text.encode()[:4000])
