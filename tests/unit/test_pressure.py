"""When the host lacks memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.observe.pressure import EVERY_S, MOST, Pressure
from tests.simloop import simulate


def written(path: Path, total_us: float) -> None:
    path.write_text(
        f"some avg10=1.00 avg60=0.00 avg300=0.00 total={total_us:.0f}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"
    )


def test_it_relieves_while_tasks_wait_and_tells_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        path = tmp_path / "memory"
        written(path, total := 5e6)
        relieved: list[float] = []
        loop = asyncio.get_running_loop()
        pressure = Pressure(lambda: relieved.append(loop.time()), path)
        pressure.start()
        for share, times in ((MOST / 2, 0), (2 * MOST, 1), (1.0, 2), (0.0, 2), (0.5, 3)):
            written(path, total := total + share * EVERY_S * 1e6)
            await asyncio.sleep(EVERY_S * 1.001)
            assert len(relieved) == times, share
        path.unlink()
        await asyncio.sleep(10)
        assert len(relieved) == 3
        pressure.close()
        pressure.close()

    simulate(scenario())
    assert [record.message for record in caplog.records] == [
        "the host lacks memory (tasks wait for it 10 % of the time): letting go frozen sandboxes",
        "the host lacks memory (tasks wait for it 50 % of the time): letting go frozen sandboxes",
    ]


@pytest.mark.parametrize("text", [None, "", "some avg10=0.00 total=many\n", "full avg10=0.00 total=5\n"])
def test_a_kernel_without_the_figures_is_left_alone(tmp_path: Path, text: str | None) -> None:
    async def scenario() -> None:
        path = tmp_path / "memory"
        if text is not None:
            path.write_text(text)
        pressure = Pressure(lambda: pytest.fail("nobody knows that"), path)
        pressure.start()
        await asyncio.sleep(10)
        pressure.close()

    simulate(scenario())
