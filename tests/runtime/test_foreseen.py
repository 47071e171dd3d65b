"""Where an arm on torques will be when a plan begins."""

from __future__ import annotations

from math import sin

import numpy as np
import pytest

from mbrl_control import registry
from mbrl_control.core import Mode, Observation, Plan, State
from mbrl_control.runtime.commanded import Commanded
from mbrl_control.runtime.foreseen import foreseen

ROBOT = registry.make("robots", "pendulum")
MODEL = registry.make("dynamics", "analytic", ROBOT)


def plan(t0: float, u: list[float], seq: int = 0, gain: float = 0.0) -> Plan:
    rows = np.zeros((len(u) + 1, 1))
    K = np.full((len(u), 1, 2), -gain) if gain else None
    return Plan(t0, 0.05, Mode.TORQUE, rows + np.pi, rows, np.array(u)[:, None], K, t0, seq)


def commanded(*plans: Plan) -> Commanded:
    found = Commanded(1)
    for one in plans:
        found.sent(one)
    return found


def observed(state: State) -> Observation:
    return Observation(state.t, state)


def truth(start: State, t: float, u, h: float = 1e-4) -> np.ndarray:
    """Small steps of the pendulum's equation of motion, under torques of time and state."""
    q, v, now = start.q.item(), start.v.item(), start.t
    while now < t - 1e-9:
        v += h * (15.0 * sin(q) + 3.0 * u(now, q, v))
        q += h * v
        now += h
    return np.array([q, v])


def test_nothing_moves_to_the_time_of_the_state_itself() -> None:
    state = State(1.0, np.array([2.0]), np.array([0.5]))
    assert foreseen(MODEL, observed, commanded(), state, 1.0) is state


@pytest.mark.parametrize("lead", [0.01, 0.05, 0.087, 0.2])
def test_it_is_what_the_equations_say_under_the_plans_in_force(lead: float) -> None:
    """The first plan's control changes at 1.04, the second plan takes over at 1.07."""
    start = State(1.013, np.array([2.0]), np.array([0.5]))
    sent = commanded(plan(0.94, [2.0, -1.0, 0.5, 2.0]), plan(1.07, [-2.0, 1.0, 1.5, 0.0], seq=1))
    first, second = [2.0, -1.0, 0.5, 2.0], [-2.0, 1.0, 1.5, 0.0]

    def u(t: float, q: float, v: float) -> float:
        t = t + 1e-9
        return second[int((t - 1.07) / 0.05)] if t >= 1.07 else first[int((t - 0.94) / 0.05)]

    there = foreseen(MODEL, observed, sent, start, start.t + lead)
    assert there.t == pytest.approx(start.t + lead)
    np.testing.assert_allclose([there.q.item(), there.v.item()], truth(start, start.t + lead, u), atol=3e-3)
    as_it_was = np.array([2.0, 0.5])
    assert lead < 0.05 or np.abs(truth(start, start.t + lead, u) - as_it_was).max() > 0.1


def test_gains_are_in_force_as_well_and_bounds_are_kept() -> None:
    start = State(1.0, np.array([np.pi + 0.2]), np.array([0.0]))
    there = foreseen(MODEL, observed, commanded(plan(1.0, [0.0] * 10, gain=4.0)), start, 1.04)
    expected = truth(start, 1.04, lambda t, q, v: -0.8)
    np.testing.assert_allclose([there.q.item(), there.v.item()], expected, atol=3e-3)
    strong = foreseen(MODEL, observed, commanded(plan(1.0, [0.0] * 10, gain=1e6)), start, 1.04)
    most = truth(start, 1.04, lambda t, q, v: -2.0)
    np.testing.assert_allclose([strong.q.item(), strong.v.item()], most, atol=3e-3)


def test_before_any_plan_and_after_the_last_there_is_no_torque() -> None:
    start = State(1.0, np.array([2.0]), np.array([0.5]))
    free = truth(start, 1.12, lambda t, q, v: 0.0)
    for sent in (commanded(), commanded(plan(0.5, [2.0]))):
        there = foreseen(MODEL, observed, sent, start, 1.12)
        np.testing.assert_allclose([there.q.item(), there.v.item()], free, atol=3e-3)
