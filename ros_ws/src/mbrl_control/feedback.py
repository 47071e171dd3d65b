"""Gains along any plan: a plan of torques is tracked, not replayed, whoever made it.

A plan leads through states x_k under u_k, and near them the model is  dx' = A_k dx + B_k du.  What brings deviations
back at least cost (``riccati.py``) is du = K_k dx, the plan's ``K``, which acts at every tick of the guard until the
next plan is there, and for longer if that is late. The cost is of shares: a deviation of a joint by ``position`` of its
reach (of half a turn, where it turns further) or by ``velocity`` of its speed limit counts as much as a torque at its
bound. What is left at the end of the plan costs what the problem costs that goes on for ever from there; where that
has no solution, as of a robot that could not stop falling, it costs what a step does.

Deviations are those of the joints, as a plan's gains have them. Where a model's state has more in it, past commands are
the plan's, and other bodies stay as they were seen.

For torques alone: reference velocities go through a servo, which is a feedback of its own, and a second one around it
swings (docs/trajectory_optimisation.md). A planner that gives gains keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import pi
from typing import Annotated, Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import (
    Differentiable,
    Dynamics,
    MbrlError,
    Mode,
    Observation,
    Plan,
    Robot,
    State,
    unflat,
)
from mbrl_control.model import COMMANDS
from mbrl_control.riccati import RiccatiError, Stages, solve, stationary

TRIES = 2
"""Of how long gains take: what is made the first time is there the second."""
SHARE = 0.2
"""Of the time between plans that gains may take."""


class FeedbackError(MbrlError):
    """Feedback asked for where there can be none."""


@dataclass(frozen=True)
class Config:
    """What follows a plan of torques."""

    use: str = param(
        "auto",
        "Gains for plans of torques that have none: of models with exact Jacobians (auto), of those by differences too "
        "(on), or of none (off)",
        choices=("auto", "on", "off"),
    )
    position: float = param(
        0.05, "A deviation by this share of a joint's reach counts as a torque at its bound", low=1e-4, high=10.0
    )
    velocity: float = param(
        0.2, "A deviation by this share of a joint's speed limit counts as much", low=1e-4, high=10.0
    )


class Feedback:
    """Makes the gains of plans on a model."""

    def __init__(self, config: Config, robot: Robot, dynamics: Dynamics) -> None:
        self.config, self.robot, self.dynamics = config, robot, dynamics
        self.why = _why_not(config, robot, dynamics)
        """Why there is none; empty: there is."""
        if self.why and config.use == "on":
            raise FeedbackError(f"feedback.use = on for robot '{robot.name}': {self.why}; it takes auto or off")
        limits = robot.limits
        reach = np.minimum(limits.upper - limits.lower, pi)
        each = np.concatenate([config.position * reach, config.velocity * limits.velocity])
        self._Q, self._R = np.diag(each**-2.0), np.diag(robot.channels.bound**-2.0)

    def tried(self, obs: Observation, horizon: int, budget: float, clock: Callable[[], float]) -> Feedback:
        """The same; with ``auto`` none where gains of so many steps, at rest, take longer than ``budget`` [s]."""
        if self.why or self.config.use == "on":
            return self
        q, u = np.asarray(obs.joints.q), np.zeros((horizon, self.robot.nu))
        rest = np.tile(q, (horizon + 1, 1))
        plan = Plan(obs.t, self.dynamics.dt, Mode.TORQUE, rest, 0.0 * rest, u, None, obs.t, 0)
        took = []
        for _ in range(TRIES):
            begun = clock()
            self.along(plan, obs)
            took.append(clock() - begun)
        if min(took) <= budget:
            return self
        none = Feedback(replace(self.config, use="off"), self.robot, self.dynamics)
        none.why = (
            f"gains take {min(took) * 1e3:.0f} ms, and {budget * 1e3:.0f} ms are there; feedback.use = on has them"
        )
        return none

    def along(self, plan: Plan, obs: Observation) -> Plan:
        """The plan with gains; as it is, where it has some or none can be had (of what is not finite, say).

        ``obs`` is what was seen when it was made, for what a model reads beside the joints.
        """
        if self.why or plan.K is not None:
            return plan
        with np.errstate(all="ignore"):
            gains = self.gains(plan, obs)
        return plan if gains is None else replace(plan, K=gains)

    def gains(self, plan: Plan, obs: Observation) -> Annotated[np.ndarray, "H nu 2nj"] | None:
        """The gains; None where there are none."""
        A, B = self._linear(plan, obs)
        H, n, nu = B.shape
        Q, R, S = self._Q, self._R, np.zeros((n, nu))
        try:
            try:
                last = stationary(A[-1], B[-1], Q, R)[0]
            except RiccatiError:
                last = Q
            still = Stages.repeated(A[-1], B[-1], Q, R, S, last, H)
            return solve(replace(still, A=A, B=B)).K
        except RiccatiError:
            return None

    def _linear(self, plan: Plan, obs: Observation) -> tuple[np.ndarray, np.ndarray]:
        """A [H 2nj 2nj] and B [H 2nj nu] of the joints along the plan."""
        dynamics, u = self.dynamics, np.asarray(plan.u, dtype=float)
        assert isinstance(dynamics, Differentiable)
        states = [dynamics.init(seen, {}) for seen in _knots(plan, obs)]
        s = {name: np.stack([np.asarray(state[name], dtype=float) for state in states]) for name in states[0]}
        A, B = dynamics.linearize(s, u)
        at = places(dynamics, {name: x.shape[-1] for name, x in s.items()})
        return A[:, at[:, None], at], B[:, at]


def _knots(plan: Plan, obs: Observation) -> Iterator[Observation]:
    """What would be seen at each knot of a plan but the last."""
    before = np.asarray(obs.blocks.get(COMMANDS, ()), dtype=float)
    for k in range(plan.horizon):
        t, q, v = plan.t0 + k * plan.dt, np.asarray(plan.q[k], dtype=float), np.asarray(plan.v[k], dtype=float)
        given = np.concatenate([before, np.ravel(plan.u[:k])])[k * plan.u.shape[-1] :]
        yield replace(obs, t=t, joints=State(t, q, v), blocks={**obs.blocks, COMMANDS: given})


def places(dynamics: Dynamics, sizes: dict[str, int]) -> Annotated[np.ndarray, "2nj"]:
    """Where positions and speeds of the joints stand in a state: what features give of the numbers 0, 1, ..."""
    seen = dynamics.features(unflat(np.arange(float(sum(sizes.values()))), sizes))
    return np.rint(np.concatenate([np.asarray(seen["q"]), np.asarray(seen["v"])])).astype(int)


def _why_not(config: Config, robot: Robot, dynamics: Any) -> str:
    """Why plans on a model get no gains; empty: they do."""
    model = type(dynamics).__name__
    if config.use == "off":
        return "feedback.use = off"
    if robot.channels.mode is not Mode.TORQUE:
        return f"it is commanded by {robot.channels.mode}, and gains are for {Mode.TORQUE}"
    if not isinstance(dynamics, Differentiable):
        return f"a {model} model gives no Jacobians"
    if config.use == "auto" and not getattr(dynamics, "exact", True):
        return (
            f"a {model} model has Jacobians by differences, which take longer than a plan; feedback.use = on has them"
        )
    return ""
