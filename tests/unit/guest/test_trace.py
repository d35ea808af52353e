"""The trace's environment variable: the same to everybody who may look at it, however often it is set, and without a leak."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import lambent_trace
from tests.unit.guest.harness import every_interpreter, interpreters

SCRIPT = """
import os, subprocess, sys
from lambent_trace import BUFFER_BYTES, NAME, ORDINARY, TraceVariable

def seen():
    inherited = subprocess.run(["/usr/bin/printenv", NAME], stdout=subprocess.PIPE).stdout.decode().rstrip("\\n")
    assert os.environ.get(NAME, "") == os.getenv(NAME, "") == inherited, (os.environ.get(NAME), inherited)
    return inherited

def resident_kb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4

trace = TraceVariable()
for number in range(ORDINARY + 5):
    trace.set("Root=%d" % number)
    if number < 2 or number > ORDINARY - 3:
        assert seen() == "Root=%d" % number
trace.set(None)
assert NAME not in os.environ and seen() == ""
trace.set("a")
assert seen() == "a"
os.environ[NAME] = "the function's own"
assert seen() == "the function's own"
trace.set("b")
assert seen() == "b"
del os.environ[NAME]
trace.set("c" * 2 * BUFFER_BYTES)
assert seen() == "c" * 2 * BUFFER_BYTES
trace.set("d" * (BUFFER_BYTES - len(NAME) - 2))
assert seen() == "d" * (BUFFER_BYTES - len(NAME) - 2)
trace.set("e")
assert seen() == "e"
before = resident_kb()
for number in range(50000):
    trace.set("Root=1-%032x" % number)
print(resident_kb() - before)
"""


@pytest.mark.parametrize("runtime", every_interpreter())
def test_set_again_and_again(runtime: str) -> None:
    grown = subprocess.run(
        [interpreters[runtime].executable, "-c", SCRIPT],
        env={"PYTHONPATH": str(Path(lambent_trace.__file__).parent), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    assert int(grown) < 1024  # setenv() would have kept 5 MB
