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
    """The idle sandboxes of all groups. One is in exactly one of `warm` and `frozen`, here and in its group."""

    __slots__ = ("frozen", "warm")

    def __init__(self) -> None:
        self.warm: OrderedDict[Instance, None] = OrderedDict()  #: oldest first
        self.frozen: OrderedDict[Instance, None] = OrderedDict()  #: oldest first

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
        instance.group.frozen[instance] = None
        self.frozen[instance] = None

    def remove(self, instance: Instance) -> None:
        """One is idle no longer."""
        if instance in self.warm:
            del instance.group.warm[instance]
            del self.warm[instance]
        else:
            del instance.group.frozen[instance]
            del self.frozen[instance]
