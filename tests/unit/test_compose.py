"""The compose file: it grants what sandboxes need, hands on every setting and waits as long as `up` does."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from gateway import supervisor
from gateway.settings import Settings, load, variable
from sandbox.native.probe import CAPABILITIES
from tests.unit.test_service import values

TEXT = (Path(__file__).parents[2] / "deploy/compose.yaml").read_text()


def test_every_setting_can_be_given() -> None:
    handed_on = set(re.findall(r"^      (LAMBENT_\w+):", TEXT, re.MULTILINE))
    settings = {variable(field.name) for field in dataclasses.fields(Settings)}
    assert handed_on == settings - {variable("docker_host")}, "the engine's socket is always at the same place inside"


def test_the_container_may_do_what_the_service_may_and_enter_others() -> None:
    granted = {f"CAP_{name}" for name in re.findall(r"^      - ([A-Z_]+)$", TEXT, re.MULTILINE)}
    assert granted == set(values("CapabilityBoundingSet")) | {"CAP_SYS_PTRACE"}
    assert {f"CAP_{name}" for name in CAPABILITIES} <= granted
    assert "privileged:" not in TEXT


def test_time_to_stop_covers_draining_and_cleaning_up() -> None:
    found = re.search(r"stop_grace_period: (\d+)s", TEXT)
    assert found is not None
    assert int(found[1]) >= load({}, {"HOME": "/nowhere"}).drain_s + 20 + supervisor.SWEEP_LIMIT_S


def test_data_directory_has_one_path_inside_and_out() -> None:
    place = re.escape("${LAMBENT_DATA_DIR:-/var/lib/lambent}")
    assert re.search(rf"- {place}:{place}$", TEXT, re.MULTILINE)
    assert re.search(rf"LAMBENT_DATA_DIR: {place}$", TEXT, re.MULTILINE)
