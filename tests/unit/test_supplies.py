"""As many kinds of stems as there are images: what nobody has any more is dropped, and what rests is not looked at."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.records import FunctionVersion
from gateway.scheduler.commands import Command, Freeze, Make, Run, Specialise, Stop
from gateway.scheduler.core import Core
from gateway.scheduler.policy import MIB, Policy
from gateway.scheduler.state import Instance
from gateway.scheduler.stems import RETRY_FINAL_S, Supply
from gateway.scheduler.waiting import Ticket
from sandbox.spec import Architecture, StemKey
from tests.sim.records import of_image, version

if TYPE_CHECKING:
    import pytest

_numbers = itertools.count(1)


class Host:
    """Performs what the core says at once, but for the ends of invocations."""

    def __init__(self, *, stems_min: int = 0, stems_max: int = 6) -> None:
        self.core = Core(Policy(memory_bytes=1 << 40, request_rate=0, stems_min=stems_min, stems_max=stems_max))
        self.now = 100.0
        self.running: list[Instance] = []
        self.makes = True

    def perform(self, commands: Sequence[Command]) -> None:
        backlog = list(commands)
        while backlog:
            match backlog.pop(0):
                case Make(instance) if self.makes:
                    backlog += self.core.made(instance, self.now)
                case Make(instance):
                    backlog += self.core.make_failed(instance, self.now, OSError("no such image"), final=True)
                case Specialise(instance):
                    backlog += self.core.started(instance, self.now)
                case Freeze(instance):
                    backlog += self.core.measured(instance, 30 * MIB, self.now)
                case Stop(instance):
                    backlog += self.core.stopped(instance, self.now)
                case Run(_, instance):
                    self.running.append(instance)

    def use(self, one: FunctionVersion, change: int) -> None:
        self.perform(self.core.used(one.stem, change, self.now))

    def replace(self, old: FunctionVersion, new: FunctionVersion) -> None:
        """As the pool does it."""
        self.perform(self.core.retired((old.name, old.version, old.generation), self.now))
        self.use(new, 1)
        self.use(old, -1)

    def invoke(self, one: FunctionVersion) -> None:
        self.perform(self.core.arrived(Ticket(self.now + 30), one, self.now))

    def answer(self) -> None:
        while self.running:
            instance = self.running.pop()
            self.core.settled(instance, self.now)
            self.perform(self.core.idled(instance, self.now))

    def pass_time(self, seconds: float) -> None:
        end_s = self.now + seconds
        while self.core.wake_s <= end_s:
            self.now = max(self.now, self.core.wake_s)
            self.perform(self.core.tick(self.now))
        self.now = end_s


def image(number: int, name: str = "one") -> FunctionVersion:
    return dataclasses.replace(version(name, generation=next(_numbers), runtime=""), image=of_image(f"sha256:{number:064}"))


def test_images_that_were_replaced_leave_nothing_behind() -> None:
    host = Host()
    one = image(0)
    host.use(one, 1)
    for number in range(1, 200):
        host.invoke(one)
        host.answer()
        new = image(number)
        host.replace(one, new)
        one = new
        host.pass_time(0.1)
        assert len(host.core.supplies) <= 2
    host.perform(host.core.retired((one.name, one.version, one.generation), host.now))
    host.use(one, -1)
    host.pass_time(1.0)
    assert not host.core.supplies
    assert not host.core.stirring


def test_an_image_that_still_works_is_dropped_when_it_has_answered() -> None:
    host = Host()
    old, new = image(1), image(2)
    host.use(old, 1)
    host.invoke(old)
    host.replace(old, new)
    host.pass_time(5.0)
    assert set(host.core.supplies) == {old.stem, new.stem}
    host.answer()
    host.pass_time(90.0)
    assert set(host.core.supplies) == {new.stem}


def test_an_image_that_cannot_be_made_is_not_tried_sooner_because_its_function_was_made_again() -> None:
    host = Host()
    host.makes = False
    one = image(1)
    host.use(one, 1)
    host.invoke(one)
    retry_s = host.core.supplies[one.stem].retry_s
    assert retry_s == host.now + RETRY_FINAL_S
    host.perform(host.core.retired((one.name, one.version, one.generation), host.now))
    host.use(one, -1)
    host.pass_time(1.0)
    again = image(1)
    host.use(again, 1)
    assert host.core.supplies[again.stem].retry_s == retry_s
    host.use(again, -1)
    host.pass_time(RETRY_FINAL_S)
    assert not host.core.supplies


def test_what_a_runtime_has_learned_is_there_for_its_next_function() -> None:
    host = Host()
    one = version("one")
    host.use(one, 1)
    host.invoke(one)
    host.answer()
    learned_s = host.core.supplies[one.stem].cold_s.value
    assert learned_s is not None
    host.perform(host.core.retired((one.name, one.version, one.generation), host.now))
    host.use(one, -1)
    host.pass_time(600.0)
    assert host.core.supplies[one.stem].cold_s.value == learned_s


def test_a_tick_looks_at_no_supply_that_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(stems_min=2)
    for number in range(1000):
        host.use(image(number, f"f{number}"), 1)
    python = StemKey("python3.11", Architecture.X86_64)
    host.perform(host.core.used(python, 1, host.now))
    host.pass_time(1.0)
    assert len(host.core.supplies) == 1001
    host.perform(host.core.tick(host.now))
    looked_at: list[Supply] = []
    decay = Supply.decay

    def looks(supply: Supply, now: float) -> None:
        looked_at.append(supply)
        decay(supply, now)

    monkeypatch.setattr(Supply, "decay", looks)
    host.perform(host.core.tick(host.now))
    assert not looked_at
    stem = next(iter(host.core.stems))
    host.perform(host.core.died(stem, host.now))
    host.perform(host.core.tick(host.now))
    assert looked_at == [host.core.supplies[python]]
    host.pass_time(1.0)
    assert len(host.core.supplies[python].ready) == 2
