"""Links, addresses and routes, by the kernel's own protocol (rtnetlink(7)).

A dozen messages are all that a sandbox's network takes, so they are written here: a library for all of netlink would double what
the spawner loads, and a program like `ip` costs milliseconds a call. A `Route` speaks for the network namespace that its
thread was in when it was made, and goes on doing so wherever the thread goes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import os
import socket
import struct
import sys
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ERROR: Final = 2  # linux/netlink.h
_DONE: Final = 3
_REQUEST, _ACK, _EXCL, _CREATE, _DUMP = 1, 4, 0x200, 0x400, 0x300
_NEWLINK, _DELLINK = 16, 17  # linux/rtnetlink.h
_NEWADDR = 20
_NEWROUTE, _GETROUTE = 24, 26
_NESTED: Final = 0x8000

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 1, 3, 4, 18, 26, 28
_IFLA_NUM_TX_QUEUES, _IFLA_NUM_RX_QUEUES = 31, 32
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE = 8, 1
_IFF_UP, _IFF_NOARP = 1, 0x80
_RTA_DST, _RTA_OIF = 1, 4
_TABLE_MAIN, _BOOT, _SCOPE_UNIVERSE, _SCOPE_LINK, _UNICAST = 254, 3, 0, 253, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD: Final = 2
_LOOPBACK: Final = 1  # its index, in every namespace
_BUFFER: Final = 1 << 16


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """One end of a cable: in the namespace of descriptor `netns`, or the socket's own for None."""

    name: str
    index: int = 0  #: what the kernel chooses where it is 0
    netns: int | None = None


class Route:
    """A NETLINK_ROUTE socket. Every call waits for the kernel's answer and raises OSError with what it says."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(270, 12, 1)  # SOL_NETLINK, NETLINK_GET_STRICT_CHK: a dump holds what was asked for
        self._number = 0

    def __enter__(self) -> Route:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def add_cable(self, here: End, there: End, mac: bytes, mtu: int) -> None:
        """A pair of veth links, both down. They have the same address and do no ARP: with two ends there is nobody to look for.
        A frame that leaves one end is meant for the other, and nobody can answer in another's name.
        """
        peer = _link_header(there.index, _IFF_NOARP) + _link_attributes(there, mac, mtu)
        info = _attribute(_INFO_KIND, b"veth") + _attribute(_INFO_DATA | _NESTED, _attribute(_VETH_PEER | _NESTED, peer))
        body = _link_header(here.index, _IFF_NOARP) + _link_attributes(here, mac, mtu)
        self._request(_NEWLINK, _CREATE | _EXCL, body + _attribute(_IFLA_LINKINFO | _NESTED, info))

    def link_up(self, index: int) -> None:
        """Without an IPv6 address that the kernel would make up: what a sandbox has is what it was given."""
        none = _attribute(socket.AF_INET6 | _NESTED, _attribute(_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE])))
        with contextlib.suppress(OSError):  # of a kernel without IPv6
            self._request(_NEWLINK, 0, _link_header(index, 0) + _attribute(_IFLA_AF_SPEC | _NESTED, none))
        self._request(_NEWLINK, 0, _link_header(index, _IFF_UP))

    def loopback_up(self) -> None:
        self._request(_NEWLINK, 0, _link_header(_LOOPBACK, _IFF_UP))

    def remove_link(self, name: str) -> None:
        self._request(_DELLINK, 0, _link_header(0, 0) + _attribute(_IFLA_IFNAME, name.encode() + b"\0"))

    def add_address(self, index: int, address: Address) -> None:
        """As the only one of its network, usable at once."""
        header = struct.pack("BBBBi", _family(address), address.max_prefixlen, _IFA_F_NODAD, _SCOPE_UNIVERSE, index)
        local = _attribute(_IFA_LOCAL, address.packed) + _attribute(_IFA_ADDRESS, address.packed)
        self._request(_NEWADDR, _CREATE | _EXCL, header + local)

    def add_route(self, destination: Network, index: int) -> None:
        """All of `destination` is at the other end of link `index`."""
        self._request(_NEWROUTE, _CREATE | _EXCL, _route(destination, index))

    def destinations(self, family: socket.AddressFamily) -> list[tuple[Network, int]]:
        """Each route's destination, in any table, with its link's index (0: several or none); this host itself is not one."""
        header = struct.pack("BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)
        found: list[tuple[Network, int]] = []
        for kind, body in self._exchange(_GETROUTE, _DUMP, header):
            length, route_type = body[1], body[7]
            if kind == _NEWROUTE and route_type == _UNICAST:
                attributes = _attributes(body[12:])
                packed = attributes.get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16))
                link = int.from_bytes(attributes.get(_RTA_OIF, b""), sys.byteorder)
                found.append((ipaddress.ip_network((packed, length)), link))
        return found

    def _request(self, kind: int, flags: int, body: bytes) -> None:
        self._exchange(kind, flags | _ACK, body)

    def _exchange(self, kind: int, flags: int, body: bytes) -> list[tuple[int, bytes]]:
        """Send one message; what is answered, up to the end of that."""
        self._number += 1
        self._socket.send(struct.pack("=IHHII", 16 + len(body), kind, flags | _REQUEST, self._number, 0) + body)
        found: list[tuple[int, bytes]] = []
        while True:
            data = self._socket.recv(_BUFFER)
            while len(data) >= 16:
                length, answer, _, number, _ = struct.unpack_from("=IHHII", data)
                content, data = data[16:length], data[(length + 3) & ~3 :]
                if number != self._number:
                    continue
                if answer == _DONE:
                    return found
                if answer == _ERROR:
                    (code,) = struct.unpack_from("=i", content)
                    if code:
                        raise OSError(-code, os.strerror(-code))
                    return found
                found.append((answer, content))


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def _link_header(index: int, flags: int) -> bytes:
    """struct ifinfomsg: family, type, index, flags, and which of the flags are meant."""
    return struct.pack("=BxHiII", 0, 0, index, flags, flags)


def _link_attributes(end: End, mac: bytes, mtu: int) -> bytes:
    attributes = _attribute(_IFLA_IFNAME, end.name.encode() + b"\0") + _attribute(_IFLA_ADDRESS, mac)
    attributes += _attribute(_IFLA_MTU, struct.pack("=I", mtu))
    for queues in (_IFLA_NUM_TX_QUEUES, _IFLA_NUM_RX_QUEUES):  # else one of each for every processor that there could be
        attributes += _attribute(queues, struct.pack("=I", 1))
    if end.netns is not None:
        attributes += _attribute(_IFLA_NET_NS_FD, struct.pack("=I", end.netns))
    return attributes


def _route(destination: Network, index: int) -> bytes:
    """struct rtmsg and two attributes."""
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    scope = _SCOPE_LINK if destination.version == 4 else _SCOPE_UNIVERSE
    header = struct.pack("=BBBBBBBBI", family, destination.prefixlen, 0, 0, _TABLE_MAIN, _BOOT, scope, _UNICAST, 0)
    return header + _attribute(_RTA_DST, destination.network_address.packed) + _attribute(_RTA_OIF, struct.pack("=I", index))


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
