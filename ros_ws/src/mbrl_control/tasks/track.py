"""Follow a moving goal with the tip: a figure of eight, or a circle, round a centre.

With phase f = 2 pi t / period, t on the ROS clock, and the plane's two axes a and b:

    eight    centre + size (sin f, sin f cos f)      (Gerono's lemniscate)
    circle   centre + size (cos f, sin f)

The goal as it is given is the centre, a position in the base's frame [m]; what planners, scores and distances see of
it is where it is at their time. Serves every robot whose tip gets all the way round such a figure: ``reach`` knows
what a tip reaches. Speed is not charged, since the goal has one; what is left of it the controls pay for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Array, Features, GoalError, Layout, MbrlError, Observation, Robot, State, Term
from mbrl_control.tasks import reach

AXES = {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}
AROUND = np.linspace(0.0, 1.0, 8, endpoint=False)
"""Where on the figure it is tried whether the tip gets there, in periods."""
DRAWS = 100
"""Centres tried for one goal."""


class FigureError(MbrlError):
    """A robot whose tip cannot follow the figure."""


SETTINGS = {"icem.sigma": 0.05}
"""What planners take for this task where nobody says otherwise: larger steps find nothing better near a goal."""


@dataclass(frozen=True)
class Config:
    """Parameters of ``track``."""

    shape: str = param("eight", "The figure that the goal runs along", choices=("eight", "circle"))
    plane: str = param("yz", "The base's axes that it lies along", choices=tuple(AXES))
    size: float = param(0.1, "From the centre of the figure to its side", unit="m", low=0.0, high=1.0)
    period: float = param(6.0, "Time for once round", unit="s", low=0.1, high=1e4)
    tip: float = param(
        10.0, "Weight of the distance from the tip to the goal", unit="1/m", low=0.0, high=1e6, live=True
    )
    scale: float = param(0.02, "Distance below which that cost is quadratic", unit="m", low=1e-6, high=10.0)
    posture: float = param(0.2, "Weight of the distance from the home posture", low=0.0, high=1e6, live=True)
    limits: float = param(100.0, "Weight of coming close to the end of a joint's range", low=0.0, high=1e6, live=True)
    effort: float = param(0.02, "Weight of the controls", low=0.0, high=1e6, live=True)
    tolerance: float = param(0.02, "The goal is met within this distance", unit="m", low=1e-6, high=10.0)
    dwell: float = param(0.3, "The goal is met after this long within it", unit="s", low=0.0, high=60.0)


class Track:
    """The tip at a point that moves: terms tip, posture, limits and effort, as in ``reach``."""

    sampling_only = False
    goal_size = 3
    dt = 0.05
    steps = 120
    threshold = None

    def __init__(self, config: Config, robot: Robot) -> None:
        self.config, self.robot = config, robot
        self.layout = Layout()
        self.tolerance, self.dwell = config.tolerance, config.dwell
        self._still = reach.Reach(
            reach.Config(
                tip=config.tip,
                scale=config.scale,
                posture=config.posture,
                limits=config.limits,
                effort=config.effort,
                tolerance=config.tolerance,
                dwell=config.dwell,
            ),
            robot,
        )
        self.terms: Mapping[str, Term] = {name: term for name, term in self._still.terms.items() if name != "speed"}
        try:
            self.check_goal(robot.tip(np, robot.home))
        except GoalError as error:
            raise FigureError(
                f"task 'track' for robot '{robot.name}': {error}; it takes a robot whose tip gets all the way round "
                f"the figure from home, or a smaller size than {config.size:g} m"
            ) from None

    def course(self, goal: np.ndarray, t: Annotated[np.ndarray, "n"]) -> Annotated[np.ndarray, "n 3"]:
        phase = 2.0 * np.pi * np.asarray(t, dtype=float) / self.config.period
        across, along = AXES[self.config.plane]
        points = np.broadcast_to(np.asarray(goal, dtype=float), (*phase.shape, 3)).copy()
        eight = self.config.shape == "eight"
        points[..., across] += self.config.size * (np.sin(phase) if eight else np.cos(phase))
        points[..., along] += self.config.size * (np.sin(phase) * np.cos(phase) if eight else np.sin(phase))
        return points

    def residuals(self, xp: Any, features: Features, u: Array, goal: Array) -> Mapping[str, Array]:
        of_reach = self._still.residuals(xp, features, u, goal)
        return {name: of_reach[name] for name in self.terms}

    def score(self, obs: Observation, u: np.ndarray, after: Observation, goal: np.ndarray) -> float:  # noqa: ARG002
        return -self.distance(after, goal)

    def reset(self, rng: np.random.Generator) -> State:
        return self._still.reset(rng)

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray:
        """A centre as goals of ``reach`` are drawn, whose figure the tip gets round and does not leave their floor."""
        floor = min(reach.HEADROOM, self.robot.tip(np, self.robot.home)[2])
        for _ in range(DRAWS):
            goal = self._still.sample_goal(rng)
            if self.course(goal, AROUND * self.config.period)[:, 2].min() >= floor and self._miss(goal) is None:
                return goal
        return self.robot.tip(np, self.robot.home)

    def check_goal(self, goal: np.ndarray) -> None:
        self._still.check_goal(goal)
        miss = self._miss(np.asarray(goal, dtype=float))
        if miss is not None:
            raise GoalError(f"goal {np.round(goal, 3).tolist()}, the centre of {self._figure()}: {miss}")

    def distance(self, obs: Observation, goal: np.ndarray) -> float:
        return self._still.distance(obs, goal)

    def success(self, obs: Observation, goal: np.ndarray) -> bool:
        return self.distance(obs, goal) <= self.tolerance

    def terminal(self, obs: Observation) -> bool:
        return self._still.terminal(obs)

    def _figure(self) -> str:
        figure = "a circle" if self.config.shape == "circle" else "an eight"
        return f"{figure} of size {self.config.size:g} m along {self.config.plane}"

    def _miss(self, centre: Annotated[np.ndarray, "3"]) -> str | None:
        """The first point of the figure that the tip does not get to, in words."""
        for point in self.course(centre, AROUND * self.config.period):
            try:
                self._still.check_goal(point)
            except GoalError as error:
                return str(error)
        return None


def make(config: Config, robot: Robot) -> Track:
    """Track with any robot whose tip gets round the figure."""
    return Track(config, robot)
