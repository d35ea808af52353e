"""Bars and turning signs: there on a terminal, nowhere else."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import progress
from gateway.voice import ERROR, INFO, Voice
from tests.unit.stub import Stub

F = "/2015-03-31/functions"


def on_a_terminal(stub: Stub, *command: str) -> str:
    """What a command shows on standard error, which is a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "LAMBENT_ENDPOINT": stub.endpoint, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", *command], stderr=theirs, stdout=subprocess.DEVNULL, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while more := os.read(ours, 65536):
                shown += more
        except OSError:  # nobody has the other end any more
            pass
        os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


@pytest.mark.slow
def test_deploy_shows_how_it_gets_along(stub: Stub, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def handler(event, context):\n    return 1\n")
    (tmp_path / "data.bin").write_bytes(os.urandom(3_000_000))
    stub.on(f"GET {F}/f/configuration", {"State": "Active", "LastUpdateStatus": "Successful"})
    stub.on(f"PUT {F}/f/code")
    stub.on(f"PUT {F}/f/configuration")
    shown = on_a_terminal(
        stub, "deploy", str(tmp_path), "--name", "f", "--no-url", "--runtime", "python3.12", "--handler", "app.handler"
    )
    assert "packing" in shown
    assert "uploading" in shown
    assert "4.0/4.0 MB" in shown


def test_nothing_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bars() as step:
        step("packing")(1, 2)
    with progress.waiting("it runs"):
        pass
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_over_in_a_moment_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.waiting("it runs"):
        pass
    assert terminal.getvalue() == ""


def test_what_takes_long_is_shown_and_wiped_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "PATIENCE_S", 0)
    with progress.waiting("it runs"):
        while "it runs" not in terminal.getvalue():
            pass
    assert terminal.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K"), "the cursor is back, and the line is empty"


def test_what_somebody_else_does_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(progress, "PATIENCE_S", 0)
    monkeypatch.setattr(progress, "FOLLOW_S", 0.001)
    steps = iter([None, (0, 0), (5_000_000, 0)])
    with progress.following("getting mine:latest", lambda: next(steps, (5_000_000, 10_000_000))):
        while "5.0/10.0 MB" not in terminal.getvalue():
            pass
    assert "getting mine:latest" in terminal.getvalue()


def test_the_supervisor_speaks_to_people_and_to_machines(capfd: pytest.CaptureFixture[str]) -> None:
    voice = Voice()
    voice("gateway ended")
    voice.become(level="warning", form="json")
    voice("removed what was left", INFO)
    voice("port 9000 is in use", ERROR)
    first, second = capfd.readouterr().err.splitlines()
    assert first == "lambent: gateway ended"
    entry = json.loads(second)
    assert (entry["level"], entry["process"], entry["message"]) == ("error", "supervisor", "port 9000 is in use")
