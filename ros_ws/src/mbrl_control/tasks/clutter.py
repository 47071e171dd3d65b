"""Bring the tip of an arm to a point, round what stands in the way and without the arm meeting itself.

As ``reach``, with two terms more. With d the distance of a pair of solids, and m the margin, their residuals are

    max(m - d, 0)   [m]   for every pair that can come so near to each other,

and their cost the square of that as a share of m: smooth, nothing beyond the margin, and its second derivatives can be
taken from first ones. What planners that know constraints keep to exactly is ``clearance``: d less ``LEAST``.

Takes a robot that says what it is made of (``solids``) and what stands around it (``obstacles``), as ``panda_clutter``.
Goals are drawn where a posture keeps the margin; to most of them the straight way of the tip is blocked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control import geometry
from mbrl_control.config import param
from mbrl_control.core import Array, Features, GoalError, HalfSpace, MbrlError, Observation, Robot, State, Term
from mbrl_control.tasks import reach

LEAST = 0.005
"""Nearer than this nothing may come to anything [m]."""
FREE = 0.04
"""A goal is no nearer than this to an obstacle [m]."""
NEAR = 0.15
"""Goals that are drawn are no farther than this from an obstacle that is no floor [m]."""
DRAWN = 0.35
"""Part of half a joint's range by which goals may lie to either side of home."""
BLOCKED = 0.8
"""Share of goals that cannot be reached straight."""
HAND = 0.02
"""A straight way of the tip from home that passes something as near as this is blocked [m]."""
WAY = np.linspace(0.0, 1.0, 20)[:, None, None]
"""Shares of it that are looked at."""
DRAWS = 1000
"""Postures drawn for one goal."""
TRIED = 50
"""Of those that are fit, so many are looked at more closely."""

SETTINGS = {
    "mppi.horizon": 30,
    "mppi.sigma": 0.1,
    "mppi.samples": 128,
    "icem.horizon": 30,
    "icem.sigma": 0.1,
    "icem.samples": 128,
    "cem.horizon": 30,
    "cem.samples": 128,
}
"""What planners take for this task where nobody says otherwise: far enough ahead, and boldly enough, to see a way round
(in 20 steps of smaller noise one goal of five was not met)."""


class ObstacleError(MbrlError):
    """A robot that does not say what it is made of, or what stands around it."""


@dataclass(frozen=True)
class Config(reach.Config):
    """Parameters of ``clutter``: those of ``reach``, and of what must not touch."""

    margin: float = param(0.04, "Solids nearer to each other than this cost something", unit="m", low=1e-3, high=1.0)
    obstacles: float = param(200.0, "Weight of coming close to what stands around", low=0.0, high=1e6, live=True)
    itself: float = param(200.0, "Weight of the arm coming close to itself", low=0.0, high=1e6, live=True)


class Clutter(reach.Reach):
    """The tip at a point, and nothing touched: the terms of ``reach``, and obstacles and itself."""

    def __init__(self, config: Config, robot: Robot) -> None:
        super().__init__(config, robot)
        self.margin = config.margin
        p = 1.0 / config.margin**2
        self.terms = {
            **self.terms,
            "obstacles": Term("quadratic", config.obstacles, p=p),
            "itself": Term("quadratic", config.itself, p=p),
        }
        self.around = geometry.to_obstacles(robot, config.margin)
        self.itself = geometry.to_itself(robot, config.margin)

    def residuals(self, xp: Any, features: Features, u: Array, goal: Array) -> Mapping[str, Array]:
        around, itself = self._distances(xp, features["q"])
        return {
            **super().residuals(xp, features, u, goal),
            "obstacles": xp.maximum(self.margin - around, around * 0.0),
            "itself": xp.maximum(self.margin - itself, itself * 0.0),
        }

    def clearance(self, xp: Any, features: Features) -> Annotated[Array, "... n"]:
        """Distances less the least there may be [m]: to obstacles, then of the arm to itself."""
        return xp.concat(self._distances(xp, features["q"]), axis=-1) - LEAST

    def reset(self, rng: np.random.Generator) -> State:
        """A posture around home that is free."""
        for _ in range(DRAWS):
            state = super().reset(rng)
            if self._room(state.q) > self.margin:
                return state
        return State(0.0, self.robot.home, np.zeros(self.robot.nj))

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray:
        """The tip at a posture that keeps the margin, near what stands around; of most goals, behind some of it."""
        home, blocked = self.robot.home, rng.uniform() < BLOCKED
        away = rng.uniform(-DRAWN, DRAWN, (DRAWS, self.robot.nj)) * self._turn
        q = self._inside(home + away, reach.FREE)
        start, tips = self.robot.tip(np, home), self.robot.tip(np, q)
        near = self._near(tips)
        fit = (near > FREE) & (near < NEAR) & (tips[:, 2] > min(reach.HEADROOM, start[2]))
        passed = self._near(start + WAY * (tips - start)).min(axis=0)
        wanted = np.concatenate(
            [np.flatnonzero(fit & ((passed < HAND) == blocked))[:TRIED], np.flatnonzero(fit)[:TRIED]]
        )
        free = wanted[self._room(q[wanted]) > self.margin]
        return tips[free[0]] if len(free) else start

    def check_goal(self, goal: np.ndarray) -> None:
        super().check_goal(goal)
        found = [float(geometry.from_points(solid, np.asarray(goal))) for solid in self.robot.obstacles]
        near, name = min(zip(found, [solid.name for solid in self.robot.obstacles], strict=True))
        if near < FREE:
            where = f"inside of '{name}'" if near < 0.0 else f"{near:.3f} m from '{name}'"
            raise GoalError(
                f"goal {np.round(goal, 3).tolist()}: it lies {where}; clutter takes a point at least {FREE:g} m from "
                f"what stands around {self.robot.name}"
            )

    def terminal(self, obs: Observation) -> bool:
        """As in ``reach``, and when anything touches."""
        return super().terminal(obs) or not bool(self._room(obs.joints.q) > 0.0)

    def _distances(self, xp: Any, q: Annotated[Array, "... nj"]) -> tuple[Array, Array]:
        assert self.robot.ends is not None
        ends = self.robot.ends(xp, q)
        return self.around(xp, ends, q[..., 0]), self.itself(xp, ends, q[..., 0])

    def _room(self, q: Annotated[np.ndarray, "... nj"]) -> np.ndarray:
        """The least distance of all in a posture [m]."""
        return np.concatenate(self._distances(np, q), axis=-1).min(axis=-1)

    def _near(self, points: Annotated[np.ndarray, "... 3"]) -> Annotated[np.ndarray, "..."]:
        """How near points are to the obstacle nearest to them, floors and walls apart [m]."""
        solids = [solid for solid in self.robot.obstacles if not isinstance(solid, HalfSpace)]
        return np.min([geometry.from_points(solid, points) for solid in solids or self.robot.obstacles], axis=0)


def make(config: Config, robot: Robot) -> Clutter:
    """Reach through clutter with a robot that says what it is made of and what stands around it."""
    for field, what in (("solids", "what it is made of"), ("obstacles", "what stands around it")):
        if not getattr(robot, field):
            raise ObstacleError(
                f"task 'clutter' for robot '{robot.name}', which does not say {what}: it takes one that declares "
                f"`solids` and `obstacles`, as 'panda_clutter'; without obstacles there is task 'reach'"
            )
    return Clutter(config, robot)
