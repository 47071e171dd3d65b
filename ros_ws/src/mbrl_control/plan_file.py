"""``plan.onnx`` of a model folder: a whole iteration of a planner on this model, for whoever has only ONNX Runtime.

It is the graph ``plan`` of ``plan_graph.py``, for the task that the model was learned of and the planner that it was
learned with. Before it is written, its returns have to be those of NumPy in double precision within 1e-4, and its
update, given the same returns, within 1e-5. Whole plans are not compared: elites are those below some return, and one
more or less of them is another plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mbrl_control import model_folder, plan_graph, registry
from mbrl_control.config import build
from mbrl_control.core import Goal, MbrlError, Observation, Planner, Robot, State, Task
from mbrl_control.dynamics import ensemble
from mbrl_control.model import Model
from mbrl_control.plan_graph import Build, Given, fed, single
from mbrl_control.runners import opened
from mbrl_control.sampling import INFINITE, at_home

RETURNS, UPDATE = 1e-4, 1e-5
"""Largest errors: of returns, relative; of the update given the same returns, as a share of the channels' bounds."""
TRIED = 3
"""Situations that both are compared in."""


class ParityError(MbrlError):
    """Graphs that find something else than NumPy."""


@dataclass(frozen=True)
class Planned:
    """A planner on a task, by name, with what both take."""

    task: str
    planner: str
    settings: Mapping[str, Mapping[str, Any]]
    """Of ``tasks``, ``planners`` and ``dynamics``."""

    def task_of(self, robot: Robot) -> Task:
        return registry.make("tasks", self.task, robot, overrides=self.settings["tasks"])

    def made_of(self, model: Model, robot: Robot) -> Build:
        """What makes the planner; on NumPy in double precision."""
        task = self.task_of(robot)

        def made(xp: Any) -> Planner:
            settings = {**self.settings["dynamics"], "precision": "float64" if xp is np else "float32"}
            dynamics = ensemble.of(model, robot, xp, build(ensemble.Config, settings, "ensemble."))
            return registry.make("planners", self.planner, task, dynamics, xp, overrides=self.settings["planners"])

        return made


def written(planned: Planned, model: Model, robot: Robot, identity: Mapping[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """The graph, and what the card says of it."""
    made, task = planned.made_of(model, robot), planned.task_of(robot)
    planner: Any = made(np)
    given = Given.of(planner, at_home(robot, task), task.goal_size)
    proposed = planner.propose(*given.proposal())
    shape, more = proposed.controls.shape, {f"more/{name}": np.shape(x) for name, x in proposed.more.items()}
    errors = compared(
        planner, task, plan_graph.evaluate(made, given, shape), plan_graph.choose(made, given, shape, more)
    )
    facts = {
        **asdict(planned),
        "samples": shape[0],
        "horizon": planner.horizon,
        "dt": planner.dt,
        "parity": dict(zip(("returns", "update"), errors, strict=True)),
        "knobs": {f"knob/{name}": np.asarray(x).tolist() for name, x in planner.knobs().items()},
    }
    data = plan_graph.plan(made, given, {model_folder.IDENTITY: identity, "plan": facts})
    session = opened(data)
    sides = {"inputs": session.get_inputs(), "outputs": session.get_outputs()}
    return data, facts | {side: {x.name: list(x.shape) for x in tensors} for side, tensors in sides.items()}


def compared(planner: Any, task: Task, evaluate: bytes, choose: bytes) -> tuple[float, float]:
    """The largest errors of returns and of the update; ``ParityError`` where they are too large."""
    rng, worst = np.random.default_rng(0), np.zeros(2)
    sessions = opened(evaluate), opened(choose)
    for number in range(TRIED):
        obs, goal, carry = _situation(planner, task, rng)
        knobs, noise = planner.knobs(), planner.noise(rng)
        proposed = planner.propose(obs, knobs, carry, noise)
        case = planner.on.case(obs, goal.value, knobs, noise)
        tried = planner.on.evaluate(proposed.controls, case)
        feed = fed(obs, goal, knobs, carry, noise) | {"controls": proposed.controls}
        found = _run(sessions[0], feed)["cost"]
        live = np.arange(len(tried.cost)) < planner.live(carry, obs.t)
        tried = replace(tried, cost=np.where(live, tried.cost, INFINITE))
        feed |= {f"more/{name}": x for name, x in proposed.more.items()} | {"cost": tried.cost}
        after = _run(sessions[1], feed)
        right, outcome = planner.choose(obs, case, knobs, carry, proposed, tried)
        if not (after["alive"] and outcome.alive):
            raise ParityError(f"plan of situation {number}: not finite; it takes a model that is")
        returns = np.abs(found - tried.cost)[live] / np.maximum(np.abs(tried.cost[live]), 1e-6)
        update = np.abs(after["next/mean"] - right["mean"]) / task.robot.channels.bound
        worst = np.maximum(worst, [returns.max(), update.max()])
    for name, error, limit in zip(("returns", "update"), worst, (RETURNS, UPDATE), strict=True):
        if not error <= limit:
            raise ParityError(f"parity of the plan's {name} {error:.1e}: it takes at most {limit:g}")
    return float(worst[0]), float(worst[1])


def _situation(planner: Planner, task: Task, rng: np.random.Generator) -> tuple[Observation, Goal, Any]:
    """The joints a little away from home, the second call for a goal."""
    home, robot = at_home(task.robot, task), task.robot
    q = np.clip(robot.home + rng.uniform(-0.1, 0.1, robot.nj), robot.limits.lower, robot.limits.upper)
    v = rng.uniform(-0.1, 0.1, robot.nj) * np.minimum(robot.limits.velocity, 1.0)
    obs = replace(home, joints=State(0.0, q, v))
    goal = Goal.ahead(task, task.sample_goal(rng), planner.dt * np.arange(planner.horizon + 1))
    carry, _, _ = planner.improve(obs, goal, planner.knobs(), planner.init(obs), planner.noise(rng))
    return replace(obs, t=0.4 * planner.dt), goal, carry


def _run(session: Any, feed: Mapping[str, Any]) -> dict[str, np.ndarray]:
    found = session.run(None, {x.name: single(feed[x.name]) for x in session.get_inputs()})
    return dict(zip([x.name for x in session.get_outputs()], found, strict=True))
