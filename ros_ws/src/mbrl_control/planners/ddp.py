"""Differential dynamic programming: iterative LQR with the curvature of the motion.

Jacobson & Mayne, "Differential Dynamic Programming" (1970): to iLQR's Hessians come the second derivatives of the
model's step, weighed by the gradient of the value where it leads (``backward.py``). Newton's method on the whole
trajectory, so it ends in fewer iterations; each costs more, and its Hessians may be indefinite far from the end, where
damping makes up for it. Second derivatives are central differences of the model's exact first ones, all of a trajectory
in one call; a model whose first ones are differences is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mbrl_control.backward import Expansion
from mbrl_control.core import Task
from mbrl_control.optimal import Case, NoDerivativesError, second
from mbrl_control.planners import ilqr


@dataclass(frozen=True)
class Config(ilqr.Config):
    """As of ``ilqr``."""


class DDP(ilqr.ILQR):
    """The planner. NumPy only."""

    name = "ddp"

    def _expanded(self, x: np.ndarray, u: np.ndarray, case: Case) -> tuple[Any, Expansion]:
        now, found = super()._expanded(x, u, case)
        return now, replace(found, second=second(self.problem, x, u))


def make(config: Config, task: Task, dynamics: Any, xp: Any = np) -> DDP:
    """Differential dynamic programming on a model that gives exact derivatives; refuses others by name."""
    if not getattr(dynamics, "exact", True):
        raise NoDerivativesError(
            f"planner 'ddp' for robot '{task.robot.name}' on a {type(dynamics).__name__} model, whose Jacobians are "
            "differences: it takes exact ones, as of dynamics 'symbolic'; planner 'ilqr' takes these"
        )
    return DDP(config, task, dynamics, xp)
