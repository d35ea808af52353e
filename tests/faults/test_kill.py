"""What is defined to happen when a part of Lambent is killed under load, and that nothing is left of it.

What dies takes with it what it alone held, and is replaced: the spawner takes all sandboxes, and what ran in them ends as AWS's
error; a zygote takes nothing; the gateway takes all connections and sandboxes, and leaves what was stored; the supervisor takes
everything. Requests that were waiting for a sandbox just wait a little longer.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from gateway.up import owner_of
from sandbox.native.cgroups import Cgroups
from sandbox.native.config import SPARE_GROUPS
from tests import leftovers
from tests.faults.conftest import Start
from tests.faults.load import End, Load
from tests.processes import children, descriptors
from tests.real.product import Product, connected

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(120)]

WORK = "import time\ndef handler(event, context):\n time.sleep(0.02)\n return {'statusCode': 200, 'body': 'done'}\n"
RECOVERED_S = 5.0  #: "about a second" on a machine with nothing else to do
GONE_S = 10.0
REQUEST_S = 10.0  #: the longest that any request may have taken, with a kill in the middle
WARM = 40  #: answers before a kill


def deploy(product: Product, code: str) -> tuple[str, str]:
    """A function and the path of its URL."""
    name = product.deploy(code, Timeout=60)
    product.publish_url(name)
    return name, product.url_path(name)


def load(product: Product, *, churn: bool = True) -> Load:
    name, path = deploy(product, WORK)
    return Load(product.client, product.instance.endpoint, name, path, churn=churn)


def eventually(right: Callable[[], bool], within_s: float = GONE_S) -> bool:
    deadline_s = time.monotonic() + within_s
    while not right():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.01)
    return True


def alive(pids: Iterable[int]) -> set[int]:
    return {pid for pid in pids if not leftovers.dead(pid)}


def at_rest(product: Product) -> bool:
    """Nothing is on its way, and the host has exactly what the gateway knows of: neither more nor less."""
    states = product.instance.status()["sandboxes"]
    if states.keys() - {"idle", "frozen", "stem"}:
        return False
    known = sum(states.values())
    family = product.family
    bases = Cgroups(owner_of(product.instance.data_dir)).bases
    groups = {path.name for base in bases for path in (base / "sandboxes").iterdir() if path.is_dir()}
    unreaped = [child for child in children(family.spawner) if child.state == "Z"]
    return len(family.inits) == len(groups) - SPARE_GROUPS == known and not unreaped


def check(work: Load, *allowed: End) -> None:
    """Every request ended in time and as is defined."""
    assert set(work.ends()) <= {End.OK, *allowed}, [request for request in work.done if request.end not in {End.OK, *allowed}][:5]
    slowest = max(work.done, key=lambda request: request.ended_s - request.begun_s)
    assert slowest.ended_s - slowest.begun_s < REQUEST_S, slowest


def kill(*pids: int) -> float:
    """When it was done. The first may have taken others along already."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def test_the_spawner(start: Start) -> None:
    product = start()
    with load(product) as work:
        work.answered(WARM, 0, 20)
        before = product.family
        killed_s = kill(before.spawner)
        took_s = work.answered(WARM, killed_s, RECOVERED_S)
        again_s = kill(product.family.spawner)  # of one that has hardly begun
        work.answered(WARM, again_s, RECOVERED_S)
    check(work, End.FAILED, End.REFUSED)
    print(f"answered again {took_s * 1000:.0f} ms after the spawner was killed; {work.ends()}")
    assert eventually(lambda: not alive([*before.inits, *before.runtimes, *before.zygotes]))
    assert eventually(lambda: at_rest(product)), product.instance.status()
    assert product.family.gateway == before.gateway


def test_a_zygote(start: Start) -> None:
    """No request fails: those that run do not need it, those that wait for a sandbox wait for the next zygote."""
    product = start()
    with load(product) as work:
        work.answered(WARM, 0, 20)
        before = product.family
        for _ in range(2):
            (zygote,) = product.family.zygotes
            killed_s = kill(zygote)
            work.answered(WARM, killed_s, RECOVERED_S)
            assert eventually(lambda zygote=zygote: product.family.zygotes not in ([], [zygote]))  # type: ignore[misc]
    check(work)
    assert eventually(lambda: at_rest(product)), product.instance.status()
    assert (product.family.gateway, product.family.spawner) == (before.gateway, before.spawner)


def test_the_gateway(start: Start) -> None:
    """Another one takes its place at the same address, with what was stored; the sandboxes of the old one end."""
    product = start()
    with load(product) as work:
        work.answered(WARM, 0, 20)
        before = product.family
        killed_s = kill(before.gateway)
        took_s = work.answered(WARM, killed_s, RECOVERED_S)
    check(work, End.FAILED, End.REFUSED, End.CUT)
    print(f"answered again {took_s * 1000:.0f} ms after the gateway was killed; {work.ends()}")
    assert eventually(lambda: not alive([*before.inits, *before.runtimes]))
    assert eventually(lambda: at_rest(product)), product.instance.status()
    assert product.family.spawner == before.spawner


def test_the_supervisor(start: Start) -> None:
    """Nobody is left who could start anything again, so everything ends, and takes its traces along."""
    product = start()
    instance = product.instance
    with load(product) as work:
        work.answered(WARM, 0, 20)
        before = product.family
        everything = before.all
        kill(before.supervisor)
        instance.process.wait()
        assert eventually(lambda: not leftovers.labelled([owner_of(instance.data_dir)], [instance.data_dir])), leftovers.labelled(
            [owner_of(instance.data_dir)], [instance.data_dir]
        )
    check(work, End.FAILED, End.REFUSED, End.CUT)
    assert not alive(everything)


def test_a_new_start_at_once(start: Start) -> None:
    """As a service manager does it: it waits until the old spawner has cleaned up, and neither harms the other."""
    product = start()
    with load(product) as work:
        work.answered(WARM, 0, 20)
        everything = product.family.all
        kill(product.instance.process.pid)
        product.instance.process.wait()
        again = start()
    assert not alive(everything)
    assert again.invoke(product.made[0]).value["body"] == "done"
    assert eventually(lambda: at_rest(again)), again.instance.status()
    assert Path(f"/run/lambent/{owner_of(again.instance.data_dir)}/gateway/spawner.sock").is_socket()


def test_everything_at_once_and_then_a_new_start(start: Start) -> None:
    """What nobody could clean up any more is cleaned up by the next start, and what was stored is there."""
    product = start()
    instance = product.instance
    with load(product) as work:
        work.answered(WARM, 0, 20)
        before = product.family
        everything = before.all
        kill(before.supervisor, before.spawner, before.gateway, *before.zygotes)
        instance.process.wait()
        assert eventually(lambda: not alive({before.spawner, before.gateway, *before.zygotes}))
    check(work, End.FAILED, End.REFUSED, End.CUT)
    again = start()
    assert "removed what was left by an earlier run" in again.instance.log.read_text()
    assert not alive(everything)
    name = product.made[0]
    assert again.invoke(name).value["body"] == "done"
    again.client.delete_function(FunctionName=name)
    assert eventually(lambda: at_rest(again)), again.instance.status()


def test_all_but_the_inits_while_their_sandboxes_sleep_and_work(start: Start) -> None:
    """A frozen sandbox and one that computes end with the rest, without anybody who would tell them."""
    product = start(freeze_after_ms=0)
    busy, path = deploy(product, "import time\ndef handler(event, context):\n while True: pass\n")
    frozen = product.deploy(WORK)
    product.invoke(frozen)
    product.client.meta.config.read_timeout = 5
    with Load(product.client, product.instance.endpoint, busy, path, callers=3):
        assert eventually(lambda: product.sandboxes(busy).get("reserved", 0) >= 1 and "frozen" in product.sandboxes(frozen))
        before = product.family
        everything = before.all
        kill(before.supervisor, before.spawner, before.gateway, *before.zygotes)
        product.instance.process.wait()
        assert eventually(lambda: not alive(everything))
    start()


@pytest.mark.parametrize("whose", ["init", "runtime"])
def test_processes_of_sandboxes(start: Start, whose: str) -> None:
    """Stems, starting, working, sleeping ones: whatever it hits, each kill costs at most the request that ran there."""
    product = start(freeze_after_ms=5)
    chance = random.Random(whose)
    with load(product) as work:
        work.answered(WARM, 0, 20)
        victims = []
        for _ in range(KILLS):
            family = product.family
            there = family.inits if whose == "init" else family.runtimes
            chosen = chance.sample(there, min(1, len(there)))
            killed_s = kill(*chosen)
            victims += chosen
            time.sleep(0.03)
        work.answered(WARM, killed_s, RECOVERED_S)
    check(work, End.FAILED)
    assert 0 < work.ends()[End.FAILED] <= KILLS
    assert eventually(lambda: not alive(victims))
    assert eventually(lambda: at_rest(product)), product.instance.status()


def open_door(product: Product) -> bool:
    try:
        connected(product.instance.endpoint).close()
    except ConnectionRefusedError:
        return False
    return True


KILLS = 40
SLOW = "import time\ndef handler(event, context):\n time.sleep(0.7)\n return {'statusCode': 200, 'body': 'done'}\n"
LONG = "import time\ndef handler(event, context):\n time.sleep(60)\n"


def test_sigterm_lets_finish_what_runs(start: Start) -> None:
    product = start(drain_s=10)
    name, path = deploy(product, SLOW)
    with Load(product.client, product.instance.endpoint, name, path) as work:
        work.answered(12, 0, 20)
        told_s = time.monotonic()
        product.instance.process.send_signal(signal.SIGTERM)
        assert product.instance.process.wait(GONE_S) == 0
        ended_s = time.monotonic()
    begun = [request for request in work.done if request.begun_s < told_s - 0.1 < request.ended_s]
    assert begun
    assert {request.end for request in begun} == {End.OK}, begun
    assert {request.end for request in work.done if request.begun_s > told_s + 0.1} == {End.CUT}
    assert ended_s - told_s < 5
    assert leftovers.labelled([owner_of(product.instance.data_dir)], [product.instance.data_dir]) == []


@pytest.mark.parametrize(("drain_s", "twice"), [(1, False), (60, True)], ids=["budget", "second signal"])
def test_sigterm_does_not_wait_for_ever(start: Start, drain_s: int, twice: bool) -> None:
    product = start(drain_s=drain_s)
    process = product.instance.process
    name, path = deploy(product, LONG)
    with Load(product.client, product.instance.endpoint, name, path, callers=3) as work:
        assert eventually(lambda: product.sandboxes(name).get("reserved", 0) >= 1)
        told_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        if twice:
            assert eventually(lambda: not open_door(product))
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
        assert process.wait(GONE_S) == 0
    assert set(work.ends(told_s)) <= {End.CUT, End.REFUSED, End.FAILED}
    assert leftovers.labelled([owner_of(product.instance.data_dir)], [product.instance.data_dir]) == []


CYCLES = 200


def test_no_descriptor_is_lost_over_many_lives(start: Start) -> None:
    """Every invocation has a sandbox of its own, which is stopped right after it."""
    product = start(keep_alive="fixed", keep_alive_s=0, freeze_after_ms=0, stems_min=2, stems_max=2)
    name = product.deploy(WORK.replace("time.sleep(0.02)", "pass"))

    def cycles(count: int) -> tuple[int, int, int]:
        for _ in range(count):
            assert product.invoke(name).function_error is None
        assert eventually(lambda: at_rest(product) and not product.sandboxes(name)), product.instance.status()
        family = product.family
        return descriptors(family.gateway), descriptors(family.spawner), len(children(family.spawner))

    cycles(20)
    before = cycles(1)
    after = cycles(CYCLES)
    assert all(more - less <= 12 for less, more in zip(before, after, strict=True)), (before, after)
