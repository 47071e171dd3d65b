"""Who gives the goal: a person and another program never pull it to and fro."""

from __future__ import annotations

import numpy as np
import pytest

from mbrl_control.core import GoalError
from mbrl_control.runtime.goal_desk import AGAIN, EVERY, QUIET, GoalDesk

A, B, C = (np.array([x, 0.0, 0.5]) for x in (0.1, 0.2, 0.3))
FAR = np.array([9.0, 0.0, 0.0])


def check(goal: np.ndarray) -> None:
    if goal[0] > 1.0:
        raise GoalError(f"goal {goal.tolist()}: out of reach")


@pytest.fixture
def desk() -> GoalDesk:
    return GoalDesk(check)


def said(desk: GoalDesk, start: float, end: float) -> list[tuple[float, np.ndarray]]:
    """What goes out between two times, looked at every 50 ms; each comes back as an echo."""
    found = []
    for t in np.arange(start, end, 0.05):
        goal = desk.due(t)
        if goal is not None:
            found.append((t, goal))
            desk.hear(goal.copy(), t + 0.01)
    return found


def test_by_itself_it_says_nothing(desk: GoalDesk) -> None:
    assert said(desk, 0.0, 10.0) == []
    desk.hear(A, 10.0)
    assert said(desk, 10.0, 20.0) == []
    np.testing.assert_array_equal(desk.in_force, A)
    assert not desk.ours


def test_what_a_person_drags_is_said_at_once_and_again_for_a_planner_that_starts_later(desk: GoalDesk) -> None:
    desk.drag(A, 5.0)
    out = said(desk, 5.0, 10.0)
    assert out[0][0] == 5.0
    assert all(np.array_equal(goal, A) for _, goal in out)
    gaps = np.diff([t for t, _ in out])
    assert (gaps >= AGAIN - 1e-9).all()
    assert (gaps <= AGAIN + 0.06).all()
    assert desk.ours


def test_while_it_is_dragged_the_goal_is_said_no_more_often_than_useful(desk: GoalDesk) -> None:
    out = []
    for t in np.arange(0.0, 1.0, 0.01):
        desk.drag(A + np.array([t, 0.0, 0.0]), t)
        goal = desk.due(t)
        out += [goal] if goal is not None else []
    assert 8 <= len(out) <= 1.0 / EVERY + 1


def test_the_last_place_of_a_drag_is_said_even_if_it_came_too_soon(desk: GoalDesk) -> None:
    desk.drag(A, 0.0)
    assert desk.due(0.0) is not None
    desk.drag(B, 0.01)
    desk.release()
    assert desk.due(0.02) is None
    np.testing.assert_array_equal(desk.due(EVERY + 0.001), B)


def test_who_repeats_a_goal_owns_it(desk: GoalDesk) -> None:
    for t in np.arange(0.0, 5.0, 0.1):  # as mbrl demo does
        desk.hear(A, t)
        desk.drag(B, t + 0.01)
        assert desk.due(t + 0.02) is None
    assert "another program" in desk.refusal
    np.testing.assert_array_equal(desk.in_force, A)


def test_a_program_that_fell_silent_may_be_replaced(desk: GoalDesk) -> None:
    desk.hear(A, 0.0)
    desk.drag(B, QUIET + 0.1)
    np.testing.assert_array_equal(desk.due(QUIET + 0.1), B)
    assert desk.ours
    assert desk.refusal == ""


def test_ours_ends_when_anybody_else_says_another_one(desk: GoalDesk) -> None:
    desk.drag(A, 0.0)
    said(desk, 0.0, 1.0)
    desk.hear(C, 1.0)
    assert not desk.ours
    np.testing.assert_array_equal(desk.in_force, C)
    assert said(desk, 1.0, 5.0) == []


def test_a_wish_that_waits_is_dropped_when_another_program_speaks(desk: GoalDesk) -> None:
    desk.drag(A, 0.0)
    desk.due(0.0)
    desk.drag(B, 0.02)
    desk.hear(C, 0.03)
    assert said(desk, 0.04, 3.0) == []


def test_our_echo_is_nobody_elses_goal_even_when_it_comes_late(desk: GoalDesk) -> None:
    desk.drag(A, 0.0)
    desk.due(0.0)
    desk.drag(B, 0.2)
    desk.due(0.2)
    desk.hear(A, 0.21)
    assert desk.ours
    assert not desk.foreign(0.22)
    np.testing.assert_array_equal(desk.in_force, B)


def test_out_of_reach_is_told_and_not_said(desk: GoalDesk) -> None:
    desk.drag(A, 0.0)
    desk.due(0.0)
    desk.drag(FAR, 0.2)
    goal = desk.due(0.2)
    assert goal is None
    assert "out of reach" in desk.refusal
    np.testing.assert_array_equal(desk.in_force, A)
    desk.drag(B, 0.4)
    np.testing.assert_array_equal(desk.due(0.4), B)
    assert desk.refusal == ""


def test_a_goal_of_another_program_that_no_planner_takes_is_not_in_force(desk: GoalDesk) -> None:
    desk.hear(A, 0.0)
    desk.hear(FAR, 0.1)
    np.testing.assert_array_equal(desk.in_force, A)
    assert "another program" in desk.refusal


def test_the_same_goal_again_is_checked_once(desk: GoalDesk) -> None:
    calls = []
    counting = GoalDesk(lambda goal: calls.append(goal))
    for t in range(100):
        counting.hear(A.copy(), float(t))
    assert len(calls) == 1
