"""The table of a sandbox's states."""

from __future__ import annotations

import pytest

from sandbox import lifecycle
from sandbox.lifecycle import Event, IllegalEvent, State


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_what_is_not_in_the_table_raises_and_says_so(state: State, event: Event) -> None:
    if event in lifecycle.NEXT[state]:
        assert lifecycle.following(state, event) is lifecycle.NEXT[state][event]
    else:
        with pytest.raises(IllegalEvent, match=f"{event.value} while {state.value}"):
            lifecycle.following(state, event)


@pytest.mark.parametrize("state", State)
def test_any_state_can_be_stopped_and_dies_at_last(state: State) -> None:
    stopping = lifecycle.NEXT[state].get(Event.STOPPED, state)
    assert lifecycle.following(stopping, Event.DIED) is State.DEAD


def test_every_state_can_be_reached() -> None:
    reached = {State.STARTING}
    while more := {after for state in reached for after in lifecycle.NEXT[state].values()} - reached:
        reached |= more
    assert reached == set(State)


def test_live_states_are_those_that_can_still_be_stopped_in() -> None:
    assert set(State) - {State.STOPPING, State.DEAD} == lifecycle.LIVE


def test_only_ready_and_frozen_take_work() -> None:
    assert {state for state in State if Event.INVOKED in lifecycle.NEXT[state]} == {State.READY, State.FROZEN}
