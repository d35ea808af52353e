"""Where idle sandboxes are found: the newest of one group to give work to, the oldest of all to let go. [P]

Every operation is one or two steps on a dictionary, however many there are. Within a group the newest is taken first, so that
what is hot stays hot and what is not needed grows old. Over all groups, both orders are by last use: a sandbox is frozen a
constant time after it became idle, so the frozen ones are in the order in which they were last used as well.
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
        self.warm: OrderedDict[Instance, None] = OrderedDict()  #: oldest first
        self.frozen: OrderedDict[Instance, None] = OrderedDict()  #: oldest first
        self.pinned: OrderedDict[Instance, None] = OrderedDict()  #: oldest first

    def add(self, instance: Instance) -> None:
        """One became idle, now."""
        instance.group.warm[instance] = None
        self.warm[instance] = None

    def take(self, group: Group) -> Instance | None:
        """The newest warm one of a group, taken out: who takes it changes its state in the same step."""
        if not group.warm:
            return None
        instance, _ = group.warm.popitem()
        del self.warm[instance]
        return instance

    def newest_frozen(self, group: Group) -> Instance | None:
        """The newest frozen one of a group, left where it is: whether it can be thawed depends on memory."""
        return next(reversed(group.frozen), None)

    def freeze(self, instance: Instance) -> None:
        """A warm one is frozen."""
        del instance.group.warm[instance]
        del self.warm[instance]
        pinned = self.pins(instance.group)
        instance.group.frozen[instance] = None
        (self.pinned if pinned else self.frozen)[instance] = None

    def pins(self, group: Group) -> bool:
        """Whether one more frozen sandbox of the group is to be pinned."""
        keep = group.keep
        if keep is None or not keep.min_warm:
            return False
        return sum(one in self.pinned for one in group.frozen) < keep.min_warm

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
            del instance.group.warm[instance]
            del self.warm[instance]
        else:
            del instance.group.frozen[instance]
            del (self.frozen if instance in self.frozen else self.pinned)[instance]
