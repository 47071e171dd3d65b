"""The model ``mujoco`` against the simulated world: computed as finely, it is the same to rounding."""

from __future__ import annotations

import numpy as np
import pytest

from mbrl_control import mjcf, registry
from mbrl_control.core import Observation, State, rollout
from mbrl_control.dynamics._differences import DifferenceError, Transitions
from mbrl_sim.jtc import Points
from mbrl_sim.world import World

DT, HORIZON = 0.05, 6


def model(robot, **overrides):
    return registry.make("dynamics", "mujoco", robot, np, overrides={"dt": DT, "threads": 1, **overrides})


def controls(robot, count=3, seed=0):
    bound = robot.channels.bound
    return np.random.default_rng(seed).uniform(-0.5 * bound, 0.5 * bound, (count, HORIZON, robot.nu))


@pytest.mark.parametrize("name", ["pendulum", "cartpole"])
def test_under_torques_it_is_the_world(name):
    robot = registry.make("robots", name)
    world, u = World(robot), controls(robot)
    start = robot.home + 0.3
    obs = Observation(0.0, State(0.0, start, np.zeros(robot.nj)))
    found, _ = rollout(np, model(robot), model(robot).init(obs, {}), u, {})
    for row, sequence in enumerate(u):
        world.reset(start)
        for k, control in enumerate(sequence):
            for _ in range(5):
                assert world.command("effort", robot.channels.coupling @ control) is None
                world.step(10)
            sample = world.observe()
            np.testing.assert_allclose(found["q"][row, k + 1], sample.q, rtol=0.0, atol=1e-9)
            np.testing.assert_allclose(found["v"][row, k + 1], sample.v, rtol=0.0, atol=1e-8)


@pytest.mark.parametrize("name", ["panda", "ur5e"])
def test_behind_a_servo_it_is_the_world_with_its_trajectory_controller(name):
    """A cubic through knots of a reference is that reference; the last of them, for the controller, is at rest."""
    robot = registry.make("robots", name)
    world, u = World(robot), controls(robot, 2)
    start = robot.home + 0.1
    rest = np.concatenate([start, np.zeros(robot.nj)])
    obs = Observation(0.0, State(0.0, start, np.zeros(robot.nj)), {"reference": rest}, {"reference": 0.0})
    exact, held = (model(robot, coriolis=coriolis) for coriolis in (0.0, 0.02))
    found, _ = rollout(np, exact, exact.init(obs, {}), u, {})
    near, _ = rollout(np, held, held.init(obs, {}), u, {})
    moved = np.abs(found["q"] - found["q"][:, :1]).max()
    for row in range(len(u)):
        q, v = np.split(found["reference"][row], 2, axis=-1)
        points = Points(DT * np.arange(HORIZON + 2.0), np.vstack([q, q[-1:]]), np.vstack([v, 0.0 * v[-1:]]))
        world.reset(start)
        assert world.follow(robot.driver_joints, points) is None
        for k in range(HORIZON):
            world.step(50)
            np.testing.assert_allclose(found["q"][row, k + 1], world.observe().q, rtol=0.0, atol=1e-7)
    off = np.abs(near["q"] - found["q"]).max()
    assert 0.0 < off < 0.01 * moved


def test_samples_do_not_touch_each_other_and_threads_change_nothing():
    robot = registry.make("robots", "panda")
    u, obs = controls(robot, 5), Observation(0.0, State(0.0, robot.home, np.zeros(7)))
    one, two = (model(robot, threads=n, timestep=0.01) for n in (1, 2))
    found, _ = rollout(np, one, one.init(obs, {}), u, {})
    other, _ = rollout(np, two, two.init(obs, {}), u, {})
    alone, _ = rollout(np, one, one.init(obs, {}), u[3:4], {})
    for name, rows in found.items():
        assert np.array_equal(rows, other[name])
        assert np.array_equal(rows[3:4], alone[name])


def test_jacobians_in_contact_are_those_of_differences_and_of_any_number_of_threads():
    """The cheetah on its feet: four steps to settle, of the physics' own size."""
    robot = registry.make("robots", "half_cheetah")
    one, three = model(robot), model(robot, threads=3)
    s = one.init(Observation(0.0, State(0.0, robot.home, np.zeros(robot.nj))), {})
    for u in controls(robot, 1)[0]:
        s, _, _ = one.step(s, u, {})
    data = one._data[0]
    mjcf.mujoco().mj_setState(one._model, data, s["x"], mjcf.mujoco().mjtState.mjSTATE_FULLPHYSICS)
    mjcf.mujoco().mj_forward(one._model, data)
    assert data.ncon > 0
    u = np.stack([controls(robot, 1)[0, 0], 3.0 * robot.channels.bound])  # the second is more than motors give
    A, B = one.linearize({"x": np.stack([s["x"], s["x"]])}, u)
    assert all(np.array_equal(a, b) for a, b in zip(three.linearize(s, u), (A, B), strict=True))
    z = np.concatenate([np.tile(s["x"], (2, 1)), u], axis=-1)
    columns = []
    for away in 1e-6 * np.eye(z.shape[-1])[1:]:
        ends = [one.step({"x": x[:, : len(s["x"])]}, x[:, len(s["x"]) :], {})[0]["x"] for x in (z + away, z - away)]
        columns.append((ends[0] - ends[1]) / 2e-6)
    found, expected = np.concatenate([A, B], axis=-1)[..., 1:], np.stack(columns, axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert not B[1].any()


def test_jacobians_want_joints_with_as_many_velocities_as_positions():
    robot = registry.make("robots", "pendulum")
    body = "<body><freejoint/><geom size='1'/></body>"
    whole = mjcf.mujoco().MjModel.from_xml_string(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
    with pytest.raises(DifferenceError, match="7 positions for 6 velocities of pendulum"):
        Transitions(whole, robot, 1)
