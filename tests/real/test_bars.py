"""The bars for speed and memory, by the benchmarks that a user has. Run them alone: `pytest -m bench tests/real/test_bars.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.bench, pytest.mark.real, pytest.mark.timeout(600)]


@pytest.mark.parametrize("which", ["warm", "cold", "lifecycle"])
def test_bars_are_met(which: str) -> None:
    command = [sys.executable, "-m", "gateway", "bench", which, "--json", "--check"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LAMBENT_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    figures = json.loads(done.stdout)["figures"]
    assert done.returncode == 0, done.stderr
    assert all(figure["good"] for figure in figures)
