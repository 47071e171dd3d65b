"""Collocation and multiple shooting: slow twins, iLQR and DDP, limits that are kept, and what goes wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from mbrl_control import core, registry
from mbrl_control.core import Goal, Layout, Observation, State, Status, Term
from mbrl_control.dynamics import analytic, kinematic
from mbrl_control.planners import collocation
from mbrl_control.planners._transcription import LimitsError, ProgramError
from mbrl_control.tasks import reach, swing_up

TRANSCRIPTIONS = ("shooting", "trapezoid", "hermite_simpson")
FAR = 200
"""Iterations in which IPOPT ends."""


class Regulate:
    """States and controls to zero: quadratic, so that on linear equations of motion that is one linear system."""

    sampling_only = False
    goal_size, dt, steps, threshold, tolerance, dwell = 1, 0.05, 10, None, 0.1, 0.1
    layout = Layout()

    def __init__(self, robot, norm="quadratic"):
        self.robot = robot
        self.terms = {
            "position": Term(norm, 2.0, p=0.5, terminal=3.0),
            "speed": Term("quadratic", 0.3, terminal=1.0),
            "effort": Term("quadratic", 0.01),
        }

    def residuals(self, xp, features, u, goal):
        return {"position": features["q"] - goal, "speed": features["v"], "effort": u}


def springs():
    """The cart and its pole as two masses on springs: linear equations of motion."""
    k, d = np.array([[3.0, -1.0], [-1.0, 2.0]]), np.array([0.1, 0.2])

    def accelerate(xp, q, v, torque):
        return torque - xp.matmul(q, xp.asarray(k)) - v * xp.asarray(d)

    return dataclasses.replace(registry.make("robots", "cartpole"), acceleration=accelerate)


def made(robot: Any, task: Any, **config: Any):
    """A planner on the analytic or kinematic model, by the parts or by their names."""
    robot = registry.make("robots", robot) if isinstance(robot, str) else robot
    task = registry.make("tasks", task, robot) if isinstance(task, str) else task
    torques = robot.channels.mode is core.Mode.TORQUE
    model = analytic.make(analytic.Config(), robot) if torques else kinematic.make(kinematic.Config(), robot)
    return collocation.make(collocation.Config(**{"horizon": 20, "iterations": FAR, **config}), task, model)


def seen(q, v=None, t: float = 0.0) -> Observation:
    q = np.asarray(q, dtype=float)
    return Observation(t, State(t, q, np.zeros_like(q) if v is None else np.asarray(v, dtype=float)))


def still(planner, value=None) -> Goal:
    task = planner.task
    value = task.sample_goal(np.random.default_rng(0)) if value is None else value
    return Goal.still(value, planner.horizon, task.tolerance, task.dwell)


def solved(planner, obs, goal, calls: int = 1):
    carry, plan, info = planner.init(obs), None, None
    for _ in range(calls):
        carry, plan, info = planner.improve(obs, goal, planner.knobs(), carry, {})
    return carry, plan, info


# --- The slow twin ------------------------------------------------------------------------------------------------


def defects(how: str, robot, h: float, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Written from the formulas, one knot after another."""
    nj = robot.nj

    def f(x, u):
        return np.concatenate([x[nj:], robot.acceleration(np, x[:nj], x[nj:], robot.channels.coupling @ u)])

    rows = []
    for a, b, w in zip(x[:-1], x[1:], u, strict=True):
        if how == "shooting":
            k1 = f(a, w)
            k2 = f(a + h / 2 * k1, w)
            k3 = f(a + h / 2 * k2, w)
            k4 = f(a + h * k3, w)
            after = a + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        elif how == "trapezoid":
            after = a + h / 2 * (f(a, w) + f(b, w))
        else:
            middle = (a + b) / 2 + h / 8 * (f(a, w) - f(b, w))
            after = a + h / 6 * (f(a, w) + 4 * f(middle, w) + f(b, w))
        rows.append(b - after)
    return np.array(rows)


def slope(f, z: np.ndarray, step: float) -> np.ndarray:
    """Central differences [... n] of f(z) [...]."""
    nudges = step * np.eye(len(z))
    return np.stack([(f(z + e) - f(z - e)) / (2 * step) for e in nudges], axis=-1)


def newton(planner, start: np.ndarray, goal: Goal, iterations: int) -> tuple[float, np.ndarray]:
    """Newton's method on the conditions of optimality, dense, by finite differences; no limits."""
    task, H, how = planner.task, planner.horizon, planner.config.transcription
    robot, nu, nx = task.robot, task.robot.nu, len(start)
    weights = planner.knobs()["weights"]

    def parts(z):
        u, x = np.split(z.reshape(H, nu + nx), [nu], axis=-1)
        return np.concatenate([start[None], x]), u

    def cost(z):
        x, u = parts(z)
        return core.costs(np, task, weights, {"q": x[:, : nx // 2], "v": x[:, nx // 2 :]}, u, goal.value).sum()

    def constraints(z):
        return defects(how, robot, planner.dt, *parts(z)).ravel()

    z, prices = np.tile(np.concatenate([np.zeros(nu), start]), H), np.zeros(H * nx)
    for _ in range(iterations):
        J = slope(constraints, z, 1e-5)

        def lagrangian(z, prices=prices):
            return cost(z) + prices @ constraints(z)

        gradient = slope(lagrangian, z, 1e-4)
        hessian = slope(lambda z: slope(lagrangian, z, 1e-3), z, 1e-3)
        system = np.block([[hessian, J.T], [J, np.zeros((len(J), len(J)))]])
        step = np.linalg.solve(system, -np.concatenate([gradient, constraints(z)]))
        z, prices = z + step[: len(z)], prices + step[len(z) :]
    return float(cost(z)), parts(z)[1]


@pytest.mark.parametrize("how", TRANSCRIPTIONS)
def test_a_linear_quadratic_problem_is_the_solution_of_one_linear_system(how):
    planner = made(springs(), Regulate(springs()), horizon=5, transcription=how)
    start, goal = np.array([0.3, -0.2, 0.1, 0.4]), still(planner, np.zeros(1))
    cost, u = newton(planner, start, goal, iterations=1)
    _, plan, info = solved(planner, seen(start[:2], start[2:]), goal)
    assert info.status == Status.OK
    assert info.cost == pytest.approx(cost, rel=1e-6)
    np.testing.assert_allclose(plan.u, u, atol=1e-4)


@pytest.mark.parametrize("how", TRANSCRIPTIONS)
def test_a_slow_twin_balances_the_pendulum_by_the_same_controls(how):
    robot = registry.make("robots", "pendulum")
    planner = made(robot, Regulate(robot, "smooth_abs"), horizon=4, transcription=how)
    start, goal = np.array([0.08, -0.05]), still(planner, np.zeros(1))
    cost, u = newton(planner, start, goal, iterations=5)
    _, plan, info = solved(planner, seen(start[:1], start[1:]), goal)
    assert np.abs(u).max() < 1.9  # N m: no limit is in the way
    assert info.cost == pytest.approx(cost, rel=1e-6)
    np.testing.assert_allclose(plan.u, u, atol=1e-4)


# --- Swing-ups ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("robot", ["pendulum", "cartpole"])
def test_it_swings_up_as_ilqr_and_ddp_do(robot):
    """The same start, controls that hold as the first guess, the same integrator: the same cost within 1 %."""
    machine = registry.make("robots", robot)
    task = registry.make("tasks", "swing_up", machine)
    rng = np.random.default_rng(0)
    obs, goal = seen(task.reset(rng).q), task.sample_goal(rng)
    model = registry.make("dynamics", "symbolic", machine, np, overrides={"compile": False})
    found = {}
    for how in TRANSCRIPTIONS:
        planner = made(machine, task, horizon=40, transcription=how)
        _, plan, info = solved(planner, obs, still(planner, goal))
        assert info.status == Status.OK
        x = np.concatenate([plan.q, plan.v], axis=-1)
        assert np.abs(defects(how, machine, planner.dt, x, plan.u)).max() < 1e-6
        assert np.array_equal(plan.q[0], obs.joints.q)
        found[how] = info.cost
    for name in ("ilqr", "ddp"):
        planner = registry.make("planners", name, task, model, np, overrides={"horizon": 40, "compile": False})
        carry, costs = planner.init(obs), []
        while len(costs) < 6 or costs[-6] - costs[-1] > 1e-6 * costs[-1]:
            carry, _, info = planner.improve(obs, still_of(task, goal, 40), planner.knobs(), carry, {})
            costs.append(info.cost)
        found[name] = costs[-1]
    assert max(found.values()) < 1.01 * min(found.values()), found
    assert found["shooting"] == pytest.approx(found["ilqr"], rel=1e-5)


def still_of(task, value, horizon: int) -> Goal:
    return Goal.still(value, horizon, task.tolerance, task.dwell)


@pytest.mark.parametrize("robot", ["pendulum", "cartpole"])
def test_without_second_derivatives_of_constraints_it_gets_to_the_same(robot):
    costs = []
    for hessian in ("exact", "costs"):
        planner = made(robot, "swing_up", horizon=40, hessian=hessian)
        home = planner.task.robot.home + 0.02
        costs.append(solved(planner, seen(home), still(planner))[2].cost)
    assert costs[0] == pytest.approx(costs[1], rel=1e-6)


def test_curvature_of_costs_is_that_of_finite_differences():
    planner = made("cartpole", "swing_up", horizon=3, hessian="costs")
    task, program, rng = planner.task, planner.program, np.random.default_rng(0)
    goal, weights = still(planner), planner.knobs()["weights"]
    z = rng.normal(size=3 * 5)

    def cost(z):
        u, x = np.split(z.reshape(3, 5), [1], axis=-1)
        x = np.concatenate([np.zeros((1, 4)), x])
        return core.costs(np, task, weights, {"q": x[:, :2], "v": x[:, 2:]}, u, goal.value).sum()

    p = np.concatenate([np.zeros(4), goal.value[1:].ravel(), np.tile(weights / 3, (3, 1)).ravel()])
    said = np.asarray(program._options["hess_lag"](z, p, 2.0, np.zeros(12)))
    numeric = slope(lambda z: slope(cost, z, 1e-4), z, 1e-4)
    np.testing.assert_allclose(said, 2.0 * np.triu(numeric), atol=1e-5)


@pytest.mark.parametrize(("robot", "iterations"), [("pendulum", 5), ("cartpole", 8)])
def test_calls_of_few_iterations_get_where_one_of_many_does_and_never_back(robot, iterations):
    whole = made(robot, "swing_up", horizon=40)
    obs = seen(whole.task.robot.home + 0.02)
    _, _, best = solved(whole, obs, still(whole))
    planner = made(robot, "swing_up", horizon=40, iterations=iterations)
    carry, costs = planner.init(obs), []
    for _ in range(12):
        carry, plan, info = planner.improve(obs, still(planner), planner.knobs(), carry, {})
        assert info.status == Status.OK
        said = core.costs(np, planner.task, planner.knobs()["weights"], info.predicted, plan.u, still(planner).value)
        assert info.cost == pytest.approx(said.sum(), rel=1e-12)
        costs.append(info.cost)
    assert costs[0] > 1.1 * best.cost
    assert np.all(np.diff(costs) <= 0.0)
    assert costs[-1] == pytest.approx(best.cost, rel=1e-5)


def test_it_balances_in_closed_loop_on_what_it_remembers():
    planner = made("cartpole", "swing_up", horizon=30, iterations=10)
    model, dt = planner.dynamics, planner.dt
    state = {"q": planner.task.robot.home + 0.05, "v": np.zeros(2)}
    carry = planner.init(seen(state["q"]))
    for k in range(45):
        obs = seen(state["q"], state["v"], k * dt)
        carry, plan, info = planner.improve(obs, still(planner), planner.knobs(), carry, {})
        assert info.status == Status.OK, (k, info.reason)
        state, _, _ = model.step(state, plan.u[0], {})
    assert np.cos(state["q"][1]) > 0.99  # it stands


# --- Limits -------------------------------------------------------------------------------------------------------


def limited(robot: str, **limits: Any):
    machine = registry.make("robots", robot)
    return dataclasses.replace(machine, limits=dataclasses.replace(machine.limits, **limits))


def test_joints_keep_to_their_speeds_and_ranges_where_told_so():
    slow = limited("pendulum", velocity=np.array([4.0]), lower=np.array([-0.5]))
    kept = made(slow, swing_up.make(swing_up.Config(limits=0.0), slow), horizon=40)
    free = made(slow, kept.task, horizon=40, positions=False, velocities=False)
    obs = seen([np.pi + 0.02])
    _, plan, info = solved(kept, obs, still(kept))
    _, wild, cheaper = solved(free, obs, still(free))
    assert info.status == cheaper.status == Status.OK
    assert np.abs(plan.v).max() < 4.0 + 1e-6 < np.abs(wild.v).max()
    assert cheaper.cost < info.cost


def test_a_reference_changes_no_faster_than_the_joints_can():
    planner = made("panda", "reach", horizon=10)
    robot = planner.task.robot
    obs, goal = seen(robot.home), still(planner, np.array([0.3, 0.5, 0.6]))
    _, plan, info = solved(planner, obs, goal)
    rate = np.diff(plan.v, axis=0) / planner.dt
    assert info.status == Status.OK
    assert np.all(np.abs(rate) < robot.limits.acceleration + 1e-4)
    assert np.any(np.abs(rate) > robot.limits.acceleration - 1e-3)  # it goes as fast as it may
    np.testing.assert_allclose(plan.v[1:], plan.u, atol=1e-6)
    np.testing.assert_allclose(np.diff(plan.q, axis=0), planner.dt * (plan.v[1:] + plan.v[:-1]) / 2, atol=1e-6)


def test_torques_of_a_robot_on_reference_velocities_are_kept():
    weak = limited("panda", torque=np.array([87.0, 87.0, 87.0, 28.0, 12.0, 12.0, 12.0]))
    task = reach.make(reach.Config(), weak)
    obs, most = seen(weak.home), []
    for torques in (True, False):
        planner = made(weak, task, horizon=8, torques=torques)
        _, plan, info = solved(planner, obs, still(planner, np.array([0.3, 0.5, 0.7])))
        assert info.status == Status.OK
        q, v, a = (plan.q[1:] + plan.q[:-1]) / 2, (plan.v[1:] + plan.v[:-1]) / 2, np.diff(plan.v, axis=0) / planner.dt
        most.append(float((np.abs(weak.inverse_dynamics(np, q, v, a)) - weak.limits.torque).max()))
    assert most[0] < 1e-3 < most[1]


class Around(reach.Reach):
    """Reaching with a ball in the way."""

    ball, radius = np.array([0.32, 0.0, 0.487]), 0.08

    def clearance(self, xp, features):
        away = self.robot.tip(xp, features["q"]) - xp.asarray(self.ball)
        return xp.sqrt(xp.sum(xp.square(away), axis=-1, keepdims=True)) - self.radius


def test_it_reaches_around_what_is_in_the_way():
    robot = registry.make("robots", "panda")
    task, q = Around(reach.Config(), robot), robot.home.copy()
    q[0] = -0.5
    start = robot.tip(np, q)
    obs, goal = seen(q), start * np.array([1.0, -1.0, 1.0])
    least = []
    for wanted in (task, reach.Reach(reach.Config(), robot)):
        planner = made(robot, wanted, horizon=20, clearance=0.01)
        _, plan, info = solved(planner, obs, still(planner, goal))
        assert info.status == Status.OK
        assert np.linalg.norm(robot.tip(np, plan.q[-1]) - goal) < 0.02
        least.append(float(task.clearance(np, {"q": plan.q}).min()))
    assert least[0] > 0.01 - 1e-6
    assert least[1] < -0.01


# --- What goes wrong ----------------------------------------------------------------------------------------------

LOST = {
    "outside": ("pendulum", [13.0], [0.0], "position of hinge is 0.4"),
    "too fast to stop": ("cartpole", [2.35, 3.0], [3.0, 0.0], "position of slider"),
    "too fast": ("panda", [0.0, -0.8, 0.0, -2.4, 0.0, 1.6, 0.8], [4.0, 0, 0, 0, 0, 0, 0], "velocity of panda_joint1"),
}


@pytest.mark.parametrize("case", LOST)
def test_what_has_no_solution_is_said_and_the_plan_before_stays(case, capfd):
    robot, q, v, words = LOST[case]
    planner = made(robot, "reach" if robot == "panda" else "swing_up", iterations=60)
    good = seen(planner.task.robot.home)
    carry, before, _ = solved(planner, good, still(planner))
    told = []
    for _ in range(8):
        carry, plan, info = planner.improve(seen(q, v), still(planner), planner.knobs(), carry, {})
        assert info.status in (Status.FAULT, Status.STALE_PLAN)
        assert plan.seq == before.seq
        assert np.array_equal(plan.q, before.q)
        assert np.array_equal(plan.u, before.u)
        told.append((info.status, info.reason))
    assert Status.FAULT in [status for status, _ in told]
    assert all(words in reason and "knot 1" in reason for _, reason in told), told
    _, after, info = planner.improve(good, still(planner), planner.knobs(), carry, {})
    assert info.status == Status.OK
    assert after.seq == before.seq + 1
    assert capfd.readouterr() == ("", "")


def test_where_the_model_is_not_finite_it_says_so(capfd):
    machine = registry.make("robots", "pendulum")

    def accelerate(xp, q, v, torque):
        return machine.acceleration(xp, q, v, torque) + 0.0 * xp.log(q)

    broken = dataclasses.replace(machine, acceleration=accelerate)
    planner = made(broken, swing_up.make(swing_up.Config(), machine), horizon=5)
    carry, before, info = solved(planner, seen([3.0]), still(planner))
    assert info.status == Status.OK
    after, plan, info = planner.improve(seen([-1.0]), still(planner), planner.knobs(), carry, {})
    assert info.status == Status.NONFINITE
    assert "finite" in info.reason
    assert np.array_equal(plan.u, before.u)
    assert all(np.array_equal(after[name], carry[name]) for name in carry)
    assert capfd.readouterr() == ("", "")


def test_a_hessian_of_zeros_is_no_trouble():
    planner = made("cartpole", "swing_up", iterations=30)
    knobs = {"weights": planner.knobs()["weights"] * 0.0}
    obs = seen(planner.task.robot.home + 0.02)
    _, plan, info = planner.improve(obs, still(planner), knobs, planner.init(obs), {})
    assert (info.status, info.cost) == (Status.OK, 0.0)
    assert core.is_finite(plan.q, plan.v, plan.u)


def test_limits_that_contradict_each_other_are_refused():
    robot = limited("pendulum", lower=np.array([2.0]), upper=np.array([1.0]))
    task = registry.make("tasks", "swing_up", registry.make("robots", "pendulum"))
    task.robot = robot
    with pytest.raises(LimitsError, match=r"position of hinge from 2 to 1 rad.*not above the upper"):
        made(robot, task)
    made(robot, task, positions=False)


def test_a_term_without_derivatives_is_refused_by_name():
    robot = registry.make("robots", "pendulum")
    with pytest.raises(ProgramError, match=r"term 'position' has no derivatives.*mppi"):
        made(robot, Regulate(robot, "indicator"))
