"""The two texts of an answer that change once a second. [P]"""

from __future__ import annotations

import email.utils


class Second:
    """The Date header and the time in events, rendered once a second instead of once a request (5 µs)."""

    __slots__ = ("_second", "date", "time")

    def __init__(self) -> None:
        self._second = -1
        self.date = b""  #: the whole header line, ``Date: Thu, 12 Mar 2020 19:03:58 GMT``
        self.time = ""  #: ``12/Mar/2020:19:03:58 +0000``

    def at(self, wall_s: float) -> None:
        """Have the texts say this time, in seconds since the epoch."""
        second = int(wall_s)
        if second != self._second:
            self._second = second
            date = email.utils.formatdate(second, usegmt=True)
            self.date = f"Date: {date}\r\n".encode()
            self.time = f"{date[5:7]}/{date[8:11]}/{date[12:16]}:{date[17:25]} +0000"
