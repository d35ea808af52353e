"""The unit of systemd: it is valid, grants what sandboxes need and what `up` waits for fits into its time limits."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import supervisor, up
from gateway.settings import load
from sandbox.native import cgroups
from sandbox.native.probe import CAPABILITIES

UNIT = Path(__file__).parents[2] / "deploy/lambent.service"
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def values(key: str) -> list[str]:
    """All words that `key` is given, in all its lines."""
    return [word for text in re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE) for word in text.split()]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that is there: verify looks."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/lambent/bin/lambent", f"{os.path.realpath(sys.executable)} -m gateway"))
    return copy


@needs_systemd
def test_systemd_finds_nothing_wrong(installed: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(installed)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
def test_exposure_is_what_the_readme_says(installed: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(installed)], capture_output=True, text=True
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    found = re.search(r"Overall exposure level for lambent.service: (\d+\.\d)", done.stdout)
    assert found is not None, done.stderr
    stated = re.search(r"exposure of (\d+\.\d) out of 10", (UNIT.parents[1] / "README.md").read_text())
    assert stated is not None
    assert abs(float(found[1]) - float(stated[1])) <= 0.3  # each version of systemd weighs a little differently


def test_the_service_may_do_what_sandboxes_need() -> None:
    assert {f"CAP_{name}" for name in CAPABILITIES} | {"CAP_SYS_RESOURCE"} <= set(values("CapabilityBoundingSet"))
    assert values("Delegate") == ["cpu", "memory", "pids"]
    assert {"/dev/loop-control", "block-loop"} <= set(values("DeviceAllow"))


def test_a_function_without_memory_does_not_stop_the_service() -> None:
    assert values("OOMPolicy") == ["continue"]


def test_time_limits_leave_time_to_drain_and_to_clean_up() -> None:
    drain_s = load({}, {"HOME": "/nowhere"}).drain_s
    gateway_s, spawner_s = drain_s + 10, 10
    assert float(values("TimeoutStopSec")[0]) >= gateway_s + spawner_s + supervisor.SWEEP_LIMIT_S
    assert float(values("TimeoutStartSec")[0]) >= up.LOCK_WITHIN_S + supervisor.SWEEP_LIMIT_S


@pytest.mark.parametrize("group", ["system.slice/lambent.service", "system.slice/lambent.service/main"])
def test_the_delegated_group_is_the_services_own(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes are moved into ``main`` when controllers are handed on; systemd's mark stays above."""
    service = tmp_path / "system.slice/lambent.service"

    def mark(path: Path, name: str) -> bytes:
        if (path, name) == (service, "trusted.delegate"):
            return b"1"
        raise OSError

    monkeypatch.setattr(os, "getxattr", mark)
    assert cgroups.delegated(tmp_path, f"1:name=systemd:/\n0::/{group}\n") == service
    assert cgroups.delegated(tmp_path, "0::/user.slice/session-1.scope\n") is None
