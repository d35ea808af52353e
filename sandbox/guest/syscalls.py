"""The Linux calls that Python has no function for (or has only since 3.12), by ctypes, each raising OSError like `os` does.

One file for both sides: the spawner and the guest. Numbers from 424 up are the same on every architecture; the few older
ones stand in a table. `libc` is a PyDLL, which keeps the interpreter lock during the call: every call here is short, and
`clone_process` must not lose the lock between parent and child.
"""

import contextlib
import ctypes
import os
import platform
import signal
import struct

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

CLONE_CHILD_CLEARTID = 0x00200000
CLONE_CHILD_SETTID = 0x01000000
CLONE_INTO_CGROUP = 0x200000000
CLONE_NEWNS = 0x00020000
CLONE_PARENT = 0x00008000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
MOVE_MOUNT_F_EMPTY_PATH = 4
MOVE_MOUNT_T_SYMLINKS = 0x10
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
FSMOUNT_CLOEXEC = 1
FSOPEN_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
RESOLVE_NO_SYMLINKS = 4
RESOLVE_BENEATH = 8
RESOLVE_IN_ROOT = 16

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_GET_TID_ADDRESS = 40

CAP_KILL = 5
CAP_SETGID = 6
CAP_SETUID = 7

ARCHITECTURE = platform.machine()
_OLD_NUMBERS = {
    # name: (x86_64, aarch64)
    "clone": (56, 220),
    "capset": (126, 91),
    "pivot_root": (155, 41),
    "set_robust_list": (273, 99),
    "get_robust_list": (274, 100),
}
_COLUMN = {"x86_64": 0, "aarch64": 1}.get(ARCHITECTURE)
if _COLUMN is None:
    raise ImportError("the native driver knows x86_64 and aarch64, not " + ARCHITECTURE)
_CLONE, _CAPSET, _PIVOT_ROOT, _SET_ROBUST_LIST, _GET_ROBUST_LIST = (numbers[_COLUMN] for numbers in _OLD_NUMBERS.values())
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
_CLONE3, _CLOSE_RANGE, _OPENAT2, _MOUNT_SETATTR = 435, 436, 437, 442

libc = ctypes.PyDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def _check(result, what):
    # type: (int, str) -> int
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(what, number, *arguments):
    # type: (str, int, object) -> int
    """`ctypes` would pass Python integers as 32-bit: every one is widened here."""
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _check(int(libc.syscall(ctypes.c_long(number), *wide)), what)


def unshare(flags):
    # type: (int) -> None
    _check(libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd, kinds):
    # type: (int, int) -> None
    """This thread goes to the namespace of descriptor `fd`, or to those of the process that it is a pidfd of; `kinds` are
    CLONE_NEW… flags. Only children are in another pid namespace then."""
    _check(libc.setns(ctypes.c_int(fd), ctypes.c_int(kinds)), "setns")


class Notes:
    """Where the C library keeps what the kernel knows of the main thread: its id, and the list of its robust mutexes.

    Fork tells a child's kernel of both, so `clone_process` has to. Found once, in the process that was executed: copies have
    them at the same place. Both are 0 where the kernel does not tell (it was built without CONFIG_CHECKPOINT_RESTORE).
    """

    def __init__(self):
        # type: () -> None
        tid, head, size = ctypes.c_ulong(), ctypes.c_ulong(), ctypes.c_ulong()
        if libc.prctl(ctypes.c_int(PR_GET_TID_ADDRESS), ctypes.byref(tid), *([ctypes.c_ulong(0)] * 3)) < 0:
            tid.value = 0
        libc.syscall(ctypes.c_long(_GET_ROBUST_LIST), ctypes.c_long(0), ctypes.byref(head), ctypes.byref(size))
        self.tid = tid.value
        self.robust_list = head.value
        self.robust_list_bytes = size.value


_NOTES = Notes()


def clone_process(flags=0, group=-1):
    # type: (int, int) -> int
    """`os.fork` with clone flags, and into the cgroup2 directory of descriptor `group` if it is not negative: the new process's
    id here, 0 in the child. For single-threaded processes only. Raises OSError.

    `os.fork` then `unshare` would take two forks for a new pid namespace, and can do so only once in a process. The fork hooks of
    Python and of the C library are skipped, which a process without threads can bear: their work is to take and release locks
    that other threads could hold, and Python's make 270 of the 340 page faults of a child's birth. What they do beyond that
    `lambent_bootstrap` does before it runs a function. What the C library's fork tells the kernel this tells it, too.

    Whoever creates a process in a group needs what it would need to move one there.
    """
    if _NOTES.tid:
        flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID
    if group >= 0:
        struct_clone_args = struct.pack("11Q", flags | CLONE_INTO_CGROUP, 0, _NOTES.tid, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, group)
        arguments = (_CLONE3, struct_clone_args, len(struct_clone_args))  # type: tuple[int | bytes, ...]
    else:  # the one that a confined process may use
        tid_and_tls = (_NOTES.tid, 0) if ARCHITECTURE == "x86_64" else (0, _NOTES.tid)
        arguments = (_CLONE, flags | signal.SIGCHLD, 0, 0, *tid_and_tls)
    wide = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    pid = int(libc.syscall(*wide))
    if pid == 0:
        if _NOTES.robust_list:
            size = ctypes.c_long(_NOTES.robust_list_bytes)
            libc.syscall(ctypes.c_long(_SET_ROBUST_LIST), ctypes.c_ulong(_NOTES.robust_list), size)
        return 0
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, "clone: " + os.strerror(number))
    return pid


def can_be_told():
    # type: () -> bool
    """Whether a process made by `clone_process` can be anything that fork makes, a function with threads too."""
    return _NOTES.tid != 0


def mount(source, target, kind, flags, data=""):
    # type: (str, str, str, int, str) -> None
    result = libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(result, f"mount {source} on {target}")


def umount(target, flags=0):
    # type: (str, int) -> None
    _check(libc.umount2(target.encode(), ctypes.c_int(flags)), "umount " + target)


def pivot_root(new_root, put_old):
    # type: (str, str) -> None
    _syscall("pivot_root " + new_root, _PIVOT_ROOT, new_root.encode(), put_old.encode())


def open_tree(dir_fd, path=""):
    # type: (int, str) -> int
    """A detached copy of the mount at `path` below `dir_fd` (itself when empty), as a descriptor for `move_mount`."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (0 if path else AT_EMPTY_PATH)
    return _syscall("open_tree " + path, _OPEN_TREE, dir_fd, path.encode(), flags)


def move_mount(tree_fd, target, follow=False):
    # type: (int, str, bool) -> None
    """`follow`: where a symlink at `target` leads, as mount(2) does it."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (MOVE_MOUNT_T_SYMLINKS if follow else 0)
    _syscall("move_mount to " + target, _MOVE_MOUNT, tree_fd, b"", -100, target.encode(), flags)


def mount_setattr(fd, path, attributes, recursive=False):
    # type: (int, str, int, bool) -> None
    flags = (0 if path else AT_EMPTY_PATH) | (AT_RECURSIVE if recursive else 0)
    struct_mount_attr = struct.pack("QQQQ", attributes, 0, 0, 0)
    _syscall("mount_setattr " + path, _MOUNT_SETATTR, fd, path.encode(), flags, struct_mount_attr, len(struct_mount_attr))


def mount_detached(kind, attributes, options):
    # type: (str, int, dict[str, str | None]) -> int
    """A new file system of type `kind`, mounted nowhere, as a descriptor for `move_mount`; it goes when the last user does."""
    context = _syscall("fsopen " + kind, _FSOPEN, kind.encode(), FSOPEN_CLOEXEC)
    try:
        for key, value in options.items():
            if value is None:
                _syscall("fsconfig " + key, _FSCONFIG, context, FSCONFIG_SET_FLAG, key.encode(), None, 0)
            else:
                _syscall("fsconfig " + key, _FSCONFIG, context, FSCONFIG_SET_STRING, key.encode(), value.encode(), 0)
        _syscall("create " + kind, _FSCONFIG, context, FSCONFIG_CMD_CREATE, None, None, 0)
        return _syscall("fsmount " + kind, _FSMOUNT, context, FSMOUNT_CLOEXEC, attributes)
    finally:
        os.close(context)


def open_beneath(dir_fd, path, kind=os.O_DIRECTORY):
    # type: (int, str, int) -> int
    """An O_PATH descriptor of the directory `path` below `dir_fd` (with a `kind` of 0, of whatever is there); no symlink, no
    ``..``, no way out is followed."""
    struct_open_how = struct.pack("QQQ", os.O_PATH | kind | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    return _syscall("openat2 " + path, _OPENAT2, dir_fd, path.encode(), struct_open_how, len(struct_open_how))


def exists_in_root(root_fd, path):
    # type: (int, str) -> bool
    """Whether there is a file at `path` for a process whose root is `root_fd`, wherever symlinks lead there."""
    struct_open_how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT)
    try:
        os.close(_syscall("openat2 " + path, _OPENAT2, root_fd, path.encode(), struct_open_how, len(struct_open_how)))
    except OSError:
        return False
    return True


def pid_of(pidfd):
    # type: (int) -> int
    """The process that a pidfd is of. Raises ProcessLookupError when it has ended."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pid:") and int(line[4:]) > 0:
                return int(line[4:])
    raise ProcessLookupError(3, "the process has ended")


def close_range(first, last):
    # type: (int, int) -> None
    if first <= last:
        _syscall("close_range", _CLOSE_RANGE, first, last, 0)


def close_all_but(keep):
    # type: (list[int]) -> None
    """Close every descriptor from 0 up that is not in `keep`."""
    first = 0
    for fd in sorted(keep):
        close_range(first, fd - 1)
        first = fd + 1
    close_range(first, 0x7FFFFFFF)


def prctl(option, argument=0, third=0):
    # type: (int, int, int) -> int
    arguments = (ctypes.c_ulong(argument), ctypes.c_ulong(third), ctypes.c_ulong(0), ctypes.c_ulong(0))
    return _check(libc.prctl(ctypes.c_int(option), *arguments), f"prctl {option}")


def drop_bounding_set():
    # type: () -> None
    """No process that descends from this one can gain a capability by exec any more."""
    with contextlib.suppress(OSError):  # at the first number that this kernel does not know
        for capability in range(64):
            prctl(PR_CAPBSET_DROP, capability)


def set_capabilities(capabilities):
    # type: (tuple[int, ...]) -> None
    """Have exactly these, permitted and effective, none inheritable."""
    mask = sum(1 << c for c in capabilities)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    _syscall("capset", _CAPSET, header, struct.pack("IIIIII", low, low, 0, high, high, 0))
