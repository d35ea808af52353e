"""All telemetry of one environment, from the beginning of one Init to the end of what that began.

It is there only where there are extensions: for any other function a sandbox holds None and pays one look at it. Events are made
when somebody is subscribed to their kind, and kept until Init is over for those that still may (up to EARLY_BYTES); then they are
bytes that every subscriber shares.

What one invocation has to tell, in this order: platform.start with the event; platform.runtimeDone when the runtime asks for the
next one, fails or is too late; platform.report when its extensions are done too. Output is told line by line as it is read.

An environment that comes to rest is frozen soon, a listener in it with it. So IDLE_S after the last invocation what waits is
sent, whatever the subscriptions would still allow; under load that never happens, and batches fill up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import orjson

from sandbox.clock import Clock
from sandbox.outcome import Outcome, Status, Work
from sandbox.runtime_api.extensions import Extension
from sandbox.spec import FunctionSpec
from sandbox.tasks import Tasks
from sandbox.telemetry import records, subscription
from sandbox.telemetry.delivery import Dial, HttpSender, TcpSender
from sandbox.telemetry.lines import Lines
from sandbox.telemetry.subscriber import Subscriber
from sandbox.telemetry.subscription import Category

EARLY_BYTES: Final = 262_144
IDLE_S: Final = 0.1  #: less than the time after which a sandbox is frozen by default

_PLATFORM: Final = Category.PLATFORM
_LOGS_ONLY: Final = frozenset({"platform.end", "platform.fault", "platform.logsSubscription"})
_TELEMETRY_ONLY: Final = frozenset(
    {"platform.initStart", "platform.initRuntimeDone", "platform.initReport", "platform.telemetrySubscription"}
)
_BROKEN: Final = (Status.FAILURE, Status.TIMEOUT)


class Telemetry:
    """`phase` is ``init`` or ``invoke``, `dial` gives unconnected sockets of the sandbox's network, `failed` hears our faults."""

    def __init__(self, spec: FunctionSpec, phase: str, clock: Clock, dial: Dial, failed: Callable[[BaseException], None]) -> None:
        self._spec = spec
        self._phase = phase
        self._clock = clock
        self._dial = dial
        self._tasks = Tasks(failed)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._subscribers: dict[str, Subscriber] = {}
        self._takers: dict[str, list[Callable[[bytes], None]]] = {}  # of each kind of event, worked out when it first comes
        self._early: list[tuple[Category, str, bytes]] | None = []
        self._early_bytes = 0
        self._lines = {category: Lines() for category in (Category.FUNCTION, Category.EXTENSION)}
        self._json = spec.log_format == "JSON"
        self._logs_too = False  # somebody is subscribed by the Logs API
        self._stamps = records.Stamps()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._busy = True
        self._idle_s = 0.0
        self._init_began_s = clock.monotonic()
        self._init_done = False
        # Of the invocation in hand.
        self._work: Work | None = None
        self._trace = b""
        self._outcome: Outcome | None = None
        self._began_s = self._began_wall_s = self._first_byte_s = self._answered_s = 0.0
        self._produced_bytes = 0
        self._runtime_done = False
        self._runtime_done_s = 0.0
        self._emit("platform.initStart", records.init_start(spec, phase))

    def __repr__(self) -> str:
        return f"<Telemetry {list(self._subscribers.values())}>"

    # Subscribing.

    def subscribe(self, extension: Extension, body: bytes, *, logs: bool) -> None:
        """Tell `extension` from now on, and what it has missed of this Init. Raises Refused."""
        wanted = subscription.parse(body, logs=logs)
        if self._early is None:
            raise subscription.closed(logs=logs)
        earlier = self._subscribers.get(extension.name)
        if earlier is not None:
            if earlier.subscription.logs is not logs:
                other = "Logs" if earlier.subscription.logs else "Telemetry"
                raise subscription.invalid(f"{extension.name} is subscribed by the {other} API already", logs=logs)
            if earlier.subscription == wanted:
                return
            self._running[extension.name].cancel()
        sender = TcpSender(wanted, self._dial) if wanted.path is None else HttpSender(wanted, self._dial)
        subscriber = Subscriber(extension.name, wanted, sender, self._drops)
        self._subscribers[extension.name] = subscriber
        self._running[extension.name] = self._tasks.start(subscriber.run(), f"telemetry {extension.name}")
        self._takers.clear()
        self._logs_too = any(one.subscription.logs for one in self._subscribers.values())
        for category, kind, event in self._early:
            if _wants(subscriber, category, kind):
                subscriber.put(event)
        types = [category.value for category in Category if category in wanted.types]
        kind = "platform.logsSubscription" if logs else "platform.telemetrySubscription"
        self._emit(kind, records.subscribed(extension.name, types))

    def flush(self) -> None:
        """Send what waits as soon as possible."""
        for subscriber in self._subscribers.values():
            subscriber.flush()

    def close(self) -> None:
        """What was not sent is lost. Idempotent."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self._subscribers.clear()
        self._takers.clear()
        self._early = None
        self._tasks.cancel()

    # What is told.

    def init_runtime_done(self, status: str, error_type: str | None = None) -> None:
        """The runtime has asked for its first event, or will not."""
        if not self._init_done:
            self._init_done = True
            self._emit("platform.initRuntimeDone", records.init_runtime_done(self._spec, self._phase, status, error_type))

    def init_over(self, status: str, error_type: str | None = None) -> None:
        """Runtime and extensions have, or Init has failed."""
        self.init_runtime_done(status, error_type)
        duration_s = self._clock.monotonic() - self._init_began_s
        self._emit("platform.initReport", records.init_report(self._spec, self._phase, status, error_type, duration_s))
        self._early = None
        if status != "success":
            self.flush()

    def extension(self, about: Extension) -> None:
        self._emit("platform.extension", records.extension(about))

    def output(self, category: Category, data: bytes) -> None:
        """What a function or an extension has written, cut anywhere."""
        if self._early is None:
            takers = [one for one in self._subscribers.values() if category in one.subscription.types]
            if all(one.full() for one in takers):  # nobody wants it; or a flood, which is counted and not read
                for one in takers:
                    one.drop(data.count(b"\n"), len(data))
                return
        for line in self._lines[category].feed(data):
            self._tell(category, category, self._line(line))

    def begun(self, work: Work) -> None:
        """An event was handed over."""
        self._work, self._outcome = work, None
        self._busy = True
        self._runtime_done = False
        self._produced_bytes = 0
        self._first_byte_s = self._answered_s = 0.0
        self._began_s, self._began_wall_s = self._clock.monotonic(), self._clock.wall()
        self._trace = records.tracing(work)
        self._tell(_PLATFORM, "platform.start", records.start(self._spec, work, self._trace))

    def answer_begins(self) -> None:
        self._first_byte_s = self._clock.monotonic()

    def answered(self, outcome: Outcome, produced_bytes: int) -> None:
        """The invocation has its outcome. One that broke its runtime is done with by that."""
        self._outcome = outcome
        self._answered_s = self._clock.monotonic()
        self._produced_bytes = produced_bytes or len(outcome.payload)
        if outcome.status in _BROKEN:
            self.runtime_done()
            if outcome.closed:
                self.over(outcome)

    def runtime_done(self) -> None:
        """The runtime has asked for its next event, or will not."""
        work, outcome = self._work, self._outcome
        if work is None or outcome is None or self._runtime_done:
            return
        self._runtime_done = True
        self._runtime_done_s = done_s = self._clock.monotonic()
        spans = b""
        if outcome.status not in _BROKEN:
            began_s, first_s, answered_s = self._began_s, self._first_byte_s or self._answered_s, self._answered_s
            at, wall_s = self._stamps.at, self._began_wall_s
            spans = records.spans(
                at(wall_s),
                first_s - began_s,
                at(wall_s + first_s - began_s),
                answered_s - first_s,
                at(wall_s + answered_s - began_s),
                done_s - answered_s,
            )
        self._tell(
            _PLATFORM, "platform.runtimeDone", records.runtime_done(work, outcome, self._produced_bytes, spans, self._trace)
        )

    def over(self, outcome: Outcome | None = None) -> None:
        """The invocation is closed, with `outcome` if that is another than was answered; its environment is free, or broken."""
        work, final = self._work, outcome or self._outcome
        if work is not None and final is not None:
            self.runtime_done()
            self._work = self._outcome = None
            for category, lines in self._lines.items():
                if lines.unfinished:
                    self._tell(category, category, self._line(lines.rest()))
            if self._logs_too:
                if final.status in _BROKEN:
                    said = final.log_lines[0] if final.log_lines else f"RequestId: {work.request_id} {final.error_type}"
                    self._emit("platform.fault", said)
                self._emit("platform.end", {"requestId": work.request_id})
            overhead = b""
            if final.status not in _BROKEN:
                since_s = self._runtime_done_s - self._began_s
                overhead = records.extension_overhead(
                    self._stamps.at(self._began_wall_s + since_s), self._clock.monotonic() - self._runtime_done_s
                )
            self._tell(_PLATFORM, "platform.report", records.report(self._spec, work, final, overhead, self._trace))
            if final.status in _BROKEN:
                self.flush()
        self._busy = False
        self._idle_s = self._clock.monotonic()
        if self._idle_timer is None and self._subscribers:
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_S, self._idle)

    def _idle(self) -> None:
        self._idle_timer = None
        if self._busy:
            return
        left_s = self._idle_s + IDLE_S - self._clock.monotonic()
        if left_s > 0.001:
            self._idle_timer = asyncio.get_running_loop().call_later(left_s, self._idle)
        else:
            self.flush()

    # Events.

    def _emit(self, kind: str, record: Any) -> None:
        self._tell(_PLATFORM, kind, orjson.dumps(record))

    def _tell(self, category: Category, kind: str, record: bytes) -> None:
        takers = self._takers.get(kind)
        if takers is None:
            takers = self._takers[kind] = [one.put for one in self._subscribers.values() if _wants(one, category, kind)]
        if not takers and self._early is None:
            return
        event = b'{"time":"%b","type":"%b","record":%b}' % (self._stamps.at(self._clock.wall()), kind.encode(), record)
        for put in takers:
            put(event)
        if self._early is not None and self._early_bytes < EARLY_BYTES:
            self._early_bytes += len(event)
            self._early.append((category, kind, event))

    def _line(self, line: bytes) -> bytes:
        """The record of a line: a text; with LogFormat JSON the object that it is, if it is one."""
        if self._json and line.startswith(b"{"):
            try:
                orjson.loads(line)
            except orjson.JSONDecodeError:
                pass
            else:
                return line
        return orjson.dumps(line.decode("utf-8", "replace"))

    def _drops(self, count: int, size_bytes: int) -> bytes:
        record = orjson.dumps(records.dropped(count, size_bytes))
        return b'{"time":"%b","type":"platform.logsDropped","record":%b}' % (self._stamps.at(self._clock.wall()), record)


def _wants(subscriber: Subscriber, category: Category, kind: str) -> bool:
    wanted = subscriber.subscription
    if category not in wanted.types:
        return False
    if kind == "platform.runtimeDone":
        return wanted.runtime_done
    return kind not in (_TELEMETRY_ONLY if wanted.logs else _LOGS_ONLY)
