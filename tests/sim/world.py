"""A gateway without its edges: the real invoker, pool and scheduler over fake sandboxes, under virtual time.

`World.book` is what the function logs say, checked line by line as it is written: in each stream every START has its END
before the next START, and its REPORT right after that.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
from collections.abc import Iterable

from gateway.control.catalog import Catalog
from gateway.invocation import Invocation, InvokeResult
from gateway.invoke.invoker import Invoker
from gateway.pool.pool import Pool
from gateway.records import Function, LoggingConfig
from gateway.scheduler.policy import MIB, Policy
from gateway.tally import Tallies
from sandbox.testing import Behaviour, FakeHost
from tests.simloop import SimClock

POLICY = Policy(memory_bytes=4096 * MIB)


class BookStream:
    """One sandbox's log."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[str] = []
        self.open: str | None = None  #: request id of the invocation between its START and its END
        self.ended: str | None = None
        self.closed = False

    def output(self, data: bytes) -> None:
        self.lines.append(data.decode())

    def platform(self, line: str) -> None:
        for one in line.split("\n"):
            self._platform(one)

    def extension(self, line: str) -> None:
        self.lines.append(f"{line}\n")

    def _platform(self, line: str) -> None:
        word, _, rest = line.partition(" RequestId: ")
        request_id = rest.split()[0]
        if word == "START":
            assert self.open is None, f"{self.name}: START of {request_id} before END of {self.open}"
            assert self.ended is None, f"{self.name}: {self.ended} has no REPORT"
            self.open = request_id
        elif word == "END":
            assert self.open == request_id
            self.open, self.ended = None, request_id
        elif word == "REPORT":
            assert self.ended == request_id
            self.ended = None
        self.lines.append(line)

    def begin(self) -> None:
        self.lines.append("")

    def tail(self) -> bytes:
        last = len(self.lines) - 1 - self.lines[::-1].index("")
        return "\n".join(self.lines[last + 1 :]).encode()

    def close(self) -> None:
        assert not self.closed
        assert self.open is None, f"{self.name} was closed in the middle of {self.open}"
        self.closed = True


class Book:
    """All logs."""

    def __init__(self) -> None:
        self.streams: list[BookStream] = []

    def open(self, function_name: str, log_group: str, stream: str, config: LoggingConfig) -> BookStream:
        assert log_group == f"/aws/lambda/{function_name}"
        self.streams.append(BookStream(f"{log_group}/{stream}"))
        return self.streams[-1]

    def count(self, word: str) -> int:
        """How many platform lines begin with `word`."""
        return sum(line.startswith(word + " ") for stream in self.streams for line in stream.lines)


@dataclasses.dataclass(slots=True)
class Served:
    """One invocation that came back."""

    request_id: str
    result: InvokeResult
    took_s: float


class World:
    """To be made within the loop."""

    def __init__(
        self,
        functions: Iterable[Function] = (),
        *,
        behaviour: Behaviour | None = None,
        policy: Policy = POLICY,
        seed: int = 0,
        queue_wait_s: float = 30.0,
        counted_functions: int = 100,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.clock = SimClock()
        self.host = FakeHost(behaviour)
        self.tallies = Tallies(counted_functions)
        self.policy = policy
        self.book = Book()
        self.faults: list[BaseException] = []
        self.catalog = Catalog(functions)
        self.pool = Pool(
            open_sandbox=self.host.open,
            code_path=lambda key: f"/code/{key}",
            logs=self.book,
            clock=self.clock,
            policy=policy,
            tallies=self.tallies,
            failed=self.faults.append,
        )
        self.catalog.subscribe(self.pool.function_changed)
        self.random = random.Random(seed)
        self.invoker = Invoker(
            catalog=self.catalog,
            pool=self.pool,
            clock=self.clock,
            random=self.random.random,
            region="eu-west-1",
            account_id="123456789012",
            queue_wait_s=queue_wait_s,
        )
        self._ids = itertools.count(1)

    @property
    def starts(self) -> int:
        """Sandboxes that were given a function."""
        return len(self.book.streams)

    async def invoke(
        self, name: str = "echo", qualifier: str | None = None, *, payload: bytes = b"{}", want_log_tail: bool = False
    ) -> Served:
        began_s = self.loop.time()
        request_id = f"r{next(self._ids)}"
        result = await self.invoker.invoke(
            Invocation(
                request_id=request_id,
                function_name=name,
                qualifier=qualifier,
                payload=payload,
                trace_id="Root=1",
                want_log_tail=want_log_tail,
                arrived_s=began_s,
            )
        )
        return Served(request_id, result, self.loop.time() - began_s)

    def begin(self, name: str = "echo", qualifier: str | None = None, *, payload: bytes = b"{}") -> asyncio.Task[Served]:
        """An invocation whose caller may leave: cancel it."""
        return self.loop.create_task(self.invoke(name, qualifier, payload=payload))

    async def burst(self, count: int, name: str = "echo") -> list[Served | BaseException]:
        """So many at once; what each came to."""
        return await asyncio.gather(*(self.invoke(name) for _ in range(count)), return_exceptions=True)

    async def close(self, budget_s: float = 60.0) -> None:
        """As the gateway closes; and then nothing is left."""
        await self.pool.close(budget_s)
        assert not self.faults
        assert not self.host.live, "sandboxes left behind"
        assert all(stream.closed for stream in self.book.streams)
        assert self.book.count("START") == self.book.count("END") == self.book.count("REPORT")
