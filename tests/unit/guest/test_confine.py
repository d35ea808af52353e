"""What the system-call filter answers, on both architectures: its program is run here as the kernel would run it."""

from __future__ import annotations

import errno
import signal
import socket
import struct

import pytest

from sandbox.guest.confine import seccomp_program

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOWED = "allowed"
CLONE_NEWUSER = 0x10000000
CLONE_THREAD_AND_THE_LIKE = 0x3D0F00  # as the C library makes a thread


def answer(architecture: str, number: int, argument: int = 0, audit_architecture: int | None = None) -> str:
    """Of `number` with this first argument: the name of its error, or ALLOWED."""
    audit = ARCHITECTURES[architecture] if audit_architecture is None else audit_architecture
    data = struct.pack("IIQ6Q", number, audit, 0, argument, *[0] * 5)
    program = list(struct.iter_unpack("HBBI", seccomp_program(architecture)))
    at = accumulator = 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("I", data, value)
        elif code == 0x06:
            return ALLOWED if value == 0x7FFF0000 else errno.errorcode[value & 0xFFFF]
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            at += if_true if holds else if_false


@pytest.mark.parametrize(("architecture", "clone", "clone3", "mount"), [("x86_64", 56, 435, 165), ("aarch64", 220, 435, 40)])
def test_what_is_answered(architecture: str, clone: int, clone3: int, mount: int) -> None:
    assert answer(architecture, 1) == ALLOWED
    assert answer(architecture, mount) == "EPERM"
    assert answer(architecture, clone3) == "ENOSYS"
    assert answer(architecture, clone, signal.SIGCHLD) == ALLOWED
    assert answer(architecture, clone, CLONE_THREAD_AND_THE_LIKE) == ALLOWED
    assert answer(architecture, clone, socket.AF_VSOCK) == ALLOWED, "flags are no family"
    assert answer(architecture, clone, CLONE_NEWUSER | signal.SIGCHLD) == "EPERM"
    assert answer(architecture, 1, audit_architecture=0x40000003) == "ENOSYS", "another instruction set"


@pytest.mark.parametrize(("architecture", "number"), [("x86_64", 41), ("aarch64", 198)])
def test_only_sockets_past_the_network_namespace_are_refused(architecture: str, number: int) -> None:
    families = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET}
    assert {answer(architecture, number, family) for family in families} == {ALLOWED}
    assert answer(architecture, number, socket.AF_VSOCK) == "EPERM"
    assert answer(architecture, number, socket.AF_VSOCK | 1 << 40) == "EPERM", "the kernel looks at 32 bits"
    assert answer(architecture, number + 1, socket.AF_VSOCK) == ALLOWED
