"""Reaching among obstacles: what the task charges, refuses, draws and calls a success."""

from __future__ import annotations

import casadi
import numpy as np
import pytest

from mbrl_control import casadi_graph, core, evaluate, registry
from mbrl_control.core import GoalError, Observation, State
from mbrl_control.tasks import clutter

ROBOT = registry.make("robots", "panda_clutter")
TASK = registry.make("tasks", "clutter", ROBOT)
SEEDS = range(40)
IN_THE_BEAM = np.array([0.2, -0.21, 0.05, -2.15, 0.14, 1.91, 0.98])
"""The hand through the beam."""


def seen(q):
    return Observation(0.0, State(0.0, q, 0.0 * q), {}, {})


def terms(task, q):
    q = np.asarray(q)
    features = {"q": q, "v": 0.0 * q}
    return task.residuals(np, features, np.zeros((*q.shape[:-1], ROBOT.nu)), np.zeros((*q.shape[:-1], 3)))


def clearance(q):
    return TASK.clearance(np, {"q": np.asarray(q)})


def test_it_takes_a_robot_that_says_what_it_is_made_of_and_what_stands_around_it():
    for robot, what in (("panda", "what stands around it"), ("cartpole", "what it is made of")):
        with pytest.raises(core.MbrlError, match=rf"task 'clutter' for robot '{robot}'.*say {what}.*'panda_clutter'"):
            registry.make("tasks", "clutter", registry.make("robots", robot))


def test_what_is_nearer_than_the_margin_costs_and_nothing_else():
    assert isinstance(TASK, core.Avoids)
    rng = np.random.default_rng(0)
    q = rng.uniform(ROBOT.limits.lower, ROBOT.limits.upper, (300, ROBOT.nj))
    found, distances = terms(TASK, q), clearance(q) + clutter.LEAST
    both = np.concatenate([found["obstacles"], found["itself"]], axis=-1)
    np.testing.assert_allclose(both, np.maximum(TASK.margin - distances, 0.0), atol=1e-12)
    for name in ("obstacles", "itself"):
        assert (found[name] > 0.0).any()
        assert TASK.terms[name].gauss_newton
    at_contact = core.quadratic(np, np.array([TASK.margin]), TASK.terms["obstacles"].p)
    assert at_contact == pytest.approx(0.5), "weights are twice the cost of touching, whatever the margin"
    wider = registry.make("tasks", "clutter", ROBOT, overrides={"margin": 0.2})
    assert (terms(wider, ROBOT.home[None])["obstacles"] > 0.0).any()
    assert not terms(TASK, ROBOT.home[None])["obstacles"].any()


def test_the_cost_has_no_step_where_it_begins_nor_where_solids_touch():
    """Along a way through the beam: slopes by CasADi are those of finite differences, and never jump."""
    xp, goal = casadi_graph.namespace(), np.zeros(3)
    q = casadi_graph.symbols("q", ROBOT.nj)
    residuals = TASK.residuals(xp, {"q": q, "v": q * 0.0}, q * 0.0, goal)
    cost = sum(core.NORMS[TASK.terms[n].norm](xp, residuals[n], TASK.terms[n].p) for n in ("obstacles", "itself"))
    column = casadi_graph.column(q)
    function = casadi.Function("c", [column], [casadi.gradient(casadi_graph.column(cost), column)])
    way = ROBOT.home + np.linspace(0.0, 1.0, 1001)[:, None] * (IN_THE_BEAM - ROBOT.home)
    slopes = np.stack([np.ravel(function(row)) for row in way]) @ (IN_THE_BEAM - ROBOT.home)
    found = terms(TASK, way)
    costs = sum(core.NORMS[TASK.terms[n].norm](np, found[n], TASK.terms[n].p) for n in ("obstacles", "itself"))
    assert clearance(way).min() < -0.03
    assert costs[0] == 0.0
    assert costs.max() > 0.5
    np.testing.assert_allclose(np.gradient(costs, 1e-3)[1:-1], slopes[1:-1], atol=0.02 * np.abs(slopes).max())


def test_goals_are_free_and_a_good_share_of_them_behind_something():
    start, blocked = ROBOT.tip(np, ROBOT.home), 0
    for seed in SEEDS:
        goal = TASK.sample_goal(np.random.default_rng(seed))
        TASK.check_goal(goal)
        way = start + np.linspace(0.0, 1.0, 100)[:, None] * (goal - start)
        blocked += TASK._near(way).min() < clutter.HAND
    assert blocked > 0.6 * len(SEEDS)


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ([0.40, -0.205, 0.35], r"inside of 'board'.*at least 0.04 m"),
        ([0.45, 0.18, 0.505], r"0.020 m from 'beam'"),
        ([0.35, 0.0, 0.02], r"0.020 m from 'floor'"),
        ([3.0, 0.0, 0.0], "gets no nearer than"),
    ],
)
def test_a_goal_inside_or_close_to_an_obstacle_is_refused_by_its_name(point, words):
    with pytest.raises(GoalError, match=words):
        TASK.check_goal(np.array(point))


def test_episodes_start_free_and_end_when_something_touches():
    for seed in SEEDS:
        start = TASK.reset(np.random.default_rng(seed)).q
        assert clearance(start).min() > 0.0
        assert not TASK.terminal(seen(start))
    assert TASK.terminal(seen(IN_THE_BEAM))


def test_an_episode_that_touches_is_no_success_and_says_why():
    free = {"mppi.samples": 16, "clutter.obstacles": 0.0, "clutter.itself": 0.0}
    parts = evaluate.assemble("panda_clutter", "clutter", "mppi", "kinematic", free)
    done = evaluate.run_episode(parts, 9, 2.0, iterations=1)
    assert (done.ended, done.success) == ("the arm touched something", False)


def test_round_the_obstacles_to_the_goal():
    """A goal behind the board, which ``reach`` pushes against (docs/obstacles.md has more of them)."""
    parts = evaluate.assemble("panda_clutter", "clutter", "mppi", "kinematic")
    done = evaluate.run_episode(parts, 13, 3.0, iterations=2)
    assert done.success
    assert clearance(done.q).min() > 0.0
