"""The way out of all sandboxes of one installation: a router between them and the host, and what the host lets through.

    sandbox ══ cable ══╗
    sandbox ══ cable ══╬══ router (a network namespace) ══ uplink ══ host: one link, one nft table ── the world
    sandbox ══ cable ══╝

Everything but the host's nft table lives in namespaces that this process alone holds, so a crash takes it along; the table bears
the owner's label and is swept. The host sees one link however many sandboxes there are: no service of the host (udev,
NetworkManager, a DHCP client) takes notice of a cold start, and no bridge sets a limit of 1,023.

Addresses are out of a /16 that nothing on this host has a route to, and for IPv6 out of a unique local network (RFC 4193) made
from the label, so two installations on one host do not meet; a route that both would claim is the kernel's to give, once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import ipaddress
import itertools
import logging
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from sandbox.native import namespaces, resolver, ruleset
from sandbox.native.netlink import Address, End, Network, Route

log = logging.getLogger("lambent.spawner")

CANDIDATES: Final = tuple(ipaddress.IPv4Network("10.64.0.0/10").subnets(new_prefix=16))
MTU: Final = 1500  #: where this host has no way out that could say
EVERYWHERE: Final = (ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv6Network("::/0"))
SYSCTLS: Final = Path("/proc/sys/net")  #: of the network namespace of whoever opens a file there
_FORWARDING: Final = {4: SYSCTLS / "ipv4/ip_forward", 6: SYSCTLS / "ipv6/conf/all/forwarding"}
_MAC: Final = bytes.fromhex("026c616d6200")  # of both ends of every cable
_FIRST: Final = 16  #: number of the first sandbox's address; the router has the first of all
_UPLINK_INDEX, _INSIDE_INDEX, _CABLE_INDEX = 2, 2, 1000
_SIOCGIFMTU: Final = 0x8921
_HOST_LOCK: Final = "/run"


class Unavailable(Exception):
    """This host cannot have nat; the message says why, for people."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the settings say of the network."""

    owner: str
    allowed: tuple[Network, ...] = ()  #: may be reached although they are this host's or a metadata service's
    range: ipaddress.IPv4Network | None = None  #: of the sandboxes; None: a free one


def link_of(owner: str) -> str:
    """The host's link: at most 15 bytes, as the kernel wants it."""
    return f"lb-{owner}"[:15]


class Nat:
    """Made by `open`, ended by `close`; all of it in a thread that has nothing else to do, since its namespace changes."""

    def __init__(self, router: int, ranges: Sequence[Network], mtu: int) -> None:
        self.ranges = ranges
        self._mtu = mtu
        self._router = router
        with namespaces.inside(router):
            self._route = Route()
        numbers = range(_FIRST, min(each.num_addresses for each in ranges) - 1)
        self._how_many = len(numbers)
        self._numbers = itertools.cycle(numbers)

    @classmethod
    def open(cls, wish: Wish, upstream: resolver.Resolver) -> Nat:
        """Raises Unavailable; nothing is left then."""
        try:
            sweep(wish.owner)  # of an earlier run that nobody swept up after, or whose last sandbox is just ending
            router = _make_router()
            try:
                with Route() as host:
                    mtu = _mtu(host)
                    ranges = _connect(host, router, wish, mtu)
                _guard(wish, ranges, upstream.servers)
                return cls(router, ranges, mtu)
            except BaseException:
                os.close(router)
                with contextlib.suppress(OSError):
                    sweep(wish.owner)
                raise
        except OSError as error:
            raise Unavailable(str(error)) from error

    def connect(self, sandbox: int) -> None:
        """Give the new network namespace `sandbox` a cable to the router, an address of each range, and the way out. 0.7 ms."""
        for number in itertools.islice(self._numbers, self._how_many):
            index = _CABLE_INDEX + number
            with contextlib.suppress(FileExistsError):  # of a sandbox that is there since the numbers were used up the last time
                self._route.add_cable(End(f"s{number}", index), End("eth0", _INSIDE_INDEX, sandbox), _MAC, self._mtu)
                break
        else:
            raise OSError(f"all {self._how_many} addresses of {self} are in use; give more with --network-range")
        addresses = [each[number] for each in self.ranges]
        self._route.link_up(index)
        for address in addresses:
            self._route.add_route(_alone(address), index)
        with namespaces.inside(sandbox), Route() as inside:
            inside.link_up(_INSIDE_INDEX)
            for address in addresses:
                inside.add_address(_INSIDE_INDEX, address)
                inside.add_route(_everything(address), _INSIDE_INDEX)

    def close(self) -> None:
        self._route.close()
        os.close(self._router)

    def __str__(self) -> str:
        return ", ".join(map(str, self.ranges))


def _make_router() -> int:
    """The namespace that all cables end in. Raises OSError."""
    router = namespaces.make()
    try:
        with namespaces.inside(router):
            ruleset.load(ruleset.router())
            for path in _FORWARDING.values():
                if path.exists():
                    _turn_on(path)
    except BaseException:
        os.close(router)
        raise
    return router


def _mtu(host: Route) -> int:
    """The largest packet that the way out takes. A sandbox that believed in a larger one would be sent what never arrives:
    clouds and tunnels have less than 1,500, and often drop the ICMP errors that would tell.
    """
    ways = {link for network, link in host.destinations(socket.AF_INET) if not network.prefixlen and link}
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for link in ways:
            request = struct.pack("16si12x", socket.if_indextoname(link).encode(), 0)
            found.append(struct.unpack("16si12x", fcntl.ioctl(asking, _SIOCGIFMTU, request))[1])
    return min(found, default=MTU)


def _connect(host: Route, router: int, wish: Wish, mtu: int) -> list[Network]:
    """Lay the uplink between router and host; the sandboxes' ranges. Raises OSError."""
    link = link_of(wish.owner)
    host.add_cable(End(link), End(ruleset.UPLINK, _UPLINK_INDEX, router), _MAC, mtu)
    index = socket.if_nametoindex(link)
    host.link_up(index)
    ranges: list[Network] = [_claim_range(host, index, wish)]
    if has_ipv6():
        ranges.append(_local_network(wish.owner))
        host.add_route(ranges[-1], index)
    with namespaces.inside(router), Route() as inside:
        inside.loopback_up()
        inside.link_up(_UPLINK_INDEX)
        for network in ranges:
            inside.add_address(_UPLINK_INDEX, network[1])
            inside.add_route(_everything(network[1]), _UPLINK_INDEX)
    return ranges


def _claim_range(host: Route, index: int, wish: Wish) -> ipaddress.IPv4Network:
    """A range that nothing here has a route to; that with a route to it on link `index` is ours. Raises OSError."""
    if wish.range is not None:
        try:
            host.add_route(wish.range, index)
        except FileExistsError as error:
            raise OSError(f"network_range: {wish.range} is in use on this machine") from error
        return wish.range
    taken = [network for network, _ in host.destinations(socket.AF_INET) if network.prefixlen]
    first = int(hashlib.sha256(wish.owner.encode()).hexdigest(), 16) % len(CANDIDATES)
    for candidate in (*CANDIDATES[first:], *CANDIDATES[:first]):
        if any(candidate.overlaps(network) for network in taken if isinstance(network, ipaddress.IPv4Network)):
            continue
        with contextlib.suppress(FileExistsError):  # another installation was quicker
            host.add_route(candidate, index)
            return candidate
    raise OSError("all of 10.64.0.0/10 is in use on this machine; name other addresses with --network-range")


def _local_network(owner: str) -> ipaddress.IPv6Network:
    """RFC 4193: fd, 40 bits by chance, a subnet."""
    chance = hashlib.sha256(owner.encode()).digest()[:5]
    return ipaddress.IPv6Network((b"\xfd" + chance + bytes(10), 64))


def has_ipv6(table: Path = Path("/proc/thread-self/net/if_inet6")) -> bool:
    """Whether this host has an IPv6 address that reaches farther than a link, on a link that is not one of ours."""
    try:
        lines = [line.split() for line in table.read_text().splitlines()]
    except OSError:
        return False
    return any(scope == "00" and not name.startswith("lb-") for _, _, _, scope, _, name in lines)


def _guard(wish: Wish, ranges: Sequence[Network], resolvers: Iterable[Address]) -> None:
    """Load the host's table and let it forward. Raises OSError."""
    with _host_locked():
        versions = [each.version for each in ranges]
        off = [version for version in versions if _FORWARDING[version].read_text().strip() == "0"]
        text = ruleset.host(
            ruleset.table_of(wish.owner), link_of(wish.owner), ranges, resolvers=resolvers, allowed=wish.allowed, turned_on=off
        )
        ruleset.load(text)
        for version in off:
            if version == 6:
                _keep_router_advertisements()
            _turn_on(_FORWARDING[version])
            log.info("turned on %s", _FORWARDING[version])


def _turn_on(path: Path) -> None:
    try:
        path.write_text("1")
    except OSError as error:
        raise OSError(f"{path} cannot be turned on: {error.strerror}") from error


def _keep_router_advertisements() -> None:
    """A host that forwards IPv6 stops listening to its routers, and loses its way out, unless it is told not to."""
    for path in (SYSCTLS / "ipv6/conf").glob("*/accept_ra"):
        if path.read_text().strip() == "1":
            path.write_text("2")


def sweep(owner: str) -> list[str]:
    """Remove the host's link and table of `owner`, whoever made them; says what it found. Blocks. Raises OSError.

    Forwarding that it had turned on is turned off again, unless somebody else has tables by now and may rely on it.
    """
    found: list[str] = []
    link, table = link_of(owner), ruleset.table_of(owner)
    try:
        with Route() as host:
            host.remove_link(link)
        found.append(f"link {link}")
    except OSError:  # there is none; or no right, and then there is no table either
        pass
    try:
        text = ruleset.run("list", "table", "inet", table)
    except ruleset.NftError:
        return found
    with _host_locked():
        ruleset.run("delete", "table", "inet", table)
        found.append(f"nft table inet {table}")
        turned_on = [version for version in _FORWARDING if f"chain {ruleset.TURNED_ON}{version} " in text]
        if turned_on:
            _give_back(turned_on)
    return found


def _give_back(versions: Iterable[int]) -> None:
    others = ruleset.tables()
    heir = next((name for family, name in others if family == "inet" and name.startswith(ruleset.PREFIX)), None)
    for version in versions:
        if heir is not None:
            ruleset.run("add", "chain", "inet", heir, f"{ruleset.TURNED_ON}{version}")
        elif not others:
            _FORWARDING[version].write_text("0")
            log.info("turned off %s", _FORWARDING[version])


@contextlib.contextmanager
def _host_locked() -> Iterator[None]:
    """One at a time on this host decides about forwarding. The lock is on a directory that is there anyway: nothing is left."""
    fd = os.open(_HOST_LOCK, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _alone(address: Address) -> Network:
    return ipaddress.ip_network(address)


def _everything(address: Address) -> Network:
    return EVERYWHERE[0] if address.version == 4 else EVERYWHERE[1]
