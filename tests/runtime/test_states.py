"""The state table, explored exhaustively."""

from __future__ import annotations

import itertools

import pytest

from mbrl_control.runtime.states import TABLE, Event, GuardState, after

S, E = GuardState, Event
STATES, EVENTS = list(GuardState), list(Event)


def reachable(start: GuardState, events: list[Event]) -> set[GuardState]:
    seen, frontier = {start}, [start]
    while frontier:
        state = frontier.pop()
        new = {after(state, event) for event in events} - seen
        seen |= new
        frontier.extend(new)
    return seen


def test_every_state_answers_every_event() -> None:
    assert set(TABLE) == set(itertools.product(STATES, EVENTS))
    assert reachable(S.INACTIVE, EVENTS) == set(STATES)


def test_only_arm_starts_motion() -> None:
    moving = {state for state in STATES if state.moving}
    without_arm = [event for event in EVENTS if event is not E.ARM]
    for state in set(STATES) - moving:
        assert not reachable(state, without_arm) & moving, f"{state} starts to move without ~/arm"


def test_a_latched_hold_goes_on_by_arm_only() -> None:
    assert S.ACTIVE not in reachable(S.LATCHED, [event for event in EVENTS if event is not E.ARM])
    assert after(S.LATCHED, E.PLAN_BACK) is S.LATCHED


def test_a_hold_for_want_of_plans_ends_by_itself_and_by_plans_only() -> None:
    leads_back = [event for event in EVENTS if after(S.HOLD, event) is S.ACTIVE]
    assert leads_back == [E.PLAN_BACK]


def test_fault_is_left_by_reset_only_and_towards_ready() -> None:
    assert {event for event in EVENTS if after(S.FAULT, event) is not S.FAULT} == {E.RESET}
    assert after(S.FAULT, E.RESET) is S.READY


@pytest.mark.parametrize("event", [E.ESTOP, E.BROKEN])
@pytest.mark.parametrize("state", STATES)
def test_an_emergency_wins_in_every_state(state: GuardState, event: Event) -> None:
    stopped = after(state, event)
    assert stopped in (S.ESTOP, S.FAULT)
    without_reset = [e for e in EVENTS if e is not E.RESET]
    assert reachable(stopped, without_reset) <= {S.ESTOP, S.FAULT}


def test_activation_leads_to_ready_and_no_further() -> None:
    assert reachable(S.INACTIVE, [E.ACTIVATE, E.PLAN_BACK, E.RESET]) == {S.INACTIVE, S.READY}


def test_published_names() -> None:
    assert {state.shown for state in STATES} == {"INACTIVE", "READY", "ACTIVE", "HOLD", "STOPPING", "FAULT"}
    assert S.LATCHED.shown == S.HOLD.shown
    assert S.ESTOP.shown == S.STOPPING.shown
