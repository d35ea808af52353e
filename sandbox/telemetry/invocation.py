"""What is told of one invocation: platform.start, platform.runtimeDone, platform.report. [P]

While it goes on, only times and a few numbers are noted here; the events are made of them when a batch needs them, for many
invocations in one go, and together: half of what one after the other cost was in the calls and the times that all three share.
Nothing large is kept, neither event nor answer: some dozens wait like this.

Spans of platform.runtimeDone are responseLatency (from the event to the first byte of the answer), responseDuration (from there
to its last) and runtimeOverhead (until the runtime asked for its next event); the one of platform.report is extensionOverhead
(from there until its extensions had). Durations are milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import orjson

from sandbox.outcome import MIB, Outcome, Status, Work, billed_ms

KINDS: Final = ("platform.start", "platform.runtimeDone", "platform.report")  #: in the order in which they are told
BROKEN: Final = (Status.FAILURE, Status.TIMEOUT)  #: such an invocation has no spans
_SUCCESS: Final = Status.SUCCESS
_WORD: Final = _SUCCESS.value
_SHORT: Final = tuple(f"0.{us:03d}" for us in range(1000))


class Invocation:
    """Times with `_s` are on the monotonic clock, 0.0 as long as that has not happened."""

    __slots__ = (
        "_began_s",
        "_began_wall_s",
        "_billed_ms",
        "_duration_s",
        "_error_type",
        "_final_duration_s",
        "_final_error_type",
        "_final_status",
        "_init_s",
        "_memory_bytes",
        "_produced_bytes",
        "_status",
        "_trace_id",
        "answered_s",
        "done_s",
        "fault",
        "first_byte_s",
        "over_s",
        "request_id",
        "told",
    )

    def __init__(self, work: Work, now_s: float, wall_s: float) -> None:
        self.request_id = work.request_id
        self._trace_id = work.trace_id
        self._began_s = now_s
        self._began_wall_s = wall_s
        self.first_byte_s = self.answered_s = self.done_s = self.over_s = 0.0
        self.told = 0  #: how many of the KINDS
        self.fault: str | None = None  #: the text of platform.fault, which the Logs API has

    def answered(self, outcome: Outcome, produced_bytes: int, now_s: float) -> None:
        """It has its outcome; `produced_bytes` were the answer."""
        self.answered_s = now_s
        self._status, self._error_type, self._duration_s = outcome.status, outcome.error_type, outcome.duration_s
        self._produced_bytes = produced_bytes

    def over(self, outcome: Outcome, now_s: float) -> None:
        """It is closed, as `outcome` says by now."""
        self.over_s = now_s
        status = self._final_status = outcome.status
        self._final_error_type = outcome.error_type
        self._final_duration_s, self._init_s = outcome.duration_s, outcome.init_s
        self._billed_ms = billed_ms(outcome)
        self._memory_bytes = outcome.max_memory_bytes
        if status is not _SUCCESS and status in BROKEN:
            self.fault = outcome.log_lines[0] if outcome.log_lines else f"RequestId: {self.request_id} {outcome.error_type}"

    def events(self, version: str, memory_mb: int, at: Callable[[float], str]) -> list[str]:
        """What can be told by now and was not told yet; it counts as told then. `at` makes a text of a time."""
        request_id, began_s, wall_s, done_s, told = self.request_id, self._began_s, self._began_wall_s, self.done_s, self.told
        trace = ""
        if self._trace_id:
            trace = f',"tracing":{{"type":"X-Amzn-Trace-Id","value":{orjson.dumps(self._trace_id).decode()}}}'
        found: list[str] = []
        began = at(wall_s)
        if told == 0:
            found.append(
                f'{{"time":"{began}","type":"platform.start",'
                f'"record":{{"requestId":"{request_id}","version":"{version}"{trace}}}}}'
            )
        if done_s:
            duration, word = _ms(self._duration_s), _WORD if self._status is _SUCCESS else self._status.value
            spans = ""
            if word is _WORD or self._status not in BROKEN:
                answered_s = self.answered_s
                answered = first = at(wall_s + answered_s - began_s)
                latency, streaming = _ms(answered_s - began_s), "0.000"
                if self.first_byte_s:
                    first = at(wall_s + self.first_byte_s - began_s)
                    latency, streaming = _ms(self.first_byte_s - began_s), _ms(answered_s - self.first_byte_s)
                spans = (
                    f'{{"name":"responseLatency","start":"{began}","durationMs":{latency}}},'
                    f'{{"name":"responseDuration","start":"{first}","durationMs":{streaming}}},'
                    f'{{"name":"runtimeOverhead","start":"{answered}","durationMs":{_ms(done_s - answered_s)}}}'
                )
            done = at(wall_s + done_s - began_s)
            if told <= 1:
                found.append(
                    f'{{"time":"{done}","type":"platform.runtimeDone","record":{{"requestId":"{request_id}","status":"{word}",'
                    f'"metrics":{{"durationMs":{duration},"producedBytes":{self._produced_bytes}}},'
                    f'"spans":[{spans}]{_error(self._error_type)}{trace}}}}}'
                )
            if self.over_s:
                if self._final_duration_s != self._duration_s or self._final_status is not self._status:
                    duration, word = _ms(self._final_duration_s), self._final_status.value
                overhead = ""
                if self._final_status not in BROKEN:
                    overhead = f'{{"name":"extensionOverhead","start":"{done}","durationMs":{_ms(self.over_s - done_s)}}}'
                init = "" if self._init_s is None else f',"initDurationMs":{_ms(self._init_s)}'
                found.append(
                    f'{{"time":"{at(wall_s + self.over_s - began_s)}","type":"platform.report",'
                    f'"record":{{"requestId":"{request_id}","metrics":{{"durationMs":{duration},'
                    f'"billedDurationMs":{self._billed_ms},"memorySizeMB":{memory_mb},'
                    f'"maxMemoryUsedMB":{-(-self._memory_bytes // MIB)}{init}}},"spans":[{overhead}],'
                    f'"status":"{word}"{_error(self._final_error_type)}{trace}}}}}'
                )
        self.told = told + len(found)
        return found


def _ms(duration_s: float) -> str:
    """Milliseconds; most are less than one, and looked up in half the time."""
    us = int(duration_s * 1e6 + 0.5)
    return _SHORT[us] if 0 <= us < 1000 else f"{max(duration_s, 0.0) * 1000:.3f}"


def _error(error_type: str | None) -> str:
    return "" if error_type is None else f',"errorType":{orjson.dumps(error_type).decode()}'
