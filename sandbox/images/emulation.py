"""Whether this host runs programs of an architecture: by itself, or by an emulator that the kernel was told of."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

from sandbox.spec import Architecture

MACHINES: Final = {Architecture.X86_64: "x86_64", Architecture.ARM64: "aarch64"}
_BINFMT: Final = {Architecture.X86_64: "qemu-x86_64", Architecture.ARM64: "qemu-aarch64"}


def emulation(architecture: Architecture, binfmt: Path = Path("/proc/sys/fs/binfmt_misc")) -> str | None:
    """Why programs of this architecture cannot run on this host; None if they can, natively or by an emulator.

    The emulator must have been opened when it was registered (flag F): containers do not have it.
    """
    if platform.machine() == MACHINES[architecture]:
        return None
    install = "apt-get install qemu-user-static, then deploy/images/emulate"
    what = f"{architecture} programs cannot run on this {platform.machine()} host"
    try:
        entry = (binfmt / _BINFMT[architecture]).read_text()
    except OSError:
        return f"{what}: no emulator is registered; {install}"
    if not entry.startswith("enabled"):
        return f"{what}: the emulator is disabled; echo 1 > {binfmt / _BINFMT[architecture]}"
    flags = next((line.partition(":")[2] for line in entry.splitlines() if line.startswith("flags")), "")
    if "F" not in flags:
        return f"{what} in containers: the emulator is registered without flag F; {install}"
    return None
