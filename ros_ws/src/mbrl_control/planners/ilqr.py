"""Iterative LQR: Newton's steps on a trajectory, with the gains that hold it.

Tassa, Erez, Todorov, "Synthesis and Stabilization of Complex Behaviors through Online Trajectory Optimization" (IROS
2012): a backward pass gives a policy (``backward.py``), which is rolled out with several shares of its step; the
cheapest of those that gain enough of what was expected of them is the new trajectory. Where none does, or the
Hessian is not positive definite, controls are damped more, else less, by factors that grow with every time in a row:

    more: d <- max(d0, d d0), mu <- max(mu0, mu d)       less: d <- min(1 / d0, d / d0), mu <- mu d, or 0 below mu0

``improve`` is one such iteration. From one call to the next the trajectory is moved on in time and rolled out anew from
where the robot is: with its controls as they are, and with its gains, of which the cheaper one is gone on with. Of two
source documents one minimises a cost and one maximises a reward: here everything is a cost.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.backward import Backward, Expansion, Policy
from mbrl_control.config import param
from mbrl_control.core import (
    Carry,
    Goal,
    Info,
    Knobs,
    Mode,
    Noise,
    Observation,
    Plan,
    Status,
    Task,
    is_finite,
)
from mbrl_control.knots import LANES
from mbrl_control.optimal import Case, Problem, shifted

GROWTH, LEAST, MOST = 1.6, 1e-6, 1e8
"""Of the damping: d0, mu0 and where it ends. It counts in cost per square of half the range of a control."""
GAINED = 1e-4
"""Share of the expected gain that a step has to bring."""
NOTHING = 1e-9
"""Expected gain, relative to the cost, from which on nothing is missed where no step brings it."""
HALVINGS = 0.5 ** np.arange(LANES)
"""Shares of the step that are tried."""


@dataclass(frozen=True)
class Config:
    """The horizon."""

    dt: float = param(0.05, "Duration of one step of the plan, that of the model", unit="s", low=0.001, high=1.0)
    horizon: int = param(25, "Steps of the plan", low=2, high=1000)
    compile: bool = param(True, "Compile derivatives and passes to machine code, where there is a C compiler")


@dataclass(frozen=True, slots=True)
class _Trajectory:
    """Where an iteration starts from or ends."""

    x: Annotated[np.ndarray, "H+1 nx"]
    u: Annotated[np.ndarray, "H nu"]
    terms: Annotated[np.ndarray, "T"]

    @property
    def cost(self) -> float:
        return float(self.terms.sum())


class ILQR:
    """The planner. NumPy only."""

    name = "ilqr"

    def __init__(self, config: Config, task: Task, dynamics: Any, xp: Any) -> None:
        self.config, self.dt, self.horizon = config, config.dt, config.horizon
        self.problem = Problem(self.name, config.dt, config.horizon, task, dynamics, xp, config.compile)
        self._backward = Backward(self.problem.nx, self.problem.nu, config.compile)
        self._scale = np.square(2.0 / np.maximum(self.problem.high - self.problem.low, 1e-9))

    def knobs(self) -> Knobs:
        return {"weights": self.problem.weights()}

    def noise(self, rng: np.random.Generator) -> Noise:  # noqa: ARG002 - nothing is random here
        return {}

    def init(self, obs: Observation) -> Carry:
        """Controls that hold the joints where they are, as far as is known."""
        task, H, problem = self.problem.task, self.horizon, self.problem
        q = np.asarray(obs.joints.q, dtype=float)
        q = np.where(np.isfinite(q), q, task.robot.home)
        return {
            "mean": np.tile(self._holding(q), (H, 1)),
            "last": np.zeros(problem.nu),
            "t0": np.asarray(obs.t),
            "stamp": np.asarray(obs.joints.t),
            "seq": np.asarray(0),
            "q": np.tile(q, (H + 1, 1)),
            "v": np.zeros((H + 1, task.robot.nj)),
            "x": np.zeros((H + 1, problem.nx)),
            "K": np.zeros((H, problem.nu, problem.nx)),
            "damping": np.array([0.0, 1.0]),
        }

    def _holding(self, q: np.ndarray) -> Annotated[np.ndarray, "nu"]:
        robot = self.problem.task.robot
        if robot.channels.mode is not Mode.TORQUE or robot.inverse_dynamics is None:
            return np.clip(np.zeros(self.problem.nu), self.problem.low, self.problem.high)
        torque = np.asarray(robot.inverse_dynamics(np, q, 0.0 * q, 0.0 * q))
        return np.clip(np.linalg.pinv(robot.channels.coupling) @ torque, self.problem.low, self.problem.high)

    def improve(
        self,
        obs: Observation,
        goal: Goal,
        knobs: Knobs,
        carry: Carry,
        noise: Noise,  # noqa: ARG002 - nothing is random here
    ) -> tuple[Carry, Plan, Info]:
        """One iteration. Where nothing is finite the carry stays, bit for bit."""
        problem = self.problem
        with np.errstate(all="ignore"):  # what is not finite is said in words
            case, start = problem.case(goal, knobs["weights"]), problem.start(obs)
            if not is_finite(start, case.goal, case.weights, obs.t, obs.joints.t, obs.joints.q, obs.joints.v):
                return self._lost(carry, "state, goal or weights are not finite")
            last, x, u, cost = self._moved_on(start, carry, float(obs.t), case)
            if not is_finite(x, u, cost):
                return self._lost(carry, "the model or the costs do not stay finite under the plan in force")
            now, found = self._expanded(x, u, case)
            if not is_finite(now.terms, *parts(found)):
                return self._lost(carry, f"costs or derivatives are not finite {_where(parts(found))}")
            better, policy, damping, reason = self._stepped(now, found, case, carry["damping"])
        if policy is None:
            return self._lost(carry, reason, Status.FAULT)
        features = problem.features(better.x)
        q, v = (np.asarray(part) for part in problem.dynamics.plan(features, better.u))
        carry = {
            "mean": better.u,
            "last": last,
            "t0": np.asarray(obs.t),
            "stamp": np.asarray(obs.joints.t),
            "seq": carry["seq"] + 1,
            "q": q,
            "v": v,
            "x": better.x,
            "K": policy.K,
            "damping": damping,
        }
        terms = dict(zip(problem.task.terms, better.terms.tolist(), strict=True))
        return carry, self._plan(carry), Info(Status.OK, better.cost, terms, 1.0, features, reason=reason)

    # --- Where it starts from -------------------------------------------------------------------------

    def _moved_on(
        self, start: np.ndarray, carry: Carry, t: float, case: Case
    ) -> tuple[Annotated[np.ndarray, "nu"], Annotated[np.ndarray, "H+1 nx"], Annotated[np.ndarray, "H nu"], float]:
        """The control in force before time ``t``; the plan in force from then on, from where the robot is; its cost."""
        steps = (t - float(carry["t0"])) / self.dt
        if carry["seq"] > 0 and steps == 0.0 and np.array_equal(start, carry["x"][0]):
            return carry["last"], carry["x"], carry["mean"], 0.0  # rolled out before
        controls = shifted(np.concatenate([carry["last"][None], carry["mean"]]), steps)
        last, u = controls[0], controls[1:]
        x, K, k = shifted(carry["x"], steps), shifted(carry["K"], steps), np.zeros_like(u)
        ways = [Policy(k, np.zeros_like(K), 0.0, 0.0)] + [Policy(k, K, 0.0, 0.0)] * bool(K.any())
        tried = [self.problem.rolled(start, x, u, way, np.zeros(1), case) for way in ways]
        best = min(tried, key=lambda one: one.cost[0])
        return last, best.x[0], best.u[0], float(best.cost[0])

    # --- An iteration ---------------------------------------------------------------------------------

    def _expanded(self, x: np.ndarray, u: np.ndarray, case: Case) -> tuple[_Trajectory, Expansion]:
        terms, found = self.problem.expanded(x, u, case)
        return _Trajectory(x, u, terms), found

    def _stepped(
        self, now: _Trajectory, found: Expansion, case: Case, damping: np.ndarray
    ) -> tuple[_Trajectory, Policy | None, np.ndarray, str]:
        """The better trajectory, or the one there was; its policy, how to damp from now on, and what was in the way."""
        policy, damping = self._policy(found, now.u, damping)
        if policy is None:
            return now, None, damping, f"no Hessian is positive definite, however damped (to {MOST:g})"
        rolled = self.problem.rolled(now.x[0], now.x, now.u, policy, HALVINGS, case)
        expected = -policy.expected(HALVINGS)
        gains = now.cost - rolled.cost
        good = (gains > GAINED * expected) & (expected > 0.0)
        if not good.any():
            at_the_end = expected[0] <= NOTHING * (1.0 + abs(now.cost))
            return now, policy, damping if at_the_end else _more(damping), ""
        best = int(np.argmin(np.where(good, rolled.cost, np.inf)))
        return _Trajectory(rolled.x[best], rolled.u[best], rolled.terms[best]), policy, _less(damping), ""

    def _policy(self, found: Expansion, u: np.ndarray, damping: np.ndarray) -> tuple[Policy | None, np.ndarray]:
        """What the backward pass gives, damped until it gives something."""
        problem = self.problem
        while True:
            policy = self._backward(found, u, problem.low, problem.high, damping[0] * self._scale)
            if policy is not None or damping[0] > MOST:
                return policy, damping
            damping = _more(damping)

    # --- What comes of it -----------------------------------------------------------------------------

    def _plan(self, carry: Carry) -> Plan:
        mode = self.problem.task.robot.channels.mode
        gains = carry["K"][..., self.problem.joints] if mode is Mode.TORQUE and carry["K"].any() else None
        t0, stamp, seq = float(carry["t0"]), float(carry["stamp"]), int(carry["seq"])
        return Plan(t0, self.dt, mode, carry["q"], carry["v"], carry["mean"], gains, stamp, seq)

    def _lost(self, carry: Carry, reason: str, status: Status = Status.NONFINITE) -> tuple[Carry, Plan, Info]:
        terms = dict.fromkeys(self.problem.task.terms, math.inf)
        return carry, self._plan(carry), Info(status, math.inf, terms, 1.0, {}, reason=reason)


def parts(found: Expansion) -> list[np.ndarray]:
    """Its arrays, a knot a row."""
    each = (getattr(found, field.name) for field in dataclasses.fields(found))
    return [part for part in each if part is not None]


def _where(rows: Sequence[np.ndarray]) -> str:
    """At which knot something is not finite, the first one."""
    bad = np.any([~np.isfinite(part).reshape(len(part), -1).all(axis=-1) for part in rows], axis=0)
    return f"at knot {int(np.argmax(bad))}"


def _more(damping: np.ndarray) -> np.ndarray:
    rate = max(GROWTH, damping[1] * GROWTH)
    return np.array([max(LEAST, damping[0] * rate), rate])


def _less(damping: np.ndarray) -> np.ndarray:
    rate = min(1.0 / GROWTH, damping[1] / GROWTH)
    return np.array([damping[0] * rate if damping[0] * rate >= LEAST else 0.0, rate])


def make(config: Config, task: Task, dynamics: Any, xp: Any = np) -> ILQR:
    """Iterative LQR on a model that gives derivatives."""
    return ILQR(config, task, dynamics, xp)
