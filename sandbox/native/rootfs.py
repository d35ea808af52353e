"""The root file system that all sandboxes of one runtime share, and the way into it.

Run as a program (``python -m sandbox.native.rootfs JSON``) by the spawner, once per runtime: it
takes a mount namespace of its own, builds a tmpfs with read-only, nosuid, nodev binds of an allow-list, goes there with
pivot_root, leaves the host's tree behind for good, and becomes the zygote by exec. Each sandbox's root is then a plain copy
of this mount namespace, which costs one clone flag instead of some thirty mounts, and there is no moment at which a sandbox
could still see the host. The language's tree stands at /var/lang, as on AWS, wherever it is on the host.

Third-party packages of the host's interpreter are masked: a function must not work here because somebody once ran
``pip install`` on this machine, and their .pth files are not run either.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, NoReturn

from sandbox.guest import devices, syscalls
from sandbox.native.trees import BESIDE, Tree

GUEST = Path(__file__).resolve().parent.parent / "guest"
CONTROL_FD = 3
SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
ETC_TREES = ("ssl", "pki", "ca-certificates", "alternatives")
ETC_FILES = ("ld.so.cache", "protocols", "services", "mime.types", "os-release", "debian_version")
#: Among them all directories that LD_LIBRARY_PATH names and nothing else brings: the loader looks once, when the zygote starts,
#: whether they are there, and a library of a function counts only where they were.
EMPTY = (
    "etc/users",
    "home",
    "opt/lib",
    "proc",
    "run",
    "tmp",
    "var/lang/lib",
    "var/runtime/lib",
    "var/task/lib",
)
HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.0.1 169-254-100-1 sandbox sandbox.localdomain\n"
GROUP = "root:x:0:\nnobody:x:65534:\n"
NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"
LD_LIBRARY_PATH = "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
ZYGOTE = "import lambent_guest.zygote\nlambent_guest.zygote.main()\n"


def bind(source: str, target: Path) -> None:
    """Read-only, and without what hangs below `source` on mounts of its own."""
    tree = syscalls.open_tree(-100, source)
    try:
        attributes = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
        syscalls.mount_setattr(tree, "", attributes)
        syscalls.move_mount(tree, str(target))
    finally:
        os.close(tree)


def build(root: Path, tree: Tree, resolv_conf: str) -> None:
    """Fill the empty, writable tmpfs at `root`."""
    os.chmod(root, 0o755)
    for name in EMPTY:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in SYSTEM:
        source = Path("/", name)
        if source.is_symlink():
            (root / name).symlink_to(os.readlink(source))
        elif source.is_dir():
            (root / name).mkdir()
            bind(str(source), root / name)
    etc = root / "etc"
    for name in ETC_TREES:
        if (Path("/etc") / name).is_dir():
            (etc / name).mkdir()
            bind(f"/etc/{name}", etc / name)
    for name in ETC_FILES:
        if (Path("/etc") / name).is_file():
            shutil.copyfile(f"/etc/{name}", etc / name)
    generated = {"hosts": HOSTS, "group": GROUP, "nsswitch.conf": NSSWITCH, "resolv.conf": resolv_conf, "passwd": ""}
    for name, text in generated.items():
        (etc / name).write_text(text)
    (root / "dev").mkdir()
    devices.make(str(root / "dev"))
    runtime = root / "var/runtime"
    shutil.copytree(GUEST, runtime / "lambent_guest", ignore=shutil.ignore_patterns("__pycache__", "python", "node", "DESIGN.md"))
    for path in sorted((GUEST / "python").glob("lambent_*.py")):
        shutil.copyfile(path, runtime / path.name)
    (runtime / "lambent_zygote.py").write_text(ZYGOTE)
    for inside, outside in tree.parts.items():
        place = root / inside.lstrip("/")
        if os.path.isdir(outside):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        bind(outside, place)
    _mask_packages(root / tree.home.lstrip("/"))
    if tree.program is None:
        return
    shutil.copytree(GUEST / "node", runtime / "lambent_node", ignore=shutil.ignore_patterns("DESIGN.md"))
    for link, leads_to in tree.links.items():
        (root / link.lstrip("/")).symlink_to(leads_to)


def _mask_packages(lang: Path) -> None:
    for pattern in ("lib/python3*/site-packages", "lib/python3*/dist-packages", "local/lib/python3*/dist-packages"):
        for path in lang.glob(pattern):
            flags = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
            syscalls.mount("tmpfs", str(path), "tmpfs", flags, "mode=755,size=4k")


def enter(staging: str, tree: Tree, resolv_conf: str) -> None:
    """Make the root at the empty directory `staging` and move this process into it. Raises OSError."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", staging, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755,size=32m")
    build(Path(staging), tree, resolv_conf)
    os.chdir(staging)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".", syscalls.MNT_DETACH)
    os.chdir("/")


def begin() -> dict[str, Any]:
    """What the spawner wants of this process, which has joined its cgroups then."""
    arguments: dict[str, Any] = json.loads(sys.argv[1])
    os.umask(0o022)
    for path in arguments["join"]:
        with open(path, "w", encoding="ascii") as file:
            file.write("0")
    return arguments


def become(arguments: dict[str, Any], command: list[str], environment: dict[str, str]) -> NoReturn:
    """Go on as `command`, which has its control socket at CONTROL_FD, and nothing else that was open above it."""
    if arguments["control_fd"] == CONTROL_FD:
        os.set_inheritable(CONTROL_FD, True)
    else:
        os.dup2(arguments["control_fd"], CONTROL_FD)
    syscalls.close_range(CONTROL_FD + 1, 0x7FFFFFFF)
    os.execve(command[0], command, environment)


def main() -> None:
    arguments = begin()
    tree = Tree(**arguments["tree"])
    enter(arguments["staging"], tree, arguments["resolv_conf"])
    libraries = f"{BESIDE}/lib:{LD_LIBRARY_PATH}" if tree.home == BESIDE else LD_LIBRARY_PATH
    environment = {"LD_LIBRARY_PATH": libraries, "LANG": "en_US.UTF-8", "LC_CTYPE": "C.UTF-8"}
    become(arguments, [tree.python, "/var/runtime/lambent_zygote.py", json.dumps(tree.program)], environment)


if __name__ == "__main__":
    main()
