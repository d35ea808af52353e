"""What the scheduler needs to know of a trace's functions, and the machine that they run on."""

from __future__ import annotations

import dataclasses
from typing import Final

from gateway.records import FunctionVersion, LoggingConfig
from gateway.scheduler.policy import MIB, Policy
from loadtests.simulation.trace import Function
from sandbox.spec import Architecture

RUNTIME: Final = "python3.13"
ARCHITECTURE: Final = Architecture.X86_64
UNLIMITED_BYTES: Final = 1 << 50
_LOGGING: Final = LoggingConfig(log_group="/aws/lambda/simulated", log_format="Text")  # one for all: there may be a million


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How long things take. The defaults are those of a function with a few libraries, on sandboxes that are forked."""

    create_s: float = 0.007
    init_s: float = 0.25
    stop_s: float = 0.002
    queue_wait_s: float = 60.0


def policy(keep_alive: str, memory_bytes: int, ttl_s: float = 600.0) -> Policy:
    """The product's, but for limits that belong to an account and not to a machine."""
    return Policy(
        memory_bytes=memory_bytes,
        max_sandboxes=1_000_000,
        concurrency=1_000_000,
        request_rate=0,
        scaling_rate=0,
        queue_max=1_000_000,
        queue_max_per_key=1_000_000,
        keep_alive=keep_alive,
        keep_alive_s=ttl_s,
    )


def version(function: Function) -> FunctionVersion:
    """A function as the catalog would have it."""
    return FunctionVersion(
        account_id="000000000000",
        region="us-east-1",
        name=function.name,
        version="$LATEST",
        generation=1,
        runtime=RUNTIME,
        handler="app.handler",
        role="arn:aws:iam::000000000000:role/lambda",
        architecture=ARCHITECTURE,
        code_sha256="",
        code_size_bytes=1,
        code_key="",
        memory_mb=function.memory_mb,
        timeout_s=900,
        logging=_LOGGING,
        last_modified="2026-01-01T00:00:00.000+0000",
        revision_id="1",
    )


def used_bytes(function: Function) -> int:
    """What a sandbox of it holds when it is frozen."""
    return int(function.used_mb * MIB)
