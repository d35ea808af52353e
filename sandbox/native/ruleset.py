"""The packet filter's tables, as text for nft(8), and the program that loads them. Two, because there are two places to guard:

- the *router*, a namespace between all sandboxes and the host, has every sandbox on a link of its own. It lets a packet pass from
  a sandbox to the uplink, if it bears that sandbox's address, or from the uplink to a sandbox, and nothing else: there is no
  way from one sandbox to another.
- the *host* has the other end of the uplink. It refuses what is meant for itself, for a metadata service or back to sandboxes,
  before any other rule of the host could translate the address; it lets in only answers; it lends the rest its own address.

Refusing is an answer, so that a function's attempt fails at once instead of at its timeout.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from typing import Final

from sandbox.native.netlink import Address, Network

DIRECTORIES: Final = "/usr/sbin:/sbin:/usr/local/sbin"  #: not in every user's PATH
UPLINK: Final = "uplink"  #: the router's own end of the way out
TURNED_ON: Final = "turned_on_ipv"  #: name of an empty chain: this table's Lambent turned on forwarding of IPv4 (…4), IPv6 (…6)
PREFIX: Final = "lambent_"
_LIMIT_S: Final = 10.0
# A reset for TCP: of an ICMP error that comes while connect(2) still runs, the kernel takes notice a second later.
_REFUSE: Final = "meta l4proto tcp reject with tcp reset\n        reject with icmpx admin-prohibited"

#: Where clouds tell a machine its secrets, and link-local addresses in general, which are nobody's but the next link's.
METADATA: Final = {
    4: (
        "169.254.0.0/16",  # AWS, Google, Azure, DigitalOcean, Hetzner, OpenStack; credentials of ECS and EKS
        "168.63.129.16",  # Azure's own channel to its machines
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
    ),
    6: (
        "fe80::/10",
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google
        "fd00:42::42",  # Scaleway
    ),
}


class NftError(OSError):
    """nft is not there, or refused; the message says why."""


def table_of(owner: str) -> str:
    """The host's table of one installation."""
    return PREFIX + re.sub(r"\W", "_", owner)


def router() -> str:
    return f"""
table inet lambent {{
    chain forward {{
        type filter hook forward priority filter; policy drop;
        iifname "{UPLINK}" accept
        oifname "{UPLINK}" fib saddr . iif oif exists accept
        {_REFUSE}
    }}
    chain input {{
        type filter hook input priority filter; policy drop;
    }}
}}
"""


def host(
    name: str,
    link: str,
    ranges: Sequence[Network],
    *,
    resolvers: Iterable[Address] = (),
    allowed: Iterable[Network] = (),
    turned_on: Iterable[int] = (),
) -> str:
    """Table `name` in place of any earlier one. `ranges` are the sandboxes' networks, one a version of IP.

    `allowed` may be reached although it is refused otherwise, `resolvers` for names.
    """
    arriving: list[str] = []
    leaving: list[str] = []
    for network in ranges:
        ip = "ip" if network.version == 4 else "ip6"
        servers = _set(str(each) for each in resolvers if each.version == network.version)
        open_to = _set(str(each) for each in allowed if each.version == network.version)
        arriving.append(f"meta nfproto ipv{network.version} {ip} saddr != {network} drop")
        if servers:
            arriving.append(f"{ip} daddr {servers} meta l4proto {{ tcp, udp }} th dport 53 accept")
        arriving.append(f"{ip} daddr {network} goto refused")
        if open_to:
            arriving.append(f"{ip} daddr {open_to} accept")
        arriving.append(f"{ip} daddr {_set(METADATA[network.version])} goto refused")
        leaving.append(f'oifname != "{link}" {ip} saddr {network} masquerade')
    marks = "".join(f"    chain {TURNED_ON}{version} {{ }}\n" for version in turned_on)
    return f"""
table inet {name} {{ }}
delete table inet {name}
table inet {name} {{
    chain refused {{
        {_REFUSE}
    }}
    chain prerouting {{
        type filter hook prerouting priority mangle - 1; policy accept;
        iifname != "{link}" accept
        ct state established,related accept
        {_lines(arriving)}
        fib daddr type != unicast goto refused
    }}
    chain forward {{
        type filter hook forward priority filter; policy accept;
        oifname != "{link}" accept
        ct state established,related accept
        drop
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        {_lines(leaving)}
    }}
{marks}}}
"""


def _set(values: Iterable[str]) -> str:
    found = ", ".join(values)
    return f"{{ {found} }}" if found else ""


def _lines(rules: Iterable[str]) -> str:
    return "\n        ".join(rules)


def program() -> str:
    """The path of nft. Raises NftError."""
    found = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{DIRECTORIES}")
    if found is None:
        raise NftError("nft is not installed")
    return found


def run(*arguments: str, text: str = "") -> str:
    """nft's output. In the network namespace of this thread. Blocks for some milliseconds. Raises NftError."""
    command = [program(), *arguments]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NftError(f"nft does not answer: {error}") from error
    if done.returncode != 0:
        said = next((line for line in done.stderr.splitlines() if line.strip()), "no reason given")
        raise NftError(f"nft is refused: {said.strip()}")
    return done.stdout


def load(text: str) -> None:
    """All of `text` or nothing of it. Raises NftError."""
    run("-f", "-", text=text)


def check(text: str) -> None:
    """Have the kernel look whether it could load `text`. Changes nothing. Raises NftError."""
    run("-c", "-f", "-", text=text)


def tables() -> list[tuple[str, str]]:
    """(family, name) of each table of this namespace. Raises NftError."""
    return [(words[1], words[2]) for line in run("list", "tables").splitlines() if len(words := line.split()) == 3]


def dropping() -> list[str]:
    """Chains of others that drop what is forwarded unless they know it, as Docker's and most firewalls' do. Raises NftError."""
    found = json.loads(run("-j", "list", "chains") or '{"nftables": []}')["nftables"]
    chains = [item["chain"] for item in found if "chain" in item]
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("hook") == "forward" and chain.get("policy") == "drop" and not chain["table"].startswith(PREFIX)
    ]
