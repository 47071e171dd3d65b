"""iLQR and DDP: one iteration where that is the answer, a slow twin, derivatives, bounds, and what goes wrong."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from mbrl_control import core, optimal, registry
from mbrl_control.config import ConfigError
from mbrl_control.core import Goal, Layout, Observation, Plan, State, Status, Term, unflat
from mbrl_control.optimal import NoDerivativesError
from mbrl_control.planners import ddp, ilqr
from mbrl_control.sampling import at_home


def made(robot: str, task: str, planner: str, **config: Any):
    """A planner on the symbolic model, and what is seen at home."""
    machine = registry.make("robots", robot)
    wanted = registry.make("tasks", task, machine)
    settings = {"dt": config.get("dt", 0.05), "compile": config.get("compile", True)}
    model = registry.make("dynamics", "symbolic", machine, np, overrides=settings)
    return registry.make("planners", planner, wanted, model, np, overrides=config), at_home(machine, wanted)


def still(planner, seed: int = 0) -> Goal:
    task = planner.problem.task
    return Goal.still(task.sample_goal(np.random.default_rng(seed)), planner.horizon, task.tolerance, task.dwell)


def iterated(planner, obs: Observation, goal: Goal, most: int = 300):
    """To the end; plan, costs of all iterations, and the last carry."""
    carry, costs, plan = planner.init(obs), [], None
    for _ in range(most):
        carry, plan, info = planner.improve(obs, goal, planner.knobs(), carry, {})
        assert info.status == Status.OK
        costs.append(info.cost)
        if len(costs) > 4 and costs[-5] - costs[-1] <= 1e-13 * costs[-1]:
            break
    return plan, costs, carry


# --- A linear-quadratic problem ----------------------------------------------------------------------------------


class Springs:
    """Two masses on springs, exactly linear."""

    dt = 0.1

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.A, self.B = np.eye(4) + 0.1 * rng.normal(size=(4, 4)), rng.normal(size=(4, 2))

    def init(self, obs, noise):
        return {"q": obs.joints.q, "v": obs.joints.v}

    def features(self, s):
        return dict(s)

    def step(self, s, u, noise):
        x = np.concatenate([s["q"], s["v"]], axis=-1) @ self.A.T + u @ self.B.T
        after = {"q": x[..., :2], "v": x[..., 2:]}
        return after, after, {"disagreement": np.zeros((*u.shape[:-1], 1))}

    def linearize(self, s, u):
        lead = u.shape[:-1]
        return np.broadcast_to(self.A, (*lead, 4, 4)), np.broadcast_to(self.B, (*lead, 4, 2))

    def bounds(self):
        return np.full(2, -1e6), np.full(2, 1e6)

    def plan(self, features, u):
        return features["q"], features["v"]


class AtTheGoal:
    """Residuals that are linear, one of them in state and control together."""

    layout, goal_size, sampling_only = Layout(), 2, False

    def __init__(self) -> None:
        self.robot = dataclasses.replace(
            registry.make("robots", "cartpole"),
            home=np.array([1.0, -1.0]),
            inverse_dynamics=None,
            channels=core.Channels(core.Mode.TORQUE, ("a", "b"), np.eye(2), np.full(2, 1e6)),
        )
        self.terms = {
            "miss": Term("quadratic", 2.0, p=3.0, terminal=4.0),
            "speed": Term("quadratic", 0.1),
            "power": Term("quadratic", 0.05),
        }

    def residuals(self, xp, features, u, goal):
        return {"miss": features["q"] - goal, "speed": features["v"], "power": u + features["v"] * 0.5}


@pytest.mark.parametrize("planner", [ilqr, ddp])
def test_a_linear_quadratic_problem_is_solved_in_one_iteration(planner):
    config = planner.Config(dt=0.1, horizon=12)
    one = planner.make(config, AtTheGoal(), Springs(), np)
    obs = Observation(0.0, State(0.0, np.array([1.0, -1.0]), np.array([0.5, 2.0])))
    goal = Goal.still([0.3, 0.7], 12, 0.01, 0.1)
    carry, plan, first = one.improve(obs, goal, one.knobs(), one.init(obs), {})
    _, again, second = one.improve(obs, goal, one.knobs(), carry, {})
    assert second.cost == pytest.approx(first.cost, rel=1e-12)
    np.testing.assert_allclose(again.u, plan.u, atol=1e-7)
    rng = np.random.default_rng(1)
    case = one.problem.case(goal, one.knobs()["weights"])

    def cost(u):
        nothing = ilqr.Policy(0.0 * u, np.zeros((12, 2, 4)), 0.0, 0.0)
        return one.problem.rolled(carry["x"][0], carry["x"], u, nothing, np.zeros(1), case).cost[0]

    for _ in range(20):
        assert cost(plan.u + 1e-3 * rng.normal(size=plan.u.shape)) > first.cost


# --- A slow twin -------------------------------------------------------------------------------------------------


class Twin:
    """iLQR as the paper has it: one loop after another, derivatives by differences, no bounds, no compiled code."""

    def __init__(self, planner, goal: Goal) -> None:
        self.task, self.model, self.goal = planner.problem.task, planner.problem.dynamics, goal
        self.H, self.scale = planner.horizon, planner._scale
        self.growth, self.mu = 1.0, 0.0

    def step(self, x, u):
        n = len(x) // 2
        after, _, _ = self.model.step({"q": x[:n], "v": x[n:]}, u, {})
        return np.concatenate([after["q"], after["v"]])

    def residuals(self, x, u, t):
        n = len(x) // 2
        found = self.task.residuals(np, {"q": x[:n], "v": x[n:]}, u, self.goal.value[t + 1])
        return {name: np.atleast_1d(r) for name, r in found.items()}

    def weight(self, name, t):
        term = self.task.terms[name]
        return term.weight / self.H + term.weight * term.terminal * (t == self.H - 1)

    def charge(self, x, u, t):
        total = 0.0
        for name, r in self.residuals(x, u, t).items():
            p, norm = self.task.terms[name].p, self.task.terms[name].norm
            value = 0.5 * p * r @ r if norm == "quadratic" else math.sqrt(r @ r + p * p) - p
            total += self.weight(name, t) * value
        return total

    def slopes(self, f, z, h=1e-6):
        return np.stack([(f(z + h * e) - f(z - h * e)) / (2 * h) for e in np.eye(len(z))], axis=-1)

    def rolled(self, x0, u, x_old=None, k=None, K=None, share=0.0):
        x, controls, total = [x0], [], 0.0
        for t in range(self.H):
            extra = 0.0 if k is None else share * k[t] + K[t] @ (x[-1] - x_old[t])
            controls.append(u[t] + extra)
            x.append(self.step(x[-1], controls[-1]))
            total += self.charge(x[-1], controls[-1], t)
        return np.array(x), np.array(controls), total

    def iteration(self, x, u, cost):
        nx, nu = x.shape[1], u.shape[1]
        models = []
        for t in range(self.H):
            step = self.slopes(lambda z: self.step(z[:nx], z[nx:]), np.concatenate([x[t], u[t]]))
            g, h = np.zeros(nx + nu), np.zeros((nx + nu, nx + nu))
            for name, r in self.residuals(x[t + 1], u[t], t).items():
                p, norm, w = self.task.terms[name].p, self.task.terms[name].norm, self.weight(name, t)
                J = self.slopes(
                    lambda z, t=t, name=name: self.residuals(z[:nx], z[nx:], t)[name], np.concatenate([x[t + 1], u[t]])
                )
                if norm == "quadratic":
                    g, h = g + w * p * J.T @ r, h + w * p * J.T @ J
                else:
                    s = math.sqrt(r @ r + p * p)
                    g, h = g + w * J.T @ r / s, h + w * J.T @ (np.eye(len(r)) / s - np.outer(r, r) / s**3) @ J
            models.append((step[:, :nx], step[:, nx:], g, h))
        while True:
            v, V, k, K, slope, bend = np.zeros(nx), np.zeros((nx, nx)), [], [], 0.0, 0.0
            for A, B, g, h in reversed(models):
                w, W = v + g[:nx], V + h[:nx, :nx]
                qx, qu = A.T @ w, B.T @ w + g[nx:]
                qxx, qux, quu = A.T @ W @ A, B.T @ W @ A + h[nx:, :nx] @ A, B.T @ W @ B + h[nx:, nx:]
                quu = quu + h[nx:, :nx] @ B + B.T @ h[:nx, nx:]
                damped = np.linalg.inv(quu + self.mu * np.diag(self.scale))
                k.insert(0, -damped @ qu)
                K.insert(0, -damped @ qux)
                v = qx + K[0].T @ quu @ k[0] + K[0].T @ qu + qux.T @ k[0]
                V = qxx + K[0].T @ quu @ K[0] + K[0].T @ qux + qux.T @ K[0]
                slope, bend = slope + k[0] @ qu, bend + 0.5 * k[0] @ quu @ k[0]
            tried = [self.rolled(x[0], u, x, k, K, 0.5**i) for i in range(8)]
            good = [one for i, one in enumerate(tried) if cost - one[2] > -1e-4 * (0.5**i * slope + 0.25**i * bend)]
            if good:
                self.growth = min(1 / 1.6, self.growth / 1.6)
                self.mu = self.mu * self.growth if self.mu * self.growth >= 1e-6 else 0.0
                return min(good, key=lambda one: one[2])
            self.growth = max(1.6, self.growth * 1.6)
            self.mu = max(1e-6, self.mu * self.growth)
            return x, u, cost


@pytest.mark.parametrize(("robot", "task"), [("pendulum", "swing_up"), ("cartpole", "swing_up")])
def test_it_goes_step_by_step_as_a_slow_twin_does(robot, task):
    planner, obs = made(robot, task, "ilqr", horizon=15, compile=False)
    planner.problem.low, planner.problem.high = np.full(1, -1e6), np.full(1, 1e6)  # the twin knows no bounds
    obs = dataclasses.replace(obs, joints=State(0.0, obs.joints.q + 0.3, obs.joints.v + 0.2))
    goal = still(planner)
    twin, carry = Twin(planner, goal), planner.init(obs)
    x, u, cost = twin.rolled(planner.problem.start(obs), carry["mean"])
    for _ in range(6):
        carry, _, info = planner.improve(obs, goal, planner.knobs(), carry, {})
        x, u, cost = twin.iteration(x, u, cost)
        assert info.cost == pytest.approx(cost, rel=1e-6)
        np.testing.assert_allclose(carry["mean"], u, atol=1e-4)


# --- Derivatives -------------------------------------------------------------------------------------------------


CASES = [("pendulum", "swing_up"), ("cartpole", "swing_up"), ("panda", "reach"), ("pets_cartpole", "cartpole_swing_up")]


@pytest.mark.parametrize(("robot", "task"), CASES)
def test_gradients_of_costs_are_the_finite_differences(robot, task):
    planner, obs = made(robot, task, "ilqr", horizon=4, compile=False)
    problem, rng = planner.problem, np.random.default_rng(0)
    x = np.concatenate([obs.joints.q, obs.joints.v]) + 0.2 * rng.normal(size=(5, problem.nx))
    u = 0.3 * problem.high * rng.uniform(-1.0, 1.0, (4, problem.nu))
    goal = still(planner)
    case = problem.case(goal, planner.knobs()["weights"])

    def cost(x, u):
        seen = {name: rows[None] for name, rows in problem.features(x).items()}
        return float(core.costs(np, problem.task, case.weights, seen, u[None], case.goal).sum())

    terms, found = problem.expanded(x, u, case)
    assert terms.sum() == pytest.approx(cost(x, u), rel=1e-12)
    h = 1e-6
    for t in range(4):
        for i in range(problem.nx):
            d = np.zeros_like(x)
            d[t + 1, i] = h
            assert found.gx[t, i] == pytest.approx((cost(x + d, u) - cost(x - d, u)) / (2 * h), abs=1e-6)
        for i in range(problem.nu):
            d = np.zeros_like(u)
            d[t, i] = h * problem.high[i]
            slope = (cost(x, u + d) - cost(x, u - d)) / (2 * h * problem.high[i])
            assert found.gu[t, i] == pytest.approx(slope, abs=1e-6)
    z = np.block([[found.hxx, np.swapaxes(found.hux, 1, 2)], [found.hux, found.huu]])
    assert np.linalg.eigvalsh(z).min() > -1e-9 * np.abs(z).max()


@pytest.mark.parametrize("integrator", ["euler", "rk4"])
def test_jacobians_of_an_arm_with_friction_are_the_finite_differences(integrator):
    robot = registry.make("robots", "panda_torque", overrides={"payload": 1.0})
    overrides = {"dt": 0.02, "integrator": integrator, "compile": False}
    model = registry.make("dynamics", "symbolic", robot, np, overrides=overrides)
    rng, sizes = np.random.default_rng(0), {"q": 7, "v": 7}
    x = np.concatenate([robot.home, np.zeros(7)]) + 0.3 * rng.normal(size=(3, 14))
    z = np.concatenate([x, 20.0 * rng.normal(size=(3, 7))], axis=-1)

    def step(z):
        after, _, _ = model.step(unflat(z[..., :14], sizes), z[..., 14:], {})
        return np.concatenate([after["q"], after["v"]], axis=-1)

    h = 1e-6
    differences = np.stack([(step(z + h * e) - step(z - h * e)) / (2 * h) for e in np.eye(21)], axis=-1)
    found = np.concatenate(model.linearize(unflat(x, sizes), z[:, 14:]), axis=-1)
    np.testing.assert_allclose(found, differences, atol=2e-8)


@pytest.mark.parametrize(("robot", "task"), CASES[:2])
def test_second_derivatives_are_casadis(robot, task):
    import casadi as ca

    planner, obs = made(robot, task, "ddp", horizon=3, compile=False)
    problem, rng = planner.problem, np.random.default_rng(0)
    x = np.concatenate([obs.joints.q, obs.joints.v]) + rng.normal(size=(4, problem.nx))
    u = rng.uniform(-1.0, 1.0, (3, problem.nu))
    found = optimal.second(problem, x, u)
    function = problem.dynamics.stepping
    a, b = ca.SX.sym("x", problem.nx), ca.SX.sym("u", problem.nu)
    after = function(a, b)
    for i in range(problem.nx):
        hessian = ca.Function("h", [a, b], [ca.hessian(after[i], ca.vertcat(a, b))[0]])
        for t in range(3):
            np.testing.assert_allclose(found[t, i], np.array(hessian(x[t], u[t])), atol=1e-7)


# --- Where they end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("robot", "horizon", "nudge"), [("pendulum", 60, 0.3), ("cartpole", 40, 0.1)])
def test_ilqr_and_ddp_end_at_one_optimum_within_bounds(robot, horizon, nudge):
    ends = {}
    for name in ("ilqr", "ddp"):
        planner, obs = made(robot, "swing_up", name, horizon=horizon)
        obs = dataclasses.replace(obs, joints=State(0.0, obs.joints.q + nudge, obs.joints.v))
        plan, costs, _ = iterated(planner, obs, still(planner))
        assert (np.diff(costs) <= 0.0).all()
        assert (np.abs(plan.u) <= planner.problem.high + 1e-12).all()
        ends[name] = costs
    assert ends["ddp"][-1] == pytest.approx(ends["ilqr"][-1], rel=1e-6)


def test_near_the_end_newtons_steps_are_fewer():
    """From the same trajectory, near the optimum: quadratic convergence against linear."""
    counts = {}
    for name in ("ilqr", "ddp"):
        planner, obs = made("pendulum", "pendulum", name, horizon=20, compile=False)
        obs = dataclasses.replace(obs, joints=State(0.0, np.array([0.4]), np.array([0.0])))
        goal = still(planner)
        _, costs, _ = iterated(planner, obs, goal)
        counts[name] = next(i for i, cost in enumerate(costs) if cost <= costs[-1] * (1.0 + 1e-10))
    assert counts["ddp"] <= counts["ilqr"]


@pytest.mark.parametrize(("robot", "task"), CASES[:3])
def test_compiled_gives_what_numpy_gives(robot, task):
    plans = []
    for compile in (True, False):
        planner, obs = made(robot, task, "ilqr", horizon=10, compile=compile)
        goal, carry = still(planner), planner.init(obs)
        for i in range(4):
            later = dataclasses.replace(obs, t=0.02 * i)
            carry, plan, info = planner.improve(later, goal, planner.knobs(), carry, {})
        plans.append((plan, info))
    (mine, said), (theirs, told) = plans
    np.testing.assert_allclose(mine.u, theirs.u, rtol=1e-7, atol=1e-7)
    assert (mine.K is None) == (theirs.K is None) == (robot == "panda")
    assert said.terms == pytest.approx(told.terms, rel=1e-7, abs=1e-12)


def test_its_gains_hold_the_plan_against_a_push():
    planner, obs = made("cartpole", "swing_up", "ilqr", horizon=30)
    balanced = State(0.0, np.array([0.0, 0.05]), np.zeros(2))
    obs = dataclasses.replace(obs, joints=balanced)
    plan, _, _ = iterated(planner, obs, Goal.still([0.0], 30, 0.1, 1.0))
    model, away = planner.problem.dynamics, np.array([0.02, 0.1])

    def end(plan: Plan) -> float:
        s = {"q": plan.q[0] + away, "v": plan.v[0]}
        for t in range(plan.horizon):
            u = plan.u[t] if plan.K is None else plan.at(t * plan.dt + 1e-9, s["q"], s["v"]).u
            s, _, _ = model.step(s, np.clip(u, planner.problem.low, planner.problem.high), {})
        return float(np.abs(s["q"] - plan.q[-1]).max())

    assert end(plan) < 0.1
    assert end(dataclasses.replace(plan, K=None)) > 0.5


# --- What goes wrong ---------------------------------------------------------------------------------------------


@pytest.fixture
def under_way():
    planner, obs = made("cartpole", "swing_up", "ilqr", horizon=8, compile=False)
    goal = still(planner)
    carry, plan, _ = planner.improve(obs, goal, planner.knobs(), planner.init(obs), {})
    return planner, dataclasses.replace(obs, t=0.02), goal, carry, plan


def nan_in_the_model(planner, obs, goal, knobs):
    model = planner.problem.dynamics
    planner.problem.dynamics = type("Broken", (), {"__getattr__": lambda _, name: getattr(model, name)})()
    planner.problem.dynamics.linearize = lambda s, u: tuple(m * math.nan for m in model.linearize(s, u))
    return obs, goal, knobs


BROKEN = {
    "state": (lambda p, o, g, k: (dataclasses.replace(o, joints=State(0.0, o.joints.q * math.nan, o.joints.v)), g, k)),
    "goal": (lambda p, o, g, k: (o, Goal(g.value * math.nan, g.tolerance, g.dwell), k)),
    "weights": (lambda p, o, g, k: (o, g, {"weights": k["weights"] * math.inf})),
    "derivatives": nan_in_the_model,
    "positive definite": (lambda p, o, g, k: (o, g, {"weights": -1e12 * np.ones_like(k["weights"])})),
}


@pytest.mark.parametrize("word", BROKEN)
def test_what_cannot_be_solved_has_a_status_and_a_reason_and_leaves_the_plan(under_way, word):
    planner, obs, goal, carry, plan = under_way
    kept = {name: np.array(value) for name, value in carry.items()}
    after, same, info = planner.improve(*BROKEN[word](planner, obs, goal, planner.knobs()), carry, {})
    assert info.status in (Status.NONFINITE, Status.FAULT)
    assert info.cost == math.inf
    assert word in info.reason or "finite" in info.reason
    assert all(np.array_equal(after[name], kept[name]) for name in kept)
    assert np.array_equal(same.u, plan.u)
    assert np.array_equal(same.q, plan.q)


def test_a_singular_hessian_is_damped(under_way):
    """Without a cost of effort and at rest nothing depends on the controls."""
    planner, obs, goal, carry, _ = under_way
    nothing = {"weights": np.zeros_like(planner.knobs()["weights"])}
    _, plan, info = planner.improve(obs, goal, nothing, carry, {})
    assert info.status == Status.OK
    assert info.cost == 0.0
    assert core.is_finite(plan.u, plan.q)


def test_contradicting_bounds_are_refused_by_name():
    planner, _ = made("cartpole", "swing_up", "ilqr", horizon=4, compile=False)
    problem = planner.problem
    wrong = type("Wrong", (), {"__getattr__": lambda _, name: getattr(problem.dynamics, name)})()
    wrong.bounds, wrong.linearize = (lambda: (np.ones(1), -np.ones(1))), problem.dynamics.linearize
    wrong.init = wrong.step = wrong.features = wrong.plan = len
    wrong.dt = 0.05
    with pytest.raises(ConfigError, match=r"robot 'cartpole': controls between \[1.0\] and \[-1.0\].*lower first"):
        ilqr.make(ilqr.Config(), problem.task, wrong, np)


class TestRefusals:
    def test_a_term_without_a_gauss_newton_hessian_is_refused_by_name(self):
        planner, _ = made("cartpole", "swing_up", "ilqr", horizon=4, compile=False)
        task = planner.problem.task
        task.terms = {**task.terms, "off": Term("indicator", 1.0)}
        with pytest.raises(NoDerivativesError, match=r"robot 'cartpole'.*term 'off' has norm 'indicator'.*quadratic"):
            ilqr.make(ilqr.Config(), task, planner.problem.dynamics, np)

    def test_a_model_without_derivatives_is_refused_by_name(self):
        planner, _ = made("cartpole", "swing_up", "ilqr", horizon=4, compile=False)
        blind = type("Blind", (), dict.fromkeys(("init", "step", "features", "bounds", "plan")))()
        blind.dt = 0.05
        with pytest.raises(NoDerivativesError, match=r"robot 'cartpole' on a Blind model.*linearize"):
            ilqr.make(ilqr.Config(), planner.problem.task, blind, np)
