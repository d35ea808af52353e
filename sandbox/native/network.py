"""The networks of sandboxes, each made before there is a sandbox for it and gone with it.

A network is a namespace of its own with two sockets that listen on its loopback, the Runtime API's and the Lambda API's: only who
is in there reaches them, and whoever holds the descriptors serves them. With `nat` it has a cable to the router as well.

None is ever used twice. Making one takes 1.2 ms and nobody waits for its end (measured 2026-11-21: one made and one ended, again
and again, 1.2 to 1.6 ms each), so there is nothing that one function could leave in it for another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import logging
import os
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sandbox.native import namespaces, nat, resolver, ruleset
from sandbox.native.netlink import Route
from sandbox.native.places import LAMBDA_API, RUNTIME_API

log = logging.getLogger("lambent.spawner")

NO_NAMES = "# no network\n"


@dataclasses.dataclass(slots=True)
class Network:
    """Descriptors; whoever has them closes them."""

    namespace: int
    runtime_api: int  #: listening
    lambda_api: int  #: listening

    def close(self) -> None:
        for fd in (self.namespace, self.runtime_api, self.lambda_api):
            os.close(fd)


class Networks:
    """Makes them. `run` is in whose thread everything here happens, because a thread changes its namespace meanwhile."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1, "networks")
        self.resolv_conf = NO_NAMES
        self.said = "none"  #: what there is, for people
        self._nat: nat.Nat | None = None

    def open(self, mode: str, wish: nat.Wish) -> None:
        """`mode` is none, nat, or auto for nat where it can be had. Raises OSError where it must be and cannot."""
        if mode == "none":
            return
        upstream = resolver.find()
        try:
            self._nat = nat.Nat.open(wish, upstream)
        except nat.Unavailable as error:
            if mode == "nat":
                raise OSError(
                    f"network: nat cannot be had: {error}. `lambent doctor` tells more; --network none needs nothing"
                ) from error
            self.said = f"none (no nat: {error})"
            log.warning("functions have no network, because nat cannot be had: %s", error)
            return
        self.resolv_conf = upstream.resolv_conf
        self.said = f"nat ({self._nat})"
        if not upstream.servers:
            self.said += ", no name server"
            log.warning("functions cannot resolve names: this machine knows no name server but itself (/etc/resolv.conf)")
        with contextlib.suppress(ruleset.NftError):
            for chain in ruleset.dropping():
                log.warning(
                    "nft chain %s drops what it does not know, so perhaps what functions send; see `lambent doctor`", chain
                )

    def make(self) -> Network:
        """Raises OSError."""
        with contextlib.ExitStack() as undo:
            namespace = namespaces.make()
            undo.callback(os.close, namespace)
            with namespaces.inside(namespace):
                with Route() as route:
                    route.loopback_up()
                listeners = []
                for address in (RUNTIME_API, LAMBDA_API):
                    listeners.append(_listener(address))
                    undo.callback(os.close, listeners[-1])
            if self._nat is not None:
                self._nat.connect(namespace)
            undo.pop_all()
        return Network(namespace, *listeners)

    def close(self) -> None:
        if self._nat is not None:
            self._nat.close()


def wish(owner: str, allowed: Sequence[str], addresses: str | None) -> nat.Wish:
    """From the words of the command line. Raises ValueError."""
    return nat.Wish(
        owner=owner,
        allowed=tuple(ipaddress.ip_network(each) for each in allowed),
        range=ipaddress.IPv4Network(addresses) if addresses else None,
    )


def tcp_socket(process: int) -> int:
    """An unconnected TCP socket of the network that a process is in. `process` is a pidfd, which is closed: a number could be
    another process's by now, and its network the host's. Raises OSError, ProcessLookupError where the process has ended."""
    try:
        with namespaces.inside(process), socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as made:
            return made.detach()
    finally:
        os.close(process)


def _listener(address: tuple[str, int]) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(64)
        return listener.detach()
