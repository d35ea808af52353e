"""The program that holds a container open: a static executable that waits for ever, made here, of a few instructions.

The first process of a container must come from its file system, and an image need not have a shell, a C library or anything
else that runs. So it is brought along, as Kubernetes brings its pause container; built from bytes, because Lambent has no
compiler, and for the host's own instruction set whatever the image's is.
"""

from __future__ import annotations

import platform
import struct
from pathlib import Path
from typing import Final

_BASE: Final = 0x400000
_HEADERS: Final = 64 + 56  # one ELF header, one program header
_CODE: Final = {
    "x86_64": (
        62,
        bytes.fromhex(
            "b822000000"  # mov eax, 34     pause()
            "0f05"  # syscall
            "ebf7"  # jmp to the first
        ),
    ),
    "aarch64": (
        183,
        struct.pack(
            "<7I",
            0xD2800000,  # mov x0, #0     ppoll(NULL, 0, NULL, NULL): there is no pause()
            0xD2800001,  # mov x1, #0
            0xD2800002,  # mov x2, #0
            0xD2800003,  # mov x3, #0
            0xD2800928,  # mov x8, #73
            0xD4000001,  # svc #0
            0x17FFFFFA,  # b to the first
        ),
    ),
}


def executable(machine: str = platform.machine()) -> bytes:
    """The file. Raises KeyError for an instruction set that Lambent does not know."""
    number, code = _CODE[machine]
    size = _HEADERS + len(code)
    entry = _BASE + _HEADERS
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, number, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code


def install(path: Path) -> None:
    """Write it, executable for everybody."""
    path.write_bytes(executable())
    path.chmod(0o755)
