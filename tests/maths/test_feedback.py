"""Gains along plans: what they are, what they do, and where there are none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mbrl_control import registry
from mbrl_control.core import Mode, Observation, Plan, State
from mbrl_control.feedback import Config, Feedback, FeedbackError
from mbrl_control.model import COMMANDS
from mbrl_control.riccati import Stages, solve, stationary

H = 15


def parts(name="pendulum", dynamics="analytic", **config):
    robot = registry.make("robots", name)
    model = registry.make("dynamics", dynamics, robot, np)
    return robot, model, Feedback(Config(**config), robot, model)


def plan_of(robot, model, q, u):
    """Where controls lead from rest at q."""
    s, rows = {"q": np.asarray(q, dtype=float), "v": np.zeros(robot.nj)}, []
    for control in [*u, u[-1]]:
        rows.append(s)
        s, _, _ = model.step(s, control, {})
    q, v = (np.stack([row[name] for row in rows]) for name in ("q", "v"))
    return Plan(0.0, model.dt, Mode.TORQUE, q, v, u, None, 0.0, 0)


def seen(plan):
    return Observation(0.0, State(0.0, plan.q[0], plan.v[0]))


def followed(model, robot, plan, off):
    """How far the joints are from the plan at its end, begun ``off`` it, under its gains and within bounds."""
    s = {"q": plan.q[0] + off, "v": plan.v[0]}
    for k in range(plan.horizon):
        u = plan.at(plan.t0 + k * plan.dt, s["q"], s["v"]).u
        s, _, _ = model.step(s, np.clip(u, -robot.channels.bound, robot.channels.bound), {})
    return float(np.abs(s["q"] - plan.q[-1]).max())


@pytest.mark.parametrize(("name", "upright"), [("pendulum", [0.0]), ("cartpole", [0.0, 0.0])])
def test_a_plan_to_stand_is_left_without_gains_and_kept_with_them(name, upright):
    robot, model, feedback = parts(name)
    plan = plan_of(robot, model, upright, np.zeros((30, robot.nu)))
    tracked = feedback.along(plan, seen(plan))
    assert tracked.K is not None
    assert tracked.K.shape == (30, robot.nu, 2 * robot.nj)
    assert np.array_equal(tracked.u, plan.u)
    assert followed(model, robot, plan, 0.05) > 0.5
    assert followed(model, robot, tracked, 0.05) < 0.05


def test_standing_for_ever_it_is_the_stationary_gain():
    """Of the weights that it says: shares of what joints may do."""
    robot, model, feedback = parts(position=0.1, velocity=0.25)
    plan = plan_of(robot, model, [0.0], np.zeros((H, 1)))
    A, B = model.linearize({"q": np.zeros(1), "v": np.zeros(1)}, np.zeros(1))
    Q = np.diag([(0.1 * np.pi) ** -2.0, (0.25 * 8.0) ** -2.0])
    _, K = stationary(A, B, Q, np.diag(robot.channels.bound**-2.0))
    np.testing.assert_allclose(feedback.gains(plan, seen(plan)), np.tile(K, (H, 1, 1)), rtol=1e-9)


def test_where_nothing_is_for_ever_the_last_step_costs_as_any():
    """A cart with its motor cut off: what B does not reach, stays."""
    robot, model, _ = parts()

    class Unmoved(type(model)):
        def linearize(self, s, u):
            A, B = super().linearize(s, u)
            return A, B * np.linspace(1.0, 0.0, len(u))[:, None, None]

    cut = Unmoved(**{field.name: getattr(model, field.name) for field in dataclasses.fields(model)})
    feedback = Feedback(Config(), robot, cut)
    plan = plan_of(robot, model, [0.0], np.zeros((H, 1)))
    A, B = cut.linearize({"q": plan.q[:-1], "v": plan.v[:-1]}, plan.u)
    none = np.zeros((H, 2, 1))
    costs = np.broadcast_to(feedback._Q, (H + 1, 2, 2))
    R = np.broadcast_to(feedback._R, (H, 1, 1))
    expected = solve(Stages(A, B, np.zeros((H, 2)), costs, R, none, np.zeros((H + 1, 2)), np.zeros((H, 1)))).K
    np.testing.assert_allclose(feedback.gains(plan, seen(plan)), expected, rtol=1e-12)


@pytest.mark.parametrize("dynamics", ["symbolic", "mujoco"])
def test_models_of_one_robot_agree(dynamics):
    """MuJoCo's state has a clock in it, which is no deviation of joints."""
    robot, model, feedback = parts("cartpole")
    u = np.sin(np.arange(H))[:, None] * 3.0
    plan = plan_of(robot, model, [0.1, 0.3], u)
    expected = feedback.gains(plan, seen(plan))
    found = parts("cartpole", dynamics, use="on")[2].gains(plan, seen(plan))
    assert expected is not None
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02 * np.abs(expected).max())


def test_past_commands_of_a_learned_model_are_those_of_the_plan():
    robot = registry.make("robots", "pendulum")
    read = []

    class Model:
        dt = 0.05

        def init(self, obs, noise):
            read.append(obs.blocks[COMMANDS])
            return {"q": obs.joints.q, "v": obs.joints.v, COMMANDS: obs.blocks[COMMANDS]}

        def features(self, s):
            return {"q": s["q"], "v": s["v"]}

        def linearize(self, s, u):
            assert s[COMMANDS].shape == (3, 2)
            return np.broadcast_to(np.eye(4), (3, 4, 4)), np.ones((3, 4, 1))

        def step(self, s, u, noise):
            raise NotImplementedError

        bounds = plan = step

    plan = plan_of(robot, registry.make("dynamics", "analytic", robot, np), [0.0], np.array([[1.0], [2.0], [3.0]]))
    obs = dataclasses.replace(seen(plan), blocks={COMMANDS: np.array([-2.0, -1.0])})
    assert Feedback(Config(), robot, Model()).gains(plan, obs) is not None
    assert [row.tolist() for row in read] == [[-2.0, -1.0], [-1.0, 1.0], [1.0, 2.0]]


def test_a_plan_that_has_gains_keeps_them_and_one_that_is_not_finite_has_none():
    robot, model, feedback = parts()
    plan = plan_of(robot, model, [0.0], np.zeros((H, 1)))
    own = dataclasses.replace(plan, K=np.ones((H, 1, 2)))
    assert feedback.along(own, seen(plan)) is own
    lost = dataclasses.replace(plan, q=plan.q * np.nan)
    assert feedback.along(lost, seen(lost)) is lost


def test_where_there_are_none_it_says_why():
    robot, model, feedback = parts(use="off")
    plan = plan_of(robot, model, [0.0], np.zeros((H, 1)))
    assert feedback.along(plan, seen(plan)) is plan
    assert feedback.why == "feedback.use = off"
    assert "differences" in parts("pendulum", "mujoco")[2].why
    assert not parts("pendulum", "mujoco", use="on")[2].why
    assert "velocity_reference" in parts("panda", "kinematic")[2].why
    with pytest.raises(FeedbackError, match=r"feedback\.use = on for robot 'panda': it is commanded by velocity"):
        parts("panda", "kinematic", use="on")


def test_gains_that_take_too_long_are_done_without():
    robot, model, feedback = parts()
    obs = Observation(0.0, State(0.0, robot.home, np.zeros(1)))
    ticks = iter([0.0, 9.0, 10.0, 10.004])  # the second is what counts
    assert feedback.tried(obs, H, 0.005, lambda: next(ticks)) is feedback
    ticks = iter([0.0, 1.0, 2.0, 2.006])
    none = feedback.tried(obs, H, 0.005, lambda: next(ticks))
    assert none.why.startswith("gains take 6 ms, and 5 ms are there")
    plan = plan_of(robot, model, [0.0], np.zeros((H, 1)))
    assert none.along(plan, seen(plan)) is plan
    asked = parts(use="on")[2]
    assert asked.tried(obs, H, 0.0, lambda: 0.0) is asked
