"""The planner ``lqr``: exact where things are linear and quadratic, never worse than the plan in force elsewhere."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from mbrl_control import registry
from mbrl_control.core import Goal, Layout, Observation, State, Status, Term
from mbrl_control.planners import ilqr, lqr
from mbrl_control.riccati import Stages

H, DT = 12, 0.05


class Linear:
    """A model q' = q + dt v, v' = D v + E u of a robot with torques, differentiable."""

    dt = DT

    def __init__(self, robot, bound=1e6):
        rng, nj = np.random.default_rng(0), robot.nj
        self.A = np.block([[np.eye(nj), DT * np.eye(nj)], [0.3 * rng.normal(size=(nj, nj)), 0.9 * np.eye(nj)]])
        self.B = np.concatenate([np.zeros((nj, robot.nu)), rng.normal(size=(nj, robot.nu))])
        self.nj, self.bound = nj, np.full(robot.nu, bound)

    def init(self, obs, noise):
        return {"q": obs.joints.q, "v": obs.joints.v}

    def step(self, s, u, noise):
        x = np.concatenate([s["q"], s["v"]], axis=-1) @ self.A.T + u @ self.B.T
        after = {"q": x[..., : self.nj], "v": x[..., self.nj :]}
        return after, after, {}

    def features(self, s):
        return {"q": s["q"], "v": s["v"]}

    def bounds(self):
        return -self.bound, self.bound

    def plan(self, features, u):
        return features["q"], features["v"]

    def linearize(self, s, u):
        lead = u.shape[:-1]
        return np.broadcast_to(self.A, (*lead, *self.A.shape)), np.broadcast_to(self.B, (*lead, *self.B.shape))


class Held:
    """Quadratic in everything, with a tie between where a step leads and what it takes."""

    sampling_only, goal_size, layout, dt = False, 2, Layout(), DT
    tolerance = dwell = 0.1

    def __init__(self, robot):
        self.robot = robot
        self.terms = {
            "joints": Term("quadratic", 2.0, p=1.5, terminal=3.0),
            "tied": Term("quadratic", 0.5),
            "effort": Term("quadratic", 0.1),
        }

    def residuals(self, xp, features, u, goal):
        q, v = features["q"], features["v"]
        return {"joints": q - goal, "tied": v[..., :1] * 0.3 + u[..., :1] + 0.2, "effort": u}


@pytest.fixture
def parts(monkeypatch):
    robot = registry.make("robots", "cartpole")
    monkeypatch.setattr("mbrl_control.optimal.check_predicts", lambda *_: None)
    return robot, Held(robot), Linear(robot)


def asked(planner, robot, goal=(0.5, -0.3)):
    obs = Observation(0.0, State(0.0, robot.home + 0.1, np.array([0.2, -0.1])))
    carry = planner.init(obs)
    return planner.improve(obs, Goal.still(goal, planner.horizon, 0.1, 0.1), planner.knobs(), carry, {})


def brute(task, model, robot, x0, goal):
    """The slow plain twin: the cost as a quadratic form of all controls, built by trying them one by one."""
    size = H * robot.nu

    def parts_of(u):
        s, found = {"q": x0[: robot.nj], "v": x0[robot.nj :]}, []
        for k in range(H):
            s, features, _ = model.step(s, u[k * robot.nu : (k + 1) * robot.nu], {})
            residuals = task.residuals(np, features, u[k * robot.nu : (k + 1) * robot.nu], goal)
            for name, term in task.terms.items():
                share = term.weight * term.p * (1.0 / H + term.terminal * (k == H - 1))
                found.append(np.sqrt(share) * residuals[name])
        return np.concatenate(found)

    at_zero = parts_of(np.zeros(size))
    slopes = np.stack([parts_of(unit) - at_zero for unit in np.eye(size)], axis=-1)
    u, *_ = np.linalg.lstsq(slopes, -at_zero, rcond=None)
    return u.reshape(H, robot.nu), 0.5 * float(np.sum(np.square(at_zero + slopes @ u)))


def test_a_linear_quadratic_problem_is_solved_at_once(parts):
    robot, task, model = parts
    planner = lqr.make(lqr.Config(horizon=H, compile=False), task, model)
    goal = np.array([0.5, -0.3])
    _, plan, info = asked(planner, robot, goal)
    start = np.concatenate([robot.home + 0.1, [0.2, -0.1]])
    u, cost = brute(task, model, robot, start, goal)
    np.testing.assert_allclose(plan.u, u, atol=1e-8)
    assert info.cost == pytest.approx(cost, rel=1e-10)
    assert info.status is Status.OK
    assert plan.K is not None
    for i in range(2 * robot.nj):  # the gains are how the best controls move with the start
        moved, _ = brute(task, model, robot, start + 1e-3 * np.eye(2 * robot.nj)[i], goal)
        np.testing.assert_allclose(plan.K[0][:, i], (moved[0] - u[0]) / 1e-3, atol=1e-6)


def test_it_is_the_first_step_of_ilqr_there(parts):
    robot, task, model = parts
    config = {"horizon": H, "compile": False}
    ours = asked(lqr.make(lqr.Config(**config), task, model), robot)[1]
    theirs = asked(ilqr.make(ilqr.Config(**config), task, model), robot)[1]
    np.testing.assert_allclose(ours.u, theirs.u, atol=1e-8)
    np.testing.assert_allclose(ours.K, theirs.K, atol=1e-8)


def test_controls_are_clipped_and_the_plan_in_force_stays_where_that_is_no_better(parts):
    robot, task, _ = parts
    tight = lqr.make(lqr.Config(horizon=H, compile=False), task, Linear(robot, bound=0.05))
    assert np.abs(asked(tight, robot)[1].u).max() <= 0.05
    worse = Linear(robot)
    worse.linearize = lambda s, u: tuple(-x for x in Linear.linearize(worse, s, u))  # points the wrong way
    planner = lqr.make(lqr.Config(horizon=H, compile=False), task, worse)
    _, plan, info = asked(planner, robot)
    assert info.status is Status.OK
    assert not np.ptp(plan.u, axis=0).any()  # as it began: a control that lasts


def test_what_costs_nothing_is_a_status_with_a_reason_and_the_plan_stays(parts):
    robot, task, model = parts
    planner = lqr.make(lqr.Config(horizon=H, compile=False), task, model)
    obs = Observation(0.0, State(0.0, robot.home, np.zeros(2)))
    carry = planner.init(obs)
    still = Goal.still((0.0, 0.0), H, 0.1, 0.1)
    after, _, info = planner.improve(obs, still, {"weights": np.zeros(3)}, carry, {})
    assert info.status & Status.FAULT
    assert "Quu of step" in info.reason
    assert "positive definite" in info.reason
    assert all(np.array_equal(after[name], carry[name]) for name in carry)


def test_the_spread_is_that_of_many_blown_episodes(parts):
    robot, task, model = parts
    planner = lqr.make(lqr.Config(horizon=H, compile=False, noise=0.02), task, model)
    _, plan, info = asked(planner, robot)
    rng, count = np.random.default_rng(0), 20_000
    x = np.tile(np.concatenate([plan.q[0], plan.v[0]]), (count, 1))
    for k in range(H):
        u = plan.u[k] + (x - np.concatenate([plan.q[k], plan.v[k]])) @ plan.K[k].T
        x = x @ model.A.T + u @ model.B.T
        x[:, 2:] += 0.02 * robot.limits.velocity * rng.standard_normal((count, 2))
    np.testing.assert_allclose(x.std(axis=0), np.concatenate([info.spread["q"][-1], info.spread["v"][-1]]), rtol=0.03)
    assert not info.spread["q"][0].any()
    silent = lqr.make(lqr.Config(horizon=H, compile=False), task, model)
    assert not asked(silent, robot)[2].spread


def test_costs_of_where_a_step_leads_become_costs_of_where_it_starts(parts):
    """The same sum, term by term, for any deviations."""
    _, task, model = parts
    planner, rng = lqr.make(lqr.Config(horizon=H, compile=False), task, model), np.random.default_rng(1)
    case = planner.problem.case(Goal.still((0.5, -0.3), H, 0.1, 0.1), planner.knobs()["weights"])
    x, u = rng.normal(size=(H + 1, 4)), rng.normal(size=(H, 1))
    _, found = planner.problem.expanded(x, u, case)
    problem = lqr.stages(found)
    assert isinstance(problem, Stages)
    du, dx = rng.normal(size=(H, 1)), np.zeros((H + 1, 4))
    dx[0] = rng.normal(size=4)
    theirs = ours = 0.0
    for k in range(H):
        dx[k + 1] = model.A @ dx[k] + model.B @ du[k]
        a, b = dx[k + 1], du[k]
        theirs += found.gx[k] @ a + found.gu[k] @ b + 0.5 * (a @ found.hxx[k] @ a + b @ found.huu[k] @ b)
        theirs += b @ found.hux[k] @ a
        ours += 0.5 * dx[k] @ problem.Q[k] @ dx[k] + problem.q[k] @ dx[k] + dx[k] @ problem.S[k] @ b
        ours += 0.5 * b @ problem.R[k] @ b + problem.r[k] @ b
    ours += 0.5 * dx[H] @ problem.Q[H] @ dx[H] + problem.q[H] @ dx[H]
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_swinging_up_it_never_gets_worse():
    """Far from linear: each plan costs no more than the one before, moved on in time."""
    robot = registry.make("robots", "pendulum")
    task = registry.make("tasks", "swing_up", robot)
    model = registry.make("dynamics", "symbolic", robot, np, overrides={"compile": False})
    planner = lqr.make(dataclasses.replace(lqr.Config(), horizon=20, compile=False), task, model)
    obs = Observation(0.0, State(0.0, robot.home + 0.3, np.zeros(1)))
    carry, goal, costs = planner.init(obs), Goal.still((0.0,), 20, 0.1, 1.0), []
    for _ in range(6):
        carry, _, info = planner.improve(obs, goal, planner.knobs(), carry, {})
        costs.append(info.cost)
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(costs))
    assert costs[-1] < costs[0]
