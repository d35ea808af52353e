"""Images without an engine: what archives hold, what unpacking makes of hostile ones, whose credentials are shown to whom."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from gateway.records import ImageCode
from sandbox.docker import cgroups, holder
from sandbox.errors import ImageError
from sandbox.images import archive
from sandbox.images.archive import Archived, Layer
from sandbox.images.registry import HUB, credentials, registry
from sandbox.images.store import of_config
from tests.oci import layout

IMAGE = of_config(
    "sha256:" + "0" * 64,
    "name@sha256:0",
    1,
    {"architecture": "amd64"},
    {"Entrypoint": ["/entry"], "Cmd": ["argument"], "WorkingDir": "/function", "Env": ["A=1=2", "B="]},
    [],
)


def layer(*members: tuple[str, bytes | str | None]) -> bytes:
    """A tar file: a name with content, with the target of a link (``->``: symbolic, ``=>``: hard), or a directory (None)."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.uid, entry.gid = os.getuid(), os.getgid()
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            elif isinstance(content, str):
                entry.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
                entry.linkname = content[2:]
                tar.addfile(entry)
            else:
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return target.getvalue()


def read(path: Path) -> contextlib.closing[Archived]:
    return contextlib.closing(archive.read("x", str(path), "", "amd64"))


def content_of(place: Layer) -> bytes:
    return os.pread(place.file.fileno(), place.size, place.offset)


def layout_directory(directory: Path) -> Path:
    """An OCI layout with one image of one layer."""
    packed = layout(saved(directory / "saved.tar", [layer(("a", b"1"))]), directory / "oci.tar")
    with tarfile.open(packed) as tar:
        tar.extractall(directory / "layout")
    return directory / "layout"


def saved(path: Path, layers: list[bytes]) -> Path:
    """As `docker save` writes it."""
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in layers]}
    config = json.dumps({"architecture": "amd64", "config": {"Cmd": ["/x"]}, "rootfs": rootfs}).encode()
    manifest = [{"Config": "config.json", "RepoTags": ["one:1"], "Layers": [f"{number}.tar" for number in range(len(layers))]}]
    files = {"config.json": config, "manifest.json": json.dumps(manifest).encode()}
    files |= {f"{number}.tar": content for number, content in enumerate(layers)}
    path.write_bytes(layer(*files.items()))
    return path


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("name:tag", None),
        ("registry.example.com:5000/name@sha256:00", None),
        ("oci-archive:/somewhere.tar", ("/somewhere.tar", "")),
        ("oci:/somewhere:tag", ("/somewhere", "tag")),
    ],
)
def test_uris(uri: str, found: tuple[str, str] | None) -> None:
    assert archive.parse(uri) == found


def test_saved_image_and_the_same_as_oci_are_the_same(tmp_path: Path) -> None:
    content = layer(("a", b"1"))
    one = saved(tmp_path / "saved.tar", [content])
    other = layout(one, tmp_path / "oci.tar")
    with read(one) as first, read(other) as second:
        assert first.id == second.id == f"sha256:{hashlib.sha256(first.config_bytes).hexdigest()}"
        assert gzip.decompress(content_of(second.layers[0])) == content
        archive.write_saved(second, tmp_path / "again.tar")
        with read(tmp_path / "again.tar") as again:
            assert again.id == first.id


def test_layout_is_a_directory_too(tmp_path: Path) -> None:
    with read(layout_directory(tmp_path)) as found:
        assert gzip.decompress(content_of(found.layers[0])) == layer(("a", b"1"))


def test_nothing_but_files_is_opened(tmp_path: Path) -> None:
    """A pipe would be waited for, for ever; what a device does nobody knows."""
    os.mkfifo(tmp_path / "pipe")
    saved(tmp_path / "saved.tar", [])
    (tmp_path / "link").symlink_to("saved.tar")
    for path in (tmp_path / "pipe", tmp_path / "link", Path("/dev/zero")):
        with pytest.raises(ImageError, match="is no file"):
            archive.read("x", str(path), "", "amd64")


@pytest.mark.parametrize("name", ["index.json", "blobs", "layer"])
def test_layouts_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    """What root may read is not for everybody who can name a directory."""
    directory = layout_directory(tmp_path)
    with read(directory) as found:
        path = directory / {"layer": f"blobs/sha256/{found.layers[0].digest[7:]}"}.get(name, name)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImageError, match="cannot be read"):
        archive.read("x", str(directory), "", "amd64")


@pytest.mark.parametrize("name", ["/etc/passwd", "../other", "link", "pipe"])
def test_saved_directories_lead_nowhere_else(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "saved"
    directory.mkdir()
    (tmp_path / "other").write_bytes(b"secret")
    (directory / "link").symlink_to(tmp_path / "other")
    os.mkfifo(directory / "pipe")
    (directory / "config.json").write_text("{}")
    (directory / "manifest.json").write_text(json.dumps([{"Config": "config.json", "Layers": [name]}]))
    with pytest.raises(ImageError, match="cannot be read"):
        archive.read("x", str(directory), "", "amd64")


def test_archive_in_which_links_go_round_is_refused(tmp_path: Path) -> None:
    manifest = json.dumps([{"Config": "a", "Layers": []}]).encode()
    (tmp_path / "x.tar").write_bytes(layer(("a", "->b"), ("b", "->a"), ("manifest.json", manifest)))
    with pytest.raises(ImageError, match="a is no file"):
        archive.read("x", str(tmp_path / "x.tar"), "", "amd64")


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", layer(("other", b"")), layer(("index.json", b"{}"))])
def test_what_is_no_image_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ImageError, match="Source image x"):
        archive.read("x", str(tmp_path / "file"), "", "amd64")
    with pytest.raises(ImageError, match="does not exist") as missing:
        archive.read("x", str(tmp_path / "nowhere"), "", "amd64")
    assert missing.value.missing


def unpacked(directory: Path, *layers: bytes, digest: str = "", most_bytes: int = 1 << 20) -> dict[str, Any]:
    root = directory / "root"
    root.mkdir()
    (directory / "layers").write_bytes(b"".join(layers))
    with (directory / "layers").open("rb") as file:
        offsets = itertools.accumulate(map(len, layers), initial=0)
        places = [[file.fileno(), offset, len(content), digest] for offset, content in zip(offsets, layers, strict=False)]
        done = subprocess.run(
            [sys.executable, "-m", "sandbox.images.unpack", str(root), str(most_bytes), json.dumps(places)],
            pass_fds=[file.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")


@needs_root
@pytest.mark.slow
def test_layers_cover_each_other(tmp_path: Path) -> None:
    below = layer(
        ("d", None), ("d/a", b"1"), ("d/b", b"1"), ("gone", b"1"), ("old", None), ("old/x", b"1"), ("opt/extensions/e", b"")
    )
    above = layer(
        ("d/a", b"2"), (".wh.gone", b""), ("old/.wh..wh..opq", b""), ("old/y", b"2"), ("link", "->/d/a"), ("hard", "=>d/b")
    )
    assert unpacked(tmp_path, below, gzip.compress(above)) == {"extensions": ["e"], "bytes": 13 * 4096}
    root = tmp_path / "root"
    assert (root / "d/a").read_bytes() == b"2"
    assert sorted(path.name for path in (root / "old").iterdir()) == ["y"]
    assert not (root / "gone").exists()
    assert os.readlink(root / "link") == "/d/a"
    assert (root / "hard").stat().st_ino == (root / "d/b").stat().st_ino
    assert {"proc", "dev", "tmp", "etc"} <= {path.name for path in root.iterdir()}


@needs_root
@pytest.mark.slow
def test_no_archive_leads_out(tmp_path: Path) -> None:
    """Names with .. and absolute ones, files through symlinks to the outside, hard links to what is not the image's."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    hostile = layer(
        ("../outside/a", b"1"),
        (f"{outside}/b", b"1"),
        ("way", f"->{outside}"),
        ("way/c", b"1"),
        ("up", "->../../../../../.." + str(outside)),
        ("up/.wh.kept", b""),
    )
    unpacked(tmp_path, hostile)
    assert sorted(path.name for path in outside.iterdir()) == ["kept"]
    (tmp_path / "again").mkdir()
    linked = unpacked(tmp_path / "again", layer(("steal", f"=>{outside}/kept")))
    assert "FileNotFoundError" in linked["error"]


@needs_root
@pytest.mark.slow
def test_damaged_layers_are_refused(tmp_path: Path) -> None:
    assert "is damaged" in unpacked(tmp_path, layer(("a", b"1")), digest="sha256:" + "0" * 64)["error"]
    (tmp_path / "torn").mkdir()
    assert "error" in unpacked(tmp_path / "torn", gzip.compress(layer(("a", b"1" * 100_000)))[:-50])


@needs_root
@pytest.mark.slow
def test_image_that_is_too_large(tmp_path: Path) -> None:
    found = unpacked(tmp_path, layer(("a", b"1" * 10_000), ("b", b"1" * 10_000)), most_bytes=15_000)
    assert found["too_large"] is True
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["a"], "what does not fit was not begun"


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize(
    "members",
    [
        [(f"file-{number}", b"") for number in range(100)],
        [(f"directory-{number}", None) for number in range(100)],
        [(f"link-{number}", "->nowhere") for number in range(100)],
        [("file", b"1"), *((f"link-{number}", "=>file") for number in range(100))],
        [("/".join(["d"] * 100), b"1")],
    ],
    ids=["files", "directories", "symlinks", "hard links", "directories of no member"],
)
def test_what_is_small_takes_a_block_all_the_same(tmp_path: Path, members: list[tuple[str, bytes | str | None]]) -> None:
    found = unpacked(tmp_path, layer(*members), most_bytes=90 * 4096)
    assert found["too_large"] is True
    assert sum(1 for _ in (tmp_path / "root").rglob("*")) <= 90


@needs_root
@pytest.mark.slow
def test_what_sandboxes_mount_on_lies_anywhere_in_the_image(tmp_path: Path) -> None:
    """Not where the kernel's file systems are by then, nor outside; and what leads nowhere is made anew."""
    links = {"etc": "/usr/etc", "tmp": "/proc", "var": "/dev/x", "proc": "/usr", "opt": "/", "run": "/nowhere"}
    found = unpacked(tmp_path, layer(("usr/etc", None), *((name, f"->{target}") for name, target in links.items())))
    assert "error" not in found
    root = tmp_path / "root"
    assert os.readlink(root / "etc") == "/usr/etc"
    assert (root / "usr/etc/passwd").is_file()
    for name in ("tmp", "var", "proc", "opt", "run", "var/task"):
        assert (root / name).is_dir(), name
        assert not (root / name).is_symlink(), name


@pytest.mark.parametrize("config", [{"Env": ["A=" + "x" * 17_000]}, {"Cmd": ["x"] * 5000}, {"WorkingDir": "/" + "x" * 17_000}])
def test_image_that_says_too_much_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match=r"Source image name cannot be used: its ENTRYPOINT, .* and 16384 are the most"):
        of_config("sha256:" + "0" * 64, "name", 1, {}, config, [])


def test_programs() -> None:
    """As Docker has it: an entry point that is said anew does without the image's command."""
    code = ImageCode(uri="name", image=IMAGE)
    assert code.program.command == ("/entry", "argument")
    assert code.program.directory == "/function"
    assert code.program.environment == {"A": "1=2", "B": ""}
    assert ImageCode(uri="name", image=IMAGE, command=("other",)).program.command == ("/entry", "other")
    assert ImageCode(uri="name", image=IMAGE, entry_point=("/new",)).program.command == ("/new",)
    assert ImageCode(uri="name", image=IMAGE, directory="/d").program.directory == "/d"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("name", HUB),
        ("somebody/name:1", HUB),
        ("localhost/name", "localhost"),
        ("example.com/a/b", "example.com"),
        ("a:5000/b", "a:5000"),
    ],
)
def test_registries(name: str, found: str) -> None:
    assert registry(name) == found


async def test_credentials_go_to_their_own_registry_only(tmp_path: Path) -> None:
    auth = base64.b64encode(b"user:pass:word").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"example.com": {"auth": auth}}}))
    found = await credentials("example.com/a", tmp_path / "config.json")
    assert found == {"username": "user", "password": "pass:word", "serveraddress": "example.com"}
    assert await credentials("other.example.com/a", tmp_path / "config.json") is None
    assert await credentials("a", tmp_path / "nowhere.json") is None
    (tmp_path / "config.json").write_text('{"credsStore": "../../bin/sh"}')
    assert await credentials("a", tmp_path / "config.json") is None


def test_holder_waits(tmp_path: Path) -> None:
    """The executable made of bytes is one, for this machine; for the other one it has the right header at least."""
    holder.install(tmp_path / "hold")
    process = subprocess.Popen([tmp_path / "hold"])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
    finally:
        process.kill()
    assert process.wait() == -9
    assert holder.executable("aarch64")[18:20] == b"\xb7\x00"
    assert len(holder.executable("x86_64")) < 200


V1 = """11:memory:/docker/abc
10:pids:/docker/abc
9:freezer:/docker/abc
8:cpu,cpuacct:/docker/abc
1:name=systemd:/docker/abc
0::/"""
MOUNTS_V1 = """30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 24 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
32 24 0:28 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
33 24 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 24 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
35 24 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"""
MOUNTS_V2 = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"


def test_cgroups_of_a_container_under_v1() -> None:
    found = cgroups.find(1, membership=V1, mountinfo=MOUNTS_V1)
    assert found.memory == Path("/sys/fs/cgroup/memory/docker/abc")
    assert found.memory_v2 is False
    assert found.freezer == Path("/sys/fs/cgroup/freezer/docker/abc")
    assert Path("/sys/fs/cgroup/cpu,cpuacct") in found.directories
    assert len(found.directories) == 4


def test_cgroups_of_a_container_under_v2_and_systemd() -> None:
    found = cgroups.find(1, "weight", membership="0::/system.slice/docker-abc.scope", mountinfo=MOUNTS_V2)
    scope = Path("/sys/fs/cgroup/system.slice/docker-abc.scope")
    assert (found.memory, found.memory_v2, found.freezer, found.cpu) == (scope, True, scope, scope / "cpu.weight")


def test_process_in_no_group_of_its_own() -> None:
    with pytest.raises(OSError, match="no cgroup of its own"):
        cgroups.find(1, membership="0::/", mountinfo=MOUNTS_V2)
