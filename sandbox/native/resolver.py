"""The name servers that this host asks, as a sandbox can ask them: its loopback is not that on which the host's own listens."""

from __future__ import annotations

import dataclasses
import ipaddress
from pathlib import Path
from typing import Final

from sandbox.native.netlink import Address

#: systemd-resolved listens on 127.0.0.53 and writes whom it asks itself to the second.
FILES: Final = ("etc/resolv.conf", "run/systemd/resolve/resolv.conf")
_MOST: Final = 3  #: resolv.conf(5): MAXNS
_KEPT: Final = ("search", "domain", "options")


@dataclasses.dataclass(frozen=True, slots=True)
class Resolver:
    """`servers` are upstream ones only; `lines` is what else a resolv.conf says of names."""

    servers: tuple[Address, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def resolv_conf(self) -> str:
        """As a file for sandboxes."""
        if not self.servers:
            return "# no name server but this machine's own, which is out of reach here\n"
        return "".join(f"{line}\n" for line in (*(f"nameserver {server}" for server in self.servers), *self.lines))


def find(root: Path = Path("/")) -> Resolver:
    """The first of `FILES` that names a server which is not this host itself; an empty one where none does."""
    for name in FILES:
        try:
            lines = (root / name).read_text(errors="replace").splitlines()
        except OSError:
            continue
        words = [line.split() for line in lines]
        servers = [server for each in words if each[:1] == ["nameserver"] and (server := _upstream(each[1:])) is not None]
        if servers:
            kept = tuple(" ".join(each) for each in words if each and each[0] in _KEPT)
            return Resolver(tuple(servers[:_MOST]), kept)
    return Resolver()


def _upstream(words: list[str]) -> Address | None:
    """None for what is no address, this host's loopback, or an address that only one link of this host knows."""
    try:
        address = ipaddress.ip_address(words[0])
    except (ValueError, IndexError):
        return None
    scoped = isinstance(address, ipaddress.IPv6Address) and (address.is_link_local or address.scope_id is not None)
    return None if address.is_loopback or address.is_unspecified or scoped else address
