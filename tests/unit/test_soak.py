"""Whether something grows: told from looks, on figures that a test made and on this host."""

from __future__ import annotations

import pytest

from loadtests import soak


def looks(*values: float, name: str = "processes") -> list[soak.Look]:
    return [{name: value} for value in values]


def test_what_is_even_is_flat() -> None:
    (found,) = soak.trends(looks(1, 9, 20, 22, 21, 30, 20, 22))
    assert (found.early, found.late, found.most, found.flat) == (21, 21, 30, True)


@pytest.mark.parametrize(("name", "growth", "flat"), [("processes", 3, True), ("processes", 40, False), ("mounts", 40, False)])
def test_what_grows_is_told(name: str, growth: float, flat: bool) -> None:
    (found,) = soak.trends(looks(*(100 + growth * n / 8 for n in range(8)), name=name))
    assert found.flat is flat
    assert ("grows" in soak.table([found])) is not flat


def test_what_starts_high_and_falls_is_flat() -> None:
    (found,) = soak.trends(looks(900, 800, 500, 400, 300, 200, 100, 100))
    assert found.flat


def test_too_few_looks_say_nothing() -> None:
    with pytest.raises(ValueError, match="7 looks say nothing"):
        soak.trends(looks(*range(7)))


class Enough(Exception):
    """Ends a watch."""


async def test_it_looks_again_and_again() -> None:
    found: list[soak.Look] = []

    def told(look: soak.Look) -> None:
        if len(found) == 3:
            raise Enough

    with pytest.raises(Enough):
        await soak.watch(found, lambda: {"a": 1.0}, 0.001, told)
    assert found == [{"a": 1.0}] * 3
