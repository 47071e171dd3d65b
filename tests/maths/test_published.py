"""Tasks with published scores: the formulas, what their planners minimise, and what the true model comes to."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mbrl_control import core, registry
from mbrl_control.config import ConfigError
from mbrl_control.core import Block, Observation, State
from mbrl_control.evaluate import assemble, run_episode
from mbrl_control.mjcf import WorldError
from mbrl_sim.world import World

ROBOTS = {
    "cartpole_swing_up": "pets_cartpole",
    "pendulum": "pendulum",
    "inverted_pendulum": "inverted_pendulum",
    "cartpole_balance": "cartpole",
    "reacher": "reacher",
    "pusher": "pusher",
    "half_cheetah": "half_cheetah",
}
LENGTHS = {
    "cartpole_swing_up": (0.04, 200),
    "pendulum": (0.05, 200),
    "inverted_pendulum": (0.04, 100),
    "cartpole_balance": (0.02, 200),
    "reacher": (0.02, 150),
    "pusher": (0.04, 150),
    "half_cheetah": (0.05, 1000),
}
EACH = pytest.mark.parametrize("name", ROBOTS)


def made(name, **overrides):
    return registry.make("tasks", name, registry.make("robots", ROBOTS[name]), overrides=overrides)


def score_of(name, q, v, u, moved, puck, goal, tip):
    """The formulas of the papers and their code, from the state that a step leads to."""
    if name == "cartpole_swing_up":
        x, angle = q
        ee = np.array([x + 0.6 * np.sin(angle), 0.6 * np.cos(angle)])
        return np.exp(-np.sum((ee - [0.0, 0.6]) ** 2) / 0.36) - 0.01 * (u[0] / 100.0) ** 2
    if name == "pendulum":
        return np.cos(q[0]) - 0.1 * abs(np.sin(q[0])) - 0.1 * v[0] ** 2 - 0.001 * u[0] ** 2
    if name == "inverted_pendulum":
        return -(q[1] ** 2)
    if name == "cartpole_balance":
        return np.cos(q[1]) - 0.01 * q[0] ** 2
    if name == "reacher":
        return -np.sum((tip - goal) ** 2) - 0.01 * np.sum(u**2)
    if name == "pusher":
        return -1.25 * np.sum(abs(puck - goal)) - 0.5 * np.sum(abs(puck - tip)) - 0.1 * np.sum(u**2)
    return moved / 0.05 - 0.1 * np.sum((u / [120.0, 90.0, 60.0, 120.0, 60.0, 30.0]) ** 2)


def transitions(task, count=20):
    """Random steps: what was before, controls, what is after."""
    robot, rng = task.robot, np.random.default_rng(0)
    for _ in range(count):
        q, v = robot.home + rng.uniform(-0.5, 0.5, robot.nj), rng.uniform(-2.0, 2.0, robot.nj)
        u = rng.uniform(-1.0, 1.0, robot.nu) * robot.channels.bound
        blocks = {block.name: rng.uniform(-0.5, 0.5, 3) for block in robot.blocks}
        before = Observation(1.0, State(1.0, q - task.dt * v, v))
        yield before, u, Observation(1.0 + task.dt, State(1.0 + task.dt, q, v), blocks)


@EACH
def test_the_score_is_the_published_one(name):
    task = made(name)
    goal = task.sample_goal(np.random.default_rng(1))
    assert (task.dt, task.steps) == LENGTHS[name]
    for before, u, after in transitions(task):
        q, v, puck = after.joints.q, after.joints.v, after.blocks.get("object")
        moved, tip = (q - before.joints.q)[0], task.robot.tip(np, q)
        expected = score_of(name, q, v, u, moved, puck, goal, tip)
        assert task.score(before, u, after, goal) == pytest.approx(expected, rel=1e-9, abs=1e-12)


SAME = {  # the constant, settings under which the planner charges the score, and how nearly
    "cartpole_swing_up": (1.0, {}, 1e-9),
    "pendulum": (1.0, {"speed": 0.1}, 2e-4),
    "inverted_pendulum": (0.0, {"place": 0.0, "effort": 0.0}, 1e-9),
    "cartpole_balance": (1.0, {"effort": 0.0}, 1e-9),
    "reacher": (0.0, {}, 1e-9),
    "pusher": (0.0, {}, 2e-3),
    "half_cheetah": (20.0, {}, 2e-3),
}


@EACH
def test_what_its_planner_minimises_is_the_score_but_for_a_constant(name):
    constant, settings, nearly = SAME[name]
    task = made(name, **settings)
    goal = task.sample_goal(np.random.default_rng(1))
    weights = np.array([term.weight for term in task.terms.values()])
    for before, u, after in transitions(task):
        joints = {"q": after.joints.q, "v": after.joints.v, **after.blocks}
        features = {key: np.stack([value, value]) for key, value in joints.items()}
        cost = core.costs(np, task, weights, features, u[None], np.stack([goal, goal])).sum()
        assert cost == pytest.approx(constant - task.score(before, u, after, goal), rel=1e-9, abs=nearly)


@EACH
def test_it_takes_its_robot_and_names_it_to_others(name):
    with pytest.raises(core.MbrlError, match=rf"'{name}' for robot 'panda': .*'{ROBOTS[name]}'"):
        registry.make("tasks", name, registry.make("robots", "panda"))


def test_an_episode_has_the_tasks_steps_and_length_unless_others_are_given():
    small = {"icem.samples": 8, "icem.horizon": 3}
    parts = assemble("inverted_pendulum", "inverted_pendulum", "icem", "analytic", small)
    assert parts.planner.dt == parts.dynamics.dt == 0.04
    whole = run_episode(parts, 0, iterations=1)
    assert len(whole.score) == 100
    assert whole.t[-1] == pytest.approx(4.0)
    assert len(run_episode(parts, 0, 0.4, iterations=1).score) == 10
    finer = assemble(
        "inverted_pendulum", "inverted_pendulum", "icem", "analytic", {**small, "analytic.dt": 0.02, "icem.dt": 0.02}
    )
    assert len(run_episode(finer, 0, 0.4, rate=50.0, iterations=1).score) == 20


def test_parts_of_one_name_take_what_they_declare():
    parts = assemble("pendulum", "pendulum", "icem", "analytic", {"pendulum.torque": 1.5, "pendulum.up": 3.0})
    assert parts.robot.channels.bound == [1.5]
    assert parts.task.terms["up"].weight == 3.0
    with pytest.raises(ConfigError, match=r"pendulum\.tork: no such parameter; did you mean 'torque'"):
        assemble("pendulum", "pendulum", "icem", "analytic", {"pendulum.tork": 1.5})


# --- The puck ---------------------------------------------------------------------------------------


def at_the_puck(robot):
    """Joints at which the hand is at the puck's height, and the puck just before it."""
    rng = np.random.default_rng(0)
    tries = rng.uniform(robot.limits.lower, robot.limits.upper, (4000, 7))
    tips = robot.tip(np, tries)
    q = tries[np.argmin(np.abs(tips[:, 2] + 0.275) + np.maximum(0.4 - tips[:, 0], 0.0))]
    return q, robot.tip(np, q)


def test_the_world_and_its_model_push_the_puck_alike():
    robot = registry.make("robots", "pusher")
    q, tip = at_the_puck(robot)
    world, model = World(robot), registry.make("dynamics", "mujoco", robot, np, overrides={"dt": 0.04, "threads": 1})
    world.reset(q, {"object": tip + np.array([0.01, 0.0, 0.0])})
    begun = world.observe()
    np.testing.assert_allclose(begun.blocks["object"], [tip[0] + 0.01, tip[1], -0.275], atol=1e-12)
    obs = Observation(0.0, State(0.0, begun.q, begun.v), begun.blocks)
    u = np.random.default_rng(1).uniform(-2.0, 2.0, (10, 7))
    features, _ = core.rollout(np, model, model.init(obs, {}), u, {})
    for k in range(10):
        world.command("effort", u[k])
        world.step(20)
        seen = world.observe()
        for name, value in {"q": seen.q, "v": seen.v, **seen.blocks}.items():
            np.testing.assert_allclose(features[name][k + 1], value, rtol=0.0, atol=1e-6, err_msg=f"{name} {k}")
    moved = seen.blocks["object"] - begun.blocks["object"]
    assert np.linalg.norm(moved) > 0.005, "the hand touched the puck"
    still, _ = core.rollout(np, model, model.init(dataclasses.replace(obs, blocks={}), {}), u, {})
    np.testing.assert_allclose(still["object"][0], [0.45, -0.05, -0.275], atol=1e-12)


def test_the_puck_starts_where_the_task_places_it():
    parts = assemble("pusher", "pusher", "shooting", "mujoco", {"shooting.samples": 2, "shooting.horizon": 1})
    assert isinstance(parts.task, core.Places)
    places = np.stack([parts.task.place(np.random.default_rng(k))["object"] for k in range(200)])
    np.testing.assert_allclose(places.mean(axis=0), [0.6, -0.3, -0.275], atol=0.006)
    assert np.all(np.abs(places - [0.6, -0.3, -0.275]) <= np.array([0.05, 0.05, 0.0]) + 1e-12)
    one, other = (run_episode(parts, seed, 0.04, iterations=1).distance[0] for seed in (0, 1))
    assert one != other
    assert one == pytest.approx(np.hypot(0.15, 0.25), abs=0.08)


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (Block("ball", 3, "m", "linear", "ball", 0.1), "no body 'ball'"),
        (Block("object", 3, "deg", "linear", "object", 0.1), "unit 'deg'.*takes m or m/s"),
        (Block("hand", 3, "m", "linear", "hand", 0.1), "takes a body of the world that slides"),
    ],
)
def test_a_block_that_the_world_does_not_have_is_refused_by_name(block, says):
    with pytest.raises(WorldError, match=f"pusher.xml: block '{block.name}' of pusher.*{says}"):
        World(dataclasses.replace(registry.make("robots", "pusher"), blocks=(block,)))


# --- What the true model comes to --------------------------------------------------------------------

QUICK = [("cartpole_balance", 25, 24.5), ("inverted_pendulum", 25, -0.3), ("pendulum", 30, -60.0)]


@pytest.mark.parametrize(("name", "steps", "least"), QUICK)
def test_icem_on_the_true_model_begins_well(name, steps, least):
    parts = assemble(ROBOTS[name], name, "icem", "analytic", {"icem.samples": 48})
    assert run_episode(parts, 0, steps * parts.task.dt, iterations=2).total >= least


TRUE = [
    ("cartpole_swing_up", "analytic", 170.0, {}),
    ("pendulum", "analytic", 150.0, {"pendulum.angle": 3.14159}),
    ("inverted_pendulum", "analytic", -1.0, {}),
    ("cartpole_balance", "analytic", 195.0, {}),
]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("planner", ["icem", "mppi", "cem", "shooting"])
@pytest.mark.parametrize(("name", "dynamics", "least", "settings"), TRUE, ids=lambda x: x if isinstance(x, str) else "")
def test_every_planner_on_the_true_model_comes_to_the_published_returns(name, dynamics, least, settings, planner):
    """Median of five seeds at the settings of the task's file."""
    parts = assemble(ROBOTS[name], name, planner, dynamics, settings)
    assert np.median([run_episode(parts, seed).total for seed in range(5)]) >= least
