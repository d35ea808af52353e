"""A network of the engine's with the Runtime API at its bridge, where containers cannot be given networks of Lambent's own.

Each container has two ports there that are nobody else's: a filter in the kernel drops whatever does not come from that
container's own address, before there is a connection. So one container cannot speak for another, nor can another program of this
machine, and a runtime's client needs to know of no secret: AWS_LAMBDA_RUNTIME_API is an address and a port, as everywhere. A
container cannot take another one's address, because it has no right to (NET_RAW, NET_ADMIN) and an answer would not reach it.

The network is the engine's in everything else: names, what functions reach, and what keeps containers apart. It is made when the
spawner starts and goes when it ends; without a network for functions it is one that leads nowhere but to the bridge.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import Final

from sandbox.guest import syscalls
from sandbox.images.engine import Engine, EngineFailed
from sandbox.native.network import Network

_SO_ATTACH_FILTER: Final = 26
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
_SOURCE: Final = 0xFFF00000 + 12  # SKF_NET_OFF, and where an IPv4 header has the address of who sent it
_ALL: Final = 0xFFFFFFFF


class Bridge:
    """`open` it first; `networks` for each container that is in it."""

    def __init__(self, engine: Engine, owner: str, *, internal: bool) -> None:
        self._engine = engine
        self._label = f"lambent.owner={owner}"
        self._internal = internal
        self.name = f"lambent-{owner}"
        self.address = ""  #: of the bridge on this machine

    async def open(self) -> None:
        """Make the network anew. Raises EngineUnavailable, EngineRefused."""
        await self.close()
        self.address = await self._engine.create_network(self.name, self._label, internal=self._internal)

    async def close(self) -> None:
        """Remove what bears the label. Raises EngineUnavailable, EngineRefused where a container is still in it."""
        await self._engine.remove_networks(self._label)

    async def network(self, container: str, pidfd: int) -> tuple[Network, str, str]:
        """A container's own network, and where the Runtime API and the Lambda API are for it.

        Raises EngineUnavailable, EngineRefused, OSError.
        """
        peer = await self._engine.address(container, self.name)
        if not peer:
            raise EngineFailed(f"the Docker Engine gave container {container} no address in network {self.name}")
        namespace = os.open(f"/proc/{syscalls.pid_of(pidfd)}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        found = [namespace]
        try:
            said = []
            for _ in range(2):
                fd, port = listener(self.address, peer)
                found.append(fd)
                said.append(f"{self.address}:{port}")
        except BaseException:
            for fd in found:
                os.close(fd)
            raise
        return Network(*found), said[0], said[1]


def listener(address: str, peer: str) -> tuple[int, int]:
    """A listening socket at a port of `address` for who has the address `peer`, and the port. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        _only_from(sock, peer)
        sock.setblocking(False)
        sock.bind((address, 0))
        sock.listen(64)
        port: int = sock.getsockname()[1]
        return sock.detach(), port


def _only_from(sock: socket.socket, peer: str) -> None:
    """Drop every packet of another sender; what is accepted inherits it."""
    (wanted,) = struct.unpack("!I", socket.inet_aton(peer))
    steps = ((_LOAD_WORD, 0, 0, _SOURCE), (_JUMP_IF_EQUAL, 0, 1, wanted), (_RETURN, 0, 0, _ALL), (_RETURN, 0, 0, 0))
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(steps), ctypes.addressof(program)))
