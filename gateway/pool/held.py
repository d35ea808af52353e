"""One sandbox as the pool holds it, what the pool needs of it, and what a request is to the pool."""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from gateway.records import FunctionVersion, LoggingConfig
from gateway.scheduler.commands import Why
from gateway.scheduler.state import Instance
from gateway.scheduler.waiting import Ticket
from sandbox.log import Log, NoLog
from sandbox.outcome import Outcome, Work
from sandbox.spec import FunctionSpec


class SandboxLike(Protocol):
    """What the pool uses of `sandbox.sandbox.Sandbox`; see there for what each member promises."""

    id: str

    @property
    def initialised(self) -> bool: ...
    @property
    def lingers(self) -> bool: ...
    @property
    def first_byte_s(self) -> float | None: ...
    @property
    def streamed_bytes(self) -> int: ...

    on_idle: Callable[[Any], None]
    on_gone: Callable[[Any, str], None]

    async def init(self, spec: FunctionSpec, log: Log) -> None: ...
    def rehearse(self) -> None: ...
    def invoke(self, work: Work, settled: Callable[[Outcome], None]) -> bool: ...
    def freeze(self) -> None: ...
    def hurry(self) -> None: ...
    def memory_bytes(self) -> int: ...
    async def stop(self) -> None: ...


class LogStream(Log, Protocol):
    """Where a sandbox's output and the platform's lines about it go."""

    def begin(self) -> None: ...
    def tail(self) -> bytes: ...
    def close(self) -> None: ...


class Logs(Protocol):
    """Opens log streams."""

    def open(self, function_name: str, log_group: str, stream: str, config: LoggingConfig) -> LogStream: ...


class _NoLog(NoLog):
    """The log of a stem."""

    __slots__ = ()

    def begin(self) -> None: ...
    def tail(self) -> bytes:
        return b""

    def close(self) -> None: ...


class Held:
    """A sandbox and what belongs to it. A stem has no log; it is given one with its function."""

    __slots__ = ("instance", "log", "sandbox")

    def __init__(self, instance: Instance, sandbox: SandboxLike) -> None:
        self.instance = instance
        self.log: LogStream = _NoLog()
        self.sandbox = sandbox

    def __repr__(self) -> str:
        return f"<Held {self.sandbox.id} {self.instance!r}>"


class Request(Ticket):
    """One invocation as the pool sees it. Exactly one of `run` (the last, if there are several) and `refused` is its end here."""

    __slots__ = ("version",)

    def __init__(self, version: FunctionVersion, deadline_s: float) -> None:
        super().__init__(deadline_s)
        self.version = version

    # Not an abstract base class: isinstance() of one runs Python, for each invocation.

    def run(self, held: Held) -> None:
        """Hand the event over. Raises SandboxGone if the sandbox is dead: then another one is found.

        Must see to it that `Pool.settled` is called when the answer is there, before the sandbox says that it is idle.
        """
        raise NotImplementedError

    def refused(self, why: Why, error: Exception | None, retry_s: float | None) -> None:
        """There is no sandbox for it; `error` is what the last start failed with, if that is why; see `Refuse`."""
        raise NotImplementedError


def spec_of(
    version: FunctionVersion, code_path: Callable[[str], str], now_wall_s: float, *, provisioned: bool = False
) -> FunctionSpec:
    """What a new sandbox is told; `code_path` says where a key of the code store is unpacked.

    Each sandbox has a log stream of its own, named as AWS names them.
    """
    date = datetime.fromtimestamp(now_wall_s, UTC)
    opt_path = code_path(version.opt_key) if version.opt_key else ""
    return FunctionSpec(
        account_id=version.account_id,
        region=version.region,
        name=version.name,
        version=version.version,
        arn=version.unqualified_arn,
        runtime=version.runtime,
        architecture=version.architecture,
        handler=version.handler,
        memory_mb=version.memory_mb,
        timeout_s=version.timeout_s,
        tmp_mb=version.tmp_mb,
        code_path=code_path(version.code_key) if version.code_key else "",
        opt_path=opt_path,
        extensions=_extensions(opt_path) if opt_path else version.image.image.extensions if version.image else (),
        program=version.image.program if version.image else None,
        environment=version.environment or {},
        initialization_type="provisioned-concurrency" if provisioned else "on-demand",
        log_group=version.logging.log_group,
        log_stream=f"{date:%Y/%m/%d}/[{version.version}]{secrets.token_hex(16)}",
        log_format=version.logging.log_format,
        log_level=version.logging.application_level,
    )


@functools.lru_cache(maxsize=4096)
def _extensions(opt_path: str) -> tuple[str, ...]:
    """Whatever is no directory in /opt/extensions, executable or not, as on AWS; what layers hold never changes."""
    try:
        with os.scandir(os.path.join(opt_path, "extensions")) as entries:
            return tuple(sorted(entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)))
    except OSError:  # there is none, as in most layers
        return ()
