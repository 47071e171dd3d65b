"""Swing up the pole of PETS' cart-pole: its score, its planner's cost.

    exp(-|tip - upright|^2 / l^2) - 0.01 a^2,   l = 0.6 m,   a = force / 100 N,   200 steps of 0.04 s

(Chua, Calandra, McAllister, Levine, "Deep Reinforcement Learning in a Handful of Trials using Probabilistic Dynamics
Models", NeurIPS 2018.) The swing takes about a second, so that some 180 is the most that a trial gets. The planner's
cost is the same, but for a constant. What differs: episodes start at rest, positions drawn with a deviation of 0.1 as
there (there speeds are, too); the score counts the state that a step leads to, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Annotated, Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Array, Features, Observation, Robot, State, Term
from mbrl_control.tasks._published import Published

LENGTH = 0.6
"""Of the pole, l [m]."""
UNIT = 100.0
"""Force of an action of 1 [N]."""
SPREAD = 0.1
"""Standard deviation of the start [m, rad]."""
EFFORT = 0.01

SETTINGS = {
    "mppi.sigma": 1.0,
    "mppi.beta": 0.6,
    "mppi.kappa": 100.0,
    "shooting.sigma": 0.5,
}
"""What planners take for this task where nobody says otherwise."""


@dataclass(frozen=True)
class Config:
    """Parameters of ``cartpole_swing_up``."""

    tip: float = param(1.0, "Weight of the tip's nearness to its goal", low=0.0, high=1e6, live=True)
    effort: float = param(EFFORT, "Weight of the squared action", low=0.0, high=1e6, live=True)
    tolerance: float = param(0.1, "The goal is met within this distance of the tip", unit="m", low=1e-6, high=10.0)
    dwell: float = param(1.0, "The goal is met after this long within it", unit="s", low=0.0, high=60.0)


class CartpoleSwingUp(Published):
    """The tip above a point of the rail: terms tip and effort."""

    dt = 0.04
    steps = 200
    threshold = 170.0

    def __init__(self, config: Config, robot: Robot) -> None:
        terms = {
            "tip": Term("gaussian", config.tip, p=LENGTH / sqrt(2.0)),
            "effort": Term("quadratic", config.effort, p=2.0),
        }
        rail = float(robot.limits.upper[0])
        goal = "one number, x of the upright tip [m]", [-rail], [rail]
        super().__init__(robot, "pets_cartpole", terms, goal, (config.tolerance, config.dwell))
        self._top = float(robot.tip(np, np.zeros(2))[2])

    def target(self, xp: Any, goal: Annotated[Array, "... 1"]) -> Annotated[Array, "... 3"]:
        """Where the tip is to be."""
        zero = xp.zeros_like(goal)
        return xp.concat([goal, zero, zero + self._top], axis=-1)

    def residuals(self, xp: Any, features: Features, u: Array, goal: Array) -> Mapping[str, Array]:
        return {"tip": self._miss(xp, features["q"], goal), "effort": u * (1.0 / UNIT)}

    def score(self, obs: Observation, u: np.ndarray, after: Observation, goal: np.ndarray) -> float:  # noqa: ARG002
        near = np.exp(-np.square(self.distance(after, goal) / LENGTH))
        return float(near - EFFORT * np.sum(np.square(u / UNIT)))

    def reset(self, rng: np.random.Generator) -> State:
        return State(0.0, self.robot.home + SPREAD * rng.standard_normal(2), np.zeros(2))

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002 - it is always the same
        return np.zeros(1)

    def distance(self, obs: Observation, goal: np.ndarray) -> float:
        return float(np.linalg.norm(self._miss(np, obs.joints.q, np.asarray(goal, dtype=float))))

    def _miss(
        self, xp: Any, q: Annotated[Array, "... 2"], goal: Annotated[Array, "... 1"]
    ) -> Annotated[Array, "... 2"]:
        """From the goal to the tip, in the plane."""
        tip = self.robot.tip(xp, q)
        return xp.stack([tip[..., 0] - goal[..., 0], tip[..., 2] - self._top], axis=-1)


def make(config: Config, robot: Robot) -> CartpoleSwingUp:
    """The task on its robot; refuses others by name."""
    return CartpoleSwingUp(config, robot)
