"""The mathematics of CEM, against a slow twin written from the paper, and closed forms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from integrator import DT, START, TASK, Integrator, cost_of, still

from mbrl_control.config import ConfigError
from mbrl_control.core import Observation, State, Status
from mbrl_control.planners import cem
from mbrl_control.sampling import INFINITE

LOW, HIGH = -3.0, 5.0


def planner(dynamics=None, **overrides):
    return cem.make(
        cem.Config(**{"dt": DT, "horizon": 8, "samples": 40, **overrides}), TASK, dynamics or Integrator(LOW, HIGH)
    )


class Twin:
    """The iteration of the docstring with loops over samples, steps and elites."""

    def __init__(self, config):
        self.config, self.half = config, (HIGH - LOW) / 2.0
        self.mean, self.std = [0.0] * config.horizon, [config.sigma * self.half] * config.horizon
        self.last, self.t = 0.0, 0.0

    def after(self, t):
        """Mean, deviation and control in force, moved on by whole steps."""
        c, steps = self.config, round((t - self.t) / DT)
        for _ in range(steps):
            self.last, self.mean = self.mean[0], [*self.mean[1:], self.mean[-1]]
            self.std = [*self.std[1:], c.sigma * self.half]
        if steps:
            self.std = [max(s, c.reopen * c.sigma * self.half) for s in self.std]
        self.t = t

    def improve(self, t, q, goal, white):
        c, H = self.config, self.config.horizon
        self.after(t)
        std = [
            max(min(s, (m - LOW) / 2.0, (HIGH - m) / 2.0), c.floor * self.half)
            for m, s in zip(self.mean, self.std, strict=True)
        ]
        samples = [list(self.mean)]
        for z in white:
            samples.append([min(max(self.mean[k] + std[k] * z[k, 0], LOW), HIGH) for k in range(H)])
        costs = [cost_of(a, q, goal) for a in samples]
        elites = [samples[i] for i in sorted(range(len(samples)), key=costs.__getitem__)[: round(c.elites * c.samples)]]
        new = []
        for k in range(H):
            chosen = [a[k] for a in elites]
            average = sum(chosen) / len(chosen)
            variance = sum((x - average) ** 2 for x in chosen) / len(chosen)
            new.append(c.alpha * self.mean[k] + (1.0 - c.alpha) * average)
            std[k] = (c.alpha * std[k] ** 2 + (1.0 - c.alpha) * variance) ** 0.5
        if cost_of(new, q, goal) <= costs[0]:
            self.mean = new
        self.std = std
        return self.mean


@pytest.mark.parametrize("overrides", [{}, {"sigma": 2.0, "alpha": 0.4, "elites": 0.3}, {"reopen": 1.0, "floor": 0.2}])
def test_it_is_the_paper_s_iteration(overrides):
    p, rng = planner(**overrides), np.random.default_rng(0)
    twin, carry, q, taken = Twin(p.config), p.init(START), START.joints.q, 0
    for t in (0.0, 0.0, 0.0, DT, DT, 4 * DT, 4 * DT, 30 * DT):
        obs, goal, noise = Observation(t, State(t, q, np.zeros(1))), float(np.sin(9.0 * t)), p.noise(rng)
        before = carry["mean"]
        carry, plan, _ = p.improve(obs, still(p, goal), p.knobs(), carry, noise)
        expected = twin.improve(t, float(q[0]), goal, noise["cem"])
        np.testing.assert_allclose(plan.u[:, 0], expected, rtol=0.0, atol=1e-9)
        np.testing.assert_allclose(carry["std"][:, 0], twin.std, rtol=0.0, atol=1e-9)
        np.testing.assert_allclose(carry["last"], twin.last, rtol=0.0, atol=1e-9)
        taken += not np.array_equal(before, carry["mean"])
    assert taken >= 4


def test_draws_are_a_truncated_normal():
    """Of a normal truncated to +-2: never beyond, and the variance is 1 - 4 phi(2) / (2 Phi(2) - 1)."""
    draws = planner(samples=2001).noise(np.random.default_rng(0))["cem"]
    assert np.abs(draws).max() <= 2.0
    density, mass = np.exp(-2.0) / np.sqrt(2.0 * np.pi), 0.9544997361
    assert np.var(draws) == pytest.approx(1.0 - 4.0 * density / mass, rel=0.02)
    assert np.mean(draws) == pytest.approx(0.0, abs=0.02)


def test_samples_stay_inside_the_bounds_by_their_deviation_and_not_by_clipping():
    p, rng = planner(sigma=5.0), np.random.default_rng(0)
    mean = np.array([[LOW + 0.2], [HIGH - 0.4], [0.0], [1.0], [1.0], [2.0], [LOW + 1.0], [4.9]])
    std = p.fitting(mean, np.full((8, 1), 20.0), np.array([1e-6]))
    controls = p.sample(mean, std, p.noise(rng)["cem"])
    assert np.array_equal(controls[0], mean)
    assert not np.isin(controls, (LOW, HIGH)).any()
    np.testing.assert_allclose(std, np.minimum(mean - LOW, HIGH - mean) / 2.0)


def test_a_deviation_has_a_floor_and_is_clipped_there():
    p = planner(floor=0.5)
    std = p.fitting(np.full((8, 1), HIGH), np.zeros((8, 1)), p.knobs()["floor"])
    np.testing.assert_allclose(std, 0.5 * 4.0)
    controls = p.sample(np.full((8, 1), HIGH), std, np.full((39, 8, 1), 1.5))
    assert np.array_equal(controls, np.full((40, 8, 1), HIGH))


def test_equal_costs_at_the_last_place_are_elites_alike():
    p = planner(samples=10, elites=0.3)
    weights = p.elites(np.array([5.0, 1.0, 2.0, 2.0, 2.0, 7.0, 8.0, 9.0, 9.0, 9.0]))
    np.testing.assert_allclose(weights, np.array([0, 1, 1, 1, 1, 0, 0, 0, 0, 0]) / 4.0)


def test_what_is_not_finite_is_never_elite():
    p = planner(samples=4, elites=0.75)
    np.testing.assert_allclose(p.elites(np.array([INFINITE, 3.0, INFINITE, 1.0])), [0.0, 0.5, 0.0, 0.5])
    assert not p.elites(np.full(4, INFINITE)).any()


def test_rollouts_that_blow_up_do_not_spoil_mean_and_deviation():
    dynamics = Integrator(LOW, HIGH)
    dynamics.nowhere_above = 0.5
    p, rng, carry = planner(dynamics, samples=200), np.random.default_rng(0), None
    carry = p.init(START)
    for _ in range(5):
        carry, plan, info = p.improve(START, still(p, 5.0), p.knobs(), carry, p.noise(rng))
        assert info.status == Status.OK
        assert plan.u.max() <= 0.5
        assert np.isfinite(carry["std"]).all()


def test_at_one_time_it_narrows_down_to_the_optimum():
    """The optimum by the normal equations: q is linear in u, the cost a sum of squares."""
    p, rng, goal = planner(samples=200, floor=1e-6), np.random.default_rng(0), 0.8
    H = p.horizon
    steps = np.tril(np.full((H, H), DT))
    M = np.concatenate([np.sqrt(2.0) * steps, np.sqrt(0.05) * np.eye(H)])
    best = np.linalg.lstsq(M, np.concatenate([np.full(H, np.sqrt(2.0) * (goal - 1.0)), np.zeros(H)]), rcond=None)[0]
    assert LOW < best.min() < best.max() < HIGH
    carry, costs = p.init(START), []
    for _ in range(60):
        carry, plan, info = p.improve(START, still(p, goal), p.knobs(), carry, p.noise(rng))
        costs.append(info.cost)
    assert all(later <= earlier for earlier, later in pairwise(costs))
    assert costs[-1] == pytest.approx(cost_of(best, 1.0, goal), rel=1e-3)
    np.testing.assert_allclose(plan.u[:, 0], best, atol=0.15)
    assert carry["std"].max() < 0.1


def test_when_time_passes_it_widens_again():
    p, rng = planner(sigma=0.5, reopen=0.3), np.random.default_rng(0)
    carry = p.init(START)
    for _ in range(30):
        carry, _, _ = p.improve(START, still(p), p.knobs(), carry, p.noise(rng))
    narrow = carry["std"]
    assert narrow.max() < 0.3 * 0.5 * 4.0
    assert np.array_equal(p.widen(p.knobs(), carry, 0.0), narrow)
    np.testing.assert_allclose(p.widen(p.knobs(), carry, 2 * DT), [[0.6]] * 6 + [[2.0]] * 2)


def test_a_step_that_is_not_the_models_is_refused():
    with pytest.raises(ConfigError, match=r"cem\.dt = 0\.05 s.*dt = 0\.1 s"):
        planner(dt=0.05)
