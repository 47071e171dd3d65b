"""Swing up what hangs, and hold it upright.

The goal is one number: where along the base's x the tip is to stand, as high as it gets [m]; on a cart that is where
the cart stops. Serves every robot commanded by torques whose tip hangs at home: all that it knows of one is
``Robot.tip``, the limits and the home pose.

The published score of a step is that of PETS' cart-pole (Chua, Calandra, McAllister, Levine, "Deep Reinforcement
Learning in a Handful of Trials using Probabilistic Dynamics Models", NeurIPS 2018), made free of one robot's units:

    exp(-(d / l)^2) - 0.01 |u / bound|^2

with d the distance of the tip to its goal and l half the height between hanging and upright. It is below 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import (
    Array,
    Features,
    GoalError,
    Layout,
    MbrlError,
    Mode,
    Observation,
    Robot,
    State,
    Term,
    numbers,
)
from mbrl_control.tasks import reach

FAR = 100.0
"""The point of the tip's range that is nearest to one so high [m] is the highest."""
NUDGE = 0.05
"""Episodes start within this of hanging still [rad or m]."""
FOUND = 1e-3
"""How near to its highest the tip must get above a goal [m]."""
ASIDE = 0.5
"""Goals lie within this of the base [m], where the robot can stand there."""
EFFORT = 0.01
"""What full effort costs in the published score."""


SETTINGS = {
    "mppi.sigma": 1.0,
    "mppi.beta": 0.3,
    "mppi.horizon": 25,
    "cem.sigma": 1.0,
    "cem.reopen": 0.5,
    "shooting.sigma": 0.2,
}
"""What planners take for this task where nobody says otherwise: it wants the whole torque, arms want calm."""


class HangingError(MbrlError):
    """A robot that has nothing to swing up."""


@dataclass(frozen=True)
class Config:
    """Parameters of ``swing_up``."""

    tip: float = param(1.0, "Weight of the tip's distance to its goal, in half heights", low=0.0, high=1e6, live=True)
    scale: float = param(0.2, "Distance below which that cost is quadratic, in half heights", low=1e-6, high=10.0)
    speed: float = param(0.02, "Weight of joint speeds", low=0.0, high=1e6, live=True)
    limits: float = param(100.0, "Weight of coming close to the end of a joint's range", low=0.0, high=1e6, live=True)
    effort: float = param(0.05, "Weight of the controls", low=0.0, high=1e6, live=True)
    tolerance: float = param(0.1, "The goal is met within this distance of the tip", unit="m", low=1e-6, high=10.0)
    dwell: float = param(1.0, "The goal is met after this long within it", unit="s", low=0.0, high=60.0)


class SwingUp:
    """The tip as high as it gets: terms tip, speed, limits and effort."""

    sampling_only = False
    goal_size = 1
    dt = 0.05
    steps = 200
    threshold = None

    def __init__(self, config: Config, robot: Robot) -> None:
        self.robot = robot
        self.layout = Layout()
        self.tolerance, self.dwell = config.tolerance, config.dwell
        self.terms: Mapping[str, Term] = {
            "tip": Term("smooth_abs", config.tip, p=config.scale),
            "speed": Term("quadratic", config.speed),
            "limits": Term("quadratic", config.limits),
            "effort": Term("quadratic", config.effort),
        }
        self._within = reach.Reach(reach.Config(), robot)
        self._top = self._within.nearest(np.array([0.0, 0.0, FAR]))
        self._length = float(self._top[2] - robot.tip(np, robot.home)[2]) / 2.0
        self._scales = 1.0 / robot.limits.velocity, 1.0 / robot.channels.bound

    def target(self, xp: Any, goal: Annotated[Array, "... 1"]) -> Annotated[Array, "... 3"]:
        """The point that a goal means."""
        zero = xp.zeros_like(goal)
        return xp.concat([goal, zero + float(self._top[1]), zero + float(self._top[2])], axis=-1)

    def residuals(self, xp: Any, features: Features, u: Array, goal: Array) -> Mapping[str, Array]:
        q, v = features["q"], features["v"]
        speed, effort = (xp.asarray(scale, dtype=q.dtype, device=q.device) for scale in self._scales)
        return {
            "tip": (self.robot.tip(xp, q) - self.target(xp, goal)) * (1.0 / self._length),
            "speed": v * speed,
            "limits": self._within.beyond(xp, q),
            "effort": u * effort,
        }

    def score(self, obs: Observation, u: np.ndarray, after: Observation, goal: np.ndarray) -> float:  # noqa: ARG002
        near = np.exp(-np.square(self.distance(after, goal) / self._length))
        return float(near - EFFORT * np.sum(np.square(u / self.robot.channels.bound)))

    def reset(self, rng: np.random.Generator) -> State:
        q = self.robot.home + rng.uniform(-NUDGE, NUDGE, self.robot.nj)
        return State(0.0, q, np.zeros(self.robot.nj))

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray:
        """Somewhere near the base; straight above it, where the robot cannot stand elsewhere."""
        drawn = rng.uniform(-ASIDE, ASIDE, 1)
        return drawn if self._miss(drawn) <= FOUND else self._top[:1].copy()

    def check_goal(self, goal: np.ndarray) -> None:
        point = numbers(
            goal, self.goal_size, "swing_up takes one number, x of the upright tip in the base's frame [m], finite"
        )
        miss = self._miss(point)
        if miss > FOUND:
            raise GoalError(
                f"goal {np.round(point, 3).tolist()}: the tip of {self.robot.name} gets no nearer than {miss:.3f} m to "
                f"it at its full height of {self._top[2]:.3f} m; swing_up takes an x where the tip gets so high"
            )

    def course(self, goal: np.ndarray, t: Annotated[np.ndarray, "n"]) -> Annotated[np.ndarray, "n 1"]:
        return np.broadcast_to(np.asarray(goal, dtype=float), (len(t), self.goal_size))

    def distance(self, obs: Observation, goal: np.ndarray) -> float:
        tip = self.robot.tip(np, obs.joints.q)
        return float(np.linalg.norm(tip - self.target(np, np.asarray(goal, dtype=float))))

    def success(self, obs: Observation, goal: np.ndarray) -> bool:
        return self.distance(obs, goal) <= self.tolerance

    def terminal(self, obs: Observation) -> bool:
        return self._within.terminal(obs)

    def _miss(self, goal: Annotated[np.ndarray, "1"]) -> float:
        point = self.target(np, goal)
        return float(np.linalg.norm(self._within.nearest(point) - point))


def make(config: Config, robot: Robot) -> SwingUp:
    """Swing-up of any robot commanded by torques whose tip hangs at home; refuses others by name."""
    task = SwingUp(config, robot)
    lowest = float(task._within.nearest(np.array([0.0, 0.0, -FAR]))[2])
    hangs = float(robot.tip(np, robot.home)[2]) < lowest + 0.1 * task._length
    if robot.channels.mode is not Mode.TORQUE or task._length < 0.05 or not hangs:
        raise HangingError(
            f"task 'swing_up' for robot '{robot.name}' with mode {robot.channels.mode}: it takes a robot commanded by "
            f"{Mode.TORQUE} whose tip hangs as low as it gets, as pendulum and cartpole"
        )
    return task
