"""What tasks of published benchmarks have in common: one robot, a goal of a few numbers, and no end before the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np

from mbrl_control.core import GoalError, Layout, MbrlError, Observation, Robot, Term, is_finite, numbers

BEYOND = 0.5
"""Joint stops are springs: this far beyond a joint's range [rad or m] it is still at its stop, farther it is lost."""


class RobotError(MbrlError):
    """A robot that the task was not published for."""


class Published:
    """A robot, its terms, and a goal between bounds, that stands still."""

    sampling_only = False
    dt: float
    steps: int
    threshold: float | None

    def __init__(
        self,
        robot: Robot,
        takes: str,
        terms: Mapping[str, Term],
        goal: tuple[str, Sequence[float], Sequence[float]],
        met: tuple[float, float],
    ) -> None:
        """``takes`` is the robot, ``goal`` what its numbers are and their bounds, ``met`` tolerance and dwell."""
        self._name = type(self).__module__.rsplit(".", 1)[-1]
        if robot.name != takes:
            raise RobotError(
                f"task '{self._name}' for robot '{robot.name}': its score means something for robot '{takes}' only"
            )
        self.robot, self.layout, self.terms = robot, Layout(robot.blocks), terms
        self._words, self._low, self._high = goal[0], np.asarray(goal[1]), np.asarray(goal[2])
        self.goal_size = len(self._low)
        self.tolerance, self.dwell = met

    def check_goal(self, goal: np.ndarray) -> None:
        bounds = ", ".join(f"{low:g} to {high:g}" for low, high in zip(self._low, self._high, strict=True))
        accepts = f"{self._name} takes {self._words}, {bounds}"
        given = numbers(goal, self.goal_size, accepts)
        if not ((self._low <= given).all() and (given <= self._high).all()):
            raise GoalError(f"goal {given.tolist()}: {accepts}")

    def course(self, goal: np.ndarray, t: Annotated[np.ndarray, "n"]) -> Annotated[np.ndarray, "n ng"]:
        return np.broadcast_to(np.asarray(goal, dtype=float), (len(t), self.goal_size))

    def distance(self, obs: Observation, goal: np.ndarray) -> float:
        raise NotImplementedError

    def success(self, obs: Observation, goal: np.ndarray) -> bool:
        return self.distance(obs, goal) <= self.tolerance

    def terminal(self, obs: Observation) -> bool:
        q, limits = obs.joints.q, self.robot.limits
        inside = bool(np.all((q >= limits.lower - BEYOND) & (q <= limits.upper + BEYOND)))
        return not (is_finite(q, obs.joints.v) and inside)
