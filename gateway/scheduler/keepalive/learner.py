"""What the policies that learn have in common: a bounded memory of functions, and wishes for sandboxes. [P]"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from gateway.records import FunctionVersion
from gateway.scheduler.keepalive.base import Name, Pattern, Prewarm, Prewarms

if TYPE_CHECKING:
    from gateway.scheduler.group import Group

REMEMBERED: Final = 20_000  #: functions without a sandbox that are not forgotten; 0.5 kB each, and 0.2 kB for each further level


class Learned(Pattern, Protocol):
    """`version` was called last, None once it is gone."""

    version: FunctionVersion | None


L = TypeVar("L", bound=Learned)


class Learner(Generic[L]):
    """Remembers what it learned of functions that have no sandbox any more; `new` makes what is to learn of one."""

    __slots__ = ("_new", "_prewarms", "_uses")

    def __init__(self, new: Callable[[FunctionVersion, float], L]) -> None:
        self._new = new
        self._uses: OrderedDict[Name, L] = OrderedDict()  #: the one whose group was made longest ago first
        self._prewarms = Prewarms()

    def known(self, group: Group, now: float) -> L:
        name = group.key[0], group.key[1]
        use = self._uses.get(name)
        if use is None:
            use = self._uses[name] = self._new(group.version, now)
            if len(self._uses) > REMEMBERED:
                forgotten, _ = self._uses.popitem(last=False)
                self._prewarms.drop(forgotten)
        else:
            use.version = group.version
            self._uses.move_to_end(name)
        return use

    def retired(self, name: Name) -> None:
        use = self._uses.get(name)
        if use is not None:
            use.version = None
        self._prewarms.drop(name)

    def due(self, now: float) -> Iterator[Prewarm]:
        return self._prewarms.due(now)

    def postpone(self, prewarm: Prewarm, due_s: float) -> None:
        prewarm.due_s = due_s
        self._prewarms.add(prewarm)

    def next_s(self) -> float:
        return self._prewarms.next_s()
