"""Names and qualifiers to versions."""

from __future__ import annotations

import pytest

from gateway.errors import ResourceConflictException, ResourceNotFoundException
from gateway.invoke.resolve import resolve
from gateway.records import Alias, Function, FunctionVersion
from tests.sim.records import function, version

FUNCTION = function(
    version(generation=3),
    version(version="1"),
    version(version="2"),
    aliases={
        "live": Alias(name="live", version="1", revision_id="a"),
        "canary": Alias(name="canary", version="1", weights={"2": 0.25}, revision_id="b"),
    },
)


def look_up(qualifier: str | None, found: Function | None = FUNCTION, draw: float = 0.5) -> FunctionVersion:
    return resolve(found, "echo", qualifier, region="eu-west-1", account_id="123456789012", random=lambda: draw)


@pytest.mark.parametrize(
    ("qualifier", "number"), [(None, "$LATEST"), ("$LATEST", "$LATEST"), ("1", "1"), ("2", "2"), ("live", "1")]
)
def test_a_qualifier_is_none_latest_a_version_or_an_alias(qualifier: str | None, number: str) -> None:
    assert look_up(qualifier).version == number


@pytest.mark.parametrize(("draw", "number"), [(0.0, "2"), (0.2499, "2"), (0.25, "1"), (0.999, "1")])
def test_an_alias_gives_its_second_version_its_share(draw: float, number: str) -> None:
    assert look_up("canary", draw=draw).version == number


def test_chance_is_not_asked_where_there_is_no_choice() -> None:
    def random() -> float:
        raise AssertionError("asked")

    found = resolve(FUNCTION, "echo", "live", region="eu-west-1", account_id="123456789012", random=random)
    assert found.version == "1"


@pytest.mark.parametrize(
    ("found", "qualifier", "message"),
    [  # as recorded from AWS
        (None, None, "Function not found: arn:aws:lambda:eu-west-1:123456789012:function:echo"),
        (None, "1", "Function not found: arn:aws:lambda:eu-west-1:123456789012:function:echo:1"),
        (FUNCTION, "10", "Function not found: arn:aws:lambda:eu-west-1:123456789012:function:echo:10"),
        (FUNCTION, "gone", "Function not found: arn:aws:lambda:eu-west-1:123456789012:function:echo:gone"),
    ],
)
def test_what_does_not_exist_is_named_in_full(found: Function | None, qualifier: str | None, message: str) -> None:
    with pytest.raises(ResourceNotFoundException) as caught:
        look_up(qualifier, found)
    assert caught.value.message == message


@pytest.mark.parametrize("state", ["Pending", "Failed", "Deleting"])
def test_a_state_that_does_not_run_is_told(state: str) -> None:
    with pytest.raises(ResourceConflictException) as caught:
        look_up(None, function(version(state=state)))
    assert caught.value.message == (
        f"The operation cannot be performed at this time. The function is currently in the following state: {state}"
    )
