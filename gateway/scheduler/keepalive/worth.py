"""Ours: what is kept is what is worth most. [P]

A sandbox's worth is the time of cold starts that it is expected to save, for each byte and second that it is kept: uses a second
(`Gaps.density`) x cold start / memory. That is Greedy-Dual's cost x frequency / size, with a frequency that knows how long the
sandbox has been idle already. It changes with time, so no order can be kept; the least worth of a few that are drawn by chance
goes (as in LHD and Redis), which costs the same whether there are a hundred or a hundred thousand.

A function that is called at regular times (`Rhythm`) needs its sandbox only then. Between two beats it is worth only what the
calls beside them make it, because letting it go costs no cold start at the beat: one is started again shortly before.

Where memory is not short a sandbox is kept as long as its function may still be called: four times what nearly all its gaps
took, at least `least_s` and until the next beat is over; and a day if nothing is known.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from gateway.scheduler.index import Index
from gateway.scheduler.keepalive.base import Prewarm, oldest
from gateway.scheduler.keepalive.gaps import LEAST_S
from gateway.scheduler.keepalive.learner import Learner
from gateway.scheduler.keepalive.use import Use
from gateway.scheduler.scaling import COLD_GUESS_S
from gateway.scheduler.state import Instance

if TYPE_CHECKING:
    from gateway.scheduler.group import Group

DRAWN: Final = 48  #: groups of which the least worth goes
RESTORED: Final = 0.01  #: of a use, what starting it again in time costs
LEAD_S: Final = 1.0  #: between the start of a sandbox and the earliest time at which it may be used, beside its cold start


class Worth(Learner[Use]):
    """Keeps by worth, and starts before the beat."""

    __slots__ = ("_groups", "_least_s", "_listed", "_random", "_sweep_at")

    pause_s = LEAST_S

    def __init__(self, least_s: float) -> None:
        super().__init__(Use)
        self._least_s = least_s
        self._groups: list[Group] = []  #: those that may have a frozen sandbox, in no order
        self._listed: set[Group] = set()
        self._sweep_at = 64
        self._random = random.Random(0)

    def __repr__(self) -> str:
        return f"<Worth {len(self._uses)} functions, {len(self._prewarms)} to be started>"

    def keep_until(self, instance: Instance, now: float) -> float:
        group = instance.group
        use = _use(group)
        if group not in self._listed:
            self._listed.add(group)
            self._groups.append(group)
            if len(self._groups) > self._sweep_at:  # nobody had to go for long: those that went by themselves are here still
                self._groups = [one for one in self._groups if one is group or one.frozen]
                self._listed = set(self._groups)
                self._sweep_at = 64 + 2 * len(self._groups)
        rhythm = use.rhythm
        kept_s = instance.since_s + max(self._least_s, use.tail_s(group.busy + group.warm + len(group.frozen)))
        if rhythm is None or not rhythm.sure or use.version is None:
            return kept_s
        begin_s, end_s = rhythm.next_s - rhythm.margin_s, rhythm.next_s + rhythm.margin_s
        if now < begin_s:
            self._prewarms.add(Prewarm(use.version, begin_s - LEAD_S - _cold_s(group), end_s))
        return max(kept_s, end_s)

    def victim(self, index: Index, spared: Instance | None, now: float) -> Instance | None:
        groups = self._groups
        least: Instance | None = None
        least_worth = (0.0, 0.0)
        drawn = 0
        while drawn < DRAWN and groups:
            at = drawn if len(groups) <= DRAWN else int(self._random.random() * len(groups))
            if at >= len(groups):
                break
            group = groups[at]
            instance = next((one for one in group.frozen if one in index.frozen), None)
            if instance is None:
                self._listed.discard(group)
                groups[at] = groups[-1]
                groups.pop()
                continue
            drawn += 1
            if instance is spared:
                continue
            worth = self.worth(instance, now), instance.since_s
            if least is None or worth < least_worth:
                least, least_worth = instance, worth
        return least or oldest(index, spared)

    def worth(self, instance: Instance, now: float) -> float:
        """Seconds of cold starts saved for each byte and second, by the sandbox of its group that was used longest ago."""
        group = instance.group
        use = _use(group)
        level = group.busy + group.warm + len(group.frozen)
        density = use.density(level, instance.since_s, now)
        rhythm = use.rhythm
        if level == 1 and rhythm is not None and rhythm.sure:
            ahead_s = rhythm.next_s - now
            if ahead_s > rhythm.margin_s + 2 * LEAD_S + _cold_s(group):
                density = max(RESTORED / ahead_s, rhythm.stray * density)
            elif ahead_s > -rhythm.margin_s:
                density = 1 / (max(0.0, ahead_s) + rhythm.margin_s)
        return density * _cold_s(group) / max(1, instance.memory_bytes)


def _use(group: Group) -> Use:
    use = group.learned()
    assert isinstance(use, Use)
    return use


def _cold_s(group: Group) -> float:
    return COLD_GUESS_S if group.cold_s.value is None else group.cold_s.value
