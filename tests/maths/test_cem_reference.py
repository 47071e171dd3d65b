"""CEM's details of the reference: cap, momentum, its stop, what fills up the end."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mbrl_control.config import params
from mbrl_control.core import Goal
from mbrl_control.planners import cem

from .test_icem import BOUND, DT, START, TASK, DoubleIntegrator

PUBLISHED = {"sigma": 0.5, "reopen": 1.0, "floor": 1e-6, "epsilon": 1e-3 / BOUND**2, "fill": "middle", "compare": False}
"""PETS' own settings, but for the number of samples."""


def planner(**overrides):
    config = cem.Config(**{"dt": DT, "horizon": 12, "samples": 40, **overrides})
    return cem.make(config, TASK, DoubleIntegrator())


def goal():
    return Goal.still([0.0], 12, 0.02, 0.3)


def published(mean, std, white, alpha, elites, epsilon):
    """One iteration of PETS' optimiser, in words of its code; the mean is a sample as it is here."""
    if np.max(std**2) <= epsilon:
        return mean, std
    capped = np.sqrt(np.minimum(np.minimum(((mean + BOUND) / 2) ** 2, ((BOUND - mean) / 2) ** 2), std**2))
    samples = [mean, *(mean + capped * w for w in white)]
    from .test_icem import cost_of

    best = sorted(samples, key=cost_of)[:elites]
    var = alpha * capped**2 + (1 - alpha) * np.var(best, axis=0)
    return alpha * mean + (1 - alpha) * np.mean(best, axis=0), np.sqrt(var)


def test_with_its_settings_it_is_pets_optimiser():
    p, rng = planner(**PUBLISHED), np.random.default_rng(0)
    carry, mean, std = p.init(START), np.zeros((12, 1)), np.full((12, 1), BOUND / 2)
    for _ in range(25):
        noise = p.noise(rng)
        mean, std = published(mean, std, noise["cem"], 0.1, 4, 1e-3)
        carry, plan, _ = p.improve(START, goal(), p.knobs(), carry, noise)
        np.testing.assert_allclose(plan.u, mean, rtol=0.0, atol=1e-9)
        np.testing.assert_allclose(carry["std"], std, rtol=1e-9, atol=0.0)
    assert np.max(std**2) <= 1e-3, "it came to its stop"
    later, plan, _ = p.improve(dataclasses.replace(START, t=DT), goal(), p.knobs(), carry, {"cem": noise["cem"] * 0.0})
    np.testing.assert_allclose(plan.u, np.vstack([mean[1:], [[0.0]]]), rtol=0.0, atol=1e-9)
    assert np.max(later["std"]) > np.max(std), "the next step begins anew"


def test_samples_lie_within_two_deviations():
    white = planner(samples=2000).noise(np.random.default_rng(0))["cem"]
    assert np.abs(white).max() <= cem.TRUNCATED
    assert np.std(white) == pytest.approx(0.8796, abs=5e-3)  # of a normal distribution truncated there


@pytest.mark.parametrize("name", sorted(params(cem.Config).keys() - {"dt"}))
def test_every_parameter_turns_something(name):
    other = {"samples": 30, "elites": 0.3, "horizon": 9, "sigma": 0.2, "reopen": 0.9, "alpha": 0.6, "floor": 0.2}
    other |= {"epsilon": 0.1, "fill": "middle", "compare": False}

    def played(**overrides):
        p, rng = planner(**{"samples": 8, "elites": 0.5, **overrides}), np.random.default_rng(1)
        carry, plans = p.init(START), []
        wanted = Goal.still([0.0], p.horizon, 0.02, 0.3)
        for t in np.repeat([0.0, 0.05, 0.2, 0.3], 12):
            carry, plan, _ = p.improve(dataclasses.replace(START, t=t), wanted, p.knobs(), carry, p.noise(rng))
            plans.append(plan.u[:9])
        return np.stack(plans)

    assert not np.array_equal(played(), played(**{name: other[name]}))
