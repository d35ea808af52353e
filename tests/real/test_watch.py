"""`lambent deploy --watch` beside a real gateway: whatever way a file is saved, the next invocation runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.product import Product, package

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(60)]

LIVE_MS = 300  #: of the best of a few, on a machine that has nothing else to do
OF_AN_UPDATE = 8  #: on one that has, so many times what UpdateFunctionCode alone takes there
NAME = "watched"
CODE = "import time\ndef handler(event, context):\n time.sleep((event or {{}}).get('s', 0))\n return {value!r}\n"


class Watched:
    """A directory, and the command that watches it. `line` reads what it says."""

    def __init__(self, directory: Path, product: Product) -> None:
        self.directory = directory
        self.product = product
        directory.mkdir()
        self.write("first")
        environment = {**os.environ, "LAMBENT_ENDPOINT": product.instance.endpoint}
        command = [sys.executable, "-m", "gateway", "deploy", str(directory), "--name", NAME, "--no-url", "--watch"]
        self.process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        product.made.append(NAME)
        self.until("watching")

    def write(self, value: str, name: str = "app.py") -> None:
        (self.directory / name).write_text(CODE.format(value=value))

    def until(self, wanted: str) -> str:
        assert self.process.stderr is not None
        seen = []
        for line in self.process.stderr:
            seen.append(line)
            if wanted in line:
                return line
        raise AssertionError(f"{wanted!r} never came: {seen}")

    def live_ms(self) -> int:
        """What it says of the next save."""
        return int(self.until(" ms after the save").partition(": live ")[2].split()[0])

    def update_ms(self) -> float:
        """How long the same code takes by the API alone, at best, now."""
        code = package({"app.py": (self.directory / "app.py").read_text()})
        took_s = []
        for _ in range(3):
            began_s = time.perf_counter()
            self.product.client.update_function_code(FunctionName=NAME, ZipFile=code)
            self.product.updated(NAME)
            took_s.append(time.perf_counter() - began_s)
        return min(took_s) * 1000

    def value(self, **event: Any) -> Any:
        return self.product.invoke(NAME, event).value


@pytest.fixture
def watched(tmp_path: Path, product: Product) -> Iterator[Watched]:
    watched = Watched(tmp_path / "source", product)
    yield watched
    watched.process.send_signal(signal.SIGINT)
    assert watched.process.wait(10) == 0
    assert watched.process.stderr is not None
    watched.process.stderr.close()


def test_saves_in_all_the_ways_that_editors_have(watched: Watched) -> None:
    directory = watched.directory
    assert watched.value() == "first"
    took_ms = []

    watched.write("in place")
    took_ms.append(watched.live_ms())
    assert watched.value() == "in place"

    watched.write("renamed over", "app.py.tmp")
    os.replace(directory / "app.py.tmp", directory / "app.py")
    took_ms.append(watched.live_ms())
    assert watched.value() == "renamed over"

    (directory / "4913").touch()  # as vim does
    (directory / "4913").unlink()
    os.rename(directory / "app.py", directory / "app.py~")
    (directory / ".app.py.swp").write_bytes(b"swap")
    watched.write("as vim")
    (directory / "app.py~").unlink()
    took_ms.append(watched.live_ms())
    assert watched.value() == "as vim"

    os.link(directory / "app.py", directory / "app.py.orig")  # a new file in the place of the old one
    (directory / "app.py").unlink()
    watched.write("unlinked")
    (directory / "app.py.orig").unlink()
    took_ms.append(watched.live_ms())
    assert watched.value() == "unlinked"
    update_ms = watched.update_ms()
    print(f"live after {took_ms} ms, where UpdateFunctionCode alone takes {update_ms:.0f} ms")
    assert min(took_ms) < max(LIVE_MS, OF_AN_UPDATE * update_ms)


def test_a_package_of_megabytes(watched: Watched) -> None:
    (watched.directory / "library").mkdir()
    for number in range(200):
        (watched.directory / "library" / f"{number}.dat").write_bytes(os.urandom(25_000) + b"text " * 2_000)
    watched.live_ms()
    took_ms = []
    for value in ("one", "two", "three"):
        watched.write(value)
        while watched.value() != value:
            took_ms.append(watched.live_ms())
    print(f"7 MB in 200 files are live after {took_ms} ms")


def test_running_invocations_finish_on_the_old_code(watched: Watched) -> None:
    answers: list[Any] = []
    running = threading.Thread(target=lambda: answers.append(watched.value(s=1.5)))
    running.start()
    while watched.product.instance.status()["running"] == 0:
        pass
    watched.write("second")
    watched.live_ms()
    assert watched.value() == "second"
    assert answers == [], "the first one still runs"
    running.join()
    assert answers == ["first"]


def test_many_files_at_once(watched: Watched) -> None:
    parts = watched.directory / "parts"
    parts.mkdir()
    for number in range(300):
        (parts / f"part{number}.py").write_text(f"VALUE = {number}\n")
    names = "\n".join(f"import parts.part{number}" for number in range(300))
    total = " + ".join(f"parts.part{number}.VALUE" for number in range(300))
    (watched.directory / "app.py").write_text(f"{names}\ndef handler(event, context):\n return {total}\n")
    while watched.live_ms() >= 0 and watched.product.invoke(NAME).value != sum(range(300)):
        pass


def test_mistakes_and_replaced_directories(watched: Watched, tmp_path: Path) -> None:
    (watched.directory / "app.py").write_text("def handler(event, context:\n")
    assert "app.py cannot be parsed" in watched.until("lambent:")
    assert watched.value() == "first"
    watched.write("mended")
    watched.live_ms()
    assert watched.value() == "mended"

    other = tmp_path / "other"
    other.mkdir()
    (other / "app.py").write_text(CODE.format(value="replaced"))
    os.rename(watched.directory, tmp_path / "old")
    os.rename(other, watched.directory)
    watched.live_ms()
    assert watched.value() == "replaced"
    watched.write("after")
    watched.live_ms()
    assert watched.value() == "after"
