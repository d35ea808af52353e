"""The numbers that the scheduler works by, in one place. [P]"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from sandbox.spec import StemKey

MIB = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What an operator may choose; the defaults suit a small machine."""

    memory_bytes: int  #: for all sandboxes together
    max_sandboxes: int = 1000  #: of every kind together, stems and frozen ones too
    concurrency: int = 1000  #: invocations of the account that may run or wait at once
    request_rate: float = 10.0  #: invocations a second for each slot of concurrency, as AWS; 0 is any number
    scaling_rate: float = 1000.0  #: sandboxes of one function that may be started in ten seconds, as AWS; 0 is any number
    queue_max: int = 10_000  #: invocations that may wait without a sandbox being started for them
    queue_max_per_key: int = 1000  #: the same for one version of one function, so that none takes every place
    freeze_after_s: float = 0.25  #: an idle sandbox is frozen after this long; 0 as AWS
    freeze_provisioned_s: float | None = None  #: the same for a provisioned one; None is never
    keep_alive: str = "worth"  #: which idle sandboxes are kept; see `keepalive.NAMES`
    keep_alive_s: float = 600.0  #: "fixed": for how long all of them are; "worth": the least, but where memory is short
    finish_wait_s: float = 0.1  #: longest wait for a sandbox that has answered but not asked for the next event
    stems_min: int = 4  #: kept ready for each (runtime, architecture) in use
    stems_max: int = 16
    stems: Callable[[StemKey], tuple[int, int]] | None = None  #: instead of both, where not all kinds are alike
    stem_bytes: int = 8 * MIB  #: what a stem counts
