"""Two planners in turn: each begins in the plan of the other."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from mbrl_control import registry
from mbrl_control.config import ConfigError
from mbrl_control.core import Goal, Status
from mbrl_control.relay import Relay
from mbrl_control.sampling import at_home

H = 30


def made(name: str, **config):
    robot = registry.make("robots", "pendulum")
    task = registry.make("tasks", "swing_up", robot)
    model = registry.make("dynamics", "symbolic", robot, np, overrides={"compile": False})
    settings = {"sigma": 1.0, "beta": 0.3, "samples": 64} if name == "mppi" else {"compile": False}
    return registry.make("planners", name, task, model, np, overrides={"horizon": H, **settings, **config}), robot, task


def costs(planner, robot, task, calls: int = 12) -> list[float]:
    obs, rng = at_home(robot, task), np.random.default_rng(0)
    goal, carry, found = Goal.still([0.0], H, 0.1, 1.0), planner.init(obs), []
    for i in range(calls):
        later = dataclasses.replace(obs, t=0.01 * (i // 4))
        carry, _, info = planner.improve(later, goal, planner.knobs(), carry, planner.noise(rng))
        assert info.status == Status.OK
        found.append(info.cost)
    return found


@pytest.mark.parametrize(("first", "then"), [("mppi", "ilqr"), ("ilqr", "mppi")])
def test_together_they_find_what_neither_does_alone_or_no_worse(first, then):
    (one, robot, task), (other, _, _) = made(first), made(then)
    both = costs(Relay(one, other), robot, task)
    assert both[-1] <= min(costs(made(name)[0], robot, task)[-1] for name in (first, then)) * 1.02
    assert both[0] <= costs(made(then)[0], robot, task)[0] + 1e-9


def test_gains_come_from_the_one_that_has_them():
    (one, robot, task), (other, _, _) = made("mppi"), made("ilqr")
    obs, rng = at_home(robot, task), np.random.default_rng(0)
    relay = Relay(one, other)
    _, plan, _ = relay.improve(obs, Goal.still([0.0], H, 0.1, 1.0), relay.knobs(), relay.init(obs), relay.noise(rng))
    assert plan.K is not None
    assert relay.knobs().keys() >= {"weights", *one.knobs()}


def test_where_the_second_fails_the_first_ones_plan_is_taken():
    (one, robot, task), (other, _, _) = made("mppi"), made("ilqr")
    relay, obs, rng = Relay(one, other), at_home(robot, task), np.random.default_rng(0)
    other.problem.dynamics.linearize = lambda s, u: (np.full((H, 2, 2), math.nan), np.full((H, 2, 1), math.nan))
    carry, plan, info = relay.improve(
        obs, Goal.still([0.0], H, 0.1, 1.0), relay.knobs(), relay.init(obs), relay.noise(rng)
    )
    assert info.status == Status.OK
    assert np.array_equal(plan.u, carry["first/mean"])


def test_other_horizons_are_refused_naming_both():
    with pytest.raises(ConfigError, match=r"30 steps of 0.05 s, the other one 20 steps of 0.05 s"):
        Relay(made("mppi")[0], made("ilqr", horizon=20)[0])
