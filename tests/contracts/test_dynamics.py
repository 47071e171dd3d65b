"""What every model promises, on every robot that it accepts."""

from __future__ import annotations

import dataclasses

import array_api_compat.torch as torch_xp
import numpy as np
import pytest
import torch

from mbrl_control import core
from mbrl_control.core import BackEndError, Dynamics, State, rollout

from .combinations import NUMPY_ONLY, SINGLE, accepted, build, equal, frozen, observe, on_torch

COMBINATIONS = pytest.mark.parametrize("names", accepted("dynamics"), ids=str)
SAMPLES, HORIZON = 3, 4


def controls(parts, seed=0):
    low, high = parts.dynamics.bounds()
    return np.random.default_rng(seed).uniform(low, high, (SAMPLES, HORIZON, parts.robot.nu))


@COMBINATIONS
def test_it_is_a_model_with_bounds_and_a_step(names):
    parts = build(names)
    low, high = parts.dynamics.bounds()
    assert isinstance(parts.dynamics, Dynamics)
    assert parts.dynamics.dt > 0.0
    assert low.shape == high.shape == (parts.robot.nu,)
    assert np.all(low < high)


@COMBINATIONS
def test_a_rollout_has_a_row_a_knot_and_does_not_touch_its_inputs(names):
    parts = build(names)
    obs, u = frozen(observe(parts)), frozen(controls(parts))
    once, aux = rollout(np, parts.dynamics, parts.dynamics.init(obs, {}), u, {})
    twice, _ = rollout(np, parts.dynamics, parts.dynamics.init(obs, {}), u, {})
    assert equal(once, twice)
    for name in ("q", "v"):
        assert once[name].shape == (SAMPLES, HORIZON + 1, parts.robot.nj)
        np.testing.assert_array_equal(
            once[name][:, 0], np.broadcast_to(getattr(obs.joints, name), (SAMPLES, parts.robot.nj))
        )
    assert np.all(aux["disagreement"] >= 0.0)
    single, _ = rollout(np, parts.dynamics, parts.dynamics.init(obs, {}), u[1], {})
    for name, value in once.items():
        atol = 1e-5 if names.dynamics in SINGLE else 1e-12
        np.testing.assert_allclose(single[name], value[1], rtol=0.0, atol=atol)


@COMBINATIONS
def test_a_plan_is_in_the_robots_coordinates(names):
    parts = build(names)
    u = controls(parts)[0]
    features, _ = rollout(np, parts.dynamics, parts.dynamics.init(observe(parts), {}), u, {})
    q, v = parts.dynamics.plan(features, u)
    assert q.shape == v.shape == (HORIZON + 1, parts.robot.nj)


@pytest.mark.parametrize("names", on_torch(accepted("dynamics")), ids=str)
def test_torch_takes_the_same_steps(names):
    parts, twin = build(names), build(names, torch_xp)
    obs, u = observe(parts), controls(parts)
    expected, _ = rollout(np, parts.dynamics, parts.dynamics.init(obs, {}), u, {})
    found, _ = rollout(torch_xp, twin.dynamics, twin.dynamics.init(obs, {}), torch.asarray(u), {})
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("names", [n for n in accepted("dynamics") if n.dynamics in NUMPY_ONLY], ids=str)
def test_a_model_for_numpy_only_says_so_and_names_one_that_runs(names):
    with pytest.raises(BackEndError) as refused:
        build(names, torch_xp)
    said = str(refused.value)
    assert all(word in said for word in (names.dynamics, names.robot, torch_xp.__name__, "numpy only"))
    if said.endswith("a model that is learned"):
        elsewhere = [n.dynamics for n in on_torch(accepted("dynamics")) if n.robot == names.robot]
        assert not set(elsewhere) & {"analytic", "kinematic"}
        return
    other = said.rsplit("'", 2)[1]
    assert build(dataclasses.replace(names, dynamics=other), torch_xp).dynamics.dt > 0.0


@COMBINATIONS
def test_what_is_not_finite_is_handed_on_and_not_hidden(names):
    parts = build(names)
    lost = dataclasses.replace(observe(parts), joints=State(0.0, parts.robot.home * np.nan, parts.robot.home * np.nan))
    features, _ = rollout(np, parts.dynamics, parts.dynamics.init(lost, {}), controls(parts), {})
    assert not core.is_finite(features["q"])
