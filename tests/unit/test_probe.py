"""Facts of the host: each is found without leaving anything, and each that is not good says what to do."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from sandbox.native import cgroups, probe
from sandbox.native.probe import Fact, Level
from tests.unit.test_interpreters import made


def test_all_facts_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(os.listdir("/proc/self/fd")), os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/mnt")
    facts = probe.host()
    assert before == (set(os.listdir("/proc/self/fd")), os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/mnt"))
    names = [fact.name for fact in facts]
    assert len(set(names)) == len(names)
    assert {"rights", "kernel", "namespaces", "cgroups", "*.localhost", "runtime python3.8", "runtime provided.al2023"} <= set(
        names
    )
    for fact in facts:
        assert fact.detail
        assert bool(fact.remedy) == (fact.level is not Level.GOOD), fact
    for place in filter(None, map(cgroups.find_hierarchies().of, cgroups.V1_CONTROLLERS)):
        assert not list(place.glob("lambent-probe-*"))


def test_a_fact_as_one_line() -> None:
    assert str(Fact("cgroups", Level.GOOD, "v2")) == "cgroups: good: v2"
    assert str(Fact("images", Level.DEGRADED, "absent", "modprobe loop")) == "images: degraded: absent (modprobe loop)"


@pytest.mark.parametrize(
    ("release", "level"),
    [
        ("6.1.0-18-amd64", Level.GOOD),
        ("5.14.0", Level.GOOD),
        ("5.13.19", Level.DEGRADED),
        ("5.12.0", Level.DEGRADED),
        ("5.10.0-28-amd64", Level.MISSING),
        ("4.19.0", Level.MISSING),
        ("10.0", Level.GOOD),
    ],
)
def test_kernels(release: str, level: Level) -> None:
    assert probe.kernel(release).level is level


def test_without_root_there_is_no_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    fact = probe.rights()
    assert fact.level is Level.MISSING
    assert "without any isolation" in fact.detail


def test_a_resolver_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    given_up = threading.Event()

    def slow(host: str, *args: object, **kwargs: object) -> None:
        asked.append(host)
        given_up.wait()

    monkeypatch.setattr(probe, "RESOLVE_S", 0.01)
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    assert not probe.resolves_localhost()
    given_up.set()
    assert asked == ["lambent.localhost"]


def test_a_resolver_that_knows_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: [])
    assert probe.resolves_localhost()


def test_no_cgroups_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "find_hierarchies", lambda: cgroups.Hierarchies(None, frozenset(), {}))
    assert probe.control_groups().level is Level.MISSING


def test_groups_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = frozenset({"memory", "pids", "cpu"})
    monkeypatch.setattr(cgroups, "find_hierarchies", lambda: cgroups.Hierarchies(tmp_path / "absent", everything, {}))
    fact = probe.control_groups()
    assert fact.level is Level.MISSING
    assert "no group can be made" in fact.detail
    (tmp_path / "there").mkdir()
    monkeypatch.setattr(cgroups, "find_hierarchies", lambda: cgroups.Hierarchies(tmp_path / "there", everything, {}))
    assert probe.control_groups().level is Level.GOOD
    assert not list((tmp_path / "there").iterdir())
    monkeypatch.setattr(cgroups, "find_hierarchies", lambda: cgroups.Hierarchies(tmp_path / "there", frozenset({"cpu"}), {}))
    assert probe.control_groups().level is Level.MISSING


def test_runtimes_say_what_they_lack() -> None:
    facts = {fact.name: fact for fact in probe.runtimes([made("3.11.2"), made("3.12.1", "_ssl"), made("3.13.1", "_ctypes")])}
    assert facts["runtime python3.11"].level is Level.GOOD
    assert facts["runtime python3.12"].level is Level.DEGRADED
    assert "without _ssl" in facts["runtime python3.12"].detail
    assert facts["runtime python3.13"].level is Level.MISSING
    assert "build it again" in facts["runtime python3.13"].remedy
    assert facts["runtime python3.14"].level is Level.MISSING
    assert "uv python install 3.14" in facts["runtime python3.14"].remedy
    assert facts["runtime provided.al2"].level is Level.GOOD
