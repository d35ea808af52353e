"""`lambent doctor` with each thing taken away in turn: the check says so, says what mends it, and the exit code follows."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import platform
import resource
import shutil
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway import host, up
from gateway.cli import checks, doctor
from gateway.cli.main import main
from sandbox.docker import ways
from sandbox.guest import syscalls
from sandbox.native import cgroups, probe, ruleset, surroundings
from sandbox.native.nodes import MAJORS, Node
from sandbox.native.probe import Fact, Level
from tests.unit.test_interpreters import made

Patch = pytest.MonkeyPatch
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")


@pytest.fixture
def good(monkeypatch: Patch, tmp_path: Path) -> Path:
    """A host that has everything, as far as checks can see; the directory stands for its /."""
    files = {
        "proc/filesystems": "nodev\ttmpfs\n\text4\n",
        "proc/sys/kernel/seccomp/actions_avail": "kill_process errno allow\n",
        "proc/sys/fs/binfmt_misc/qemu-aarch64": "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: F\n",
        "proc/sys/fs/binfmt_misc/qemu-x86_64": "enabled\ninterpreter /usr/bin/qemu-x86_64-static\n",
        "etc/resolv.conf": "# upstream\nnameserver 192.0.2.1\n",
        "dev/loop-control": "",
        "proc/sys/net/ipv4/ip_forward": "0\n",
        "proc/thread-self/net/if_inet6": "20010db8000000000000000000000001 02 40 00 80     eth0\n",
    }
    root = tmp_path / "host"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name, text in {"mkfs.ext4": "", "nft": "", "apt-get": ""}.items():
        program(root / "bin" / name, text)
    (root / "cgroup").mkdir()
    monkeypatch.setenv("PATH", f"{root}/bin")
    monkeypatch.setattr(probe, "MKFS_DIRECTORIES", "")
    monkeypatch.setattr(ruleset, "DIRECTORIES", "")
    for module, names in (
        (probe, ("seccomp", "ext4_images")),
        (surroundings, ("delegation", "forwarding", "resolver", "emulation")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, _on(getattr(module, name), root))
    monkeypatch.setattr(probe, "rights", lambda: Fact("rights", Level.GOOD, "all"))
    monkeypatch.setattr(syscalls, "unshare", lambda _: None)
    for name in ("_refusal_of_networks", "_refusal_of_mounts"):
        monkeypatch.setattr(ways, name, str)
    monkeypatch.setattr(platform, "release", lambda: "6.1.0")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    every = frozenset({"memory", "pids", "cpu"})
    monkeypatch.setattr(cgroups, "find_hierarchies", lambda: cgroups.Hierarchies(root / "cgroup", every, {}))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 20, 1 << 20))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))])
    monkeypatch.setattr(probe, "find_interpreters", lambda: [made(f"3.{minor}.1") for minor in range(8, 15)])
    monkeypatch.setattr(probe, "find_nodes", lambda: [Node((major, 1, 0), Path("/opt/node/bin/node")) for major in MAJORS])
    monkeypatch.setattr(up, "choose_user", lambda _: (os.getuid(), None))
    monkeypatch.setattr(host, "memory_budget_bytes", lambda _: 8 << 30)
    monkeypatch.setattr(os, "statvfs", lambda _: Disk())
    monkeypatch.setenv("DOCKER_HOST", f"unix://{root}/docker.sock")
    return root


@dataclasses.dataclass(frozen=True)
class Disk:
    f_bavail: int = 100 << 30
    f_frsize: int = 1
    f_flag: int = 0


def program(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _on(check: Callable[..., Fact], root: Path) -> Callable[..., Fact]:
    return lambda *arguments: check(*(arguments or (root,)))


@pytest.fixture
def engine(good: Path) -> Iterator[None]:
    """Answers as a Docker Engine does, as often as it is asked."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(good / "docker.sock"))
    listener.listen()
    body = b'{"Version": "27.3.1"}'

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def run(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    result = CliRunner().invoke(main, ["doctor", "--json", "--data-dir", str(tmp_path / "data"), "--port", "0", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    answer = json.loads(result.stdout)
    assert answer["healthy"] == (result.exit_code == 0)
    return result.exit_code, {check["name"]: check for check in answer["checks"]}


def test_a_host_that_has_everything(good: Path, engine: None, tmp_path: Path) -> None:
    code, found = run(tmp_path)
    assert {name: check for name, check in found.items() if check["level"] != "good"} == {}
    assert code == 0
    assert found["Docker Engine"]["detail"].startswith("27.3.1 at ")
    assert not (tmp_path / "data").exists()


def not_for_containers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "proc/sys/fs/binfmt_misc/qemu-aarch64").write_text("enabled\nflags: OC\n")


def without(*names: str) -> Callable[[Path, Patch], None]:
    def take(root: Path, _: Patch) -> None:
        for name in names:
            (root / name).unlink()

    return take


def patched(target: object, name: str, value: Any) -> Callable[[Path, Patch], None]:
    return lambda root, patch: patch.setattr(target, name, value)


def refused(number: int) -> Callable[[int], None]:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def hierarchies(*controllers: str, mounted: bool = True) -> Callable[[Path, Patch], None]:
    def take(root: Path, patch: Patch) -> None:
        found = cgroups.Hierarchies(root / "cgroup" if mounted else None, frozenset(controllers), {})
        patch.setattr(cgroups, "find_hierarchies", lambda: found)

    return take


def no_localhost(root: Path, patch: Patch) -> None:
    known = socket.getaddrinfo

    def ask(name: str, *arguments: Any, **options: Any) -> Any:
        if name.endswith(".localhost"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known(name, *arguments, **options)

    patch.setattr(socket, "getaddrinfo", ask)


def systemd(root: Path, patch: Patch) -> None:
    (root / "run/systemd/system").mkdir(parents=True)
    patch.setattr(cgroups, "delegated", lambda _: None)


def no_rights(root: Path, patch: Patch) -> None:
    patch.setattr(probe, "rights", RIGHTS)
    patch.setattr(os, "geteuid", lambda: 1000)


def local_resolver_only(root: Path, _: Patch) -> None:
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.53\n")


def nft_refused(root: Path, _: Patch) -> None:
    program(root / "bin/nft", "echo 'Error: Operation not permitted' >&2; exit 1")


def firewall(family: str, table: str) -> Callable[[Path, Patch], None]:
    """One that drops what is forwarded, in the words of `nft -j list chains`."""
    chain = {"family": family, "table": table, "name": "FORWARD", "hook": "forward", "policy": "drop"}
    said = json.dumps({"nftables": [{"metainfo": {}}, {"chain": {**chain, "policy": "accept"}}, {"chain": chain}]})
    return lambda root, _: program(root / "bin/nft", f"[ \"$1\" != -j ] || echo '{said}'")


def fixed_switch(_: Path, patch: Patch) -> None:
    patch.setattr(os, "access", lambda path, mode: "ip_forward" not in str(path))


def interpreters(*versions: str) -> Callable[[Path, Patch], None]:
    return patched(probe, "find_interpreters", lambda: [made(version) for version in versions])


RIGHTS = probe.rights

# what is taken away, the check that must see it, what is then, a word of what it means, the command, the exit code
TAKEN: list[tuple[str, Callable[[Path, Patch], None], str, str, str, str, int]] = [
    ("root", no_rights, "rights", "missing", "without any isolation", 'sudo "$(command -v lambent)" up', 1),
    ("kernel", patched(platform, "release", lambda: "5.10.0"), "kernel", "missing", "mount_setattr", "", 1),
    ("kill", patched(platform, "release", lambda: "5.13.0"), "kernel", "degraded", "cgroup.kill", "", 0),
    ("namespaces", patched(syscalls, "unshare", refused(errno.EPERM)), "namespaces", "missing", "refuses", "", 1),
    ("limit", patched(syscalls, "unshare", refused(errno.ENOSPC)), "namespaces", "missing", "refuses", "sysctl -w user.max_", 1),
    ("cgroups", hierarchies(mounted=False), "cgroups", "missing", "nothing limits", "mount -t cgroup2 none /sys/fs/cgroup", 1),
    ("memory", hierarchies("pids", "cpu"), "cgroups", "missing", "memory cannot be limited", "", 1),
    ("cpu", hierarchies("memory", "pids"), "cgroups", "degraded", "without cpu", "", 0),
    ("delegation", systemd, "delegation", "degraded", "beside systemd's", "systemctl start lambent", 0),
    ("seccomp", without("proc/sys/kernel/seccomp/actions_avail"), "seccomp", "degraded", "whole surface", "", 0),
    ("mkfs", without("bin/mkfs.ext4"), "ext4 images", "missing", "mkfs.ext4", "apt-get install -y e2fsprogs", 1),
    ("loop", without("dev/loop-control"), "ext4 images", "missing", "/dev/loop-control", "modprobe -a loop", 1),
    ("proc", without("proc/filesystems"), "ext4 images", "missing", "could not be found out", "", 1),
    ("files", patched(resource, "getrlimit", lambda _: (1024, 1024)), "open files", "degraded", "64 sandboxes", "prlimit", 0),
    ("names", no_localhost, "*.localhost", "degraded", "paths", "install -y libnss-myhostname", 0),
    ("room", patched(host, "memory_budget_bytes", lambda _: 300 << 20), "memory", "degraded", "300 MB", "ps aux", 0),
    ("disk", patched(os, "statvfs", lambda _: Disk(100 << 20)), "data directory", "degraded", "100 MB are free", "du -xh", 0),
    ("python", interpreters("3.11.2"), "runtime python3.12", "missing", "not installed", "", 0),
    ("node", patched(probe, "find_nodes", list), "runtime nodejs20.x", "missing", "not installed", "", 0),
    ("interpreters", interpreters(), "runtime python3.11", "missing", "not installed", "", 1),
    ("nft", without("bin/nft"), "nft", "degraded", "functions have no network", "apt-get install -y nftables", 0),
    ("nf_tables", nft_refused, "nft", "degraded", "Operation not permitted", "modprobe -a veth nf_tables", 0),
    ("switch", fixed_switch, "forwarding", "degraded", "functions have no network", "", 0),
    (
        "docker",
        firewall("ip", "filter"),
        "forwarding",
        "degraded",
        "ip filter FORWARD",
        "iptables -I FORWARD -i lb-+ -j ACCEPT",
        0,
    ),
    ("firewalld", firewall("inet", "firewalld"), "forwarding", "degraded", "inet firewalld FORWARD", "", 0),
    ("upstream", local_resolver_only, "resolver", "degraded", "cannot resolve names", "", 0),
    ("emulator", without("proc/sys/fs/binfmt_misc/qemu-aarch64"), "binfmt", "missing", "arm64", "-y qemu-user-static", 0),
    (
        "no flag F",
        not_for_containers,
        "binfmt",
        "degraded",
        "without flag F",
        "deploy/images/emulate",
        0,
    ),
    ("engine", without("docker.sock"), "Docker Engine", "missing", "none at", "apt-get install -y docker.io", 0),
]


@pytest.mark.parametrize(
    ("take", "name", "level", "meaning", "command", "code"), [t[1:] for t in TAKEN], ids=[t[0] for t in TAKEN]
)
def test_taken_away(
    take: Callable[[Path, Patch], None],
    name: str,
    level: str,
    meaning: str,
    command: str,
    code: int,
    good: Path,
    engine: None,
    tmp_path: Path,
    monkeypatch: Patch,
) -> None:
    take(good, monkeypatch)
    exit_code, found = run(tmp_path)
    check = found[name]
    assert (check["level"], exit_code) == (level, code)
    assert meaning in check["detail"]
    assert command in check["command"]
    assert bool(command) == bool(check["command"])
    assert check["remedy"] or "could not be found out" in check["detail"]


def test_ext4_of_the_kernel(good: Path, engine: None, tmp_path: Path) -> None:
    (good / "proc/filesystems").write_text("nodev\ttmpfs\n")
    code, found = run(tmp_path)
    assert (code, found["ext4 images"]["level"]) == (1, "missing")
    assert "overlay" not in found, "nothing uses it: layers are merged by links, roots are mounted as they are"
    assert found["ext4 images"]["command"].endswith("modprobe -a ext4")


def test_an_engine_that_answers_nonsense_or_is_elsewhere(good: Path, monkeypatch: Patch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
        mute.bind(str(good / "mute.sock"))
        assert "none answers" in surroundings.docker_engine(f"unix://{good}/mute.sock").detail
    assert surroundings.docker_engine("tcp://192.0.2.1:2375").level is Level.MISSING


def test_how_containers_are_dealt_with(good: Path, engine: None, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "frozen through the cgroup" in run(tmp_path)[1]["Docker Engine"]["detail"]
    monkeypatch.setenv("LAMBENT_DOCKER_FREEZE", "pause")
    check = run(tmp_path)[1]["Docker Engine"]
    assert (check["level"], "frozen by the engine's pause" in check["detail"]) == ("good", True), "it was asked for"
    monkeypatch.delenv("LAMBENT_DOCKER_FREEZE")
    monkeypatch.setattr(ways, "_refusal_of_mounts", lambda: "Operation not permitted")
    code, found = run(tmp_path)
    check = found["Docker Engine"]
    assert (code, check["level"]) == (0, "degraded")
    assert "mounts spread from the host" in check["detail"]
    assert "Operation not permitted" in check["detail"]
    assert "--privileged" in check["remedy"]


def test_port_that_something_else_has(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        thread = threading.Thread(target=lambda: other.accept()[0].close())
        thread.start()
        fact = checks.port("127.0.0.1", number)
        thread.join()
    assert fact.level is Level.MISSING
    assert f"listens at 127.0.0.1:{number}" in fact.detail
    assert int(fact.command.rpartition(" ")[2]) > number


def test_address_of_another_machine() -> None:
    fact = checks.port("192.0.2.1", 9000)
    assert (fact.level, "192.0.2.1:9000" in fact.detail) == (Level.MISSING, True)


def test_data_directories_that_cannot_be(tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "file").touch()
    assert "is not a directory" in checks.data_directory(tmp_path / "file" / "below").detail
    state = tmp_path / "newer" / "state"
    state.mkdir(parents=True)
    with sqlite3.connect(state / "lambent.db") as database:
        database.execute("PRAGMA user_version = 999")
    database.close()
    newer = checks.data_directory(tmp_path / "newer")
    assert (newer.level, "schema 999" in newer.detail) == (Level.MISSING, True)
    assert [path.name for path in state.iterdir()] == ["lambent.db"]
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "not writable" in checks.data_directory(tmp_path).detail
    monkeypatch.setattr(os, "statvfs", lambda _: Disk(f_flag=os.ST_RDONLY))
    assert "read-only" in checks.data_directory(tmp_path).detail


def test_data_directory_in_use(tmp_path: Path) -> None:
    lock = up.take(tmp_path / "data")
    assert "in use by a running Lambent" in checks.data_directory(tmp_path / "data").detail
    os.close(lock)
    assert "in use" not in checks.data_directory(tmp_path / "data").detail


def test_settings_that_are_wrong_are_the_only_fact_of_the_gateway(good: Path, engine: None, tmp_path: Path) -> None:
    code, found = run(tmp_path, "--port", "many")
    assert (code, found["settings"]["level"]) == (1, "missing")
    assert "'many' is not a whole number" in found["settings"]["detail"]
    assert "port" not in found


@needs_root
def test_a_variable_that_nothing_reads(good: Path, engine: None, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setenv("LAMBENT_DRIAN_S", "5")
    check = run(tmp_path)[1]["settings"]
    assert (check["level"], "did you mean LAMBENT_DRAIN_S?" in check["detail"]) == ("degraded", True)


def test_a_user_that_cannot_read_lambent(good: Path, engine: None, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(probe, "find_nodes", lambda: [Node((major, 1, 0), Path("/opt/node/bin/node")) for major in MAJORS])
    monkeypatch.setattr(up, "choose_user", lambda _: (0, "lambent cannot read /root"))
    code, found = run(tmp_path)
    assert (code, found["user"]["level"]) == (0, "degraded")
    assert "lambent cannot read /root" in found["user"]["detail"]


def test_for_people(good: Path, engine: None, tmp_path: Path) -> None:
    arguments = ["doctor", "--data-dir", str(tmp_path / "data"), "--port", "0"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert result.stdout.endswith("\n\nEverything that Lambent needs is here.\n")
    (good / "dev/loop-control").unlink()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "  missing  ext4 images " in result.stdout
    assert "$ " in result.stdout
    assert result.stdout.endswith("1 of what Lambent needs missing, 0 degraded.\n")


def test_lines_fit_and_commands_stay_whole() -> None:
    fact = Fact("x", Level.MISSING, "word " * 40, "do " * 40, "a long command " * 20)
    *lines, last = doctor.report([doctor.Section("S", True, (fact,))], 90).splitlines()[2:-2]
    assert all(len(line) <= 110 for line in lines)  # colours count here
    assert "a long command " * 20 in last


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_this_host_as_json_for_programs() -> None:
    result = CliRunner().invoke(main, ["doctor", "--json"])
    names = subprocess.run(["jq", "-r", ".checks[].name"], input=result.stdout, capture_output=True, text=True, check=True)
    assert {"rights", "cgroups", "port", "runtime python3.11", "nft", "Docker Engine"} <= set(names.stdout.splitlines())
