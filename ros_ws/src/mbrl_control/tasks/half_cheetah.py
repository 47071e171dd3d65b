"""Run, as fast as it gets: the score of PETS' half-cheetah.

    forward speed - 0.1 |a|^2,   a the torques as shares of what the motors can,   1000 steps of 0.05 s

(Chua et al. 2018, the code's ``half_cheetah``, after OpenAI Gym's.) The score's speed is the mean one over the step, as
there; the planner's is that at each step's end. The goal is a speed to run at that nothing reaches, 20 m/s, and below
it the planner's cost is the score but for a constant. What differs: episodes start at rest, positions within 0.001 as
there; and MuJoCo steps of 2 ms, where it makes 10 ms there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Array, Features, Observation, Robot, State, Term
from mbrl_control.tasks._published import Published

FASTEST = 20.0
"""The goal [m/s]."""
EFFORT = 0.1
SPREAD = 0.001
"""Standard deviation of the start [rad, m]."""

SETTINGS = {
    "mppi.sigma": 0.5,
    "mppi.beta": 0.8,
    "mppi.kappa": 5.0,
    "mppi.horizon": 30,
    "icem.beta": 0.25,
    "icem.horizon": 30,
    "cem.horizon": 30,
    "cem.reopen": 1.0,
    "shooting.sigma": 0.5,
    "shooting.hold": 2,
    "shooting.horizon": 30,
}
"""What planners take for this task where nobody says otherwise."""


@dataclass(frozen=True)
class Config:
    """Parameters of ``half_cheetah``."""

    run: float = param(1.0, "Weight of the forward speed", low=0.0, high=1e6, live=True)
    effort: float = param(EFFORT, "Weight of the squared torques", low=0.0, high=1e6, live=True)
    tolerance: float = param(17.0, "The goal is met within this of the speed", unit="m/s", low=1e-6, high=20.0)
    dwell: float = param(2.0, "The goal is met after this long within it", unit="s", low=0.0, high=60.0)
    steps: int = param(1000, "Steps of an episode; published scores are of 1000", low=1, high=100_000)


class HalfCheetah(Published):
    """Forward speed: terms run and effort."""

    dt = 0.05
    threshold = None

    def __init__(self, config: Config, robot: Robot) -> None:
        terms = {
            "run": Term("smooth_abs", config.run, p=1e-3),
            "effort": Term("quadratic", config.effort, p=2.0),
        }
        goal = "one number, a speed [m/s]", [-FASTEST], [FASTEST]
        super().__init__(robot, "half_cheetah", terms, goal, (config.tolerance, config.dwell))
        self.steps = config.steps
        self._share = 1.0 / robot.limits.torque[robot.limits.torque > 0.0]

    def residuals(self, xp: Any, features: Features, u: Array, goal: Array) -> Mapping[str, Array]:
        v = features["v"]
        return {"run": goal - v[..., :1], "effort": u * xp.asarray(self._share, dtype=v.dtype, device=v.device)}

    def score(self, obs: Observation, u: np.ndarray, after: Observation, goal: np.ndarray) -> float:  # noqa: ARG002
        taken = after.t - obs.t
        speed = (after.joints.q[0] - obs.joints.q[0]) / taken if taken > 0.0 else after.joints.v[0]
        return float(speed - EFFORT * np.sum(np.square(u * self._share)))

    def reset(self, rng: np.random.Generator) -> State:
        nj = self.robot.nj
        return State(0.0, self.robot.home + SPREAD * rng.standard_normal(nj), np.zeros(nj))

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002 - it is always the same
        return np.array([FASTEST])

    def distance(self, obs: Observation, goal: np.ndarray) -> float:
        return float(abs(goal[0] - obs.joints.v[0]))


def make(config: Config, robot: Robot) -> HalfCheetah:
    """The task on its robot; refuses others by name."""
    return HalfCheetah(config, robot)
