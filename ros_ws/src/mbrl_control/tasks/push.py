"""Push a puck over a table to a place, with the tip of an arm.

The goal is where the puck is to be, x and y in the base's frame [m]. Where the puck is now is a block of the
observation, so the robot must see one (``panda_push``). What leads there, beside the puck's own distance: with p the
puck, g the goal and e = (p - g) / |p - g|, the tip is drawn to

    p + r e,   just above the table,   by a force that fades out as |p - g|^2 / (|p - g|^2 + s^2),

the place behind the puck from which a push goes towards the goal; once the puck is there nothing draws the tip to it
any more. Joint ranges, posture and controls are charged as in ``reach``.
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
    Observation,
    Robot,
    State,
    Term,
    is_finite,
    numbers,
)
from mbrl_control.tasks import reach

PUCK = "puck"
"""The block of the observation that holds where the puck is."""
LOW, HIGH = np.array([0.35, -0.35]), np.array([0.75, 0.35])
"""The part of the table where goals may lie [m]."""
PLACED = np.array([[0.44, -0.12], [0.52, 0.12]])
"""Where the puck is at the start of an episode, least and most x y [m]."""
DRAWN = np.array([[0.56, -0.2], [0.66, 0.2]])
"""Where goals of episodes lie, least and most x y [m]: beyond the puck, as an arm pushes best."""
TOP = 0.03
"""Height of the puck's middle [m]."""
BEYOND = 0.1
"""An arm that leans on something may be this far beyond a joint's range [rad], as its stop gives way."""

SETTINGS = {
    "mujoco.timestep": 0.01,
    "mujoco.coriolis": 0.05,
    "mppi.samples": 64,
    "mppi.sigma": 0.4,
    "mppi.kappa": 100.0,
    "icem.samples": 64,
    "fit.beta": 0.5,
    "fit.batch": 64,
    "pets.retrain_every": 0,
    "pets.epochs": 40,
}
"""What planners, learners and the simulation as a model take for this task where nobody says otherwise. With ``beta`` a
model foresees two thirds of the puck's movement where it foresaw half (squared, over 15 steps, after 1300 steps)."""


class PuckError(MbrlError):
    """A robot that sees no puck."""


@dataclass(frozen=True)
class Config:
    """Parameters of ``push``."""

    goal: float = param(20.0, "Weight of the puck's distance to the goal", unit="1/m", low=0.0, high=1e6, live=True)
    behind: float = param(
        5.0, "Weight of the tip's distance to the place behind the puck", unit="1/m", low=0.0, high=1e6, live=True
    )
    height: float = param(5.0, "Weight of the tip's height off its own", unit="1/m", low=0.0, high=1e6, live=True)
    posture: float = param(0.1, "Weight of the distance from the home posture", low=0.0, high=1e6, live=True)
    limits: float = param(100.0, "Weight of coming close to the end of a joint's range", low=0.0, high=1e6, live=True)
    effort: float = param(0.05, "Weight of the controls", low=0.0, high=1e6, live=True)
    gap: float = param(0.06, "From the puck's middle to the place behind it, r", unit="m", low=0.0, high=1.0)
    above: float = param(0.025, "Height of the tip over the table when it pushes", unit="m", low=0.0, high=1.0)
    fade: float = param(0.02, "Distance to the goal at which half of that force is left, s", unit="m", low=1e-4, high=1)
    tolerance: float = param(0.03, "The goal is met within this distance", unit="m", low=1e-6, high=10.0)
    dwell: float = param(0.5, "The goal is met after this long within it", unit="s", low=0.0, high=60.0)


class Push:
    """The puck at a place: terms goal, behind, height, posture, limits and effort."""

    sampling_only = False
    goal_size = 2
    dt = 0.05
    steps = 100
    threshold = None

    def __init__(self, config: Config, robot: Robot) -> None:
        self.config, self.robot = config, robot
        self.layout = Layout(robot.blocks)
        self.tolerance, self.dwell = config.tolerance, config.dwell
        self._arm = reach.Reach(reach.Config(posture=config.posture, limits=config.limits, effort=config.effort), robot)
        shared = {name: self._arm.terms[name] for name in ("posture", "limits", "effort")}
        self.terms: Mapping[str, Term] = {
            "goal": Term("smooth_abs", config.goal, p=0.01),
            "behind": Term("smooth_abs", config.behind, p=0.02),
            "height": Term("smooth_abs", config.height, p=0.02),
            **shared,
        }

    def residuals(self, xp: Any, features: Features, u: Array, goal: Array) -> Mapping[str, Array]:
        config, puck = self.config, features[PUCK]
        place, tip = puck[..., :2], self.robot.tip(xp, features["q"])
        away = place - goal
        far2 = xp.sum(xp.square(away), axis=-1)[..., None]
        behind = place + away * (config.gap / xp.sqrt(far2 + 1e-6))
        drawn = far2 / (far2 + config.fade**2)
        of_arm = self._arm.residuals(xp, features, u, tip)
        return {
            "goal": away,
            "behind": (tip[..., :2] - behind) * drawn,
            "height": (tip[..., 2:] - config.above) * drawn,
            **{name: of_arm[name] for name in ("posture", "limits", "effort")},
        }

    def score(self, obs: Observation, u: np.ndarray, after: Observation, goal: np.ndarray) -> float:  # noqa: ARG002
        return -self.distance(after, goal)

    def reset(self, rng: np.random.Generator) -> State:
        return self._arm.reset(rng)

    def place(self, rng: np.random.Generator) -> Mapping[str, np.ndarray]:
        """The puck in front of the arm, at rest."""
        return {PUCK: np.append(rng.uniform(*PLACED), TOP)}

    def sample_goal(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(*DRAWN)

    def rest(self, obs: Observation) -> np.ndarray:
        """Where the puck is, or the nearest place to it where goals may be."""
        return np.clip(obs.blocks[PUCK][:2], LOW, HIGH)

    def check_goal(self, goal: np.ndarray) -> None:
        accepts = f"push takes x y of the puck [m], x {LOW[0]:g} to {HIGH[0]:g} and y {LOW[1]:g} to {HIGH[1]:g}, finite"
        given = numbers(goal, self.goal_size, accepts)
        if not ((given >= LOW).all() and (given <= HIGH).all()):
            raise GoalError(f"goal {given.tolist()}: {accepts}")

    def course(self, goal: np.ndarray, t: Annotated[np.ndarray, "n"]) -> Annotated[np.ndarray, "n 2"]:
        return np.broadcast_to(np.asarray(goal, dtype=float), (len(t), self.goal_size))

    def target(self, xp: Any, goal: Array) -> Array:
        """Where the goal is in the world, at the height of the puck's middle."""
        return xp.concat([goal, goal[..., :1] * 0.0 + TOP], axis=-1)

    def distance(self, obs: Observation, goal: np.ndarray) -> float:
        return float(np.linalg.norm(obs.blocks[PUCK][:2] - np.asarray(goal, dtype=float)))

    def success(self, obs: Observation, goal: np.ndarray) -> bool:
        return self.distance(obs, goal) <= self.tolerance

    def terminal(self, obs: Observation) -> bool:
        q, limits = obs.joints.q, self.robot.limits
        inside = bool(np.all((q >= limits.lower - BEYOND) & (q <= limits.upper + BEYOND)))
        return not (is_finite(q, obs.joints.v) and inside)


def make(config: Config, robot: Robot) -> Push:
    """Push with any robot that sees a puck."""
    if not any(block.name == PUCK and block.unit == "m" and block.size == 3 for block in robot.blocks):
        raise PuckError(f"task 'push' for robot '{robot.name}': it takes a robot that sees a '{PUCK}', as 'panda_push'")
    return Push(config, robot)
