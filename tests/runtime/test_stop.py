"""Stops and the reference filter, against ruckig, against plain integration, and against their promises."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import ruckig
from hypothesis import given, settings
from hypothesis import strategies as st

from mbrl_control.core import Limits, Setpoint
from mbrl_control.runtime.reference import Tick, brake, follow, reaching, seed
from mbrl_control.runtime.stop import Motion, at_rest, extrema, stop_from

V, A, J = 2.0, 12.0, 600.0
DT = 0.01


def limits(n: int = 1, jerk: float = J, reach: float = 100.0) -> Limits:
    one = np.ones(n)
    return Limits(-reach * one, reach * one, V * one, A * one, jerk * one, one)


def one(q: float, v: float, a: float) -> Motion:
    return Motion(np.array([q]), np.array([v]), np.array([a]))


speeds = st.floats(-V, V).map(lambda x: 0.0 if abs(x) < 1e-6 else x)
accelerations = st.floats(-A, A).map(lambda x: 0.0 if abs(x) < 1e-6 else x)


@given(v=speeds, a=accelerations, dt=st.sampled_from([0.002, 0.01, 0.02]))
def test_a_stop_ends_at_rest_and_its_ticks_are_its_knots(v: float, a: float, dt: float) -> None:
    start = one(0.3, v, a)
    stop, _ = stop_from(start, limits(), dt)
    tick = Tick(0, start, stop)
    along = [start]
    for _ in range(int(stop.ticks.sum())):
        tick = brake(tick, dt)
        along.append(tick.motion)
    assert tick.stop.over()
    np.testing.assert_array_equal([tick.motion.v, tick.motion.a], 0.0)
    at, knots = stop.knots(start, dt)
    for k, row in zip(at, zip(knots.q, knots.v, knots.a, strict=True), strict=True):
        np.testing.assert_allclose(row, [along[k].q, along[k].v, along[k].a], atol=1e-9)


@given(v=speeds, a=accelerations)
@settings(max_examples=300)
def test_a_stop_is_close_to_the_fastest_one(v: float, a: float) -> None:
    """ruckig's time-optimal stop is the bound: never beaten, and missed by the rounding to ticks at most."""
    stop, inside = stop_from(one(0.0, v, a), limits(), DT)
    best = ruckig.Trajectory(1)
    task = ruckig.InputParameter(1)
    task.control_interface = ruckig.ControlInterface.Velocity
    task.current_velocity, task.current_acceleration = [v], [a]
    task.max_acceleration, task.max_jerk = [A], [J]
    if abs(a) >= A or ruckig.Ruckig(1).calculate(task, best) != ruckig.Result.Working:
        return
    took = float(stop.ticks.sum()) * DT
    if inside[0]:
        assert took >= best.duration - 1e-9
    assert took <= best.duration * 1.05 + 3.0 * DT + 1e-9


@given(v=speeds, a=accelerations, j=st.floats(-J, J), time=st.floats(0.001, 0.5))
def test_extrema_are_those_of_dense_sampling(v: float, a: float, j: float, time: float) -> None:
    m, jerk = one(0.1, v, a), np.array([j])
    t = np.linspace(0.0, time, 4001)
    along = Motion(m.q, m.v, m.a).after(jerk, t)
    v_low, v_high, q_low, q_high = extrema(m, jerk, time)
    step = t[1] * max(np.abs(along.a).max(), np.abs(along.v).max())
    for bound, sampled in ((v_low, along.v.min()), (q_low, along.q.min())):
        assert sampled - step - 1e-9 <= bound[0] <= sampled + 1e-9
    for bound, sampled in ((v_high, along.v.max()), (q_high, along.q.max())):
        assert sampled - 1e-9 <= bound[0] <= sampled + step + 1e-9


def test_what_is_called_inside_is_inside() -> None:
    """Every verdict of ``stop_from``, for a grid of motions, against the stop integrated in steps of 0.1 ms."""
    box = limits(reach=0.2)
    verdicts = []
    for q in np.linspace(-0.19, 0.19, 9):
        for v in np.linspace(-V, V, 9):
            for a in np.linspace(-A, A, 9):
                start = one(q, v, a)
                stop, inside = stop_from(start, box, DT)
                verdicts.append(bool(inside[0]))
                if not inside[0]:
                    continue
                m = start
                for jerk, ticks in ((stop.j1, stop.ticks[0]), (np.zeros(1), stop.ticks[1]), (stop.j3, stop.ticks[2])):
                    assert abs(jerk[0]) <= J
                    for _ in range(int(ticks[0]) * 100):
                        m = m.after(jerk, DT / 100)
                        assert abs(m.q[0]) <= 0.2 + 1e-9
                        assert abs(m.v[0]) <= V + 1e-9
                        assert abs(m.a[0]) <= A + 1e-9
    assert 0.1 < np.mean(verdicts) < 0.9, "the grid no longer has both verdicts"


def target(q: np.ndarray, v: float = 0.0) -> Setpoint:
    return Setpoint(q, np.full_like(q, v), np.zeros_like(q), np.zeros_like(q))


@pytest.mark.parametrize("dt", [0.002, 0.01, 0.02])
def test_a_far_target_is_reached_without_overshoot(dt: float) -> None:
    tick = seed(0, np.zeros(3))
    goal = np.array([0.05, 1.0, -2.5])
    for _ in range(round(4.0 / dt)):
        tick = follow(tick, target(goal), limits(3), dt)
        assert (np.abs(tick.motion.q) <= np.abs(goal) + 1e-4).all()
    np.testing.assert_allclose(tick.motion.q, goal, atol=1e-6)


def test_a_feasible_plan_is_followed_exactly_in_the_long_run() -> None:
    w, tick = 3.0, seed(0, np.zeros(1))
    for k in range(1, 400):
        t = k * DT
        goal = Setpoint(
            np.array([0.2 * np.sin(w * t)]),
            np.array([0.2 * w * np.cos(w * t)]),
            np.array([-0.2 * w * w * np.sin(w * t)]),
            np.zeros(1),
        )
        tick = follow(tick, goal, limits(), DT)
    assert abs(tick.motion.q[0] - goal.q[0]) < 1e-4
    assert not tick.limited


def test_a_limited_joint_does_not_hold_up_the_others() -> None:
    box = dataclasses.replace(limits(2), upper=np.array([0.1, 100.0]))
    tick = seed(0, np.zeros(2))
    limited = False
    for _ in range(300):
        tick = follow(tick, target(np.array([1.0, 1.0])), box, DT)
        limited |= tick.limited
        assert tick.motion.q[0] <= 0.1
    assert limited
    np.testing.assert_allclose(tick.motion.q, [0.1, 1.0], atol=1e-3)


def test_from_outside_the_range_only_inwards() -> None:
    box = limits(reach=1.0)
    tick = seed(0, np.array([1.05]))
    highest = 1.05
    for goal in (2.0, 0.0, 2.0):
        for _ in range(150):
            tick = follow(tick, target(np.array([goal])), box, DT)
            assert tick.motion.q[0] <= highest + 1e-12
            highest = max(1.0, min(highest, tick.motion.q[0]))
    assert tick.motion.q[0] == pytest.approx(1.0, abs=1e-3)
    assert reaching(box, np.array([0.5])) is box


def test_at_rest_is_over() -> None:
    assert at_rest((3,)).over()
    stop, inside = stop_from(Motion(np.zeros(3), np.zeros(3), np.zeros(3)), limits(3), DT)
    assert stop.over()
    assert inside.all()
