"""How few cold starts a policy could have that knew the trace: a bound that no keep-alive gets below without starting ahead.

Each pause of a function, from the end of its last invocation to the beginning of the next, costs a cold start unless a sandbox is
kept through it, which takes memory x time. There is so much of that: the machine's memory for the length of the trace, less what
the invocations themselves take while they run. The most pauses are bridged by taking the cheapest ones until it is used up.
That is the lower bound PFOO-L (Berger, Beckmann and Harchol-Balter, SIGMETRICS 2018): a real schedule has to fit at every moment,
and not only in the sum, so nobody gets as low. The first call of each function is cold. Pauses while other sandboxes of the
function work are not counted at all, since who comes then may wait for one of those.

With starts ahead of each call a clairvoyant has no cold start at all, and next to no waste; this bound is for those who keep.
"""

from __future__ import annotations

from gateway.scheduler.policy import MIB
from loadtests.simulation.measures import Measures
from loadtests.simulation.trace import Trace


def clairvoyant(trace: Trace, memory_bytes: int) -> Measures:
    """The bound, as if it were a policy; `wasted` is what the bridged pauses take."""
    functions = trace.functions
    until_s: list[float | None] = [None] * len(functions)
    costs: list[float] = []
    called = 0
    busy_byte_s = 0.0
    for time_s, number, run_s in trace:
        end_s = until_s[number]
        if end_s is None:
            called += 1
        elif time_s > end_s:
            costs.append((time_s - end_s) * functions[number].used_mb * MIB)
        until_s[number] = max(end_s or 0.0, time_s + run_s)
        busy_byte_s += run_s * functions[number].memory_mb * MIB
    costs.sort()
    left = memory_bytes * trace.duration_s - busy_byte_s
    measures = Measures("clairvoyant", memory_bytes, invocations=len(trace), cold=called + len(costs))
    for cost in costs:
        if cost > left:
            break
        left -= cost
        measures.wasted_byte_s += cost
        measures.cold -= 1
    return measures
