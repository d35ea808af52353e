"""What sandboxes' networks are made of: name servers, rules, addresses, and what is made ahead."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from sandbox.native import namespaces, nat, resolver, ruleset
from sandbox.native.netlink import End, Route
from sandbox.native.network import tcp_socket
from sandbox.native.spares import Spares

T = TypeVar("T")
RANGES = [ipaddress.ip_network("10.64.0.0/16"), ipaddress.ip_network("fd00:1::/64")]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has network namespaces")


def etc(root: Path, text: str, name: str = "etc/resolv.conf") -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nameserver 192.0.2.1\n", "nameserver 192.0.2.1\n"),
        (
            "# made by hand\nsearch corp.example  example\nnameserver 127.0.0.1\nnameserver\t2001:db8::53\noptions ndots:2\n",
            "nameserver 2001:db8::53\nsearch corp.example example\noptions ndots:2\n",
        ),
        ("nameserver fe80::1%eth0\nnameserver ::1\nnameserver 0.0.0.0\nnameserver\nnameserver nine\n", None),
        ("".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 6)), "".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 4))),
        ("", None),
    ],
)
def test_sandboxes_ask_the_name_servers_that_this_host_asks(text: str, expected: str | None, tmp_path: Path) -> None:
    etc(tmp_path, text)
    found = resolver.find(tmp_path).resolv_conf
    assert found == (expected or "# no name server but this machine's own, which is out of reach here\n")


def test_name_servers_behind_systemd_resolved(tmp_path: Path) -> None:
    assert resolver.find(tmp_path).servers == ()
    etc(tmp_path, "nameserver 127.0.0.53\n")
    etc(tmp_path, "nameserver 192.0.2.7\n", resolver.FILES[1])
    assert resolver.find(tmp_path).resolv_conf == "nameserver 192.0.2.7\n"


def whole() -> str:
    return ruleset.host(
        "lambent_test",
        "lb-test",
        RANGES,
        resolvers=[ipaddress.ip_address("192.0.2.53"), ipaddress.ip_address("2001:db8::53")],
        allowed=[ipaddress.ip_network("169.254.169.254"), ipaddress.ip_network("2001:db8::/32")],
        turned_on=[4, 6],
    )


def position(text: str, words: str) -> int:
    assert text.count(words) == 1, words
    return text.index(words)


def test_rules_are_in_the_order_that_closes_every_path() -> None:
    """Who is allowed to be reached is never another sandbox, and what is refused by kind may be allowed by name."""
    text = whole()
    for ip, family, other in (("ip", RANGES[0], "169.254.0.0/16"), ("ip6", RANGES[1], "fe80::/10")):
        sandboxes = position(text, f"{ip} daddr {family} goto refused")
        allowed = text.index("{ 169.254.169.254/32 } accept" if ip == "ip" else "{ 2001:db8::/32 } accept")
        assert position(text, f"{ip} saddr != {family} drop") < sandboxes < allowed < text.index(other)
        assert text.index(other) < position(text, "fib daddr type != unicast goto refused")
    assert "chain turned_on_ipv4 " in text
    assert "chain turned_on_ipv6 " in text


def test_without_ipv6_and_name_servers_there_is_no_rule_of_them() -> None:
    text = ruleset.host("lambent_test", "lb-test", RANGES[:1])
    assert "ip6" not in text
    assert "53" not in text
    assert "{ }" not in text.replace("table inet lambent_test { }", "")


@needs_root
def test_the_kernel_takes_the_rules() -> None:
    """In a namespace of its own, where nothing changes for anybody."""

    def attempt() -> list[tuple[str, str]]:
        namespace = namespaces.make()
        with namespaces.inside(namespace):
            os.close(namespace)
            for text in (whole(), ruleset.router()):
                ruleset.check(text)
            assert ruleset.tables() == []
            for text in (whole(), whole()):
                ruleset.load(text)
            ruleset.load("table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }")
            assert ruleset.dropping() == ["ip filter FORWARD"]
            ruleset.load(ruleset.router())
            with pytest.raises(ruleset.NftError, match="nft is refused: "):
                ruleset.load("table inet x {")
            return sorted(ruleset.tables())

    if not _has_nft():
        pytest.skip("nft is not installed")
    assert aside(attempt) == [("inet", "lambent"), ("inet", "lambent_test"), ("ip", "filter")]


def _has_nft() -> bool:
    try:
        return bool(ruleset.program())
    except ruleset.NftError:
        return False


def test_without_nft_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(ruleset, "DIRECTORIES", "/nowhere")
    with pytest.raises(ruleset.NftError, match="nft is not installed"):
        ruleset.tables()
    assert nat.sweep("nobody-of-this-name") == []


def aside(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


@needs_root
def test_a_cable_between_two_namespaces_carries_routes_and_goes_with_either() -> None:
    def lay() -> None:
        here, there = namespaces.make(), namespaces.make()
        with namespaces.inside(here):
            route = Route()
            route.loopback_up()
            route.add_cable(End("one", 7), End("two", 9, there), bytes.fromhex("026c616d6277"), 1400)
            route.link_up(7)
            route.add_route(ipaddress.ip_network("10.1.2.3"), 7)
            route.add_route(ipaddress.ip_network("fd00:7::/64"), 7)
            with pytest.raises(FileExistsError):
                route.add_route(ipaddress.ip_network("10.1.2.3"), 7)
            with pytest.raises(FileExistsError):
                route.add_cable(End("one", 7), End("two", 9, there), bytes.fromhex("026c616d6277"), 1400)

        assert (ipaddress.ip_network("10.1.2.3"), 7) in route.destinations(socket.AF_INET)
        assert (ipaddress.ip_network("fd00:7::/64"), 7) in route.destinations(socket.AF_INET6)
        with namespaces.inside(here):
            route.remove_link("one")
        assert route.destinations(socket.AF_INET) == []
        with pytest.raises(OSError, match="No such device"):
            route.remove_link("one")
        route.close()
        os.close(here)
        os.close(there)

    aside(lay)


@needs_root
def test_a_thread_comes_home_whatever_happens_inside() -> None:
    def wander() -> tuple[str, str]:
        home = os.readlink("/proc/thread-self/ns/net")
        other = namespaces.make()
        with pytest.raises(ZeroDivisionError), namespaces.inside(other):
            raise ZeroDivisionError
        os.close(other)
        return home, os.readlink("/proc/thread-self/ns/net")

    before, after = aside(wander)
    assert before == after == os.readlink("/proc/self/ns/net")


def test_a_host_has_ipv6_if_an_address_reaches_farther_than_its_link(tmp_path: Path) -> None:
    table = tmp_path / "if_inet6"
    lo = "00000000000000000000000000000001 01 80 10 80       lo\n"
    local = "fe8000000000000000fc00fffe000001 04 40 20 80     eth0\n"
    ours = "fdee5aeb0aff00000000000000000001 02 80 00 82 lb-0123456789ab\n"
    far = "20010db8000000000000000000000001 02 40 00 80     eth0\n"
    for text, expected in ((lo, False), (lo + local, False), (lo + local + ours, False), (lo + far, True)):
        table.write_text(text)
        assert nat.has_ipv6(table) is expected
    assert nat.has_ipv6(tmp_path / "none") is False


def test_names_fit_the_kernels_limits() -> None:
    assert nat.link_of("0123456789ab") == "lb-0123456789ab"
    assert len(nat.link_of("0123456789ab")) == 15
    assert ruleset.table_of("a-b.c") == "lambent_a_b_c"


async def until(right: Callable[[], bool]) -> None:
    while not right():  # noqa: ASYNC110  what it waits for is a thread's
        await asyncio.sleep(0)


async def test_spares_are_made_ahead_when_all_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.native.spares.QUIET_S", 0)
    made: list[int] = []
    dropped: list[int] = []

    def make() -> int:
        made.append(len(made))
        return made[-1]

    spares = Spares("thing", make, dropped.append, wanted=3)
    await spares.begin()
    await until(lambda: len(made) == 3)
    taken = [await spares.take() for _ in range(5)]
    assert len(set(taken)) == 5
    await until(lambda: len(made) == 8)
    await spares.close()
    assert sorted(taken + dropped) == made


async def test_a_spare_that_nobody_waits_for_any_more_is_kept() -> None:
    begun, go_on = threading.Event(), threading.Event()
    made: list[int] = []
    dropped: list[int] = []

    def make() -> int:
        begun.set()
        go_on.wait(10)
        made.append(len(made))
        return made[-1]

    spares = Spares("thing", make, dropped.append, wanted=0)
    waiting = asyncio.get_running_loop().create_task(spares.take())
    await asyncio.to_thread(begun.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    taken = await spares.take()
    await spares.close()
    assert sorted([taken, *dropped]) == made == [0, 1]


async def test_what_cannot_be_made_is_told_and_not_tried_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> int:
        raise OSError("no room")

    spares = Spares("thing", make, lambda _: None, wanted=2)
    with pytest.raises(OSError, match="no room"):
        await spares.begin()
    with pytest.raises(OSError, match="no room"):
        await spares.take()
    await spares.close()


@needs_root
def test_socket_of_a_process_that_has_ended_is_nobody_elses() -> None:
    """Its number can be another process's by then, which is in the host's network."""
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; read _"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        pidfd = os.pidfd_open(process.pid)
        with socket.socket(fileno=tcp_socket(os.dup(pidfd))) as inside, pytest.raises(OSError, match="unreachable"):
            inside.connect(("127.0.0.1", 1))
        process.kill()
        process.wait()
        with pytest.raises(ProcessLookupError):
            tcp_socket(pidfd)
