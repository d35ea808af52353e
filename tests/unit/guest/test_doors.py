"""How a process comes into its cgroups: by being born there, by moving itself, or as ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox.guest.doors import Doors


def run(script: str) -> str:
    """What a fresh interpreter says, which has no threads: only such a process may clone itself."""
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout


def doors_of(directory: Path, *names: str) -> list[int]:
    """Descriptors as `Group.join_fds` gives them: the directory of a cgroup2 group, then its file; other files."""
    fds = []
    for name in names:
        if name == "v2":
            fds.append(os.open(directory, os.O_PATH | os.O_DIRECTORY))
        (directory / name).touch()
        fds.append(os.open(directory / name, os.O_WRONLY))
    return fds


@pytest.mark.parametrize("names", [("v2",), ("memory", "pids"), ("memory", "v2", "cpu"), ()])
def test_who_was_not_born_there_goes_everywhere(tmp_path: Path, names: tuple[str, ...]) -> None:
    fds = doors_of(tmp_path, *names)
    Doors(fds).join(joined=False)
    assert {name: (tmp_path / name).read_text() for name in names} == dict.fromkeys(names, "0")
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("names", [("v2",), ("memory", "v2", "cpu"), ("v2", "memory")])
def test_who_was_born_there_does_not_go_there_again(tmp_path: Path, names: tuple[str, ...]) -> None:
    fds = doors_of(tmp_path, *names)
    Doors(fds).join(joined=True)
    assert {name: (tmp_path / name).read_text() for name in names} == {name: "" if name == "v2" else "0" for name in names}
    for fd in fds:
        os.close(fd)


def test_where_nobody_can_be_born_it_is_an_ordinary_fork(tmp_path: Path) -> None:
    """The kernel refuses a directory that is no group, as it refuses an init without rights, or does not know the flag."""
    said = run(
        f"""
import os
from sandbox.guest.doors import Doors
fds = [os.open({str(tmp_path)!r}, os.O_PATH | os.O_DIRECTORY), os.open("/dev/null", os.O_WRONLY)]
pid, joined = Doors(fds).fork()
if pid == 0:
    os._exit(7)
print(joined, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    )
    assert said == "False 7\n"


def test_the_c_library_knows_the_thread_of_a_clone() -> None:
    """Its mutexes go by that number: one of the parent's could be another thread's one day."""
    said = run(
        """
import ctypes, os, threading
from sandbox.guest import syscalls
if not syscalls.can_be_told():
    print("True 0")
else:
    pid = syscalls.clone_process()
    if pid == 0:
        noted = ctypes.c_int.from_address(syscalls._NOTES.tid).value
        head, size = ctypes.c_ulong(), ctypes.c_ulong()
        syscalls.libc.syscall(ctypes.c_long(syscalls._GET_ROBUST_LIST), ctypes.c_long(0), ctypes.byref(head), ctypes.byref(size))
        os._exit(0 if noted == os.getpid() and head.value == syscalls._NOTES.robust_list else 1)
    print(pid > 0, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    )
    assert said == "True 0\n"
