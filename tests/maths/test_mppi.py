"""The mathematics of filtered-noise MPPI, against the paper's own recursions and closed forms."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from mbrl_control import registry
from mbrl_control.config import ConfigError
from mbrl_control.core import Goal, Layout, Observation, State, Status, Term
from mbrl_control.planners import mppi

DT = 0.1
ROBOT = dataclasses.replace(registry.make("robots", "pendulum"), home=np.zeros(1))


class DoubleIntegrator:
    """q' = v, v' = u, exactly, under controls that are held."""

    dt = DT
    nowhere_above = np.inf
    """The model blows up under controls larger than this."""

    def init(self, obs, noise):
        return {"q": obs.joints.q, "v": obs.joints.v}

    def step(self, s, u, noise):
        v = s["v"] + DT * u + np.where(u > self.nowhere_above, np.nan, 0.0)
        s = {"q": s["q"] + DT * s["v"] + 0.5 * DT**2 * u, "v": v}
        return s, s, {}

    def features(self, s):
        return s

    def bounds(self):
        return np.array([-5.0]), np.array([5.0])

    def plan(self, features, u):
        return features["q"], features["v"]


TASK = SimpleNamespace(
    robot=ROBOT,
    layout=Layout(),
    terms={"q": Term("quadratic", 2.0, p=3.0), "v": Term("quadratic", 0.5, terminal=0.2), "u": Term("quadratic", 0.05)},
    residuals=lambda xp, features, u, goal: {"q": features["q"] - goal, "v": features["v"], "u": u},
)
START = Observation(0.0, State(0.0, np.array([1.0]), np.array([-0.5])))


def planner(dynamics=None, **overrides):
    return mppi.make(mppi.Config(**{"dt": DT, "horizon": 12, **overrides}), TASK, dynamics or DoubleIntegrator())


def still(p, value=0.0):
    return Goal.still([value], p.horizon, 0.02, 0.3)


def test_weights_sum_to_one_with_large_costs():
    p, rng = planner(), np.random.default_rng(0)
    for offset in (0.0, 1e4, -1e4):
        weights = p.weight(np.asarray(10.0), offset + 1e4 * rng.random(100))
        assert np.isfinite(weights).all()
        assert weights.sum() == pytest.approx(1.0, abs=1e-12)


def test_a_rollout_that_is_not_finite_weighs_nothing():
    p = planner()
    cost = np.array([3.0, mppi.INFINITE, 1.0])
    weights = p.weight(np.asarray(2.0), cost)
    assert weights[1] == 0.0
    assert weights[0] / weights[2] == pytest.approx(np.exp(-4.0))
    assert not p.weight(np.asarray(2.0), np.full(3, mppi.INFINITE)).any()
    assert not p.weight(np.asarray(0.0), np.full(3, mppi.INFINITE)).any()


def test_kappa_goes_from_the_mean_of_the_samples_to_the_best_of_them():
    p, rng = planner(), np.random.default_rng(0)
    controls, cost = rng.standard_normal((50, 12, 1)), rng.random(50)
    none, large = p.weight(np.asarray(0.0), cost), p.weight(np.asarray(1e9), cost)
    np.testing.assert_allclose(p.update(none, controls), controls.mean(axis=0), atol=1e-14)
    assert np.array_equal(p.update(large, controls), controls[np.argmin(cost)])


def test_weights_are_those_of_the_paper():
    p, rng = planner(), np.random.default_rng(0)
    cost = rng.random(20)
    slow = np.exp(-3.0 * cost)
    np.testing.assert_allclose(p.weight(np.asarray(3.0), cost), slow / slow.sum(), rtol=1e-12)


def slow_filter(form, beta, mean, white, sigma, last):
    """PDDM's recursions, as printed: the paper's on the noise, the repository's on the action."""
    out = np.empty_like(white)
    for k in range(len(white)):
        n, a = np.zeros_like(last), last
        for t in range(white.shape[1]):
            n = beta * sigma * white[k, t] + (1.0 - beta) * n
            a = beta * (mean[t] + sigma * white[k, t]) + (1.0 - beta) * a
            out[k, t] = mean[t] + n if form == "noise" else a
    return out


@pytest.mark.parametrize("form", ["noise", "action"])
@pytest.mark.parametrize("beta", [0.05, 0.6, 1.0])
def test_the_matrix_filter_is_the_recursion(form, beta):
    p, rng = planner(filter=form, horizon=30), np.random.default_rng(0)
    mean, last, white = rng.standard_normal((30, 1)), rng.standard_normal(1), rng.standard_normal((7, 30, 1))
    knobs = {"beta": np.asarray(beta), "sigma": np.array([0.02])}
    controls = p.perturb(knobs, last, mean, white)
    assert np.array_equal(controls[0], mean)
    np.testing.assert_allclose(
        controls[1:], slow_filter(form, beta, mean, white, 0.02 * 5.0, last), rtol=0.0, atol=1e-12
    )


@pytest.mark.parametrize("beta", [0.15, 0.5, 0.9])
def test_the_noise_is_correlated_as_the_filter_says(beta):
    """In its stationary part n is an AR(1) process: correlation (1 - beta)^k, variance beta sigma^2 / (2 - beta)."""
    p, rng = planner(horizon=200), np.random.default_rng(0)
    knobs = {"beta": np.asarray(beta), "sigma": np.array([1e-3])}
    white = rng.standard_normal((4000, 200, 1))
    n = p.perturb(knobs, np.zeros(1), np.zeros((200, 1)), white)[1:, 100:, 0]
    variance = np.mean(n * n)
    assert variance == pytest.approx((5e-3) ** 2 * beta / (2.0 - beta), rel=0.02)
    for k in range(6):
        correlation = np.mean(n[:, k:] * n[:, : n.shape[1] - k]) / variance
        assert correlation == pytest.approx((1.0 - beta) ** k, abs=0.02)


def test_seeded_runs_are_bit_equal():
    def run():
        p, rng = planner(sigma=0.3, samples=64), np.random.default_rng(7)
        carry, t, plans = p.init(START), 0.0, []
        for _ in range(5):
            carry, plan, _ = p.improve(dataclasses.replace(START, t=t), still(p), p.knobs(), carry, p.noise(rng))
            plans.append(plan.u)
            t += 0.07
        return np.stack(plans)

    assert np.array_equal(run(), run())


def test_on_a_linear_quadratic_problem_it_converges_to_the_optimum():
    """The optimum by the normal equations: x is linear in u, the cost a sum of squares."""
    p, rng, goal = planner(sigma=0.1, beta=0.5, kappa=2000.0, samples=200), np.random.default_rng(0), 0.2
    H = p.horizon
    response, free = np.zeros((H, 2, H)), np.zeros((H, 2))
    for j in range(H + 1):  # unit controls one by one, and none at all
        q, v = (START.joints.q[0], START.joints.v[0]) if j == H else (0.0, 0.0)
        for k in range(H):
            u = float(k == j)
            q, v = q + DT * v + 0.5 * DT**2 * u, v + DT * u
            if j == H:
                free[k] = q, v
            else:
                response[k, :, j] = q, v
    last = np.eye(H)[-1]
    scale_q, scale_v = np.full(H, np.sqrt(2.0 * 3.0 / H)), np.sqrt(0.5 * (1.0 / H + 0.2 * last))
    M = np.concatenate(
        [scale_q[:, None] * response[:, 0], scale_v[:, None] * response[:, 1], np.eye(H) * np.sqrt(0.05 / H)]
    )
    r = np.concatenate([scale_q * (free[:, 0] - goal), scale_v * free[:, 1], np.zeros(H)])
    best = np.linalg.lstsq(M, -r, rcond=None)[0]
    least = 0.5 * np.sum(np.square(M @ best + r))
    assert np.abs(best).max() < 5.0

    carry, first = p.init(START), None
    for i in range(300):
        knobs = {**p.knobs(), "sigma": np.array([0.1 * 0.985**i])}
        carry, plan, info = p.improve(START, still(p, goal), knobs, carry, p.noise(rng))
        first = info.cost if first is None else first
    assert first > 1.1 * least
    assert info.cost == pytest.approx(least, rel=1e-4)
    np.testing.assert_allclose(plan.u[:, 0], best, atol=0.1)


@pytest.mark.parametrize("form", ["noise", "action"])
@pytest.mark.parametrize("kappa", [0.0, 1.0, 1e6])
def test_a_plan_never_costs_more_than_its_warm_start(form, kappa):
    p, rng = planner(sigma=0.5, kappa=kappa, samples=8, filter=form), np.random.default_rng(0)
    carry, t, state = p.init(START), 0.0, START.joints
    silent = {"mppi": np.zeros((7, p.horizon, 1))}
    for _ in range(30):
        obs = Observation(t, state)
        goal = still(p, np.sin(t))
        _, warm, before = planner(filter="noise").improve(obs, goal, p.knobs(), carry, silent)
        carry, plan, after = p.improve(obs, goal, p.knobs(), carry, p.noise(rng))
        assert after.cost <= before.cost + 1e-12
        assert warm.seq == plan.seq
        t += 0.07
        point = plan.at(t)
        state = State(t, point.q, point.v)


def test_the_reported_cost_is_that_of_the_plan():
    p, rng = planner(sigma=0.3), np.random.default_rng(0)
    _, plan, info = p.improve(START, still(p), p.knobs(), p.init(START), p.noise(rng))
    q, v = START.joints.q[0], START.joints.v[0]
    terms = {"q": 0.0, "v": 0.0, "u": 0.0}
    for k in range(p.horizon):
        u = plan.u[k, 0]
        q, v = q + DT * v + 0.5 * DT**2 * u, v + DT * u
        terms["q"] += 2.0 * 3.0 * q**2 / 2 / p.horizon
        terms["v"] += 0.5 * v**2 / 2 * (1.0 / p.horizon + (0.2 if k == p.horizon - 1 else 0.0))
        terms["u"] += 0.05 * u**2 / 2 / p.horizon
        assert plan.q[k + 1, 0] == pytest.approx(q, abs=1e-12)
        assert plan.v[k + 1, 0] == pytest.approx(v, abs=1e-12)
    assert info.terms == pytest.approx(terms)
    assert info.cost == pytest.approx(sum(terms.values()))


def test_rollouts_that_blow_up_do_not_spoil_the_plan():
    dynamics = DoubleIntegrator()
    dynamics.nowhere_above = 0.2
    p, rng = planner(dynamics, sigma=0.3), np.random.default_rng(0)
    carry = p.init(START)
    for _ in range(5):
        carry, plan, info = p.improve(START, still(p, 3.0), p.knobs(), carry, p.noise(rng))
        assert info.status == Status.OK
        assert np.isfinite(plan.q).all()
        assert plan.u.max() <= 0.2


def test_a_plan_that_is_not_finite_does_not_leave_even_if_its_cost_is():
    dynamics = DoubleIntegrator()
    dynamics.plan = lambda features, u: (features["q"], features["v"] * np.nan)
    p, rng = planner(dynamics), np.random.default_rng(0)
    _, plan, info = p.improve(START, still(p), p.knobs(), p.init(START), p.noise(rng))
    assert info.status == Status.NONFINITE
    assert np.isfinite(plan.v).all()


@pytest.mark.parametrize(
    ("steps", "row", "share"), [(0.0, 0, 0.0), (1.0, 1, 0.0), (0.25, 0, 0.25), (2.5, 2, 0.5), (90.0, 12, 0.0)]
)
def test_the_mean_and_the_control_in_force_move_by_the_time_that_passed(steps, row, share):
    p, rng = planner(), np.random.default_rng(0)
    mean, last = rng.standard_normal((12, 1)), rng.standard_normal(1)
    carry = {"mean": mean, "last": last, "t0": np.asarray(8.0)}
    force, shifted = p.on.shift(carry, 8.0 + steps * DT)
    held = np.concatenate([last[None], mean, np.repeat(mean[-1:], 14, axis=0)])
    expected = (1.0 - share) * held[row : row + 13] + share * held[row + 1 : row + 14]
    np.testing.assert_allclose(np.concatenate([force[None], shifted]), expected, rtol=0.0, atol=1e-12)


def test_shifting_by_whole_steps_copies_bit_for_bit():
    p = mppi.make(mppi.Config(dt=0.125, horizon=6), TASK, SimpleNamespace(dt=0.125, bounds=DoubleIntegrator().bounds))
    mean = np.random.default_rng(0).standard_normal((6, 1))
    carry = {"mean": mean, "last": np.zeros(1), "t0": np.asarray(3.0)}
    force, shifted = p.on.shift(carry, 3.0 + 2 * 0.125)
    assert np.array_equal(force, mean[1])
    assert np.array_equal(shifted, np.concatenate([mean[2:], mean[-1:], mean[-1:]]))


def test_a_step_that_is_not_the_models_is_refused():
    with pytest.raises(ConfigError, match=r"mppi\.dt = 0\.05 s.*dt = 0\.1 s"):
        planner(dt=0.05)
