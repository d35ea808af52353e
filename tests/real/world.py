"""A network beyond this host: a namespace with servers, a cable from there to here, and the addresses that both ends have.

Addresses are those that are set aside for documentation (RFC 5737, RFC 3849), so no real network has them.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from sandbox.native import namespaces
from sandbox.native.netlink import End, Network, Route

HERE, THERE = "198.51.100.1", "198.51.100.2"
HERE6, THERE6 = "2001:db8:77::1", "2001:db8:77::2"
METADATA = "169.254.169.254"
LINK = "testworld0"
_MAC = bytes.fromhex("026c616d6299")


class World:
    """Its servers answer every connection and datagram with the address that it came from; for every name it has one address."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "world")
        self.namespace = self._thread.submit(self._make).result()
        self.heard: list[tuple[str, bytes]] = []  #: datagrams: from whom, what
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._sockets: list[socket.socket] = []
        self.port = self._thread.submit(self._listen).result()
        self._server = threading.Thread(target=self._serve)
        self._server.start()

    def _make(self) -> int:
        namespace = namespaces.make()
        with Route() as host:
            host.add_cable(End(LINK), End("eth0", 2, namespace), _MAC, 1500)
            index = socket.if_nametoindex(LINK)
            host.link_up(index)
            for address in (HERE, HERE6):
                host.add_address(index, ipaddress.ip_address(address))
            for address in (THERE, THERE6, METADATA):
                host.add_route(ipaddress.ip_network(address), index)
        with namespaces.inside(namespace), Route() as there:
            there.loopback_up()
            there.link_up(2)
            for address in (THERE, THERE6, METADATA):
                there.add_address(2, ipaddress.ip_address(address))
            for everything in ("0.0.0.0/0", "::/0"):
                there.add_route(ipaddress.ip_network(everything), 2)
        return namespace

    def _listen(self) -> int:
        with namespaces.inside(self.namespace):
            tcp = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
            port: int = tcp.getsockname()[1]
            udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            udp.bind(("::", port))
            names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            names.bind((METADATA, 53))
        self._sockets = [tcp, udp, names]
        for sock in (*self._sockets, self._woken):
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)
        return port

    def _serve(self) -> None:
        tcp, udp, names = self._sockets
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    return
                if key.fileobj is tcp:
                    client, peer = tcp.accept()
                    with client:
                        client.sendall(_plain(peer[0]).encode())
                elif key.fileobj is names:
                    query, peer = names.recvfrom(1000)
                    names.sendto(_named(query), peer)
                else:
                    data, peer = udp.recvfrom(1000)
                    self.heard.append((_plain(peer[0]), data))
                    udp.sendto(_plain(peer[0]).encode(), peer)

    def reaches(self, address: str, port: int, within_s: float = 1.0) -> bool:
        """Whether a connection from there gets anywhere."""
        return self._thread.submit(self._reaches, address, port, within_s).result()

    def _reaches(self, address: str, port: int, within_s: float) -> bool:
        with namespaces.inside(self.namespace):
            try:
                socket.create_connection((address, port), within_s).close()
            except OSError:
                return False
            return True

    def close(self) -> None:
        self._wake.close()
        self._server.join()
        self._selector.close()
        for sock in (*self._sockets, self._woken):
            sock.close()
        self._thread.submit(self._unmake).result()
        self._thread.shutdown()
        os.close(self.namespace)

    def _unmake(self) -> None:
        with Route() as host:
            host.remove_link(LINK)


def _named(query: bytes) -> bytes:
    """RFC 1035: to the question for an IPv4 address that of the servers, to any other that there is none."""
    end = query.index(b"\0", 12) + 5
    answers = query[end - 4 : end] == b"\0\1\0\1"
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, answers, 0, 0)
    record = struct.pack("!HHHIH4s", 0xC00C, 1, 1, 60, 4, socket.inet_aton(THERE))
    return head + query[12:end] + (record if answers else b"")


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")


@contextlib.contextmanager
def world() -> Iterator[World]:
    made = World()
    try:
        yield made
    finally:
        made.close()


def networks(isolation: str) -> list[Network]:
    """The sandboxes' networks, as a driver says them."""
    _, _, said = isolation.partition("network: nat (")
    return [ipaddress.ip_network(word) for word in said.partition(")")[0].split(", ")]
