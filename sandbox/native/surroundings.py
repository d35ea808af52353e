"""What there is around sandboxes: systemd's consent, and the programs and services that networks, images and emulation need.

Sandboxes work without all of it, so `probe` does not ask for it and nothing skips or refuses because of it; `lambent doctor`
tells it. Each check takes what it looks at as arguments, with this host's as the default, and leaves nothing behind.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import platform
import socket
from collections.abc import Callable
from pathlib import Path

from sandbox.native import cgroups, nat, ruleset
from sandbox.native import resolver as resolv
from sandbox.native.probe import Fact, Level, as_root, guarded, install

ASK_S = 1.0
ENGINE_SOCKET = "/var/run/docker.sock"
NO_NETWORK = "functions have no network (`none`)"
MODULES = "veth nf_tables nf_nat nft_masq nft_fib_inet nft_reject_inet"

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


def nft() -> Fact:
    """Whether the packet filter would take nat's rules: the program is there, the kernel has its part, and we the right."""
    try:
        found = ruleset.program()
    except ruleset.NftError:
        return Fact("nft", Level.DEGRADED, f"no nft: {NO_NETWORK}", "install it", install("nftables"))
    samples = (ipaddress.ip_network("10.64.0.0/16"), ipaddress.ip_network("fd00::/64"))
    try:
        ruleset.check(ruleset.host(ruleset.table_of("doctor"), "lb-doctor", samples))
        ruleset.check(ruleset.router())
    except ruleset.NftError as error:
        return Fact(
            "nft", Level.DEGRADED, f"{error}: {NO_NETWORK}", "be root; load the modules", as_root(f"modprobe -a {MODULES}")
        )
    return Fact("nft", Level.GOOD, f"packet filter rules can be made with {found}")


def forwarding(root: Path = Path("/")) -> Fact:
    """Whether this host passes on what sandboxes send: the switch can be turned, and no firewall drops it."""
    name, switch = "forwarding", root / "proc/sys/net/ipv4/ip_forward"
    if not os.access(switch, os.W_OK):
        remedy = "be root; in a container, --privileged; in a service, ReadWritePaths=/proc/sys/net"
        return Fact(name, Level.DEGRADED, f"{switch} cannot be written: {NO_NETWORK}", remedy)
    try:
        chains = ruleset.dropping()
    except ruleset.NftError:  # that is a fact of its own
        chains = []
    if chains:
        detail = f"nft chain {', '.join(chains)} drops what it does not know, so what functions send may get nowhere"
        tables = {"ip": "iptables", "ip6": "ip6tables"}
        programs = [tables[family] for family, table, _ in map(str.split, chains) if table == "filter" and family in tables]
        commands = [as_root(f"{each} -I FORWARD -{way} lb-+ -j ACCEPT") for each in programs for way in "io"]
        return Fact(name, Level.DEGRADED, detail, "let pass what comes from and goes to links named lb-…", " && ".join(commands))
    versions = (
        "IPv4 and IPv6" if nat.has_ipv6(root / "proc/thread-self/net/if_inet6") else "IPv4; this machine has no IPv6 address"
    )
    return Fact(name, Level.GOOD, versions)


def resolver(root: Path = Path("/")) -> Fact:
    """The name servers that sandboxes with a network ask."""
    if servers := resolv.find(root).servers:
        return Fact("resolver", Level.GOOD, f"name servers: {', '.join(map(str, servers))}")
    detail = "no name server but this machine itself is known, and functions do not reach that: they cannot resolve names"
    return Fact("resolver", Level.DEGRADED, detail, "name one in /etc/resolv.conf, as `nameserver ADDRESS`")


def emulation(root: Path = Path("/"), machine: str | None = None) -> Fact:
    """Whether programs of AWS's other architecture run here, as binfmt_misc(5) is told by qemu-user-static."""
    machine = machine or platform.machine()
    if machine not in OTHERS:
        return Fact("binfmt", Level.MISSING, f"AWS has no functions for {machine}", "use an x86_64 or aarch64 machine")
    other, emulator = OTHERS[machine]
    entry = root / "proc/sys/fs/binfmt_misc" / emulator
    if entry.is_file() and entry.read_text().startswith("enabled"):
        if "F" not in next((line for line in entry.read_text().splitlines() if line.startswith("flags")), "flags: F"):
            return Fact(
                "binfmt",
                Level.DEGRADED,
                f"{emulator} runs programs for {other}, but was registered without flag F: not in containers and images",
                "register it with flag F",
                as_root("deploy/images/emulate"),
            )
        return Fact("binfmt", Level.GOOD, f"{emulator} runs programs for {other}")
    detail = f"no emulator is registered for {other}: only programs for this machine's {machine} run"
    return Fact(
        "binfmt", Level.MISSING, detail, "install qemu's user mode emulators", install("qemu-user-static", "apt-get", "dnf")
    )


def docker_engine(address: str | None = None, ways: str = "", *, degraded: bool = False) -> Fact:
    """Whether a Docker Engine answers at `address` (``unix://PATH``, as in DOCKER_HOST), and which. Takes up to `ASK_S`.

    `ways` says how its containers are dealt with, `degraded` that this is not the quick way.
    """
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
    detail = f"{version} at {path}" + (f"; containers: {ways}" if ways else "")
    if degraded:
        return Fact("Docker Engine", Level.DEGRADED, detail, "run Lambent outside a container, or with --privileged")
    return Fact("Docker Engine", Level.GOOD, detail)


def network() -> list[Fact]:
    """What the network `nat` needs; without it there is `none`. Blocks for some ten milliseconds; never raises."""
    return [guarded("nft", nft), guarded("forwarding", forwarding), guarded("resolver", resolver)]


def surroundings(engine: Callable[[], Fact] = docker_engine) -> list[Fact]:
    """What not everybody needs. Blocks for up to two seconds; never raises."""
    return [guarded("binfmt", emulation), guarded("Docker Engine", engine)]
