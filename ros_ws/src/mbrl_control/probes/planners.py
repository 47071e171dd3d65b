"""Planners on one robot, task and model: how long an iteration takes here, and how many samples fit a budget.

Measured as the planner node plans: run as graphs where it can be, at home, the same carry going round, the priority
lowered as there.
"""

from __future__ import annotations

import os
import sys
import time
from statistics import median
from typing import Any

import numpy as np

from mbrl_control import registry
from mbrl_control.config import params
from mbrl_control.core import Goal, MbrlError
from mbrl_control.engine import Config, engaged
from mbrl_control.probes import answer
from mbrl_control.sampling import at_home

NICE = 2
WARM_UP = 2
LEAST = 5
"""Iterations of which a median is taken, at least."""
SURE = 0.05
"""The search for the largest size stops this close [share]."""


def measure(planners: list[str], parts: dict[str, str], **how: Any) -> dict[str, Any]:
    """Facts on each planner; ``parts`` names robot, task and model."""
    os.nice(NICE)
    return {"planners": [measured(planner, **parts, **how) for planner in planners]}


def measured(
    planner: str, robot: str, task: str, model: str, seconds: float, budget: float, search: bool
) -> dict[str, Any]:
    """Facts on one planner; ``budget`` is the time [s] that one iteration may take."""
    try:
        parts = Parts(planner, robot, task, model)
        declared = params(parts.entry.config)
        made = parts.make({})
    except MbrlError as error:
        return {"name": planner, "refused": str(error)}
    except Exception as error:
        return {"name": planner, "broken": described(error)}
    try:
        took, count = parts.duration(made, seconds)
        sampled = "samples" in declared
        largest = None
        if search and sampled:
            high = declared["samples"].high
            largest = most(parts, declared["samples"].default, int(high) if high is not None else 2**20, budget)
        return {
            "name": planner,
            "iteration": took,
            "iterations": count,
            "samples": declared["samples"].default if sampled else None,
            "horizon": made.horizon,
            "largest": largest,
        }
    except Exception as error:
        return {"name": planner, "broken": described(error)}


class Parts:
    """What a planner is made of, and a situation to plan in."""

    def __init__(self, planner: str, robot: str, task: str, model: str) -> None:
        self.robot = registry.make("robots", robot)
        self.task = registry.make("tasks", task, self.robot)
        self.dynamics = registry.make("dynamics", model, self.robot)
        self.entry = registry.load("planners", planner)
        self.model = model
        self.obs = at_home(self.robot, self.task)
        self.rng = np.random.default_rng(0)
        self.goal = self.task.sample_goal(self.rng)

    def make(self, overrides: dict[str, Any]) -> Any:
        def planned(xp: Any) -> Any:
            on = self.dynamics if xp is np else registry.make("dynamics", self.model, self.robot, xp)
            return registry.make("planners", self.entry.name, self.task, on, xp, overrides=overrides)

        return engaged(Config(), planned)[0]

    def duration(self, planner: Any, seconds: float) -> tuple[float, int]:
        """Median time of an iteration [s], the draws of its noise included, and of how many."""
        goal = Goal.ahead(self.task, self.goal, planner.dt * np.arange(planner.horizon + 1))
        knobs, carry = planner.knobs(), planner.init(self.obs)
        spent: list[float] = []
        end = 0.0
        while len(spent) < WARM_UP + LEAST or time.perf_counter() < end:
            start = time.perf_counter()
            carry, _, _ = planner.improve(self.obs, goal, knobs, carry, planner.noise(self.rng))
            spent.append(time.perf_counter() - start)
            if len(spent) == WARM_UP:
                end = time.perf_counter() + seconds
        return median(spent[WARM_UP:]), len(spent) - WARM_UP


def most(parts: Parts, start: int, high: int, budget: float) -> int:
    """The most samples of which one iteration keeps the budget: doubled or halved until it is passed, then bisected."""

    def fits(samples: int) -> bool:
        try:
            planner = parts.make({"samples": samples})
        except MbrlError:  # too few for what else it is set to
            return False
        return parts.duration(planner, 0.0)[0] <= budget

    fitting, too_many = 0, min(start, high) * 2
    while too_many > 1:
        half = too_many // 2
        if fits(half):
            fitting = half
            break
        too_many = half
    if not fitting:
        return 0
    while too_many <= high and too_many == 2 * fitting and fits(too_many):
        fitting, too_many = too_many, too_many * 2
    too_many = min(too_many, high + 1)
    while too_many - fitting > max(1, SURE * fitting):
        middle = (fitting + too_many) // 2
        fitting, too_many = (middle, too_many) if fits(middle) else (fitting, middle)
    return fitting


def described(error: BaseException) -> str:
    """An error of somebody's plugin, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


if __name__ == "__main__":
    sys.exit(answer(measure))
