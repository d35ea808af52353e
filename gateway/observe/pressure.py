"""Whether the host itself lacks memory, as the kernel's pressure stall information says. [P]

The budget counts what sandboxes may use; it knows nothing of what else runs on the machine. Where tasks wait for memory for more
than a twentieth of the time, some frozen sandboxes are let go, and again a second later if that did not help. Where the kernel
has no such figures nothing is done.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

_log = logging.getLogger(__name__)

MEMORY: Final = Path("/proc/pressure/memory")
EVERY_S: Final = 1.0
MOST: Final = 0.05  #: of the time
_TOTAL: Final = re.compile(rb"^some .*total=(\d+)$", re.MULTILINE)  #: microseconds in which some task waited


class Pressure:
    """Reads the file from `start` until `close`, in the loop of `start`; calls `relieve` each time there is too much."""

    def __init__(self, relieve: Callable[[], None], path: Path = MEMORY) -> None:
        self._relieve = relieve
        self._path = path
        self._timer: asyncio.TimerHandle | None = None
        self._total_us = 0
        self._told = False

    def start(self) -> None:
        total_us = self._read()
        if total_us is None:
            _log.debug("%s says nothing: memory pressure of the host is not looked at", self._path)
            return
        self._total_us = total_us
        self._again(asyncio.get_running_loop())

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(EVERY_S, self._look, loop, loop.time())

    def _look(self, loop: asyncio.AbstractEventLoop, since_s: float) -> None:
        total_us = self._read()
        if total_us is not None:
            share = (total_us - self._total_us) / 1e6 / max(EVERY_S, loop.time() - since_s)
            self._total_us = total_us
            if share > MOST:
                if not self._told:
                    _log.warning(
                        "the host lacks memory (tasks wait for it %.0f %% of the time): letting go frozen sandboxes", share * 100
                    )
                self._relieve()
            self._told = share > MOST
        self._again(loop)

    def _read(self) -> int | None:
        try:
            found = _TOTAL.search(self._path.read_bytes())
        except OSError:
            return None
        return int(found[1]) if found else None
