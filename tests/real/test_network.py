"""Functions in real sandboxes and a network: what they reach through nat, and each path that must be closed.

Closed paths lead to servers that are really there, so that only the path can be what keeps a function from them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.bench.instance import Instance
from sandbox.native import nat, ruleset
from sandbox.native.surroundings import nft
from sandbox.sandbox import Sandbox
from sandbox.testing import PlainLog
from tests import leftovers
from tests.conftest import client_for
from tests.real.product import Product
from tests.real.spawned import SPARES, Spawned, call, spawned
from tests.real.world import HERE, HERE6, METADATA, THERE, THERE6, World, networks, world

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]

CODE = """
import errno, os, socket, threading, time

def names(error):
    return errno.errorcode.get(error.errno, str(error))

def tcp(address, port, unix=False):
    if unix:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect(address)
        return "reached"
    with socket.create_connection((address, port), 1.5) as s:
        s.settimeout(3)
        return s.recv(100).decode() or "reached"

def udp(address, port, source=None):
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(1)
    if source:
        s.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND
        s.bind((source, 0))
    s.connect((address, port))
    s.send(b"hello")
    return s.recv(100).decode()

def greet(server):
    while True:
        client, _ = server.accept()
        client.sendall(b"neighbour")
        client.close()

def listen():
    server = socket.create_server(("::", 8000), family=socket.AF_INET6, dualstack_ipv6=True)
    threading.Thread(target=greet, args=(server,), daemon=True).start()
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("198.51.100.2", 1))
    found = [s.getsockname()[0]]
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.connect(("2001:db8:77::2", 1))
    return found + [s.getsockname()[0]]

def read(path):
    return open(path).read()

def handler(tasks, context):
    answers = []
    for name, *arguments in tasks:
        began = time.monotonic()
        try:
            answers.append(globals()[name](*arguments))
        except OSError as error:
            answers.append(names(error) if time.monotonic() - began < 0.9 else "silence")
    return answers
"""
REFUSED = {"ECONNREFUSED", "EHOSTUNREACH", "EACCES"}  #: at once: what the kernel makes of a reset and of ICMP errors


@pytest.fixture(scope="module", autouse=True)
def beyond() -> Iterator[World]:
    if (fact := nft()).command:
        pytest.skip(str(fact))
    with world() as made:
        yield made


@pytest.fixture
async def host(tmp_path: Path, owner: str) -> AsyncIterator[Spawned]:
    async with spawned(tmp_path, owner, network="nat") as spawner:
        yield spawner


@contextlib.asynccontextmanager
async def function(spawner: Spawned) -> AsyncIterator[Sandbox]:
    spec = spawner.spec(CODE)
    sandbox = await spawner.open(spec)
    try:
        await sandbox.init(spec, PlainLog())
        yield sandbox
    finally:
        await sandbox.stop()


async def ask(sandbox: Sandbox, *tasks: tuple[Any, ...]) -> list[Any]:
    outcome = await call(sandbox, json.dumps(tasks).encode(), timeout_s=40)
    answers = json.loads(outcome.payload)
    assert isinstance(answers, list), outcome
    return answers


@pytest.fixture
def ours() -> Iterator[int]:
    """The port of a server on this host, at all its addresses. Nobody accepts: the kernel completes the connections."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        yield server.getsockname()[1]


async def test_the_world_is_reached_and_sees_this_host(host: Spawned, beyond: World) -> None:
    async with function(host) as sandbox:
        answers = await ask(
            sandbox,
            *(("tcp", address, beyond.port) for address in (THERE, THERE6)),
            *(("udp", address, beyond.port) for address in (THERE, THERE6)),
            ("tcp", THERE, 1),
            ("read", "/etc/resolv.conf"),
        )
    *reached, refused, resolv_conf = answers
    assert reached == [HERE, HERE6, HERE, HERE6]
    assert refused == "ECONNREFUSED"  # by the host that was meant
    assert "127." not in resolv_conf


async def test_each_forbidden_path_is_closed_at_once(host: Spawned, beyond: World, ours: int) -> None:
    """This host by all its addresses, the metadata service, the router, another sandbox and its Runtime API, ours by socket."""
    async with function(host) as sandbox, function(host) as neighbour:
        ((there, there6),) = await ask(neighbour, ("listen",))
        assert {there, there6} & {str(n.network_address) for n in networks(host.driver.isolation)} == set()
        paths = {
            "host": ("tcp", HERE, ours),
            "host, IPv6": ("tcp", HERE6, ours),
            "host, datagram": ("udp", HERE, ours),
            "metadata": ("tcp", METADATA, beyond.port),
            "metadata of AWS, IPv6": ("tcp", "fd00:ec2::254", 80),
            "router": ("tcp", str(networks(host.driver.isolation)[0][1]), 80),
            "neighbour": ("tcp", there, 8000),
            "neighbour, IPv6": ("tcp", there6, 8000),
            "neighbour's Runtime API": ("tcp", there, 9001),
            "neighbour's Lambda API": ("tcp", there, 9002),
            "address of nobody": ("tcp", str(networks(host.driver.isolation)[0][60000]), 80),
        }
        found = dict(zip(paths, await ask(sandbox, *paths.values()), strict=True))
        # The server is there: its own sandbox reaches it at that address.
        assert await ask(neighbour, ("tcp", there, 8000), ("tcp", there6, 8000)) == ["neighbour", "neighbour"]
        (socket_answer,) = await ask(sandbox, ("tcp", str(host.directory / "spawner.sock"), 0, True))
    router = found.pop("router")
    assert router in REFUSED | {"silence"}
    assert {name: answer for name, answer in found.items() if answer not in REFUSED} == {}
    assert socket_answer == "ENOENT"


async def test_what_is_allowed_is_reached_and_nothing_else(tmp_path: Path, owner: str, beyond: World, ours: int) -> None:
    allowed = [METADATA, HERE6, "10.64.0.0/10"]
    async with (
        spawned(tmp_path, owner, network="nat", network_allow=allowed) as spawner,
        function(spawner) as sandbox,
        function(spawner) as neighbour,
    ):
        ((there, _),) = await ask(neighbour, ("listen",))
        answers = await ask(
            sandbox,
            ("tcp", METADATA, beyond.port),
            ("tcp", HERE6, ours),
            ("tcp", HERE, ours),
            ("tcp", there, 8000),
        )
    assert answers[0] == HERE
    assert answers[1] == "silence"  # it was reached: the server of this test takes connections and says nothing
    assert set(answers[2:]) <= REFUSED


async def test_nobody_speaks_in_anothers_name(host: Spawned, beyond: World) -> None:
    """IPV6_FREEBIND lets any process bind an address that is not its own."""
    async with function(host) as sandbox, function(host) as neighbour:
        ((_, there6),) = await ask(neighbour, ("listen",))
        beyond.heard.clear()
        assert await ask(sandbox, ("udp", THERE6, beyond.port)) == [HERE6]
        answers = await ask(sandbox, *(("udp", THERE6, beyond.port, source) for source in (there6, "2001:db8:77::9")))
    assert not {HERE6, HERE} & set(answers)
    assert len(beyond.heard) == 1


async def test_nobody_comes_in(host: Spawned, beyond: World) -> None:
    async with function(host) as sandbox:
        ((address, address6),) = await ask(sandbox, ("listen",))
        assert not beyond.reaches(address, 8000)
        assert not beyond.reaches(address6, 8000)


async def test_two_on_one_host(tmp_path: Path, owner: str, host: Spawned, beyond: World) -> None:
    """Each has addresses of its own, neither reaches the other's, and the end of one does not touch the other."""
    (tmp_path / "other").mkdir()
    other_owner = owner[:-1] + "x"
    async with function(host) as sandbox:
        async with spawned(tmp_path / "other", other_owner, network="nat") as other, function(other) as stranger:
            ranges = [*networks(host.driver.isolation), *networks(other.driver.isolation)]
            assert not any(a.overlaps(b) for a in ranges for b in ranges if a is not b and a.version == b.version)
            ((there, there6),) = await ask(stranger, ("listen",))
            assert await ask(stranger, ("tcp", THERE, beyond.port)) == [HERE]
            answers = await ask(sandbox, ("tcp", there, 8000), ("tcp", there6, 8000), ("tcp", THERE, beyond.port))
        assert answers == ["silence", "silence", HERE]
        assert leftovers.labelled([other_owner], []) == []
        assert await ask(sandbox, ("tcp", THERE, beyond.port), ("tcp", THERE6, beyond.port)) == [HERE, HERE6]
    assert nat._FORWARDING[4].read_text().strip() == "1"


async def test_a_crash_leaves_only_what_a_sweep_finds(host: Spawned, beyond: World) -> None:
    async with function(host) as sandbox:
        assert await ask(sandbox, ("tcp", THERE, beyond.port)) == [HERE]
        assert {ruleset.table_of(host.owner), nat.link_of(host.owner)} <= {
            word for thing in named(host) for word in thing.split()
        }
        await host.kill()
    assert named(host) == []
    await host.start()
    async with function(host) as sandbox:
        assert await ask(sandbox, ("tcp", THERE, beyond.port)) == [HERE]


def named(spawner: Spawned) -> list[str]:
    return [thing for thing in leftovers.labelled([spawner.owner], []) if thing.startswith(("link", "nft"))]


async def test_none_has_a_loopback_and_nothing_else(tmp_path: Path, owner: str, beyond: World) -> None:
    async with spawned(tmp_path, owner) as spawner:
        assert spawner.driver.isolation.endswith("network: none")
        async with function(spawner) as sandbox:
            answers = await ask(sandbox, ("tcp", THERE, beyond.port), ("tcp", THERE6, beyond.port), ("tcp", "127.0.0.1", 9))
        assert answers == ["ENETUNREACH", "ENETUNREACH", "ECONNREFUSED"]
        assert named(spawner) == []


async def test_no_address_is_used_by_two(host: Spawned) -> None:
    """More than there were spares."""
    async with contextlib.AsyncExitStack() as opened:
        functions = await asyncio.gather(*(opened.enter_async_context(function(host)) for _ in range(2 * SPARES)))
        answers = [(await ask(sandbox, ("listen",)))[0] for sandbox in functions]
    assert len({tuple(each) for each in answers}) == len(functions)


NAMES = "import socket\ndef handler(name, context):\n return socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)[0][4][0]\n"
RESOLV_CONF = 'printf "%b" "$1" >"$2"; mount --bind "$2" /etc/resolv.conf; shift 2; exec "$@"'


def with_name_servers(directory: Path, text: str) -> tuple[str, ...]:
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", RESOLV_CONF, "sh", text, str(directory / "resolv.conf"))


def test_names_are_resolved_by_this_hosts_name_server_also_at_an_address_that_is_closed(
    up: Callable[..., Instance], tmp_path: Path
) -> None:
    """As on Google's cloud, whose metadata service is the name server."""
    with up(*with_name_servers(tmp_path, f"nameserver {METADATA}\\n"), network="nat") as instance:
        client = client_for(instance.endpoint)
        product = Product(instance, client)
        assert product.invoke(product.deploy(NAMES), "anything.example").value == THERE
        client.close()


def test_without_a_name_server_functions_run_and_it_is_said(up: Callable[..., Instance], tmp_path: Path) -> None:
    with up(*with_name_servers(tmp_path, "nameserver 127.0.0.53\\n"), network="nat") as instance:
        assert "no name server" in instance.status()["isolation"]
        assert "functions cannot resolve names" in instance.log.read_text()
        client = client_for(instance.endpoint)
        product = Product(instance, client)
        answer = product.invoke(product.deploy(NAMES), "anything.example")
        assert answer.value["errorType"] == "gaierror"
        assert answer.took_s < 3
        client.close()
