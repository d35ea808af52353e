"""Time for the gateway; the same clock that the sandboxes have."""

from sandbox.clock import Clock, SystemClock

__all__ = ["Clock", "SystemClock"]
