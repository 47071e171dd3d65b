"""Keep a heavy pole upright on its cart: the score of mbbl's inverted pendulum.

    -q^2 of the pole's angle [rad],   100 steps of 0.04 s

(Wang et al., "Benchmarking Model-Based Reinforcement Learning", 2019, and its code.) 0 is perfect. As there, no episode
ends before its time. What differs: episodes start at rest, positions as there within 0.01; the score counts the state
that a step leads to, there the one it begins with; the planner also charges a little for the cart's place, which is
the goal, and for the force, since the score alone would let the cart drift to the end of its rail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Array, Features, Observation, Robot, State, Term
from mbrl_control.tasks._published import Published

NUDGE = 0.01
"""Episodes start within this of upright at the goal [rad, m]."""
ENDS = 0.5
"""Goals lie within this of the middle of the rail [m]."""

SETTINGS = {
    "icem.sigma": 0.1,
    "cem.sigma": 0.1,
    "cem.reopen": 1.0,
    "shooting.sigma": 0.05,
    "shooting.hold": 2,
}
"""What planners take for this task where nobody says otherwise: a tenth of the force is much."""


@dataclass(frozen=True)
class Config:
    """Parameters of ``inverted_pendulum``."""

    angle: float = param(1.0, "Weight of the squared angle", low=0.0, high=1e6, live=True)
    place: float = param(0.1, "Weight of the squared distance of the cart to its goal", low=0.0, high=1e6, live=True)
    effort: float = param(1e-3, "Weight of the controls", low=0.0, high=1e6, live=True)
    tolerance: float = param(0.05, "The goal is met within this angle", unit="rad", low=1e-6, high=10.0)
    dwell: float = param(3.0, "The goal is met after this long within it", unit="s", low=0.0, high=60.0)


class InvertedPendulum(Published):
    """The pole upright: terms angle, place and effort."""

    dt = 0.04
    steps = 100
    threshold = -1.0

    def __init__(self, config: Config, robot: Robot) -> None:
        terms = {
            "angle": Term("quadratic", config.angle, p=2.0),
            "place": Term("quadratic", config.place, p=2.0),
            "effort": Term("quadratic", config.effort),
        }
        goal = "one number, where the cart is to be [m]", [-ENDS], [ENDS]
        super().__init__(robot, "inverted_pendulum", terms, goal, (config.tolerance, config.dwell))
        self._scale = float(1.0 / robot.channels.bound[0])

    def residuals(self, xp: Any, features: Features, u: Array, goal: Array) -> Mapping[str, Array]:  # noqa: ARG002
        q = features["q"]
        return {"angle": q[..., 1:], "place": q[..., :1] - goal, "effort": u * self._scale}

    def score(self, obs: Observation, u: np.ndarray, after: Observation, goal: np.ndarray) -> float:  # noqa: ARG002
        return -float(np.square(after.joints.q[1]))

    def reset(self, rng: np.random.Generator) -> State:
        return State(0.0, self.robot.home + rng.uniform(-NUDGE, NUDGE, 2), np.zeros(2))

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002 - it is always the same
        return np.zeros(1)

    def distance(self, obs: Observation, goal: np.ndarray) -> float:  # noqa: ARG002 - the score asks for no place
        return abs(float(obs.joints.q[1]))


def make(config: Config, robot: Robot) -> InvertedPendulum:
    """The task on its robot; refuses others by name."""
    return InvertedPendulum(config, robot)
