"""Pages: all of them together are the list, whatever comes and goes between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.paging import PAGE_MAX, page, version_key
from gateway.errors import InvalidParameterValueException

_items = st.sets(st.text(alphabet="ab:$é", min_size=1, max_size=4)).map(sorted)


@given(_items, st.integers(1, 7))
def test_pages_are_the_list(items: list[str], size: int) -> None:
    shown: list[str] = []
    marker = None
    while True:
        part, marker = page(items, {"MaxItems": size, **({"Marker": marker} if marker else {})}, str)
        assert len(part) <= size
        shown += part
        if marker is None:
            break
    assert shown == items


@given(_items, _items, st.integers(1, 4))
def test_changes_between_pages(before: list[str], after: list[str], size: int) -> None:
    """What is there all the time is shown exactly once."""
    first, marker = page(before, {"MaxItems": size}, str)
    rest: list[str] = []
    while marker is not None:
        part, marker = page(after, {"MaxItems": size, "Marker": marker}, str)
        rest += part
    if len(first) < len(before):
        for item in set(before) & set(after):
            assert [*first, *rest].count(item) == 1


def test_a_page_has_a_limit() -> None:
    items = [f"{number:04}" for number in range(120)]
    assert len(page(items, {"MaxItems": 10_000}, str)[0]) == len(page(items, {}, str)[0]) == PAGE_MAX


@pytest.mark.parametrize("marker", ["!", "a", "ä", "_w=="])
def test_markers_that_are_not_ours(marker: str) -> None:
    with pytest.raises(InvalidParameterValueException, match="Invalid pagination token"):
        page(["a"], {"Marker": marker}, str)


def test_versions_in_order() -> None:
    versions = ["10", "2", "$LATEST", "1", "100000000"]
    assert sorted(versions, key=version_key) == ["$LATEST", "1", "2", "10", "100000000"]
