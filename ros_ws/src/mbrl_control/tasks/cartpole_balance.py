"""Keep the pole of gymnasium's cart-pole upright: the score of mbbl's.

    cos q - 0.01 x^2,   200 steps of 0.02 s

(Wang et al., "Benchmarking Model-Based Reinforcement Learning", 2019, and its code.) 200 is perfect; it is no swing-up
(``cartpole_swing_up``), whose returns are others. As there, no episode ends before its time. What differs: there the
force is 10 N one way or the other, here anything between; episodes start at rest, positions as there within 0.05; the
score counts the state that a step leads to, there the one it begins with; the planner charges a little for the force.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Array, Features, Observation, Robot, State, Term
from mbrl_control.tasks._published import Published

NUDGE = 0.05
"""Episodes start within this of upright in the middle [rad, m]."""
PLACE = 0.01
ENDS = 2.0
"""Goals lie within this of the middle of the rail [m]."""

SETTINGS = {"mppi.sigma": 0.3, "mppi.beta": 0.5}
"""What planners take for this task where nobody says otherwise."""


@dataclass(frozen=True)
class Config:
    """Parameters of ``cartpole_balance``."""

    up: float = param(1.0, "Weight of the angle", low=0.0, high=1e6, live=True)
    place: float = param(PLACE, "Weight of the squared distance of the cart to its goal", low=0.0, high=1e6, live=True)
    effort: float = param(1e-3, "Weight of the controls", low=0.0, high=1e6, live=True)
    tolerance: float = param(0.05, "The goal is met within this angle", unit="rad", low=1e-6, high=10.0)
    dwell: float = param(3.0, "The goal is met after this long within it", unit="s", low=0.0, high=60.0)


class CartpoleBalance(Published):
    """The pole upright near the middle: terms up, place and effort."""

    dt = 0.02
    steps = 200
    threshold = 195.0

    def __init__(self, config: Config, robot: Robot) -> None:
        terms = {
            "up": Term("quadratic", config.up),
            "place": Term("quadratic", config.place, p=2.0),
            "effort": Term("quadratic", config.effort),
        }
        goal = "one number, where the cart is to be [m]", [-ENDS], [ENDS]
        super().__init__(robot, "cartpole", terms, goal, (config.tolerance, config.dwell))
        self._scale = float(1.0 / robot.channels.bound[0])

    def residuals(self, xp: Any, features: Features, u: Array, goal: Array) -> Mapping[str, Array]:
        q = features["q"]
        return {
            "up": xp.concat([xp.cos(q[..., 1:]) - 1.0, xp.sin(q[..., 1:])], axis=-1),
            "place": q[..., :1] - goal,
            "effort": u * self._scale,
        }

    def score(self, obs: Observation, u: np.ndarray, after: Observation, goal: np.ndarray) -> float:  # noqa: ARG002
        x, angle = after.joints.q
        return float(np.cos(angle) - PLACE * np.square(x - goal[0]))

    def reset(self, rng: np.random.Generator) -> State:
        return State(0.0, rng.uniform(-NUDGE, NUDGE, 2), np.zeros(2))

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002 - it is always the same
        return np.zeros(1)

    def distance(self, obs: Observation, goal: np.ndarray) -> float:  # noqa: ARG002 - the score hardly asks for a place
        angle = float(obs.joints.q[1])
        return abs(float(np.arctan2(np.sin(angle), np.cos(angle))))


def make(config: Config, robot: Robot) -> CartpoleBalance:
    """The task on its robot; refuses others by name."""
    return CartpoleBalance(config, robot)
