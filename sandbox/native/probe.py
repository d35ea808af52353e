"""What this host can and cannot give to sandboxes: one `Fact` a subject, each found by trying where trying leaves nothing behind.

Real-sandbox tests skip with the reasons found here, and people read them when something is missing, so every fact says what
it means for functions and what would change it. All of it together takes less than half a second.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import errno
import os
import platform
import resource
import secrets
import shutil
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from sandbox.guest import syscalls
from sandbox.native import cgroups, trees
from sandbox.native.interpreters import PROVIDED_RUNTIMES, PYTHON_RUNTIMES, Interpreter, by_runtime, find_interpreters
from sandbox.native.nodes import NODE_RUNTIMES, Node, find_nodes

__all__ = ["Fact", "Interpreter", "Level", "find_interpreters", "find_nodes", "host", "resolves_localhost"]

RESOLVE_S = 0.25  #: a resolver that asks the network for *.localhost may take seconds
MKFS_DIRECTORIES = "/usr/sbin:/sbin:/usr/local/sbin"

#: by the program that shows which one it is
MANAGERS = {
    "apt-get": "apt-get install -y",
    "dnf": "dnf install -y",
    "zypper": "zypper install -y",
    "pacman": "pacman -S --noconfirm",
    "apk": "apk add",
}

# Bits of linux/capability.h, and what the native driver needs each for.
CAPABILITIES = {
    "CHOWN": (0, "log pipes belong to the sandbox's user"),
    "DAC_OVERRIDE": (1, "cgroups and code belong to others"),
    "KILL": (5, "stopping sandboxes"),
    "SETGID": (6, "a user of its own for each sandbox"),
    "SETUID": (7, "a user of its own for each sandbox"),
    "SETPCAP": (8, "giving up rights for good"),
    "NET_ADMIN": (12, "a network of its own for each sandbox"),
    "SYS_CHROOT": (18, "a root of its own for each sandbox"),
    "SYS_ADMIN": (21, "namespaces and mounts"),
}
CAP_SYS_RESOURCE = 24


class Level(enum.Enum):
    """How much of what is wanted is there."""

    GOOD = "good"
    DEGRADED = "degraded"  #: sandboxes work, but something about them is weaker or slower
    MISSING = "missing"  #: there can be no sandboxes, or not of this kind


@dataclasses.dataclass(frozen=True, slots=True)
class Fact:
    """One subject, as found now."""

    name: str  #: short, stable, for programs: ``cgroups``, ``runtime python3.12``
    level: Level
    detail: str  #: what was found, and what it means if it is not good
    remedy: str = ""  #: what to do about it; empty where nothing needs doing
    command: str = ""  #: the same for a shell, where a command can do it

    def __str__(self) -> str:
        return f"{self.name}: {self.level.value}: {self.detail}" + (f" ({self.remedy})" if self.remedy else "")


def host() -> list[Fact]:
    """All facts, in the order in which one would mend them. Blocks for up to half a second; never raises."""
    localhost = _in_background(lambda: socket.getaddrinfo("lambent.localhost", 80, type=socket.SOCK_STREAM))
    interpreters, found_nodes = find_interpreters(), find_nodes()
    facts = [
        guarded("rights", rights),
        guarded("kernel", kernel),
        guarded("namespaces", namespaces),
        guarded("cgroups", control_groups),
        guarded("seccomp", seccomp),
        guarded("ext4 images", ext4_images),
        guarded("open files", open_files),
    ]
    return [*facts, _resolver_fact(localhost()), *runtimes(interpreters, found_nodes)]


def guarded(name: str, check: Callable[[], Fact]) -> Fact:
    """What `check` finds; that it cannot be found out is a fact as well."""
    try:
        return check()
    except (OSError, ValueError) as error:
        return Fact(name, Level.MISSING, f"could not be found out: {error}")


def as_root(command: str) -> str:
    """The command, for whoever is asking: with sudo where that is not root."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def install(package: str, *managers: str) -> str:
    """The command that installs `package` with this system's package manager, one of `managers` if any are named; else empty."""
    for manager, words in MANAGERS.items():
        if (not managers or manager in managers) and shutil.which(manager):
            return as_root(f"{words} {package}")
    return ""


def rights() -> Fact:
    """Root, and which capabilities of root a container may have taken away."""
    if os.geteuid() != 0:
        detail = "not root: functions run as plain processes, without any isolation"
        return Fact(
            "rights", Level.MISSING, detail, "start it with sudo, or as a system service", 'sudo "$(command -v lambent)" up'
        )
    effective = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    lacking = [f"CAP_{name} ({why})" for name, (bit, why) in CAPABILITIES.items() if not effective >> bit & 1]
    if lacking:
        detail = f"root, but without {', '.join(lacking)}"
        return Fact("rights", Level.MISSING, detail, "run outside a container, or with --privileged")
    if not effective >> CAP_SYS_RESOURCE & 1:
        detail = "root, but without CAP_SYS_RESOURCE: a sandbox's init can be chosen when the host runs out of memory"
        return Fact("rights", Level.DEGRADED, detail, "run outside a container, or with --privileged")
    return Fact("rights", Level.GOOD, "root with all capabilities that are needed")


def kernel(release: str | None = None) -> Fact:
    release = release or platform.release()
    digits = [int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit()]
    if platform.system() != "Linux":
        return Fact("kernel", Level.MISSING, f"{platform.system()}: there are no namespaces", "use Linux for isolation")
    if digits < [5, 12]:
        detail = f"Linux {release} cannot make a mount read-only by descriptor (mount_setattr)"
        return Fact("kernel", Level.MISSING, detail, "Linux 5.12 or later is needed, 5.15 or later is better")
    if digits < [5, 14]:
        return Fact("kernel", Level.DEGRADED, f"Linux {release} has no cgroup.kill", "use Linux 5.14 or later")
    return Fact("kernel", Level.GOOD, f"Linux {release}")


def namespaces() -> Fact:
    """Tried, since a seccomp filter or a sysctl may refuse what capabilities allow. The thread takes them along as it ends."""
    wanted = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
    refusals: list[OSError] = []

    def attempt() -> None:
        try:
            syscalls.unshare(wanted)
        except OSError as error:
            refusals.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    if refusals:
        detail = f"the kernel refuses new mount, pid, net, ipc and uts namespaces: {refusals[0]}"
        if refusals[0].errno == errno.ENOSPC:  # as namespaces(7) has it
            raised = as_root("sysctl -w user.max_{mnt,pid,net,ipc,uts}_namespaces=100000")
            return Fact("namespaces", Level.MISSING, detail, "raise the limits user.max_*_namespaces", raised)
        return Fact("namespaces", Level.MISSING, detail, "be root; in a container, --privileged")
    return Fact("namespaces", Level.GOOD, "mount, pid, net, ipc and uts namespaces can be made")


def control_groups() -> Fact:
    """Which mode, where each controller is, and whether groups can be made there."""
    found = cgroups.find_hierarchies()
    if found.mode == "none":
        detail = "no cgroup hierarchy is mounted: nothing limits a function, and it cannot be frozen"
        command = as_root("mount -t cgroup2 none /sys/fs/cgroup")
        return Fact("cgroups", Level.MISSING, detail, "mount cgroup2", command)
    places = {name: found.of(name) for name in cgroups.V1_CONTROLLERS}
    absent = [name for name, place in places.items() if place is None]
    closed = sorted({str(place) for place in places.values() if place is not None and not _can_make_group(place)})
    where = ", ".join(f"{name} at {place}" for name, place in places.items() if place is not None)
    if closed:
        detail = f"{found.mode}; no group can be made in {', '.join(closed)}"
        return Fact(
            "cgroups", Level.MISSING, detail, "be root; in a container, mount them writable (--privileged, --cgroupns=host)"
        )
    if "memory" in absent or "freezer" in absent:
        detail = f"{found.mode}; without {', '.join(absent)}: a function's memory cannot be limited, or it cannot be frozen"
        return Fact("cgroups", Level.MISSING, detail, "boot with cgroup_enable=memory, or enable the controllers")
    if absent:
        return Fact("cgroups", Level.DEGRADED, f"{found.mode}; without {', '.join(absent)}", "enable the controllers")
    return Fact("cgroups", Level.GOOD, f"{found.mode}: {where}")


def seccomp(root: Path = Path("/")) -> Fact:
    actions = root / "proc/sys/kernel/seccomp/actions_avail"
    if not actions.exists() or "errno" not in actions.read_text().split():
        detail = "this kernel has no system call filters: a function meets the kernel's whole surface"
        return Fact("seccomp", Level.DEGRADED, detail, "use a kernel with CONFIG_SECCOMP_FILTER")
    return Fact("seccomp", Level.GOOD, "system call filters")


def ext4_images(root: Path = Path("/"), path: str | None = None) -> Fact:
    """What /tmp of every sandbox is made from; programs are looked for in `path`, by default PATH and mkfs's usual places."""
    lacking, commands = [], []
    if shutil.which("mkfs.ext4", path=path or f"{os.environ.get('PATH', '')}:{MKFS_DIRECTORIES}") is None:
        lacking.append("mkfs.ext4")
        commands.append(install("e2fsprogs"))
    modules = []
    if "ext4" not in (root / "proc/filesystems").read_text().split():
        lacking.append("ext4 in the kernel")
        modules.append("ext4")
    try:
        os.close(os.open(root / "dev/loop-control", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        lacking.append(f"/dev/loop-control ({error.strerror})")
        modules.append("loop")
    if modules:
        commands.append(as_root(f"modprobe -a {' '.join(modules)}"))
    if lacking:
        detail = f"without {', '.join(lacking)}: there is nothing to make a sandbox's /tmp of, so there are no sandboxes"
        remedy = "install e2fsprogs; load the modules; in a container, --privileged"
        return Fact("ext4 images", Level.MISSING, detail, remedy, " && ".join(filter(None, commands)))
    return Fact("ext4 images", Level.GOOD, "loop devices and mkfs.ext4: /tmp of a sandbox has the size that it was given")


def room_for_sandboxes(open_files: int) -> int:
    """How many sandboxes a gateway with so many descriptors may have: eight each are its own, and clients want theirs."""
    return max(1, open_files // 16)


def open_files() -> Fact:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 16384:
        detail = f"at most {hard} open files: room for about {room_for_sandboxes(hard)} sandboxes"
        remedy = "raise it for this shell, or with LimitNOFILE= in the service"
        return Fact("open files", Level.DEGRADED, detail, remedy, as_root("prlimit --pid $$ --nofile=1048576:1048576"))
    return Fact("open files", Level.GOOD, f"up to {hard}")


def resolves_localhost() -> bool:
    """Whether names under .localhost lead to this machine, as RFC 6761 wants it and systemd-resolved does it."""
    return _in_background(lambda: socket.getaddrinfo("lambent.localhost", 80, type=socket.SOCK_STREAM))() is not None


def _resolver_fact(answer: object) -> Fact:
    if answer is None:
        detail = "the resolver does not know *.localhost: function URLs are paths, not host names, unless told otherwise"
        remedy = "use systemd-resolved or nss-myhostname; browsers and curl need neither"
        return Fact("*.localhost", Level.DEGRADED, detail, remedy, install("libnss-myhostname", "apt-get"))
    return Fact("*.localhost", Level.GOOD, "function URLs by host name work for every program on this machine")


def runtimes(interpreters: Iterable[Interpreter], found_nodes: Iterable[Node] = ()) -> list[Fact]:
    """One fact a runtime; what one Python lacks is said with it."""
    interpreters = list(interpreters)
    serving = by_runtime(interpreters)
    supported = trees.support(interpreters, found_nodes)
    there = {interpreter.runtime for interpreter in interpreters}
    facts = []
    for runtime in (*PYTHON_RUNTIMES, *NODE_RUNTIMES, *PROVIDED_RUNTIMES):
        detail = supported[runtime].detail
        if not supported[runtime].available:
            what, _, remedy = detail.partition("; ")
            facts.append(Fact(f"runtime {runtime}", Level.MISSING, what, remedy, "" if runtime in there else _bringing(runtime)))
        elif runtime in PYTHON_RUNTIMES and serving[runtime].missing:
            remedy = "build it again with the libraries for these"
            facts.append(Fact(f"runtime {runtime}", Level.DEGRADED, detail, remedy))
        else:
            facts.append(Fact(f"runtime {runtime}", Level.GOOD, detail))
    return facts


def _bringing(runtime: str) -> str:
    """The command for an interpreter, where a tool for that is here."""
    if runtime in NODE_RUNTIMES:
        major = runtime.removeprefix("nodejs").removesuffix(".x")
        return f"fnm install {major}" if shutil.which("fnm") else ""
    number = runtime.removeprefix("python") if runtime in PYTHON_RUNTIMES else PYTHON_RUNTIMES[-1].removeprefix("python")
    tool = next((words for words in ("uv python install", "pyenv install") if shutil.which(words.split()[0])), None)
    return f"{tool} {number}" if tool else ""


def _can_make_group(place: Path) -> bool:
    group = place / f"lambent-probe-{secrets.token_hex(4)}"
    try:
        group.mkdir()
    except OSError:
        return False
    with contextlib.suppress(OSError):
        group.rmdir()
    return True


def _in_background(ask: Callable[[], object]) -> Callable[[], object]:
    """Begin `ask` now; the result, called later, is what it gave, or None if it failed or has not answered after `RESOLVE_S`."""
    answers: list[object] = []

    def run() -> None:
        with contextlib.suppress(OSError):
            answers.append(ask())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def answer() -> object:
        thread.join(RESOLVE_S)
        return answers[0] if answers else None

    return answer
