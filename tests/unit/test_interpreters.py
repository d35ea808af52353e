"""Which interpreters are found, believed, and chosen."""

from __future__ import annotations

import os
import sys
import venv
from pathlib import Path

import pytest

from sandbox.native import interpreters, searching
from sandbox.native.interpreters import Interpreter


def made(version: str, *missing: str, final: bool = True, prefix: str = "/opt/python") -> Interpreter:
    major, minor, micro = map(int, version.split("."))
    executable = Path(prefix, "bin", f"python{major}.{minor}")
    return Interpreter((major, minor, micro), executable, Path(prefix), missing, final)


def test_this_hosts_interpreters_are_what_they_say() -> None:
    found = interpreters.find_interpreters()
    assert (sys.version_info.major, sys.version_info.minor) in [each.version[:2] for each in found]
    assert [each.version for each in found] == sorted(each.version for each in found)
    assert len({each.runtime for each in found}) == len(found)
    for each in found:
        assert each.executable.is_relative_to(each.prefix)
        assert each.executable.resolve() == each.executable
        assert each.version >= (3, 8, 0)
        assert not (each.prefix / "pyvenv.cfg").exists()


@pytest.mark.slow
def test_a_virtual_environment_leads_to_what_it_was_made_from(tmp_path: Path) -> None:
    venv.EnvBuilder(symlinks=False).create(tmp_path / "copied")
    venv.EnvBuilder(symlinks=True).create(tmp_path / "linked")
    base = Path(sys.base_prefix).resolve()
    for name in ("copied", "linked"):
        paths = searching.candidates([tmp_path / name / "bin"], interpreters.is_name)
        assert paths
        for found in map(interpreters.inspect, paths):
            assert found is not None
            assert found.prefix == base
            assert found.executable.is_relative_to(base)


def test_scripts_old_versions_and_what_cannot_be_run_are_no_candidates(tmp_path: Path) -> None:
    (tmp_path / "python3").write_text("#!/bin/sh\nexec python3.12\n")
    (tmp_path / "python3").chmod(0o755)
    (tmp_path / "python3.10").write_bytes(b"\x7fELF")
    for name in ("python3.7", "python3.11", "python3.12t", "python3.12-config", "python", "python3.13"):
        (tmp_path / name).write_bytes(b"\x7fELF" + name.encode())
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python3.14").symlink_to(tmp_path / "python3.13")
    (tmp_path / "python3.9").symlink_to(tmp_path / "nowhere")
    found = searching.candidates([tmp_path, tmp_path / "absent", tmp_path], interpreters.is_name)
    assert sorted(path.name for path in found) == ["python3.11", "python3.13"]


def test_what_does_not_answer_is_no_interpreter(tmp_path: Path) -> None:
    broken = tmp_path / "python3.12"
    broken.write_bytes(b"\x7fELFbroken")
    broken.chmod(0o755)
    assert interpreters.inspect(broken) is None
    assert interpreters.inspect(Path("/bin/true")) is None
    assert interpreters.inspect(tmp_path / "absent") is None


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "nonsense",
        "('pypy', (3, 10, 1, 'final', 0), '/usr', '/usr', '', [])",
        "('cpython', (3, 7, 17, 'final', 0), '/usr', '/usr', '', [])",
        "('cpython', (3, 12, 1, 'final', 0), '/usr', '/elsewhere', '', [])",
        "('cpython', (3, 12, 1, 'final', 0), '/nonexistent', '/nonexistent', '', [])",
    ],
)
def test_answers_that_we_cannot_use(answer: str) -> None:
    assert interpreters.read_answer(Path("/usr/bin/python3"), answer) is None


def test_only_what_nobody_else_could_have_put_there_is_trusted(tmp_path: Path) -> None:
    me = frozenset({0, os.geteuid()})
    program = tmp_path / "bin" / "python3.12"
    program.parent.mkdir()
    program.write_bytes(b"\x7fELF")
    assert searching.is_trusted(program, me)
    assert not searching.is_trusted(program, frozenset({12345}))
    program.chmod(0o777)
    assert not searching.is_trusted(program, me)
    program.chmod(0o755)
    program.parent.chmod(0o777)
    assert not searching.is_trusted(program, me)
    program.parent.chmod(0o1777)
    assert searching.is_trusted(program, me)
    assert not searching.is_trusted(tmp_path / "absent", me)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_runs_nothing_that_belongs_to_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "home" / "python3.12"
    theirs.parent.mkdir()
    theirs.write_bytes(b"\x7fELF")
    os.chown(theirs, 1000, 1000)
    assert not searching.is_trusted(theirs)
    monkeypatch.setenv("SUDO_UID", "1000")
    assert searching.is_trusted(theirs)


def test_homes_and_systems_are_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    home = tmp_path / "home" / "somebody"
    for directory in (
        home / ".pyenv/versions/3.12.1/bin",
        home / ".local/share/uv/python/cpython-3.12-linux/bin",
        tmp_path / "opt/python3.12/bin",
        tmp_path / "usr/local/bin",
    ):
        directory.mkdir(parents=True)
    found = list(
        interpreters.PLACES.directories(tmp_path, [home], {"PYENV_ROOT": str(home / ".pyenv"), "PATH": "relative:/usr/bin"})
    )
    assert found[0] == Path("/usr/bin")
    assert {path.relative_to(tmp_path) for path in found[1:]} == {
        Path("home/somebody/.pyenv/versions/3.12.1/bin"),
        Path("home/somebody/.local/share/uv/python/cpython-3.12-linux/bin"),
        Path("opt/python3.12/bin"),
        Path("usr/local/bin"),
    }


def test_of_each_minor_version_the_best_is_taken() -> None:
    whole, newer, candidate, newest_broken = (
        made("3.12.1"),
        made("3.12.4", "_ssl"),
        made("3.12.5", final=False),
        made("3.12.9", "_ctypes"),
    )
    assert interpreters.best([newest_broken, newer, whole, candidate]) == [whole]
    assert interpreters.best([made("3.11.2"), made("3.8.1"), made("3.11.7"), made("3.11.4")]) == [made("3.8.1"), made("3.11.7")]


def test_runtimes_are_served_or_it_is_said_what_to_install() -> None:
    known = interpreters.support([made("3.12.1"), made("3.13.0", "_ctypes"), made("3.15.0")])
    assert known["python3.12"].available
    assert known["python3.12"].detail == "CPython 3.12.1 at /opt/python/bin/python3.12"
    assert not known["python3.13"].available
    assert "built without _ctypes" in known["python3.13"].detail
    assert not known["python3.14"].available
    assert "uv python install 3.14" in known["python3.14"].detail
    assert known["provided.al2"].available
    assert known["provided.al2023"].available
    assert not interpreters.support([])["provided.al2023"].available
