"""Pushing a puck with an arm: the world, what its task wants, and which models can plan it."""

from __future__ import annotations

import numpy as np
import pytest

from mbrl_control import core, evaluate, registry
from mbrl_control.core import Observation, State
from mbrl_control.model import Part, spec_for
from mbrl_control.sampling import PredictionError
from mbrl_sim.jtc import Points
from mbrl_sim.world import World

ROBOT = registry.make("robots", "panda_push")
TASK = registry.make("tasks", "push", ROBOT)
FRICTION = 0.35 * 9.81
"""How fast the table slows the puck down [m/s^2]."""
AHEAD, ASIDE = np.array([0.2, 0.0]), np.array([0.0, 0.2])


def lowered(x, z):
    """Joints at which the hand looks down and its tip is at x, 0, z."""
    lift, bend = np.meshgrid(np.linspace(-1.2, 1.2, 241), np.linspace(-2.9, -0.5, 241))
    q = ROBOT.home + np.zeros((*lift.shape, 7))
    q[..., 1], q[..., 3], q[..., 5] = lift, bend, lift - bend
    miss = np.linalg.norm(ROBOT.tip(np, q) - [x, 0.0, z], axis=-1)
    best = q.reshape(-1, 7)[np.argmin(miss)]
    assert miss.min() < 0.01
    return best


def seen(q, puck, speed=(0.0, 0.0, 0.0)):
    blocks = {"puck": np.array(puck), "puck_velocity": np.array(speed), "reference": np.concatenate([q, 0.0 * q])}
    return Observation(0.0, State(0.0, q, 0.0 * q), blocks, dict.fromkeys(blocks, 0.0))


def test_the_table_brings_the_puck_to_rest():
    world = World(ROBOT)
    world.reset(None, {"puck": np.array([0.5, 0.1, 0.03]), "puck_velocity": np.array([0.3, 0.0, 0.0])})
    world.step(200)
    blocks = world.observe().blocks
    np.testing.assert_allclose(blocks["puck"], [0.5 + 0.3**2 / (2.0 * FRICTION), 0.1, 0.03], atol=1e-3)
    assert abs(blocks["puck_velocity"]).max() < 1e-3


def test_the_world_and_its_model_push_the_puck_alike():
    """The hand goes forward behind the puck; computed as finely, the model is the world to rounding."""
    q, count = lowered(0.43, 0.03), 6
    to = lowered(0.53, 0.03)
    model = registry.make("dynamics", "mujoco", ROBOT, np, overrides={"threads": 1, "coriolis": 0.0})
    puck = [0.49, 0.0, 0.03]
    u = np.tile((to - q) / (count * model.dt), (count, 1))
    found, _ = core.rollout(np, model, model.init(seen(q, puck), {}), u, {})
    at, speed = np.split(found["reference"], 2, axis=-1)
    times = model.dt * np.arange(count + 2.0)
    world = World(ROBOT)
    world.reset(q, {"puck": np.array(puck)})
    assert world.follow(ROBOT.driver_joints, Points(times, np.vstack([at, at[-1:]]), np.vstack([speed, 0 * q]))) is None
    for k in range(count):
        world.step(50)
        sample = world.observe()
        np.testing.assert_allclose(found["q"][k + 1], sample.q, rtol=0.0, atol=1e-5)
        np.testing.assert_allclose(found["puck"][k + 1], sample.blocks["puck"], rtol=0.0, atol=1e-5)
    assert found["puck"][-1, 0] - puck[0] > 0.03, "the hand pushed it"
    assert abs(found["puck"][-1, 1]) < 0.005, "forwards"


def terms(q, puck, goal):
    features = {"q": q[None], "v": 0.0 * q[None], "puck": np.array([puck]), "puck_velocity": np.zeros((1, 3))}
    found = TASK.residuals(np, features, np.zeros((1, ROBOT.nu)), np.array([goal]))
    return {name: found[name][0] for name in TASK.terms}


def test_the_tip_is_wanted_behind_the_puck_and_low_until_the_puck_is_there():
    q = lowered(0.44, TASK.config.above)
    tip = ROBOT.tip(np, q)
    puck = np.array([tip[0] + TASK.config.gap, tip[1], 0.03])
    right = terms(q, puck, puck[:2] + AHEAD)
    np.testing.assert_allclose(right["goal"], [-0.2, 0.0], atol=1e-12)
    np.testing.assert_allclose(right["behind"], 0.0, atol=1e-5)
    assert abs(right["height"][0]) < 0.011
    aside = terms(q, puck, puck[:2] + ASIDE)
    np.testing.assert_allclose(aside["behind"], [-TASK.config.gap, TASK.config.gap], rtol=0.02)
    home, there = terms(ROBOT.home, puck, puck[:2] + AHEAD), terms(ROBOT.home, puck, puck[:2])
    assert home["height"][0] > 0.4
    assert all(abs(there[name]).max() == 0.0 for name in ("goal", "behind", "height"))


def test_the_goal_before_any_is_where_the_puck_is_on_the_table():
    assert isinstance(TASK, core.Rests)
    obs = seen(ROBOT.home, [0.47, 0.05, 0.03])
    np.testing.assert_allclose(TASK.rest(obs), [0.47, 0.05])
    assert TASK.distance(obs, TASK.rest(obs)) == 0.0
    TASK.check_goal(TASK.rest(seen(ROBOT.home, [1.4, 0.05, 0.03])))


def test_the_puck_is_never_at_its_goal_when_an_episode_starts():
    assert isinstance(TASK, core.Places)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        goal, puck = TASK.sample_goal(rng), TASK.place(rng)["puck"]
        assert TASK.distance(seen(ROBOT.home, puck), goal) > TASK.tolerance
        np.testing.assert_array_equal(TASK.target(np, goal), [*goal, puck[2]])


def test_it_takes_a_robot_that_sees_a_puck():
    with pytest.raises(core.MbrlError, match=r"task 'push' for robot 'panda': .*'panda_push'"):
        registry.make("tasks", "push", registry.make("robots", "panda"))
    with pytest.raises(core.GoalError, match=r"goal \[0.9, 0.0\]: push takes x y of the puck \[m\], x 0.35 to 0.75"):
        TASK.check_goal(np.array([0.9, 0.0]))


# --- Which models can plan it -------------------------------------------------------------------------


@pytest.mark.parametrize("planner", registry.ours("planners"))
def test_a_model_that_does_not_predict_what_the_task_reads_is_refused_in_one_line(planner):
    with pytest.raises(PredictionError) as refused:
        evaluate.assemble("panda_push", "push", planner, "kinematic")
    assert str(refused.value) == (
        "dynamics 'kinematic' does not predict 'puck', 'puck_velocity', which task 'push' reads; it takes a model that "
        "does, as 'mujoco' or one learned of this task on robot 'panda_push'"
    )


def test_models_that_predict_it_are_taken():
    evaluate.assemble("panda_push", "push", "mppi", "mujoco", {"mppi.samples": 2})
    evaluate.assemble("panda_push", "reach", "mppi", "kinematic")


def test_the_velocity_of_a_body_is_the_rate_of_its_place():
    parts = {part.name: part for part in spec_for(ROBOT, 0.05, blocks=ROBOT.blocks).parts}
    assert parts["puck"] == Part("puck", ("linear",) * 3, ("m",) * 3, "puck_velocity")
    assert parts["puck_velocity"].rate == ""
    assert {part.name: part.rate for part in spec_for(ROBOT, 0.05, blocks=ROBOT.blocks, rates={}).parts}["puck"] == ""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("planner", ["mppi", "icem"])
def test_on_the_true_model_the_puck_comes_to_its_goal(planner):
    parts = evaluate.assemble("panda_push", "push", planner, "mujoco")
    assert sum(evaluate.run_episode(parts, seed).success for seed in range(5)) >= 4
