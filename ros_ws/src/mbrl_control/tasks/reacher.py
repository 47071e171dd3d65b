"""Bring the tip of a 7-DoF arm to a point by torques: the score of PETS' reacher.

    -|tip - goal|^2 - 0.01 |u|^2,   u in N m,   150 steps of 0.02 s

(Chua et al. 2018, the code's ``reacher3d``.) Goals are drawn about (0, 0.25, 0) with a deviation of 0.1 m, as there.
The planner's cost is the same. What differs: some goals drawn so lie inside the arm's shoulder or out of its reach, as
there; elbow and wrist start bent by 0.1 rad, and the arm's masses are its own (``robots/reacher.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Array, Features, Observation, Robot, State, Term
from mbrl_control.tasks._published import Published

CENTRE, SPREAD = np.array([0.0, 0.25, 0.0]), 0.1
EFFORT = 0.01
FAR = 2.0
"""Goals lie within this of the base along each axis [m]."""

SETTINGS = {
    "mppi.sigma": 0.1,
    "mppi.beta": 0.3,
    "mppi.kappa": 30.0,
    "icem.sigma": 0.1,
    "cem.sigma": 0.1,
    "shooting.sigma": 0.1,
    "icem.samples": 64,
    "pets.structure": "acceleration",
    "fit.layers": 2,
    "fit.batch": 64,
}
"""What planners and learners take for this task where nobody says otherwise: torques cost more than distance, full
ones 4 m^2; and the arm has no gravity and no contact, so that its accelerations are all there is to be learned."""


@dataclass(frozen=True)
class Config:
    """Parameters of ``reacher``."""

    tip: float = param(1.0, "Weight of the squared distance", low=0.0, high=1e6, live=True)
    effort: float = param(EFFORT, "Weight of the squared torques", low=0.0, high=1e6, live=True)
    tolerance: float = param(0.05, "The goal is met within this distance", unit="m", low=1e-6, high=10.0)
    dwell: float = param(0.5, "The goal is met after this long within it", unit="s", low=0.0, high=60.0)


class Reacher(Published):
    """The tip at a point: terms tip and effort."""

    dt = 0.02
    steps = 150
    threshold = -60.0

    def __init__(self, config: Config, robot: Robot) -> None:
        terms = {"tip": Term("quadratic", config.tip, p=2.0), "effort": Term("quadratic", config.effort, p=2.0)}
        goal = "x y z [m]", [-FAR] * 3, [FAR] * 3
        super().__init__(robot, "reacher", terms, goal, (config.tolerance, config.dwell))

    def residuals(self, xp: Any, features: Features, u: Array, goal: Array) -> Mapping[str, Array]:
        return {"tip": self.robot.tip(xp, features["q"]) - goal, "effort": u * 1.0}

    def score(self, obs: Observation, u: np.ndarray, after: Observation, goal: np.ndarray) -> float:  # noqa: ARG002
        return -(self.distance(after, goal) ** 2) - EFFORT * float(np.sum(np.square(u)))

    def reset(self, rng: np.random.Generator) -> State:  # noqa: ARG002 - it is always the same, as there
        return State(0.0, self.robot.home.copy(), np.zeros(self.robot.nj))

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray:
        return np.clip(CENTRE + SPREAD * rng.standard_normal(3), -FAR, FAR)

    def distance(self, obs: Observation, goal: np.ndarray) -> float:
        return float(np.linalg.norm(self.robot.tip(np, obs.joints.q) - np.asarray(goal, dtype=float)))


def make(config: Config, robot: Robot) -> Reacher:
    """The task on its robot; refuses others by name."""
    return Reacher(config, robot)
