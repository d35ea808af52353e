"""All telemetry of one environment, from the beginning of one Init to the end of what that began.

It is there only where there are extensions: for any other function a sandbox holds None and pays one look at it. Events are made
when somebody is subscribed to their kind, and kept until Init is over for those that still may (up to EARLY_BYTES); then they are
bytes that every subscriber shares.

What one invocation has to tell, in this order: platform.start with the event; platform.runtimeDone when the runtime asks for the
next one, fails or is too late; platform.report when its extensions are done too. Each is noted when it happens (`invocation.py`),
and made into an event when a batch goes, when a line of output has to come behind it, or when NOTED invocations are there. Output
is told line by line as it is read.

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
from sandbox.telemetry.invocation import BROKEN, KINDS, Invocation
from sandbox.telemetry.lines import Lines
from sandbox.telemetry.subscriber import Subscriber
from sandbox.telemetry.subscription import Category

EARLY_BYTES: Final = 262_144
IDLE_S: Final = 0.1  #: less than the time after which a sandbox is frozen by default
NOTED: Final = 32  #: invocations at most, which take a tenth of a millisecond to make into events

_PLATFORM: Final = Category.PLATFORM
_LOGS_ONLY: Final = frozenset({"platform.end", "platform.fault", "platform.logsSubscription"})
_TELEMETRY_ONLY: Final = frozenset(
    {"platform.initStart", "platform.initRuntimeDone", "platform.initReport", "platform.telemetrySubscription"}
)
_SUCCESS: Final = Status.SUCCESS


class Telemetry:
    """`phase` is ``init`` or ``invoke``, `dial` gives unconnected sockets of the sandbox's network, `failed` hears our faults."""

    def __init__(self, spec: FunctionSpec, phase: str, clock: Clock, dial: Dial, failed: Callable[[BaseException], None]) -> None:
        self._spec = spec
        self._phase = phase
        self._clock = clock
        self._dial = dial
        self._tasks = Tasks(failed)
        #: told of each new subscription: whose, to what, and whether by the Logs API
        self.on_subscribed: Callable[[str, list[str], bool], None] = lambda name, types, logs: None
        #: told of each platform.logsDropped, whoever else is
        self.on_dropped: Callable[[bytes], None] = lambda event: None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._subscribers: dict[str, Subscriber] = {}
        self._takers: dict[str, list[Callable[[bytes], None]]] = {}  # of each kind of event, worked out when it first comes
        self._early: list[tuple[Category, str, bytes]] | None = []
        self._early_bytes = 0
        self._lines = {category: Lines() for category in (Category.FUNCTION, Category.EXTENSION)}
        self._json = spec.log_format == "JSON"
        self._line_open = False  # one was begun
        self._platform: list[Subscriber] = []  # who is told of invocations
        self._plain: dict[str, list[Subscriber]] = {}  # those of them by the Telemetry API, by separator
        self._logs: list[Subscriber] = []  # and by the Logs API
        self._stamps = records.Stamps()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._busy = True
        self._idle_s = 0.0
        self._init_began_s = clock.monotonic()
        self._init_done = False
        self._noted: list[Invocation] = []
        self._now: Invocation | None = None  # in hand; None also where nobody is told of it
        self._outcome: Outcome | None = None  # of that
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
        subscriber = Subscriber(extension.name, wanted, sender, self._drops, self._collect)
        self._subscribers[extension.name] = subscriber
        self._running[extension.name] = self._tasks.start(subscriber.run(), f"telemetry {extension.name}")
        self._sort()
        for category, kind, event in self._early:
            if _wants(subscriber, category, kind):
                subscriber.put(event)
        types = [category.value for category in Category if category in wanted.types]
        kind = "platform.logsSubscription" if logs else "platform.telemetrySubscription"
        self._emit(kind, records.subscribed(extension.name, types))
        self.on_subscribed(extension.name, types, logs)

    @property
    def wanted(self) -> bool:
        """Whether anybody is subscribed; once Init is over, whether anybody will ever be."""
        return bool(self._subscribers)

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
        self._sort()
        self._now = None
        self._early = None
        self._tasks.cancel()

    def _sort(self) -> None:
        self._takers.clear()
        self._platform = [one for one in self._subscribers.values() if _PLATFORM in one.subscription.types]
        self._logs = [one for one in self._platform if one.subscription.logs]
        self._plain = {}
        for one in self._platform:
            if not one.subscription.logs:
                self._plain.setdefault(one.separator, []).append(one)

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
        self._line_open = any(lines.unfinished for lines in self._lines.values())

    # Invocations. All of it is on every invocation's way, so it notes and no more.

    def begun(self, work: Work, now_s: float, wall_s: float) -> None:
        """An event was handed over."""
        self._busy = True
        if self._platform:
            self._now = Invocation(work, now_s, wall_s)
            self._outcome = None
            for one in self._platform:
                one.expect()

    def answer_begins(self) -> None:
        if self._now is not None:
            self._now.first_byte_s = self._clock.monotonic()

    def answered(self, outcome: Outcome, produced_bytes: int, now_s: float) -> None:
        """The invocation has its outcome. One that broke its runtime is done with by that."""
        if self._now is not None:
            self._outcome = outcome
            self._now.answered(outcome, produced_bytes or len(outcome.payload), now_s)
        if outcome.status is not _SUCCESS and outcome.status in BROKEN:
            self.runtime_done()
            if outcome.closed:
                self.over(outcome)

    def runtime_done(self) -> None:
        """The runtime has asked for its next event, or will not."""
        if self._outcome is not None and self._now is not None and not self._now.done_s:
            self._now.done_s = self._clock.monotonic()

    def over(self, outcome: Outcome | None = None) -> None:
        """The invocation is closed, with `outcome` if that is another than was answered; its environment is free, or broken."""
        self._idle_s = now_s = self._clock.monotonic()
        done, answered = self._now, self._outcome
        if done is not None and answered is not None and not done.done_s:
            done.done_s = now_s
        if self._line_open:
            self._end_lines()
        if done is not None and answered is not None:
            done.over(outcome or answered, now_s)
            self._now = self._outcome = None
            self._noted.append(done)
            if len(self._noted) >= NOTED:
                self._collect()
        if outcome is not None and outcome.status in BROKEN:
            self.flush()
        self._busy = False
        if self._idle_timer is None and self._subscribers:
            self._idle_timer = asyncio.get_running_loop().call_later(IDLE_S, self._idle)

    def _end_lines(self) -> None:
        """What was written without an end belongs to the invocation that is over."""
        self._line_open = False
        for category, lines in self._lines.items():
            if lines.unfinished:
                self._tell(category, category, self._line(lines.rest()))

    def _collect(self) -> None:
        """Make events of what was noted."""
        noted, self._noted = self._noted, []
        for invocation in noted:
            self._tell_of(invocation)
        if self._now is not None:
            self._tell_of(self._now)

    def _tell_of(self, invocation: Invocation) -> None:
        spec, told = self._spec, invocation.told
        events = invocation.events(spec.version, spec.memory_mb, self._stamps.at)
        if not events:
            return
        for separator, takers in self._plain.items():
            whole = separator.join(events).encode()
            for one in takers:
                one.put(whole, len(events))
        if self._logs:
            self._tell_logs(invocation, dict(zip(KINDS[told:], events, strict=False)))

    def _tell_logs(self, invocation: Invocation, events: dict[str, str]) -> None:
        """The Logs API has two more, before the last."""
        report = events.pop("platform.report", None)
        if report is not None:
            if invocation.fault is not None:
                events["platform.fault"] = self._event("platform.fault", orjson.dumps(invocation.fault)).decode()
            said = orjson.dumps({"requestId": invocation.request_id})
            events |= {"platform.end": self._event("platform.end", said).decode(), "platform.report": report}
        for kind, event in events.items():
            for one in self._logs:
                if _wants(one, _PLATFORM, kind):
                    one.put(event.encode())

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
        if self._noted or self._now is not None:
            self._collect()  # they come first
        event = self._event(kind, record)
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

    def _event(self, kind: str, record: bytes) -> bytes:
        return b'{"time":"%b","type":"%b","record":%b}' % (self._stamps.at(self._clock.wall()).encode(), kind.encode(), record)

    def _drops(self, count: int, size_bytes: int) -> bytes:
        event = self._event("platform.logsDropped", orjson.dumps(records.dropped(count, size_bytes)))
        self.on_dropped(event)
        return event


def _wants(subscriber: Subscriber, category: Category, kind: str) -> bool:
    wanted = subscriber.subscription
    if category not in wanted.types:
        return False
    if kind == "platform.runtimeDone":
        return wanted.runtime_done
    return kind not in (_TELEMETRY_ONLY if wanted.logs else _LOGS_ONLY)
