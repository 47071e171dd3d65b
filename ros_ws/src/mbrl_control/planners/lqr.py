"""LQR about the plan in force: the best step of a motion taken as linear and a cost taken as quadratic.

About the trajectory (x, u) that the plan in force leads to from where the robot is, with deviations dx and du:

    dx' = A dx + B du,      cost = its expansion by Gauss and Newton (``optimal.py``)

which is a linear-quadratic problem, solved by one Riccati recursion (``riccati.py``). Its policy u + k + K dx is rolled
out through the model itself, clipped to the bounds; that is the new plan where it costs less, and the old one stays
where not. There is no line search and no damping: a motion far from linear wants ``ilqr``, which is this with both. The
first plan is about standing still.

A cost of our tasks is one of where a step leads to, c(x', u), which in a problem of (x, u) is

    R = c_uu + c_ux B + B'c_xu      S = A'c_xu      r = c_u      and c_x, c_xx are q and Q of the next step.

Gains are for robots commanded by torques. With ``noise`` the predicted deviation under that feedback is in
``Info.spread``: velocities are blown by so much in each step, and gains bring back what came of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from mbrl_control.backward import Expansion, Policy
from mbrl_control.config import param
from mbrl_control.core import Carry, Goal, Info, Knobs, Noise, Observation, Plan, Status, Task, is_finite, unflat
from mbrl_control.optimal import Case
from mbrl_control.planners import ilqr
from mbrl_control.riccati import RiccatiError, Stages, covariances, solve


@dataclass(frozen=True)
class Config(ilqr.Config):
    """The horizon, and what one reckons with."""

    noise: float = param(
        0.0,
        "Standard deviation of what a step adds to each joint's velocity, as a share of its limit, for the spread "
        "that is shown; 0: none is",
        low=0.0,
        high=1.0,
    )


class LQR(ilqr.ILQR):
    """The planner. NumPy only."""

    name = "lqr"
    config: Config

    def improve(
        self, obs: Observation, goal: Goal, knobs: Knobs, carry: Carry, noise: Noise
    ) -> tuple[Carry, Plan, Info]:
        """One solution. Where nothing is finite the carry stays, bit for bit."""
        carry, plan, info = super().improve(obs, goal, knobs, carry, noise)
        if info.status is not Status.OK or not self.config.noise:
            return carry, plan, info
        return carry, plan, replace(info, spread=self.spread(carry))

    def spread(self, carry: Carry) -> dict[str, Annotated[np.ndarray, "H+1 nj"]]:
        """Standard deviations of positions and velocities along the plan, under its gains."""
        problem, robot = self.problem, self.problem.task.robot
        A, B = problem.dynamics.linearize(unflat(carry["x"][:-1], problem.sizes), carry["mean"])
        blown = np.zeros(problem.nx)
        blown[problem.joints[robot.nj :]] = np.square(self.config.noise * robot.limits.velocity)
        each = np.broadcast_to(np.diag(blown), A.shape)
        found = covariances(A + B @ carry["K"], np.zeros_like(A[0]), each)
        deviation = np.sqrt(np.maximum(np.diagonal(found, axis1=-2, axis2=-1), 0.0))[:, problem.joints]
        return {"q": deviation[:, : robot.nj], "v": deviation[:, robot.nj :]} if is_finite(deviation) else {}

    def _stepped(
        self, now: Any, found: Expansion, case: Case, damping: np.ndarray
    ) -> tuple[Any, Policy | None, np.ndarray, str]:
        try:
            best = solve(stages(found))
        except RiccatiError as error:
            return now, None, damping, str(error)
        policy = Policy(best.k, best.K, math.nan, math.nan)
        rolled = self.problem.rolled(now.x[0], now.x, now.u, policy, np.ones(1), case)
        if rolled.cost[0] < now.cost:
            now = replace(now, x=rolled.x[0], u=rolled.u[0], terms=rolled.terms[0])
        return now, policy, damping, ""


def stages(found: Expansion) -> Stages:
    """The linear-quadratic problem of deviations from a trajectory."""
    A, B, H = found.A, found.B, len(found.A)
    tied = found.hux @ B
    none = np.zeros_like(A[:1]), np.zeros_like(found.gx[:1])
    return Stages(
        A=A,
        B=B,
        c=np.zeros((H, A.shape[-1])),
        Q=np.concatenate([none[0], found.hxx]),
        R=found.huu + tied + np.swapaxes(tied, -1, -2),
        S=np.swapaxes(found.hux @ A, -1, -2),
        q=np.concatenate([none[1], found.gx]),
        r=found.gu,
    )


def make(config: Config, task: Task, dynamics: Any, xp: Any = np) -> LQR:
    """LQR on a model that gives derivatives."""
    return LQR(config, task, dynamics, xp)
