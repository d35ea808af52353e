"""Loops of invocations, counted in the trace header."""

from __future__ import annotations

import pytest

from gateway.edge.lineage import MOST, continued
from gateway.errors import RecursiveInvocationException
from tests.wire.edge import ScriptedInvoker

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0"


class Loops(ScriptedInvoker):
    """Stops the loops of all functions but ``free``."""

    def __init__(self) -> None: ...

    def stops_loops(self, function_name: str) -> bool:
        return function_name != "free"


def chain(*names: str, trace: str = TRACE) -> str:
    for name in names:
        trace = continued(trace, name, Loops())
    return trace


def test_the_chain_is_written_into_the_header() -> None:
    first = chain("a")
    assert first.startswith(f"{TRACE};Lineage=")
    key = first.partition("Lineage=")[2].partition(":")[0]
    assert first == f"{TRACE};Lineage={key}:1"
    assert chain("a", "a") == f"{TRACE};Lineage={key}:2"


def test_a_function_is_stopped_the_seventeenth_time() -> None:
    trace = chain(*["a"] * MOST)
    with pytest.raises(
        RecursiveInvocationException, match=r"recursive loop with other .* and stopped your function's invocation\.$"
    ):
        chain("a", trace=trace)
    chain("b", trace=trace)


def test_others_in_between_do_not_hide_it() -> None:
    trace = chain(*["a", "b", "c"] * MOST)
    for name in "abc":
        with pytest.raises(RecursiveInvocationException):
            chain(name, trace=trace)


def test_who_allows_loops_goes_on_and_the_count_stays_short() -> None:
    trace = chain(*["free"] * 1200)
    assert trace.endswith(":999")
    assert len(trace.partition("Lineage=")[2]) <= 100


def test_as_many_functions_as_the_header_has_room_for_are_counted() -> None:
    trace = chain(*"abcdefghijkl")
    assert trace.count(":") == 7
    assert len(trace.partition("Lineage=")[2]) <= 100


@pytest.mark.parametrize("lineage", ["", "nonsense", "1:a87bd80c:0", "a87bd80c:1|||:::", "a87bd80c:99999"])
def test_what_is_no_count_of_ours_begins_anew(lineage: str) -> None:
    made = chain("a", trace=f"{TRACE};Lineage={lineage}")
    assert made.count("Lineage=") == 1
    assert made.endswith(":1")
