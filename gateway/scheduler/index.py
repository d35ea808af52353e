"""Where idle sandboxes are found: the newest of one group to give work to, the oldest of all to let go. [P]

Every operation is one or two steps, however many there are. Within a group the newest is taken first, so that what is hot stays
hot and what is not needed grows old. Over all groups, both orders are by last use: a sandbox is frozen a constant time after it
became idle, so the frozen ones are in the order in which they were last used as well.

With thousands of sandboxes what an invocation costs is how many places in memory it touches, not how many steps it takes: each
of them is in no cache by then. So the warm ones of a group hang one on the other without a container, and those of all groups are
in a plain dictionary, which touches two places where an ordered one touches six. In return whoever looks for its first entry
passes by those that were removed before it; that is a microsecond for a thousand, and only who freezes or makes room does it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from gateway.scheduler.state import Instance

if TYPE_CHECKING:
    from gateway.scheduler.group import Group


class Index:
    """The idle sandboxes of all groups. One is in exactly one of `warm`, `frozen` and `pinned`, and the last two are its group's
    `frozen`. Pinned are those that a group's `min_warm` keeps: keep-alive policies do not see them.
    """

    __slots__ = ("frozen", "pinned", "warm")

    def __init__(self) -> None:
        self.warm: dict[Instance, None] = {}  #: oldest first
        self.frozen: OrderedDict[Instance, None] = OrderedDict()  #: oldest first
        self.pinned: OrderedDict[Instance, None] = OrderedDict()  #: oldest first

    def add(self, instance: Instance) -> None:
        """One became idle, now."""
        group = instance.group
        older = group.newest
        if older is not None:
            older.newer = instance
            instance.older = older
        group.newest = instance
        group.warm += 1
        self.warm[instance] = None

    def take(self, group: Group) -> Instance | None:
        """The newest warm one of a group, taken out: who takes it changes its state in the same step."""
        instance = group.newest
        if instance is None:
            return None
        older = group.newest = instance.older
        if older is not None:
            older.newer = instance.older = None
        group.warm -= 1
        del self.warm[instance]
        return instance

    def newest_frozen(self, group: Group) -> Instance | None:
        """The newest frozen one of a group, left where it is: whether it can be thawed depends on memory."""
        return next(reversed(group.frozen), None)

    def freeze(self, instance: Instance) -> None:
        """A warm one is frozen."""
        self._unlink(instance)
        pinned = self.pins(instance.group)
        instance.group.frozen[instance] = None
        (self.pinned if pinned else self.frozen)[instance] = None

    def pins(self, group: Group, promised: int = 0) -> bool:
        """Whether one more frozen sandbox of the group is to be pinned, when so many more will be."""
        keep = group.keep
        if keep is None or not keep.min_warm:
            return False
        return sum(one in self.pinned for one in group.frozen) + promised < keep.min_warm

    def pin(self, instance: Instance) -> None:
        """A frozen one is kept for its group's `min_warm` from now on."""
        del self.frozen[instance]
        self.pinned[instance] = None

    def unpin(self, group: Group) -> None:
        """Its group's rules changed: all of it are like any other, until they are looked at again."""
        pinned = [instance for instance in group.frozen if instance in self.pinned]
        if not pinned:
            return
        for instance in pinned:
            del self.pinned[instance]
        frozen = sorted([*self.frozen, *pinned], key=lambda one: one.since_s)  # somebody set a tag: that may take its time
        self.frozen = OrderedDict.fromkeys(frozen)

    def remove(self, instance: Instance) -> None:
        """One is idle no longer."""
        if instance in self.warm:
            self._unlink(instance)
        else:
            del instance.group.frozen[instance]
            del (self.frozen if instance in self.frozen else self.pinned)[instance]

    def _unlink(self, instance: Instance) -> None:
        """One, wherever it is among its group's, is warm no longer."""
        group, older, newer = instance.group, instance.older, instance.newer
        if newer is None:
            group.newest = older
        else:
            newer.older = older
            instance.newer = None
        if older is not None:
            older.newer = newer
            instance.older = None
        group.warm -= 1
        del self.warm[instance]
