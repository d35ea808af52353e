"""The status object of ``GET /_lambent/status``: what is up, what the host can run, and what the pool holds now.

``GET /_lambent/top`` is the same for `lambent top`, function by function and without what stays as it is: one that watches asks
every second or two, and must not be felt. Counts are since the gateway's start; who wants rates asks twice.
"""

from __future__ import annotations

from typing import Any

from gateway.clock import Clock
from gateway.control.validate import RUNTIMES
from gateway.observe.lag import Lag
from gateway.observe.metrics import TEMPERATURES
from gateway.pool.pool import Pool
from gateway.pool.usage import Usage
from gateway.tally import DURATION_FINE_S, LAG_S, REST, Histogram, Tallies, Tally
from sandbox.driver import Driver
from sandbox.native.driver import HOST_ARCHITECTURE
from sandbox.spec import Architecture, StemKey


class Status:
    """Asks the parts when it is asked itself; keeps nothing."""

    def __init__(
        self, *, version: str, endpoint: str, driver: Driver, pool: Pool, tallies: Tallies, owner: str, clock: Clock, lag: Lag
    ) -> None:
        self._fixed = {
            "version": version,
            "endpoint": endpoint,
            "architecture": HOST_ARCHITECTURE,
            "driver": driver.name,
            "isolation": driver.isolation,
            "owner": owner,
        }
        self._driver = driver
        self._pool = pool
        self._tallies = tallies
        self._clock = clock
        self._lag = lag
        self._began_s = clock.monotonic()

    def report(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            **self._fixed,
            "uptime_s": self._uptime_s(),
            "pulls": {uri: {"done_bytes": done, "total_bytes": total} for uri, (done, total) in self._driver.pulls.items()},
            "runtimes": {runtime: self._support(runtime) for runtime in RUNTIMES},
            **self._pool.snapshot(),
        }

    def top(self) -> dict[str, Any]:
        """Plain values, for JSON. A function without counts of its own is counted in the one named ``(rest)``.

        ``durations`` are pairs: how many invocations took at most as long as the bound of that number in ``bounds_s``, and longer
        than the bound before; one number beyond the last, those that took longer. ``late`` is the same of the event loop's lag.
        """
        used = self._pool.usage()
        counted = self._tallies.own
        now = self._pool.snapshot()
        del now["functions"]
        rows = [_row(name, used.get(name), counted.get(name)) for name in used.keys() | counted.keys()]
        rows += [_row(name, None, tally) for name, tally in self._tallies.items() if name == REST]
        late = {"bounds_s": LAG_S, "counts": _counts(self._lag.late_s)}
        return {**self._fixed, "uptime_s": self._uptime_s(), **now, "late": late, "bounds_s": DURATION_FINE_S, "functions": rows}

    def _uptime_s(self) -> float:
        return round(self._clock.monotonic() - self._began_s, 3)

    def _support(self, runtime: str) -> dict[str, Any]:
        support = self._driver.support(StemKey(runtime, HOST_ARCHITECTURE or Architecture.X86_64))
        return {"available": support.available, "detail": support.detail}


def _row(name: str, used: Usage | None, tally: Tally | None) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name}
    if used is not None:
        temperatures: dict[str, int] = {}
        for state, count in used.states.items():
            temperature = TEMPERATURES[state]
            temperatures[temperature] = temperatures.get(temperature, 0) + count
        running = used.states.get("reserved", 0)
        row.update(sandboxes=temperatures, running=running, waiting=used.waiting, memory_bytes=used.memory_bytes)
    if tally is not None:
        row.update(
            invocations=tally.duration_s.count,
            errors=sum(tally.errors.values()),
            throttles=sum(tally.throttles.values()),
            cold_starts=tally.cold_starts,
            durations=_counts(tally.duration_s),
        )
    return row


def _counts(histogram: Histogram) -> list[tuple[int, int]]:
    return [(at, count) for at, count in enumerate(histogram.counts) if count]
