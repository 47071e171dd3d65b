"""The backward pass against dense linear algebra, and compiled against NumPy."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mbrl_control.backward import Backward, Expansion, bounded, in_numpy

NX, NU, H = 5, 3, 7
FREE = np.full(NU, 1e9)


def made(seed: int, nx: int = NX, nu: int = NU) -> Expansion:
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(H, nx + nu, nx + nu))
    full = half @ np.swapaxes(half, 1, 2) + 0.1 * np.eye(nx + nu)
    A, B = np.eye(nx) + 0.2 * rng.normal(size=(H, nx, nx)), rng.normal(size=(H, nx, nu))
    g = rng.normal(size=(H, nx + nu))
    return Expansion(A, B, g[:, :nx], g[:, nx:], full[:, :nx, :nx], full[:, nx:, :nx], full[:, nx:, nx:])


def dense(found: Expansion, start: np.ndarray) -> np.ndarray:
    """The controls of least cost from a deviation at the start: states put out, one linear system in all controls."""
    count, nx, nu = *found.A.shape[:2], found.B.shape[2]
    free, forced = start, np.zeros((nx, count * nu))
    hessian, gradient = np.zeros((count * nu, count * nu)), np.zeros(count * nu)
    for t in range(count):
        u = np.zeros((nu, count * nu))
        u[:, t * nu : (t + 1) * nu] = np.eye(nu)
        free, forced = found.A[t] @ free, found.A[t] @ forced + found.B[t] @ u
        hessian += forced.T @ found.hxx[t] @ forced + u.T @ found.huu[t] @ u
        hessian += u.T @ found.hux[t] @ forced + forced.T @ found.hux[t].T @ u
        gradient += forced.T @ (found.gx[t] + found.hxx[t] @ free) + u.T @ (found.gu[t] + found.hux[t] @ free)
    return np.linalg.solve(hessian, -gradient).reshape(count, nu)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("compile", [False, True])
def test_it_is_the_least_of_the_whole_problem(seed, compile):
    found, start = made(seed), np.random.default_rng(seed + 10).normal(size=NX)
    policy = Backward(NX, NU, compile)(found, np.zeros((H, NU)), -FREE, FREE, np.zeros(NU))
    x, controls = start, []
    for t in range(H):
        controls.append(policy.k[t] + policy.K[t] @ x)
        x = found.A[t] @ x + found.B[t] @ controls[-1]
    np.testing.assert_allclose(controls, dense(found, start), atol=1e-9)
    assert policy.expected(1.0) == pytest.approx(
        -0.5 * -policy.slope, rel=1e-9
    )  # of a whole Newton step: half the slope


@pytest.mark.parametrize(("nx", "nu", "bound"), [(5, 3, 0.1), (14, 7, 0.2), (4, 1, 0.1), (9, 2, 1e9)])
def test_compiled_gives_what_numpy_gives(nx, nu, bound):
    rng = np.random.default_rng(nx)
    found, u, damping = made(nx, nx, nu), 0.1 * rng.normal(size=(H, nu)), rng.uniform(0.0, 0.5, nu)
    args = found, u, np.full(nu, -bound), np.full(nu, bound), damping
    mine, theirs = Backward(nx, nu, True)(*args), in_numpy(*args)
    for name in ("k", "K", "slope", "bend"):
        np.testing.assert_allclose(getattr(mine, name), getattr(theirs, name), rtol=1e-9, atol=1e-11)
    on_bound = np.abs(np.abs(u + mine.k) - bound) < 1e-12
    assert on_bound.any() == (bound < 1.0)
    assert not mine.K[on_bound].any()  # what lies on a bound has no gain
    assert (np.abs(u + mine.k) <= bound + 1e-12).all()


@pytest.mark.parametrize("seed", range(20))
def test_the_least_within_bounds_meets_the_conditions_of_one(seed):
    rng = np.random.default_rng(seed)
    half, g = rng.normal(size=(4, 4)), 3.0 * rng.normal(size=4)
    h = half @ half.T + 0.01 * np.eye(4)
    low, high = -rng.uniform(0.0, 1.0, 4), rng.uniform(0.0, 1.0, 4)
    x, free, _ = bounded(h, g, low, high)
    slope = g + h @ x
    assert ((x >= low) & (x <= high)).all()
    assert np.abs(slope[free]).max(initial=0.0) < 1e-6
    assert (slope[~free & (x == low)] > 0.0).all()
    assert (slope[~free & (x == high)] < 0.0).all()


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("wrong", [-1e4, np.nan, np.inf])
def test_what_is_not_positive_definite_is_none_unless_it_is_damped(compile, wrong):
    found = made(0)
    broken = dataclasses.replace(found, huu=found.huu.copy())
    broken.huu[3, 0, 0] = wrong
    step = Backward(NX, NU, compile)
    assert step(broken, np.zeros((H, NU)), -FREE, FREE, np.zeros(NU)) is None
    if np.isfinite(wrong):
        assert step(broken, np.zeros((H, NU)), -FREE, FREE, np.full(NU, 1e6)) is not None


def test_curvature_of_the_motion_is_charged_by_the_gradient_of_where_it_leads():
    found = made(1)
    second = np.random.default_rng(2).normal(size=(H, NX, NX + NU, NX + NU))
    second = 1e-3 * (second + np.swapaxes(second, 2, 3))
    last = dataclasses.replace(found, second=np.where(np.arange(H)[:, None, None, None] == H - 1, second, 0.0))
    bent = np.tensordot(found.gx[-1], second[-1], axes=1)
    hessians = {"hux": found.hux.copy(), "huu": found.huu.copy()}
    # at the last knot W is the cost's own, so the same policy comes of charging the curvature to u and x themselves
    policy = in_numpy(last, np.zeros((H, NU)), -FREE, FREE, np.zeros(NU))
    quu = found.B[-1].T @ found.hxx[-1] @ found.B[-1] + hessians["huu"][-1]
    quu = quu + found.B[-1].T @ hessians["hux"][-1].T + hessians["hux"][-1] @ found.B[-1] + bent[NX:, NX:]
    qux = found.B[-1].T @ found.hxx[-1] @ found.A[-1] + hessians["hux"][-1] @ found.A[-1] + bent[NX:, :NX]
    np.testing.assert_allclose(policy.K[-1], -np.linalg.solve(quu, qux), atol=1e-10)
