"""The router and what the host has of it, in a network namespace of the test's own that stands for the host."""

from __future__ import annotations

import ipaddress
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from sandbox.native import namespaces, nat, ruleset
from sandbox.native.nat import Nat, Unavailable, Wish
from sandbox.native.netlink import End, Route
from sandbox.native.resolver import Resolver

pytestmark = pytest.mark.real
T = TypeVar("T")
MAC = bytes.fromhex("026c616d6255")
SWITCHES = {version: str(path) for version, path in nat._FORWARDING.items()}


class Host:
    """Runs what it is given in a thread whose network namespace has a loopback and nothing else."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._namespace = namespaces.make()
        self._opened: list[Nat] = []

    def run(self, work: Callable[[], T]) -> T:
        def there() -> T:
            with namespaces.inside(self._namespace):
                return work()

        return self._thread.submit(there).result()

    def link(self, name: str, *addresses: str, mtu: int = 1500, default: bool = False) -> None:
        """One that leads nowhere, with these addresses; `default`: as the way out."""

        def make() -> None:
            with Route() as route:
                route.add_cable(End(name), End(f"{name}-end"), MAC, mtu)
                index = socket.if_nametoindex(name)
                route.link_up(index)
                for address in addresses:
                    route.add_address(index, ipaddress.ip_address(address))
                if default:
                    route.add_route(ipaddress.ip_network("0.0.0.0/0"), index)

        self.run(make)

    def open(self, owner: str, **wish: object) -> Nat:
        """As a spawner does; `crash` is its end."""
        self._opened.append(self.run(lambda: Nat.open(Wish(owner=owner, **wish), Resolver())))  # type: ignore[arg-type]
        return self._opened[-1]

    def switch(self, version: int, word: str | None = None) -> str:
        def work() -> str:
            if word is not None:
                with open(SWITCHES[version], "w") as file:
                    file.write(word)
            with open(SWITCHES[version]) as file:
                return file.read().strip()

        return self.run(work)

    def tables(self) -> set[str]:
        return {name for _, name in self.run(ruleset.tables)}

    def links(self) -> set[str]:
        return self.run(lambda: {name for _, name in socket.if_nameindex()})

    def crash(self) -> None:
        """What the spawners held is gone; nobody swept."""
        while self._opened:
            self._opened.pop().close()

    def close(self) -> None:
        self.crash()
        self._thread.shutdown()
        os.close(self._namespace)


@pytest.fixture
def host() -> Iterator[Host]:
    try:
        ruleset.program()
    except ruleset.NftError as error:
        pytest.skip(str(error))
    made = Host()
    for version in (4, 6):
        made.switch(version, "0")
    yield made
    made.close()


def test_without_ipv6_there_is_ipv4(host: Host) -> None:
    found = host.open("one")
    assert [network.version for network in found.ranges] == [4]
    assert (host.switch(4), host.switch(6)) == ("1", "0")
    assert "ip6" not in host.run(lambda: ruleset.run("list", "table", "inet", "lambent_one"))


def test_with_ipv6_there_are_both_and_router_advertisements_are_still_heard(host: Host) -> None:
    host.link("lan", "2001:db8::1")
    found = host.open("one")
    assert [network.version for network in found.ranges] == [4, 6]
    assert found.ranges[1].subnet_of(ipaddress.IPv6Network("fd00::/8"))  # type: ignore[arg-type]
    assert (host.switch(4), host.switch(6)) == ("1", "1")
    assert host.run(Path("/proc/sys/net/ipv6/conf/lan/accept_ra").read_text).strip() == "2"


def test_what_it_turned_on_is_turned_off_and_nothing_is_left(host: Host) -> None:
    host.open("one")
    assert ("lambent_one" in host.tables(), "lb-one" in host.links()) == (True, True)
    assert host.run(lambda: nat.sweep("one")) == ["link lb-one", "nft table inet lambent_one"]
    assert (host.tables(), host.links() - {"lo"}, host.switch(4)) == (set(), set(), "0")
    assert host.run(lambda: nat.sweep("one")) == []


def test_what_was_on_before_stays_on(host: Host) -> None:
    host.switch(4, "1")
    host.open("one")
    host.run(lambda: nat.sweep("one"))
    assert host.switch(4) == "1"


def test_what_others_may_rely_on_stays_on(host: Host) -> None:
    host.open("one")
    host.run(lambda: ruleset.load("table ip docker { }"))
    host.run(lambda: nat.sweep("one"))
    assert (host.switch(4), host.tables()) == ("1", {"docker"})


def test_the_last_of_two_turns_it_off(host: Host) -> None:
    first, second = host.open("one"), host.open("two")
    assert not first.ranges[0].overlaps(second.ranges[0])
    host.run(lambda: nat.sweep("one"))
    assert host.switch(4) == "1"
    host.run(lambda: nat.sweep("two"))
    assert host.switch(4) == "0"


def test_a_new_start_takes_over_what_a_crash_left(host: Host) -> None:
    """Also when nobody swept: that forwarding was turned on is not forgotten."""
    host.open("one")
    host.crash()
    host.open("one")
    host.run(lambda: nat.sweep("one"))
    assert host.switch(4) == "0"


def test_a_range_that_is_in_use_is_not_taken(host: Host) -> None:
    def occupy(*networks: str) -> None:
        with Route() as route:
            index = socket.if_nametoindex("lan")
            for network in networks:
                route.add_route(ipaddress.ip_network(network), index)

    usual = host.open("one")
    host.run(lambda: nat.sweep("one"))
    host.link("lan")
    host.run(lambda: occupy(f"{usual.ranges[0][513]}/32"))
    other = host.open("one")
    assert not other.ranges[0].overlaps(usual.ranges[0])
    host.run(lambda: nat.sweep("one"))
    host.run(lambda: occupy("10.64.0.0/10"))
    with pytest.raises(Unavailable, match=r"all of 10\.64\.0\.0/10 is in use.*--network-range"):
        host.open("one")
    named = host.open("one", range=ipaddress.IPv4Network("172.20.0.0/22"))
    assert str(named) == "172.20.0.0/22"
    with pytest.raises(Unavailable, match=r"network_range: 172\.20\.0\.0/22 is in use"):
        host.open("two", range=ipaddress.IPv4Network("172.20.0.0/22"))
    assert "lambent_two" not in host.tables()
    assert "lb-two" not in host.links()


def test_more_sandboxes_than_addresses_one_after_the_other(host: Host) -> None:
    """Each number is used again when its sandbox is gone, and passed over while it is there."""
    found = host.open("one", range=ipaddress.IPv4Network("172.20.0.0/22"))

    def use() -> None:
        staying = namespaces.make()
        found.connect(staying)
        found._numbers = itertools.cycle([nat._FIRST, nat._FIRST + 1])
        found._how_many = 2
        another = namespaces.make()
        found.connect(another)
        with namespaces.inside(another), Route() as route:
            assert route.destinations(socket.AF_INET) == [(ipaddress.IPv4Network("0.0.0.0/0"), 2)]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.connect(("192.0.2.1", 9))
                assert asking.getsockname()[0] == str(found.ranges[0][nat._FIRST + 1])
        with pytest.raises(OSError, match=r"all 2 addresses of 172\.20\.0\.0/22 are in use"):
            found.connect(another)
        os.close(staying)
        os.close(another)

    host.run(use)


def test_packets_are_as_large_as_the_way_out_takes(host: Host) -> None:
    host.link("lan", mtu=9000)
    host.link("wan", mtu=1380, default=True)
    found = host.open("one")

    def size() -> int:
        sandbox = namespaces.make()
        found.connect(sandbox)
        with namespaces.inside(sandbox), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.connect(("192.0.2.1", 9))
            os.close(sandbox)
            return asking.getsockopt(socket.IPPROTO_IP, 14)  # IP_MTU

    assert host.run(size) == 1380
