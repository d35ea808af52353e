"""What there is around sandboxes: systemd's consent, and the programs and services that networks, images and emulation need.

Sandboxes work without all of it, so `probe` does not ask for it and nothing skips or refuses because of it; `lambent doctor`
tells it. Each check takes what it looks at as arguments, with this host's as the default, and leaves nothing behind.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import shutil
import socket
import subprocess
from pathlib import Path

from sandbox.native import cgroups
from sandbox.native.probe import Fact, Level, as_root, guarded, install

ASK_S = 1.0
ENGINE_SOCKET = "/var/run/docker.sock"
NFT_DIRECTORIES = "/usr/sbin:/sbin:/usr/local/sbin"

#: machine: (the other one in AWS's words, qemu's name of it in binfmt_misc)
OTHERS = {"x86_64": ("arm64", "qemu-aarch64"), "aarch64": ("x86_64", "qemu-x86_64")}


def delegation(root: Path = Path("/"), found: cgroups.Hierarchies | None = None) -> Fact:
    """Whether systemd, where it manages cgroup2, knows that a part of it is ours. Raises OSError."""
    found = found or cgroups.find_hierarchies()
    if found.v2 is None or not found.v2_controllers:
        return Fact("delegation", Level.GOOD, f"not needed with cgroup {found.mode}")
    if not (root / "run/systemd/system").is_dir():
        return Fact("delegation", Level.GOOD, "not needed: no systemd runs this machine")
    if (own := cgroups.delegated(found.v2)) is not None:
        return Fact("delegation", Level.GOOD, f"systemd leaves {own} to Lambent")
    detail = "started from here, Lambent makes its groups beside systemd's, which may take controllers away from them"
    return Fact("delegation", Level.DEGRADED, detail, "run it as a service with Delegate=yes", as_root("systemctl start lambent"))


def nft(path: str | None = None) -> Fact:
    """Whether packet filter rules can be read, which needs the program, the kernel's part and the right. `path` is as in PATH."""
    found = shutil.which("nft", path=path or f"{os.environ.get('PATH', '')}:{NFT_DIRECTORIES}")
    if found is None:
        return Fact("nft", Level.MISSING, "no nft: nothing can route and filter for sandboxes", "install it", install("nftables"))
    try:
        done = subprocess.run([found, "list", "tables"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ASK_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Fact("nft", Level.MISSING, f"{found} does not answer: {error}", "install it again", install("nftables"))
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        return Fact("nft", Level.MISSING, f"nft is refused: {said}", "be root; load the module", as_root("modprobe nf_tables"))
    return Fact("nft", Level.GOOD, f"packet filter rules can be made with {found}")


def resolver(root: Path = Path("/")) -> Fact:
    """The name servers that a sandbox with a network could ask: its loopback is not that on which systemd-resolved listens."""
    for name in ("etc/resolv.conf", "run/systemd/resolve/resolv.conf"):
        try:
            lines = [line.split() for line in (root / name).read_text(errors="replace").splitlines()]
        except OSError:
            continue
        servers = [words[1] for words in lines if words[:1] == ["nameserver"] and len(words) > 1]
        if upstream := [server for server in servers if not server.startswith("127.") and server != "::1"]:
            return Fact("resolver", Level.GOOD, f"name servers: {', '.join(upstream)}")
    detail = "no name server but this machine itself is known, and a sandbox with a network of its own does not reach that"
    return Fact("resolver", Level.DEGRADED, detail, "name one in /etc/resolv.conf, as `nameserver ADDRESS`")


def emulation(root: Path = Path("/"), machine: str | None = None) -> Fact:
    """Whether programs of AWS's other architecture run here, as binfmt_misc(5) is told by qemu-user-static."""
    machine = machine or platform.machine()
    if machine not in OTHERS:
        return Fact("binfmt", Level.MISSING, f"AWS has no functions for {machine}", "use an x86_64 or aarch64 machine")
    other, emulator = OTHERS[machine]
    entry = root / "proc/sys/fs/binfmt_misc" / emulator
    if entry.is_file() and entry.read_text().startswith("enabled"):
        return Fact("binfmt", Level.GOOD, f"{emulator} runs programs for {other}")
    detail = f"no emulator is registered for {other}: only programs for this machine's {machine} run"
    return Fact(
        "binfmt", Level.MISSING, detail, "install qemu's user mode emulators", install("qemu-user-static", "apt-get", "dnf")
    )


def docker_engine(address: str | None = None) -> Fact:
    """Whether a Docker Engine answers at `address` (``unix://PATH``, as in DOCKER_HOST), and which. Takes up to `ASK_S`."""
    address = address or os.environ.get("DOCKER_HOST") or f"unix://{ENGINE_SOCKET}"
    if not address.startswith("unix://"):
        remedy = "use an engine of this machine: sandboxes of another one cannot be reached from here"
        return Fact("Docker Engine", Level.MISSING, f"DOCKER_HOST is {address}, which is no socket of this machine", remedy)
    path = address.removeprefix("unix://")
    connection = http.client.HTTPConnection("localhost")
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(ASK_S)
        connection.sock.connect(path)
        connection.request("GET", "/version")
        version = json.loads(connection.getresponse().read(65536))["Version"]
    except FileNotFoundError:
        command = install("docker.io", "apt-get") or install("docker", "dnf", "zypper", "pacman", "apk")
        return Fact("Docker Engine", Level.MISSING, f"none at {path}", "install one and start it", command)
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
        remedy = "start it; its socket is for root and the group docker"
        return Fact("Docker Engine", Level.MISSING, f"none answers at {path}: {error}", remedy, as_root("systemctl start docker"))
    finally:
        connection.close()
    return Fact("Docker Engine", Level.GOOD, f"{version} at {path}")


def surroundings() -> list[Fact]:
    """What nothing of Lambent needs yet. Blocks for up to two seconds; never raises."""
    return [
        guarded("nft", nft),
        guarded("resolver", resolver),
        guarded("binfmt", emulation),
        guarded("Docker Engine", docker_engine),
    ]
