"""Disk space for /tmp: a sparse ext4 image on a loop device, mounted nowhere until a sandbox takes it.

A volume is a descriptor and nothing else: the image is unlinked as soon as the loop device has it, the loop device clears
itself when the file system is unmounted, and the file system is unmounted when the mount namespace that it was moved to ends, or
this descriptor is closed. So nobody has to remove one, and all that a crash can leave behind is the name of an image that was
just being made, which the next start removes. Because a function's writes go
to a file system of its own size, it sees ENOSPC at that size, and they count as page cache and not as its memory.

The image is copied from a template per size, which mkfs made once and which has no name either: about 130 KiB are really
written. Making one costs about 1.7 ms, so a few are kept ready.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
import threading
from collections import OrderedDict
from pathlib import Path

from sandbox.guest import syscalls

_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE, _LO_FLAGS_AUTOCLEAR = 0x4C82, 0x4C0A, 4
_TEMPLATES = 8  #: sizes for which one is kept
_TRIES = 64  # another process can take the free loop device that the kernel just named


class Volumes:
    """Makes volumes below `directory`, which is nobody else's. Blocking; safe to call from several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._templates: OrderedDict[int, int] = OrderedDict()  # size → descriptor; the last used at the end
        self._count = 0
        for path in directory.iterdir():
            path.unlink()

    def create(self, size_mb: int) -> int:
        """A detached mount of a fresh file system of `size_mb`, writable by everyone like /tmp. Raises OSError."""
        with self._lock:
            template_fd = os.dup(self._template(size_mb))  # another thread may let go of the template meanwhile
            self._count += 1
            image = self._directory / f"tmp-{self._count}.img"
        try:
            image_fd = _copy_sparse(template_fd, image)
        finally:
            os.close(template_fd)
        try:
            os.unlink(image)
            loop_fd, device = _attach(image_fd)
        finally:
            os.close(image_fd)
        try:
            return syscalls.mount_detached(
                "ext4", syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV, {"source": device, "discard": None}
            )
        finally:
            os.close(loop_fd)

    def _template(self, size_mb: int) -> int:
        fd = self._templates.get(size_mb)
        if fd is None:
            fd = self._templates[size_mb] = self._make_template(size_mb)
            if len(self._templates) > _TEMPLATES:
                os.close(self._templates.popitem(last=False)[1])
        self._templates.move_to_end(size_mb)
        return fd

    def _make_template(self, size_mb: int) -> int:
        path = self._directory / f"template-{size_mb}.ext4"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, size_mb << 20)
            features = "^has_journal,^resize_inode,sparse_super2"
            extended = "nodiscard,lazy_itable_init=1,root_owner=0:0"
            command = ["mkfs.ext4", "-q", "-F", "-m", "0", "-O", features, "-E", extended, str(path)]
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode:
                raise OSError(errno.EIO, f"mkfs.ext4 failed: {made.stderr.strip()}")
            self._finish(fd)
        except BaseException:
            os.close(fd)
            raise
        finally:
            path.unlink()
        return fd

    def _finish(self, fd: int) -> None:
        """The root directory as /tmp is: mode 1777 and empty."""
        loop_fd, device = _attach(fd)
        try:
            mount_fd = syscalls.mount_detached("ext4", 0, {"source": device})
        finally:
            os.close(loop_fd)
        try:
            os.rmdir("lost+found", dir_fd=mount_fd)
            os.chmod(f"/proc/self/fd/{mount_fd}", 0o1777)
        finally:
            os.close(mount_fd)  # unmounts, which writes it all back


def _copy_sparse(source_fd: int, target: Path) -> int:
    """Copy only what is there; gives the copy's descriptor. Threads may share `source_fd`: its offset is not used."""
    size = os.fstat(source_fd).st_size
    target_fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(target_fd, size)
        offset = 0
        while offset < size:
            try:
                start = os.lseek(source_fd, offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    break
                raise
            offset = os.lseek(source_fd, start, os.SEEK_HOLE)
            os.pwrite(target_fd, os.pread(source_fd, offset - start, start), start)
    except OSError:
        os.close(target_fd)
        os.unlink(target)
        raise
    return target_fd


def _attach(image_fd: int) -> tuple[int, str]:
    """Put the image on a free loop device; (its descriptor, its path). Closing the descriptor frees an unused device."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            loop_fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            # struct loop_config: fd, block size, struct loop_info64 (232 bytes; lo_flags are at 52), reserved
            info = bytearray(232)
            struct.pack_into("I", info, 52, _LO_FLAGS_AUTOCLEAR)
            try:
                fcntl.ioctl(loop_fd, _LOOP_CONFIGURE, struct.pack("II", image_fd, 0) + bytes(info) + bytes(64))
            except OSError as error:
                os.close(loop_fd)
                if error.errno != errno.EBUSY:
                    raise
                continue
            return loop_fd, device
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device could be had")
