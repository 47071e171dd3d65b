"""What every model promises, on every robot that it accepts."""

from __future__ import annotations

import dataclasses

import array_api_compat.torch as torch_xp
import numpy as np
import pytest
import torch

from mbrl_control import core
from mbrl_control.core import BackEndError, Differentiable, Dynamics, State, flat, rollout, unflat

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


def differences(dynamics, s, u, eps):
    """The plain twin of ``linearize``: a step to either side for each number, by ``step`` alone."""
    sizes = {name: np.shape(x)[-1] for name, x in s.items()}
    nx, z = sum(sizes.values()), np.concatenate([flat(np, s), u], axis=-1)
    away = eps * np.eye(z.shape[-1])[:, None]
    ends = [dynamics.step(unflat(x[..., :nx], sizes), x[..., nx:], {})[0] for x in (z + away, z - away)]
    slopes = np.moveaxis((flat(np, ends[0]) - flat(np, ends[1])) / (2.0 * eps), 0, -1)
    return slopes[..., :nx], slopes[..., nx:]


@COMBINATIONS
def test_jacobians_are_those_of_differences(names):
    """Along a motion; of a model in single precision those of its twin in double."""
    parts = build(names)
    dynamics, rng = parts.dynamics, np.random.default_rng(0)
    assert isinstance(dynamics, Differentiable)
    start = dynamics.init(observe(parts), {})
    u = 0.2 * controls(parts)[:2, 0]
    states = [start, dynamics.step(start, u[0], {})[0]]
    s = {name: np.stack([x[name] for x in states]) for name in start}
    s = {name: x + 1e-3 * rng.normal(size=x.shape) * (np.arange(x.shape[-1]) > 0) for name, x in s.items()}
    A, B = dynamics.linearize(s, u)
    tolerance = 1e-5
    if names.dynamics in SINGLE:
        dynamics, tolerance = build(dataclasses.replace(names, dynamics="ensemble")).dynamics, 1e-4
    a, b = differences(dynamics, s, u, 1e-6)
    if names.dynamics == "mujoco":
        a[..., 0] = A[..., 0]  # MuJoCo's own clock, which stands first, must not be set
    np.testing.assert_allclose(A, a, rtol=0.0, atol=tolerance * np.abs(a).max())
    np.testing.assert_allclose(B, b, rtol=0.0, atol=tolerance * max(np.abs(b).max(), 1e-3))
    one = dynamics.linearize({name: x[1] for name, x in s.items()}, u[1])
    for found, expected in zip(one, (A, B), strict=True):
        np.testing.assert_allclose(found, expected[1], rtol=1e-4, atol=1e-5)


@COMBINATIONS
def test_jacobians_at_what_is_not_finite_are_not_hidden(names):
    parts = build(names)
    start = parts.dynamics.init(observe(parts), {})
    s = {name: np.asarray(x) * np.nan for name, x in start.items()}
    A, B = parts.dynamics.linearize(s, controls(parts)[0, 0])
    assert A.shape[-1] == sum(x.shape[-1] for x in s.values())
    assert B.shape[-1] == parts.robot.nu
    if names.dynamics != "kinematic":  # whose Jacobians are numbers whatever the state
        assert not core.is_finite(A, B)
