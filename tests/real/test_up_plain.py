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

from tests.processes import children, command

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
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


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


def test_goes_on_where_nobody_reads_what_it_says(plain: subprocess.Popen[str]) -> None:
    """As `lambent up 2>&1 | tee log` when tee has ended: what dies is started again, and the end is a proper one."""
    endpoint = re.findall(r"curl '(http://[^/']+)", read_until(plain, "curl "))[-1]
    endpoint = f"http://127.0.0.1:{endpoint.rpartition(':')[2]}"
    assert plain.stdout is not None
    plain.stdout.close()
    (first,) = (one.pid for one in children(plain.pid) if "gateway.app" in command(one.pid))
    os.kill(first, signal.SIGKILL)
    ask = ["curl", "-sS", "--fail", "--retry", "100", "--retry-delay", "0", "--retry-all-errors", "--retry-max-time", "40"]
    change = f"{endpoint}/2015-03-31/functions/hello/configuration"
    told = subprocess.run(
        [*ask, "-X", "PUT", "-d", '{"Description": "told in the log"}', change], capture_output=True, check=False
    )
    assert b"told in the log" in told.stdout, told.stderr
    assert [one.pid for one in children(plain.pid) if "gateway.app" in command(one.pid)] != [first]
    plain.send_signal(signal.SIGTERM)
    assert plain.wait() == 0
