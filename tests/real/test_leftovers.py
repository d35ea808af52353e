"""The proof that nothing is left is only worth something if it finds what is left: one thing of each kind, planted and found."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.guest import syscalls
from sandbox.native.cgroups import Cgroups, find_hierarchies, write
from sandbox.native.leftovers import clear, sweep
from tests import leftovers
from tests.processes import children

pytestmark = [pytest.mark.real, pytest.mark.slow]

LOOP_CTL_GET_FREE, LOOP_CONFIGURE, LO_FLAGS_AUTOCLEAR = 0x4C82, 0x4C0A, 4


@pytest.fixture
def label() -> str:
    return f"t{uuid.uuid4().hex[:11]}"


@pytest.fixture(autouse=True)
def _nothing_else(label: str, tmp_path: Path) -> Iterator[None]:
    """Nothing is found before the test's plant is there, nor when it is gone."""
    assert leftovers.labelled([label], [tmp_path]) == []
    yield
    assert leftovers.labelled([label], [tmp_path]) == []


@contextlib.contextmanager
def sleeper(*arguments: str, prefix: tuple[str, ...] = ()) -> Iterator[int]:
    """A process that does nothing until it is killed; reaped afterwards."""
    command = [*prefix, sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def group(label: str) -> Iterator[Path]:
    hierarchies = find_hierarchies()
    top = hierarchies.of("freezer")
    assert top is not None
    directory = top / f"lambent-{label}"
    directory.mkdir()
    try:
        yield directory
    finally:
        directory.rmdir()


def test_a_process_in_our_cgroup(label: str, tmp_path: Path) -> None:
    with group(label) as directory:
        with sleeper() as pid:
            write(directory / "cgroup.procs", str(pid))
            assert any(f"process {pid}" in line for line in leftovers.labelled([label], [tmp_path]))
        assert leftovers.labelled([label], [tmp_path]) == [f"cgroup {directory}"]


def test_a_process_that_was_told_our_name(label: str, tmp_path: Path) -> None:
    with sleeper(f"--data-dir={tmp_path}") as pid:
        assert any(f"process {pid}" in line for line in leftovers.labelled([label], [tmp_path]))


def test_the_dead_are_not_counted_but_their_parent_is_seen(label: str, tmp_path: Path) -> None:
    with group(label) as directory:
        pid = os.fork()
        if pid == 0:
            write(directory / "cgroup.procs", "0")
            os._exit(0)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert not any("process" in line for line in leftovers.labelled([label], [tmp_path]))
        assert (pid, "Z") in [(child.pid, child.state) for child in children(os.getpid())]
        os.waitpid(pid, 0)


def test_a_mount(label: str, tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    place.mkdir()
    before = leftovers.Census.take()
    syscalls.mount("tmpfs", str(place), "tmpfs", 0, "size=4k")
    try:
        assert [line.split()[0] for line in leftovers.labelled([label], [tmp_path])] == ["mount"]
        assert f"mounts: {place}" in leftovers.Census.take().more_than(before)
    finally:
        syscalls.umount(str(place))


def test_a_loop_device_of_an_image_that_has_no_name_any_more(label: str, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    before = leftovers.Census.take()
    with image.open("r+b") as file, open("/dev/loop-control", "rb") as control:
        device = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
        with open(device, "r+b", buffering=0) as loop:
            info = bytearray(232)
            struct.pack_into("I", info, 52, LO_FLAGS_AUTOCLEAR)
            fcntl.ioctl(loop, LOOP_CONFIGURE, struct.pack("II", file.fileno(), 0) + bytes(info) + bytes(64))
            image.unlink()
            assert [line.split()[:2] for line in leftovers.labelled([label], [tmp_path])] == [["loop", "device"]]
            assert f"loops: {Path(device).name}" in leftovers.Census.take().more_than(before)


@pytest.mark.parametrize("abstract", [False, True])
def test_a_socket(label: str, tmp_path: Path, abstract: bool) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"\0{label}" if abstract else str(tmp_path / "socket"))
        assert [line.split()[0] for line in leftovers.labelled([label], [tmp_path])] == ["socket"]


def test_a_run_directory(label: str, tmp_path: Path) -> None:
    base = Path("/run/lambent")
    made = not base.exists()
    base.mkdir(exist_ok=True)
    (base / label).mkdir()
    try:
        assert leftovers.labelled([label], [tmp_path]) == [f"directory {base / label}"]
    finally:
        (base / label).rmdir()
        if made:
            with contextlib.suppress(OSError):  # somebody else's is there now
                base.rmdir()


def test_the_image_of_a_disk(label: str, tmp_path: Path) -> None:
    image = tmp_path / "volumes" / "tmp-1.img"
    image.parent.mkdir()
    image.touch()
    assert leftovers.labelled([label], [tmp_path]) == [f"file {image}"]
    image.unlink()


FORKING = "import os, time\nprint(flush=True)\nwhile True:\n pid = os.fork()\n if pid == 0: time.sleep(0.02); os._exit(0)\n"


def test_sweep_removes_what_a_crash_left(label: str) -> None:
    """Processes that sleep, are frozen, or fork while they are killed; with the cgroups that they are in."""
    cgroups = Cgroups(label)
    cgroups.prepare()
    with contextlib.ExitStack() as opened:
        for name, code in {"sleeps": "input()", "frozen": "input()", "forks": FORKING}.items():
            process = opened.enter_context(
                subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0)
            )
            opened.callback(process.kill)
            group = cgroups.create(name, 100)
            for directory in group.directories.values():
                write(directory / "cgroup.procs", str(process.pid))
            if name == "frozen":
                fd = group.freeze_fd()
                os.write(fd, group.freezer_words[0].encode())
                os.close(fd)
        found = sweep(label)
        assert {line.partition(" ")[0] for line in found if not line.startswith("/")} == {"process"}
        assert {"sleeps", "frozen", "forks"} <= {Path(line).name for line in found}
    assert sweep(label) == []


def test_clear_removes_sockets_and_empty_directories_only(tmp_path: Path) -> None:
    run = tmp_path / "run" / "1"
    (run / "gateway").mkdir(parents=True)
    (run / "root").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(run / "gateway" / "spawner.sock"))
    (run / "root" / "kept").touch()
    assert [line.partition(":")[0] for line in clear(run)] == [str(run / "root"), str(run)]
    (run / "root" / "kept").unlink()
    assert clear(run) == []
    assert not run.exists()
    assert clear(run) == []


def test_a_network_namespace_and_a_child() -> None:
    before = leftovers.Census.take()
    with sleeper(prefix=("unshare", "--net")) as pid:
        more = leftovers.Census.take().more_than(before)
        assert f"children: {pid}" in more
        assert f"network namespaces: {os.readlink(f'/proc/{pid}/ns/net')}" in more


def test_a_temporary_directory() -> None:
    before = leftovers.Census.take()
    with tempfile.TemporaryDirectory(prefix="lambent-") as directory:
        assert f"temporary: {Path(directory).name}" in leftovers.Census.take().more_than(before)
