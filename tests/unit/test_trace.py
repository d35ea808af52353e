"""Ids."""

from __future__ import annotations

import os
import uuid

import pytest

from gateway.observe.trace import Ids


def test_request_ids_are_random_uuids_and_differ() -> None:
    ids = Ids(os.urandom)
    made = {ids.request_id() for _ in range(10_000)}
    assert len(made) == 10_000
    for text in made:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant, str(parsed)) == (4, uuid.RFC_4122, text)


def test_randomness_is_never_used_twice() -> None:
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return os.urandom(count)

    ids = Ids(entropy)
    for _ in range(1000):
        ids.request_id()
        ids.root(0)
    assert sum(asked) >= 1000 * (16 + 12)


def test_new_trace() -> None:
    assert Ids(lambda count: b"\xab" * count).trace(None, 0x65A145BE) == "Root=1-65a145be-" + "ab" * 12


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("Root=1-65a145be-797c3178708174547ee8c103", True),
        ("root=1-65A145BE-797c3178708174547ee8c103;sampled=1", True),
        ("Self=1-6b016e22-f57c025cfcda9da6d0dd8e66;Root=1-65a145be-797c3178708174547ee8c103", True),
        ("Root=1-65a145be-797c3178708174547ee8c103;Parent=5070df42a4e144f8;Sampled=0;Lineage=1:e101e8e1:0", True),
        ("Root=2-65a145be-797c3178708174547ee8c103", False),
        ("Root=1-65a145be", False),
        ("Parent=5070df42a4e144f8", False),
        ("Root=1-65a145be-797c3178708174547ee8c103;x=\r\n", False),
        ("", False),
    ],
)
def test_callers_trace(given: str, taken: bool) -> None:
    trace = Ids(os.urandom).trace(given, 0)
    assert ("797c3178708174547ee8c103" in trace) is taken


def test_segment_keeps_the_callers_decision() -> None:
    ids = Ids(lambda count: b"\xcd" * count)
    assert ids.segment("Root=1-a-b") == "Root=1-a-b;Parent=" + "cd" * 8 + ";Sampled=0"
    assert ids.segment("Root=1-a-b;Sampled=1") == "Root=1-a-b;Sampled=1;Parent=" + "cd" * 8
    assert ids.segment("Root=1-a-b;Parent=1") == "Root=1-a-b;Parent=1;Sampled=0"
    assert ids.segment("Root=1-a-b;Parent=1;Sampled=1") == "Root=1-a-b;Parent=1;Sampled=1"
