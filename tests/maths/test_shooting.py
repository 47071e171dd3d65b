"""The mathematics of random shooting, against a slow twin written from its equation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from integrator import DT, START, TASK, Integrator, cost_of, still

from mbrl_control.config import ConfigError
from mbrl_control.core import Observation, State, Status
from mbrl_control.planners import shooting

BOUND = 3.0


def planner(dynamics=None, **overrides):
    config = shooting.Config(**{"dt": DT, "horizon": 8, "samples": 40, "hold": 3, **overrides})
    return shooting.make(config, TASK, dynamics or Integrator(-BOUND, BOUND))


def slow(config, plan, q, goal, white):
    """The cheapest of the plan in force and of the sequences of the docstring, drawn one control at a time."""
    best, least = plan, cost_of(plan, q, goal)
    for z in white:
        tried = []
        for k in range(config.horizon):
            centre = plan[k] if config.around == "plan" else 0.0
            tried.append(min(max(centre + config.sigma * BOUND * z[k // config.hold, 0], -BOUND), BOUND))
        if cost_of(tried, q, goal) < least:
            best, least = tried, cost_of(tried, q, goal)
    return best, least


@pytest.mark.parametrize("around", ["plan", "zero"])
@pytest.mark.parametrize(("hold", "sigma"), [(1, 0.3), (3, 0.5), (8, 2.0)])
def test_it_is_the_cheapest_of_what_is_drawn(around, hold, sigma):
    p, rng = planner(around=around, hold=hold, sigma=sigma), np.random.default_rng(0)
    carry, plan, q, t, taken = p.init(START), [0.0] * p.horizon, START.joints.q, 0.0, 0
    for steps in (0, 0, 1, 2, 0, 20):
        plan = [*plan[min(steps, 8) :], *[plan[-1]] * min(steps, 8)]
        t, goal, noise = t + steps * DT, float(np.sin(9.0 * t)), p.noise(rng)
        obs = Observation(t, State(t, q, np.zeros(1)))
        carry, found, info = p.improve(obs, still(p, goal), p.knobs(), carry, noise)
        best, least = slow(p.config, plan, float(q[0]), goal, noise["shooting"])
        np.testing.assert_allclose(found.u[:, 0], best, rtol=0.0, atol=1e-9)
        assert info.cost == pytest.approx(least)
        assert info.effective_samples == 1.0
        taken += best is not plan
        plan = best
    assert taken >= 3


def test_a_draw_lasts_for_as_many_steps_as_said():
    p = planner(hold=3, sigma=0.1, around="zero")
    white = p.noise(np.random.default_rng(0))["shooting"]
    assert white.shape == (39, 3, 1)
    controls = p.draw(p.knobs()["sigma"], np.zeros((8, 1)), white)[1:, :, 0]
    expected = 0.1 * BOUND * white[:, [0, 0, 0, 1, 1, 1, 2, 2], 0]
    np.testing.assert_allclose(controls, np.clip(expected, -BOUND, BOUND), rtol=0.0, atol=1e-12)


def test_around_zero_forgets_the_plan_but_never_gets_worse_than_it():
    p, rng = planner(around="zero", sigma=0.01), np.random.default_rng(0)
    far = {**p.init(START), "mean": np.full((8, 1), -1.0)}
    carry, plan, _ = p.improve(START, still(p, 0.2), p.knobs(), far, p.noise(rng))
    assert np.array_equal(plan.u, far["mean"])
    tried = p.draw(p.knobs()["sigma"], far["mean"], p.noise(rng)["shooting"])
    assert np.abs(tried[1:]).max() < 0.2
    assert np.array_equal(tried[0], carry["mean"])


def test_calling_again_at_one_time_never_costs_more():
    p, rng, carry, costs = planner(), np.random.default_rng(0), None, []
    carry = p.init(START)
    for _ in range(40):
        carry, _, info = p.improve(START, still(p, 0.3), p.knobs(), carry, p.noise(rng))
        costs.append(info.cost)
    assert all(later <= earlier for earlier, later in pairwise(costs))
    assert costs[-1] < 0.9 * costs[0]


def test_of_rollouts_that_blow_up_none_is_taken():
    dynamics = Integrator(-BOUND, BOUND)
    dynamics.nowhere_above = 0.5
    p, rng = planner(dynamics), np.random.default_rng(0)
    carry = p.init(START)
    for _ in range(5):
        carry, plan, info = p.improve(START, still(p, 5.0), p.knobs(), carry, p.noise(rng))
        assert info.status == Status.OK
        assert plan.u.max() <= 0.5


def test_a_step_that_is_not_the_models_is_refused():
    with pytest.raises(ConfigError, match=r"shooting\.dt = 0\.05 s.*dt = 0\.1 s"):
        planner(dt=0.05)
