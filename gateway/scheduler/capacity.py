"""The machine's memory, and how many sandboxes it holds. [P]

A sandbox that starts or works counts the MemorySize of its function, because it may use that much any moment. One that is idle
counts the same until it is frozen and measured, then what it was measured to use: it cannot use more while it is frozen,
and before it is thawed the difference is reserved. Where memory is short, idle ones are frozen sooner for that.

One that is being stopped counts until nothing of it is left, which is soon, but takes two seconds where its extensions take their
time: it lingers. Nobody is to wait for that: it is measured then, and counts what it uses; and up to an eighth of the budget
those who are stopping do not stand in the way of who comes. What really is used can be so much more than the budget for so long;
a budget is made smaller than the machine by more than that. Where it is not enough, those that have lingered longest have their
time cut short: two seconds are what AWS gives at most, and an invocation that waits goes before.
"""

from __future__ import annotations

import enum
from typing import Final

STOPPING_SHARE: Final = 8


class Room(enum.Enum):
    """Whether there is room for one more."""

    FREE = "free"
    COMING = "coming"  #: once idle ones are gone that were told to stop, or measured that were told to freeze
    NONE = "none"  #: not even if all that is idle were stopped


class Budget:
    """What is used of the machine. `idle`, `stopping` and `cooling` are parts of `used`, `lingering` of `stopping`;
    so are the counts beside the bytes.

    `cooling` is what those count that were told to freeze and not measured yet: most of it can be hoped for.

    `earmarked` is what others, who asked earlier, still wait for.
    """

    __slots__ = (
        "cooling_bytes",
        "earmarked_bytes",
        "earmarked_count",
        "grace_bytes",
        "idle_bytes",
        "idle_count",
        "lingering_bytes",
        "lingering_count",
        "stopping_bytes",
        "stopping_count",
        "total_bytes",
        "total_count",
        "used_bytes",
        "used_count",
    )

    def __init__(self, total_bytes: int, total_count: int) -> None:
        self.total_bytes = total_bytes
        self.total_count = total_count
        self.grace_bytes = total_bytes // STOPPING_SHARE  #: of what is stopping, so much is not waited for
        self.used_bytes = self.used_count = 0
        self.idle_bytes = self.idle_count = 0
        self.stopping_bytes = self.stopping_count = 0
        self.lingering_bytes = self.lingering_count = 0
        self.cooling_bytes = 0
        self.earmarked_bytes = self.earmarked_count = 0

    def __repr__(self) -> str:
        return (
            f"<Budget {self.used_bytes >> 20}/{self.total_bytes >> 20} MB, {self.idle_bytes >> 20} MB of it idle, "
            f"{self.stopping_bytes >> 20} MB stopping; {self.used_count}/{self.total_count} sandboxes>"
        )

    def take(self, size_bytes: int, count: int = 0) -> None:
        self.used_bytes += size_bytes
        self.used_count += count

    def give_back(self, size_bytes: int, count: int = 0) -> None:
        self.used_bytes -= size_bytes
        self.used_count -= count

    def shelve(self, size_bytes: int) -> None:
        """A sandbox became idle: it may be stopped to make room."""
        self.idle_bytes += size_bytes
        self.idle_count += 1

    def unshelve(self, size_bytes: int) -> None:
        """A sandbox is idle no longer."""
        self.idle_bytes -= size_bytes
        self.idle_count -= 1

    def stopping(self, size_bytes: int) -> None:
        self.stopping_bytes += size_bytes
        self.stopping_count += 1

    def lighten(self, size_bytes: int) -> None:
        """One that is stopping uses so much less than it counted."""
        self.stopping_bytes -= size_bytes
        self.used_bytes -= size_bytes

    def linger(self, size_bytes: int, count: int) -> None:
        """Of what is stopping, so much more (or less) takes its time."""
        self.lingering_bytes += size_bytes
        self.lingering_count += count

    def stopped(self, size_bytes: int) -> None:
        self.stopping_bytes -= size_bytes
        self.stopping_count -= 1
        self.used_bytes -= size_bytes
        self.used_count -= 1

    def cooling(self, size_bytes: int) -> None:
        """A sandbox that counts so much was told to freeze."""
        self.cooling_bytes += size_bytes

    def cooled(self, size_bytes: int) -> None:
        """It was measured."""
        self.cooling_bytes -= size_bytes

    def fits(self, size_bytes: int, count: int) -> bool:
        """Whether there is room now."""
        over_bytes = self.used_bytes + self.earmarked_bytes + size_bytes - self.total_bytes
        return (
            over_bytes <= 0 or over_bytes <= min(self.stopping_bytes, self.grace_bytes)
        ) and self.used_count + self.earmarked_count + count <= self.total_count

    def fits_soon(self, size_bytes: int, count: int) -> bool:
        """Whether there is room once all is gone that is stopping and does not linger, and what is being frozen is measured."""
        left_bytes = self.used_bytes - (self.stopping_bytes - self.lingering_bytes) - self.cooling_bytes
        left_count = self.used_count - (self.stopping_count - self.lingering_count)
        over_bytes = left_bytes + self.earmarked_bytes + size_bytes - self.total_bytes
        return (
            over_bytes <= 0 or over_bytes <= min(self.lingering_bytes, self.grace_bytes)
        ) and left_count + self.earmarked_count + count <= self.total_count

    def lacking(self, size_bytes: int, count: int) -> bool:
        """Whether more has to be stopped than is being stopped already."""
        left_count = self.used_count - self.stopping_count
        return self.short_of(size_bytes) or left_count + self.earmarked_count + count > self.total_count

    def short_of(self, size_bytes: int) -> bool:
        """Whether memory lacks even when all is gone that is stopping, and if what is being frozen uses next to nothing."""
        left_bytes = self.used_bytes - self.stopping_bytes - self.cooling_bytes
        return left_bytes + self.earmarked_bytes + size_bytes > self.total_bytes

    def hopeless(self, size_bytes: int, count: int, spared_bytes: int, spared_count: int) -> bool:
        """Whether stopping all that is idle, but for what is spared, would still not make room."""
        return not (
            self.used_bytes - self.stopping_bytes - self.idle_bytes + spared_bytes + self.earmarked_bytes + size_bytes
            <= self.total_bytes
            and self.used_count - self.stopping_count - self.idle_count + spared_count + self.earmarked_count + count
            <= self.total_count
        )

    def possible(self, size_bytes: int) -> int:
        """How many more of this size there would be memory for if all that is idle were stopped, and nobody else wanted it."""
        left_bytes = self.used_bytes - self.stopping_bytes - self.idle_bytes + self.earmarked_bytes
        return max(0, self.total_bytes - left_bytes) // max(1, size_bytes)

    def earmark(self, size_bytes: int, count: int) -> None:
        self.earmarked_bytes += size_bytes
        self.earmarked_count += count

    def clear_earmarks(self) -> None:
        self.earmarked_bytes = self.earmarked_count = 0
