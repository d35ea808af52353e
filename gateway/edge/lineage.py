"""How often a chain of requests has come through a function: the member ``Lineage`` of its trace header. [P]

AWS keeps it there too (``Root=…;Parent=…;Sampled=0;Lineage=43e12f0f:5``, in its guide's chapter on recursive loops): SDKs that
run in a function pass the header on when they call Lambda, so the count comes along. An invocation that would be more than the
sixteenth of its chain for one function is stopped there, unless the function's RecursiveLoop is Allow. Without that a function
that calls itself would go on until it holds all slots of the account. Who brings no header begins a chain, and nothing is done
for it.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from gateway.edge.ports import Invokes
from gateway.errors import RecursiveInvocationException

MOST: Final = 16  #: times that a chain may come through one function
_KEPT: Final = 7  #: functions that a chain counts, the latest: a member of a trace header has 100 characters at most
_LINEAGE: Final = re.compile(r";lineage=([0-9a-z:|]*)", re.IGNORECASE)
_ENTRY: Final = re.compile(r"([0-9a-f]{8}):([0-9]{1,3})")


def continued(trace_id: str, function_name: str, invoker: Invokes) -> str:
    """The trace header for an invocation of a function by who brought this one. Raises RecursiveInvocationException."""
    key = f"{zlib.crc32(function_name.encode()):08x}"
    found = _LINEAGE.search(trace_id)
    counts = {match[1]: int(match[2]) for match in _ENTRY.finditer(found[1].lower())} if found is not None else {}
    count = counts.pop(key, 0) + 1
    if count > MOST and invoker.stops_loops(function_name):
        raise RecursiveInvocationException
    counts[key] = min(count, 999)
    lineage = "|".join(f"{one}:{times}" for one, times in list(counts.items())[-_KEPT:])
    return f"{_LINEAGE.sub('', trace_id)};Lineage={lineage}"
