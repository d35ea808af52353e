"""The status object of ``GET /_lambent/status``: what is up, what the host can run, and what the pool holds now."""

from __future__ import annotations

from typing import Any

from gateway.clock import Clock
from gateway.control.validate import RUNTIMES
from gateway.pool.pool import Pool
from sandbox.driver import Driver
from sandbox.native.driver import HOST_ARCHITECTURE
from sandbox.spec import Architecture, StemKey


class Status:
    """Asks the parts when it is asked itself; keeps nothing."""

    def __init__(self, *, version: str, endpoint: str, driver: Driver, pool: Pool, owner: str, clock: Clock) -> None:
        self._fixed = {
            "version": version,
            "endpoint": endpoint,
            "driver": driver.name,
            "isolation": driver.isolation,
            "owner": owner,
        }
        self._driver = driver
        self._pool = pool
        self._clock = clock
        self._began_s = clock.monotonic()

    def report(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            **self._fixed,
            "uptime_s": round(self._clock.monotonic() - self._began_s, 3),
            "runtimes": {runtime: self._support(runtime) for runtime in RUNTIMES},
            **self._pool.snapshot(),
        }

    def _support(self, runtime: str) -> dict[str, Any]:
        support = self._driver.support(StemKey(runtime, HOST_ARCHITECTURE or Architecture.X86_64))
        return {"available": support.available, "detail": support.detail}
