"""Linear-quadratic problems: against scipy, against one dense system of equations, and against draws."""

import dataclasses

import numpy as np
import pytest

from mbrl_control import riccati
from mbrl_control.riccati import RiccatiError, Stages, solve, spread, stationary

HORIZON, NX, NU = 6, 4, 2


def definite(rng, *lead, size):
    root = rng.normal(size=(*lead, size, size))
    return root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(size)


def drawn(seed=0, horizon=HORIZON, nx=NX, nu=NU) -> Stages:
    """A problem with everything in it, convex in x and u together."""
    rng = np.random.default_rng(seed)
    whole = definite(rng, horizon, size=nx + nu)
    Q = np.concatenate([whole[:, :nx, :nx], definite(rng, 1, size=nx)])
    return Stages(
        A=np.eye(nx) + 0.3 * rng.normal(size=(horizon, nx, nx)),
        B=rng.normal(size=(horizon, nx, nu)),
        c=rng.normal(size=(horizon, nx)),
        Q=Q,
        R=whole[:, nx:, nx:],
        S=whole[:, :nx, nx:],
        q=rng.normal(size=(horizon + 1, nx)),
        r=rng.normal(size=(horizon, nu)),
    )


def rest(stages: Stages, begin: int) -> Stages:
    """The problem from a step on."""
    return Stages(**{field.name: getattr(stages, field.name)[begin:] for field in dataclasses.fields(stages)})


def dense(stages: Stages, x0: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The slow plain twin: all states, controls and multipliers as one system of linear equations."""
    H, nx, nu = stages.B.shape
    at_x = [slice(k * nx, (k + 1) * nx) for k in range(H + 1)]
    at_u = [slice((H + 1) * nx + k * nu, (H + 1) * nx + (k + 1) * nu) for k in range(H)]
    size = (H + 1) * nx + H * nu
    hessian, gradient = np.zeros((size, size)), np.zeros(size)
    equations, right = np.zeros(((H + 1) * nx, size)), np.zeros((H + 1) * nx)
    equations[at_x[0], at_x[0]], right[at_x[0]] = np.eye(nx), x0
    for k in range(H + 1):
        hessian[at_x[k], at_x[k]], gradient[at_x[k]] = stages.Q[k], stages.q[k]
    for k in range(H):
        hessian[at_u[k], at_u[k]], gradient[at_u[k]] = stages.R[k], stages.r[k]
        hessian[at_x[k], at_u[k]], hessian[at_u[k], at_x[k]] = stages.S[k], stages.S[k].T
        equations[at_x[k + 1], at_x[k + 1]] = np.eye(nx)
        equations[at_x[k + 1], at_x[k]], equations[at_x[k + 1], at_u[k]] = -stages.A[k], -stages.B[k]
        right[at_x[k + 1]] = stages.c[k]
    none = np.zeros((len(right), len(right)))
    whole = np.block([[hessian, equations.T], [equations, none]])
    z = np.linalg.solve(whole, np.concatenate([-gradient, right]))[:size]
    cost = 0.5 * z @ hessian @ z + gradient @ z
    return np.stack([z[at] for at in at_x]), np.stack([z[at] for at in at_u]), float(cost)


def rolled(stages: Stages, controller, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    xs, us = [x], []
    for k in range(stages.horizon):
        us.append(controller.K[k] @ xs[-1] + controller.k[k])
        xs.append(stages.A[k] @ xs[-1] + stages.B[k] @ us[-1] + stages.c[k])
    return np.stack(xs), np.stack(us)


class TestOverAHorizon:
    def test_it_is_the_solution_of_one_dense_system(self):
        stages = drawn()
        controller, x0 = solve(stages), np.random.default_rng(1).normal(size=NX)
        xs, us, cost = dense(stages, x0)
        found_x, found_u = rolled(stages, controller, x0)
        np.testing.assert_allclose(found_x, xs, atol=1e-9)
        np.testing.assert_allclose(found_u, us, atol=1e-9)
        assert controller.value(0, x0) == pytest.approx(cost, rel=1e-10)

    def test_gains_and_values_of_every_step_are_those_of_the_problem_from_there_on(self):
        stages = drawn(2)
        controller = solve(stages)
        for begin in range(HORIZON):
            here = rest(stages, begin)
            _, at_zero, cost = dense(here, np.zeros(NX))
            np.testing.assert_allclose(controller.k[begin], at_zero[0], atol=1e-9)
            assert controller.constant[begin] == pytest.approx(cost, rel=1e-9, abs=1e-9)
            for i, unit in enumerate(np.eye(NX)):
                _, us, cost = dense(here, unit)
                np.testing.assert_allclose(controller.K[begin][:, i], us[0] - at_zero[0], atol=1e-8)
                assert controller.value(begin, unit) == pytest.approx(cost, rel=1e-9, abs=1e-8)

    def test_the_covariance_is_the_inverse_curvature_of_the_action_value(self):
        """From the dense twin: what the first control costs, differenced twice."""
        stages = drawn(3)
        x0 = np.zeros(NX)
        best = solve(stages)

        def cost(u):
            after = stages.A[0] @ x0 + stages.B[0] @ u + stages.c[0]
            return x0 @ stages.S[0] @ u + 0.5 * u @ stages.R[0] @ u + stages.r[0] @ u + dense(rest(stages, 1), after)[2]

        e = np.eye(NU)
        curvature = [
            [cost(e[i] + e[j]) - cost(e[i]) - cost(e[j]) + cost(0 * e[0]) for j in range(NU)] for i in range(NU)
        ]
        np.testing.assert_allclose(np.linalg.inv(curvature), best.covariance[0], rtol=1e-7)

    @pytest.mark.parametrize("field", ["A", "q", "R"])
    def test_what_is_not_finite_is_refused(self, field):
        stages = drawn()
        broken = dataclasses.replace(stages, **{field: getattr(stages, field) * np.nan})
        with pytest.raises(RiccatiError, match="not finite"):
            solve(broken)

    def test_a_control_that_costs_nothing_is_refused_with_its_step(self):
        stages = drawn()
        R, B, S = stages.R.copy(), stages.B.copy(), stages.S.copy()
        R[2], B[2], S[2] = 0.0, 0.0, 0.0
        with pytest.raises(RiccatiError, match=r"Quu of step 2 .*positive definite"):
            solve(dataclasses.replace(stages, R=R, B=B, S=S))

    def test_a_cost_that_falls_without_end_is_refused(self):
        stages = drawn()
        with pytest.raises(RiccatiError, match="positive definite"):
            solve(dataclasses.replace(stages, R=-1e3 * stages.R))


def system(seed, nx=NX, nu=NU, radius=1.3):
    """One step that grows where nobody steers it, with a cross term."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(nx, nx))
    A *= radius / np.abs(np.linalg.eigvals(A)).max()
    whole = definite(rng, size=nx + nu)
    return A, rng.normal(size=(nx, nu)), whole[:nx, :nx], whole[nx:, nx:], whole[:nx, nx:]


class TestForEver:
    @pytest.mark.parametrize("seed", range(5))
    def test_it_is_scipys_solution(self, seed):
        from scipy.linalg import solve_discrete_are

        A, B, Q, R, S = system(seed)
        P, K = stationary(A, B, Q, R, S)
        expected = solve_discrete_are(A, B, Q, R, s=S)
        np.testing.assert_allclose(P, expected, rtol=1e-8, atol=1e-8)
        gain = -np.linalg.solve(R + B.T @ expected @ B, B.T @ expected @ A + S.T)
        np.testing.assert_allclose(K, gain, rtol=1e-8, atol=1e-8)

    @pytest.mark.parametrize("seed", range(5))
    def test_a_long_horizon_begins_with_its_gain(self, seed):
        from scipy.linalg import solve_discrete_are

        A, B, Q, R, S = system(seed)
        controller = solve(Stages.repeated(A, B, Q, R, S, np.eye(NX), 200))
        expected = solve_discrete_are(A, B, Q, R, s=S)
        np.testing.assert_allclose(controller.P[0], expected, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(controller.K[0], stationary(A, B, Q, R, S)[1], rtol=1e-8, atol=1e-8)

    def test_it_stabilises_and_solves_the_equation(self):
        A, B, Q, R, S = system(7, nx=8, nu=3, radius=3.0)
        P, K = stationary(A, B, Q, R, S)
        assert np.abs(np.linalg.eigvals(A + B @ K)).max() < 1.0
        tied = S + A.T @ P @ B
        right = Q + A.T @ P @ A - tied @ np.linalg.solve(R + B.T @ P @ B, tied.T)
        np.testing.assert_allclose(P, right, rtol=1e-9, atol=1e-9)

    def test_a_car_on_rails_has_the_gains_of_the_closed_form(self):
        """x' = a x + b u: P solves a quadratic equation."""
        a, b, q, r = 1.2, 0.5, 2.0, 0.7
        P, K = stationary(*(np.array([[x]]) for x in (a, b, q, r)))
        half = (r * (a * a - 1.0) + q * b * b) / (2.0 * b * b)
        expected = half + np.sqrt(half**2 + q * r / b**2)
        assert P[0, 0] == pytest.approx(expected, rel=1e-12)
        assert K[0, 0] == pytest.approx(-a * b * expected / (r + b * b * expected), rel=1e-12)

    @pytest.mark.parametrize(
        ("a", "b", "q", "why"),
        [(2.0, 0.0, 1.0, "grows without bound"), (2.0, 1.0, 0.0, "eigenvalue"), (1.0, 1.0, 0.0, "eigenvalue")],
    )
    def test_what_cannot_be_stabilised_is_refused(self, a, b, q, why):
        with pytest.raises(RiccatiError, match=f"no stabilising solution: .*{why}"):
            stationary(*(np.array([[x]]) for x in (a, b, q, 1.0)))

    def test_controls_for_nothing_and_numbers_that_are_none_are_refused(self):
        one = np.eye(1)
        with pytest.raises(RiccatiError, match="R has eigenvalues from 0 to 0"):
            stationary(one, one, one, 0.0 * one)
        with pytest.raises(RiccatiError, match="not finite"):
            stationary(one * np.nan, one, one, one)


class TestSpread:
    @pytest.mark.parametrize("exploring", [True, False])
    def test_it_is_that_of_many_draws(self, exploring):
        stages, rng = drawn(4, horizon=4), np.random.default_rng(5)
        controller = solve(stages)
        mean, covariance, noise = rng.normal(size=NX), 0.2 * definite(rng, size=NX), 0.1 * definite(rng, size=NX)
        means, covariances = spread(stages, controller, mean, covariance, noise, exploring)
        count = 200_000
        x = rng.multivariate_normal(mean, covariance, count)
        for k in range(stages.horizon):
            u = x @ controller.K[k].T + controller.k[k]
            u = u + rng.multivariate_normal(np.zeros(NU), controller.covariance[k], count) * exploring
            x = (
                x @ stages.A[k].T
                + u @ stages.B[k].T
                + stages.c[k]
                + rng.multivariate_normal(np.zeros(NX), noise, count)
            )
            size = np.sqrt(np.diag(covariances[k + 1]))
            np.testing.assert_allclose((x.mean(axis=0) - means[k + 1]) / size, 0.0, atol=0.02)
            scale = np.outer(size, size)
            np.testing.assert_allclose(np.cov(x.T) / scale, covariances[k + 1] / scale, atol=0.02)

    def test_under_its_own_gain_for_ever_it_settles(self):
        """The closed form: C = F C F' + W, solved as one linear system."""
        A, B, Q, R, S = system(1)
        _, K = stationary(A, B, Q, R, S)
        stages = Stages.repeated(A, B, Q, R, S, Q, 300)
        controller = dataclasses.replace(solve(stages), K=np.broadcast_to(K, (300, NU, NX)))
        W, closed = 0.1 * np.eye(NX), A + B @ K
        _, found = spread(stages, controller, np.zeros(NX), np.zeros((NX, NX)), W, exploring=False)
        still = np.linalg.solve(np.eye(NX**2) - np.kron(closed, closed), W.ravel()).reshape(NX, NX)
        np.testing.assert_allclose(found[-1], still, rtol=1e-8, atol=1e-10)


def test_doublings_of_a_slow_system_are_few(monkeypatch):
    """An eigenvalue of 0.99999 takes about a million steps to fade, and twenty-odd doublings."""
    monkeypatch.setattr(riccati, "DOUBLINGS", 25)
    P, _ = stationary(np.diag([0.99999, 1.0]), np.array([[0.0], [1e-3]]), np.eye(2), np.eye(1))
    assert P[0, 0] == pytest.approx(1.0 / (1.0 - 0.99999**2), rel=1e-9)
