"""Push a puck to its goal with a 7-DoF arm: the score of PETS' pusher.

    -1.25 |puck - goal|_1 - 0.5 |puck - tip|_1 - 0.1 |u|^2,   u in N m,   150 steps of 0.04 s

(Chua et al. 2018, the code's ``pusher``, after OpenAI Gym's.) The puck starts at (0.6, -0.3) m with a deviation of
0.025 m, the goal is (0.45, -0.05) m, as there; there and here it lies 48 mm below the puck's middle, which costs 9 in
an episode whatever is done. The planner's cost is the same, but that |.| is rounded within a millimetre. What
differs: the score counts the state that a step leads to, as PETS' planner does, while its environment counts the one
before; episodes start at rest; and the arm is ``robots/pusher.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Array, Features, Observation, Robot, State, Term
from mbrl_control.tasks._published import Published

PUCK = "object"
"""The block of the observation that holds where the puck is."""
START, SPREAD = np.array([0.6, -0.3, -0.275]), np.array([0.025, 0.025, 0.0])
GOAL = np.array([0.45, -0.05, -0.323])
NEAR, FAR, EFFORT = 0.5, 1.25, 0.1
SIDE = 1.0
"""Goals lie within this of the base along each axis [m]."""

SETTINGS = {
    "mppi.sigma": 0.3,
    "mppi.beta": 0.3,
    "mppi.kappa": 30.0,
    "icem.sigma": 0.2,
    "icem.samples": 64,
    "icem.horizon": 20,
    "cem.sigma": 0.3,
    "shooting.sigma": 0.3,
    "pets.structure": "acceleration",
    "pets.stops": True,
    "pets.retrain_every": 75,
    "fit.beta": 0.5,
    "fit.batch": 64,
}
"""What planners and learners take for this task where nobody says otherwise. Its light wrist runs into its stops again
and again, and the puck hardly ever moves: ``stops`` and ``beta`` are what a model of it learns by."""


@dataclass(frozen=True)
class Config:
    """Parameters of ``pusher``."""

    goal: float = param(FAR, "Weight of the puck's distance to its goal", unit="1/m", low=0.0, high=1e6, live=True)
    near: float = param(NEAR, "Weight of the tip's distance to the puck", unit="1/m", low=0.0, high=1e6, live=True)
    effort: float = param(EFFORT, "Weight of the squared torques", low=0.0, high=1e6, live=True)
    tolerance: float = param(0.08, "The goal is met within this distance", unit="m", low=1e-6, high=10.0)
    dwell: float = param(0.5, "The goal is met after this long within it", unit="s", low=0.0, high=60.0)


class Pusher(Published):
    """The puck at a point: terms goal, near and effort."""

    dt = 0.04
    steps = 150
    threshold = -75.0

    def __init__(self, config: Config, robot: Robot) -> None:
        terms = {
            "goal": Term("smooth_abs", config.goal, p=1e-3),
            "near": Term("smooth_abs", config.near, p=1e-3),
            "effort": Term("quadratic", config.effort, p=2.0),
        }
        goal = "x y z of the puck [m]", [-SIDE] * 3, [SIDE] * 3
        super().__init__(robot, "pusher", terms, goal, (config.tolerance, config.dwell))

    def residuals(self, xp: Any, features: Features, u: Array, goal: Array) -> Mapping[str, Array]:
        def apart(away: Array) -> Array:
            return xp.sum(xp.abs(away), axis=-1)[..., None]

        puck, tip = features[PUCK], self.robot.tip(xp, features["q"])
        return {"goal": apart(puck - goal), "near": apart(puck - tip), "effort": u * 1.0}

    def score(self, obs: Observation, u: np.ndarray, after: Observation, goal: np.ndarray) -> float:  # noqa: ARG002
        puck, tip = after.blocks[PUCK], self.robot.tip(np, after.joints.q)
        near, far = np.abs(puck - tip).sum(), np.abs(puck - np.asarray(goal, dtype=float)).sum()
        return -float(FAR * far + NEAR * near + EFFORT * np.sum(np.square(u)))

    def reset(self, rng: np.random.Generator) -> State:  # noqa: ARG002 - it is always the same, as there
        return State(0.0, self.robot.home.copy(), np.zeros(self.robot.nj))

    def place(self, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        """The puck, within twice its deviation."""
        return {PUCK: START + SPREAD * np.clip(rng.standard_normal(3), -2.0, 2.0)}

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002 - it is always the same
        return GOAL.copy()

    def distance(self, obs: Observation, goal: np.ndarray) -> float:
        return float(np.linalg.norm((obs.blocks[PUCK] - np.asarray(goal, dtype=float))[:2]))


def make(config: Config, robot: Robot) -> Pusher:
    """The task on its robot; refuses others by name."""
    return Pusher(config, robot)
