"""`lambent up` without root: plain processes, no isolation, said loudly; else the same."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

#: Another user, if we are root; in a user namespace, so that the interpreter may lie under /root.
ORDINARY = [] if os.geteuid() else ["unshare", "--user", "--map-user=1000", "--map-group=1000"]


def possible() -> bool:
    return not ORDINARY or (
        shutil.which("unshare") is not None
        and subprocess.run([*ORDINARY, "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    if not possible():
        pytest.skip("this host has no user namespaces to be an ordinary user in")
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": "", "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [*ORDINARY, sys.executable, "-m", "gateway", "up", "--demo", "--port", "0"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def read_until(process: subprocess.Popen[str], wanted: str) -> str:
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if wanted in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


def test_works_and_says_that_nothing_is_isolated(plain: subprocess.Popen[str], tmp_path: Path) -> None:
    said = read_until(plain, "curl ")
    assert "NO ISOLATION" in said
    assert str(tmp_path / ".local/share/lambent") in said
    call = re.findall(r"curl '(\S+)'", said)[-1]
    answer = subprocess.run(["curl", "-sS", call], capture_output=True, text=True, check=True).stdout
    assert '"message": "Hello, Ada!"' in answer
    assert '"served by this sandbox": 1' in answer
    plain.send_signal(signal.SIGTERM)
    assert plain.wait() == 0
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".local"}, "nothing but the data stays"
