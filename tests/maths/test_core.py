"""Plans, goals, layouts, shapes, norms, rollouts and costs, against closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Annotated

import numpy as np
import pytest

from mbrl_control import core
from mbrl_control.core import (
    NORMS,
    Array,
    Block,
    Goal,
    Layout,
    Limits,
    Mode,
    Plan,
    ShapeError,
    State,
    Status,
    Term,
    costs,
    rollout,
)

DT = 0.1


def ramps(H=6, nj=2, seed=0, K=None):
    """A plan whose velocity is linear between knots, as under a first-order hold, and its exact motion."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((H + 1, nj))
    q = np.concatenate([rng.standard_normal((1, nj)), np.zeros((H, nj))])
    for k in range(H):
        q[k + 1] = q[k] + DT * (v[k] + v[k + 1]) / 2

    def exact(t):
        k = min(int(t / DT), H - 1)
        x = t - k * DT
        a = (v[k + 1] - v[k]) / DT
        return q[k] + v[k] * x + a * x * x / 2, v[k] + a * x, a

    u = v[1:].copy()
    return Plan(2.0, DT, Mode.VELOCITY_REFERENCE, q, v, u, K, 2.0, 0), exact


def test_a_plan_is_exact_between_knots_for_velocities_that_are_ramps():
    plan, exact = ramps()
    for t in np.linspace(0.0, 0.5999, 97):
        point, (q, v, a) = plan.at(2.0 + t), exact(t)
        np.testing.assert_allclose(point.q, q, rtol=0.0, atol=1e-12)
        np.testing.assert_allclose(point.v, v, rtol=0.0, atol=1e-12)
        np.testing.assert_allclose(point.a, a, rtol=0.0, atol=1e-9)
        assert np.array_equal(point.u, plan.u[min(int(t / DT + 1e-9), 5)]) or t / DT % 1 > 0.999


def test_position_and_velocity_are_continuous_at_the_knots_and_each_others_derivatives():
    plan, _ = ramps()
    rng = np.random.default_rng(1)
    plan = replace(plan, q=rng.standard_normal((7, 2)), v=rng.standard_normal((7, 2)))
    for k in range(1, 6):
        before, after = plan.at(2.0 + k * DT - 1e-9), plan.at(2.0 + k * DT + 1e-9)
        np.testing.assert_allclose(before.q, after.q, atol=1e-6)
        np.testing.assert_allclose(before.v, after.v, atol=1e-5)
    h = 1e-5
    for t in 2.0 + np.array([0.03, 0.17, 0.44, 0.59]):
        left, here, right = plan.at(t - h), plan.at(t), plan.at(t + h)
        np.testing.assert_allclose((right.q - left.q) / (2 * h), here.v, atol=1e-5)
        np.testing.assert_allclose((right.v - left.v) / (2 * h), here.a, atol=1e-4)


def test_a_plan_that_is_over_rests_where_it_ended_and_one_that_is_to_come_waits_at_its_start():
    plan, _ = ramps()
    for t in (plan.end, plan.end + 1e-9, plan.end + 10.0):
        point = plan.at(t)
        assert np.array_equal(point.q, plan.q[-1])
        assert not point.v.any()
        assert not point.a.any()
        assert not point.u.any()
    assert plan.end == pytest.approx(2.6)
    early = plan.at(1.0)
    assert np.array_equal(early.q, plan.q[0])
    assert np.array_equal(early.v, plan.v[0])
    assert np.array_equal(early.u, plan.u[0])


def test_feedback_acts_on_the_deviation_from_the_plan_and_only_where_there_is_a_state():
    K = np.random.default_rng(3).standard_normal((6, 2, 4))
    plan, exact = ramps(K=K)
    q, v, _ = exact(0.25)
    off = np.array([0.1, -0.2, 0.3, 0.4])
    moved = plan.at(2.25, q + off[:2], v + off[2:])
    np.testing.assert_allclose(moved.u, plan.u[2] + K[2] @ off, atol=1e-12)
    np.testing.assert_allclose(moved.q, q, atol=1e-12)
    assert np.array_equal(plan.at(2.25).u, plan.u[2])
    assert not plan.at(9.0, q + 1.0, v).u.any()


def test_a_still_goal_is_the_same_at_every_knot():
    goal = Goal.still([1, 2, 3], horizon=4, tolerance=0.1, dwell=0.5)
    assert goal.value.shape == (5, 3)
    assert goal.value.dtype == float
    assert np.array_equal(goal.value, np.tile([1.0, 2.0, 3.0], (5, 1)))


def test_a_layout_says_where_its_blocks_lie():
    blocks = [Block(name, size, "m", "linear", "camera", 0.1) for name, size in (("cube", 3), ("lid", 1), ("pen", 7))]
    layout = Layout(tuple(blocks))
    assert layout.size == 11
    assert layout.slices() == {"cube": slice(0, 3), "lid": slice(3, 4), "pen": slice(4, 11)}
    assert Layout().size == 0
    assert Layout().slices() == {}


def test_limits_slow_down_in_velocity_only():
    limits = Limits(*(np.array([float(i)]) for i in range(1, 7)))
    slow = limits.at_speed(0.25)
    assert slow.velocity == pytest.approx(limits.velocity * 0.25)
    assert slow.acceleration is limits.acceleration
    assert slow.jerk is limits.jerk


def test_flags_read_as_words():
    assert str(Status.OK) == "OK"
    assert str(Status.NONFINITE | Status.STALE_STATE) == "STALE_STATE|NONFINITE"


@dataclass(frozen=True, slots=True)
@core.checked_shapes
class Pair:
    first: Annotated[Array, "H+1 n"]
    second: Annotated[Array, "H n 3"] | None
    other: int = 0


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ((5, 2), (4, 2, 3), None),
        ((5, 2), None, None),
        ((5, 2, 1), (4, 2, 3), r"Pair\.first has shape \(5, 2, 1\); it takes \[H\+1 n\]"),
        pytest.param((5, 2), (5, 2, 3), r"Pair\.second .* with H=4"),
        pytest.param((5, 2), (4, 1, 3), r"Pair\.second .* with n=2"),
        pytest.param((5, 2), (4, 2, 2), r"Pair\.second .* with 3=3"),
    ],
)
def test_shapes_are_checked_against_their_annotations(monkeypatch, first, second, says):
    monkeypatch.setattr(core, "SHAPE_CHECKS", True)
    arrays = np.zeros(first), None if second is None else np.zeros(second)
    if says is None:
        Pair(*arrays)
    else:
        with pytest.raises(ShapeError, match=says):
            Pair(*arrays)
    monkeypatch.setattr(core, "SHAPE_CHECKS", False)
    Pair(*arrays)


def test_the_core_types_check_their_shapes(monkeypatch):
    monkeypatch.setattr(core, "SHAPE_CHECKS", True)
    with pytest.raises(ShapeError, match=r"State\.v has shape \(3,\); it takes \[nj\] with nj=2"):
        State(0.0, np.zeros(2), np.zeros(3))
    plan, _ = ramps()
    with pytest.raises(ShapeError, match=r"Plan\.u has shape \(7, 2\)"):
        replace(plan, u=np.zeros((7, 2)))


def test_gains_are_checked_where_there_are_any(monkeypatch):
    monkeypatch.setattr(core, "SHAPE_CHECKS", True)
    plan, _ = ramps(K=np.zeros((6, 2, 4)))
    with pytest.raises(ShapeError, match=r"Plan\.K has shape"):
        replace(plan, K=np.zeros((5, 2, 4)))


def test_norms_are_their_closed_forms():
    rng = np.random.default_rng(0)
    r, p = rng.standard_normal((4, 5, 3)), 0.3
    square = (r * r).sum(axis=-1)
    np.testing.assert_allclose(NORMS["quadratic"](np, r, p), p * square / 2)
    np.testing.assert_allclose(NORMS["smooth_abs"](np, r, p), np.sqrt(square + p * p) - p)
    np.testing.assert_allclose(NORMS["gaussian"](np, r, p), 1.0 - np.exp(-square / (2 * p * p)))
    np.testing.assert_array_equal(NORMS["indicator"](np, r, p), (r > p).any(axis=-1).astype(float))


def test_norms_are_zero_at_zero_and_behave_far_out():
    far, near = np.array([1e3, 0.0]), np.array([1e-3, 0.0])
    for name, norm in NORMS.items():
        assert norm(np, far * 0.0, 0.5) == 0.0, name
    assert NORMS["smooth_abs"](np, far, 0.5) == pytest.approx(1e3 - 0.5, rel=1e-6)
    assert NORMS["smooth_abs"](np, near, 0.5) == pytest.approx(1e-6 / (2 * 0.5), rel=1e-5)
    assert NORMS["gaussian"](np, far, 0.5) == 1.0


def gradient(f, r, h=1e-5):
    return np.array([(f(r + h * e) - f(r - h * e)) / (2 * h) for e in np.eye(len(r))])


@pytest.mark.parametrize("name", sorted(NORMS))
def test_a_term_is_gauss_newton_capable_exactly_if_its_norm_curves_upwards_at_zero(name):
    """Gauss-Newton takes J' (d2 norm / dr2) J for the Hessian: a minimum at r = 0 whose curvature is positive there."""
    p = 0.4
    assert NORMS[name](np, np.zeros(3), p) == 0.0

    def value(r):
        return float(NORMS[name](np, r, p))

    slope = gradient(value, np.zeros(3))
    curvature = np.stack([gradient(lambda r, i=i: gradient(value, r)[i], np.zeros(3)) for i in range(3)])
    np.testing.assert_allclose(slope, 0.0, atol=1e-6)
    expected = {"quadratic": p, "smooth_abs": 1.0 / p, "gaussian": 1.0 / p**2, "indicator": 0.0}[name]
    np.testing.assert_allclose(curvature, expected * np.eye(3), atol=1e-4)
    assert Term(name, 1.0, p).gauss_newton == (expected > 0.0)


@pytest.mark.parametrize("name", ["quadratic", "smooth_abs", "gaussian"])
def test_slopes_of_the_norms(name):
    p = 0.4
    for r in np.random.default_rng(0).standard_normal((5, 3)):
        square = r @ r
        factor = {
            "quadratic": p,
            "smooth_abs": 1.0 / math.sqrt(square + p * p),
            "gaussian": math.exp(-square / (2 * p * p)) / (p * p),
        }[name]
        np.testing.assert_allclose(gradient(lambda x: float(NORMS[name](np, x, p)), r), factor * r, atol=1e-8)


class Counter:
    """x' = x + u + noise; says its number of steps as aux."""

    dt = DT

    def step(self, s, u, noise):
        s = {"x": s["x"] + u + noise["push"], "n": s["n"] + 1.0}
        return s, {"x": s["x"]}, {"n": s["n"] + 0.0 * u}

    def features(self, s):
        return {"x": s["x"]}


def test_a_rollout_is_the_loop():
    rng = np.random.default_rng(0)
    u, push = rng.standard_normal((3, 5, 2)), rng.standard_normal((3, 5, 2))
    features, aux = rollout(np, Counter(), {"x": np.array([1.0, 2.0]), "n": np.zeros(2)}, u, {"push": push})
    assert features["x"].shape == (3, 6, 2)
    assert aux["n"].shape == (3, 5, 2)
    for i in range(3):
        x = np.array([1.0, 2.0])
        assert np.array_equal(features["x"][i, 0], x)
        for k in range(5):
            x = x + u[i, k] + push[i, k]
            np.testing.assert_allclose(features["x"][i, k + 1], x, atol=1e-15)
            assert np.array_equal(aux["n"][i, k], [k + 1.0, k + 1.0])


def test_costs_are_the_sum_over_the_horizon_of_weighted_norms_after_each_step():
    rng = np.random.default_rng(0)
    features = {"x": rng.standard_normal((4, 6, 2))}
    u, goal = rng.standard_normal((4, 5, 2)), rng.standard_normal((6, 2))
    terms = {"x": Term("smooth_abs", 9.0, p=0.1, terminal=0.5), "u": Term("quadratic", 9.0, p=2.0)}
    task = SimpleNamespace(terms=terms, residuals=lambda xp, f, u, goal: {"u": u, "x": f["x"] - goal})
    found = costs(np, task, np.array([2.0, 3.0]), features, u, goal)
    assert found.shape == (4, 2)
    for i in range(4):
        x = [math.hypot(*(features["x"][i, k + 1] - goal[k + 1]), 0.1) - 0.1 for k in range(5)]
        effort = [u[i, k] @ u[i, k] for k in range(5)]
        assert found[i, 0] == pytest.approx(2.0 * (sum(x) / 5 + 0.5 * x[-1]))
        assert found[i, 1] == pytest.approx(3.0 * sum(effort) / 5)


def test_finite_means_every_element_of_every_array():
    assert core.is_finite(np.zeros(3), np.ones((2, 2)))
    assert not core.is_finite(np.zeros(3), np.array([0.0, np.inf]))
    assert not core.is_finite(np.array([np.nan]))
