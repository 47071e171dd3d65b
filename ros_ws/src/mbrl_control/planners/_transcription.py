"""Optimal control over a horizon as one nonlinear program in CasADi, and IPOPT to solve it; ``collocation`` uses it.

    minimise    1/H sum_k w . c_k + (w * terminal) . c_H-1        c_k: terms of (x_k+1, u_k, goal_k+1), as core.costs
    over        u_0 x_1 u_1 x_2 ... x_H,  x = (q, v),  x_0 given
    so that     d(x_k, u_k, x_k+1) = 0                            defects
                low <= p(x_k, x_k+1) <= high                      rates, torques, clearance
                low <= u_k, x_k+1 <= high

with h = dt and f(x, u) = (v, a(q, v, C u)), for robots commanded by torques

    shooting          d = x' - F(x, u)                                    F: the model's own step
    trapezoid         d = x' - x - h/2 (f(x, u) + f(x', u))
    hermite_simpson   d = x' - x - h/6 (f(x, u) + 4 f(m, u) + f(x', u)),  m = (x + x')/2 + h/8 (f(x, u) - f(x', u))

and, for those commanded by reference velocities, whose motion is exactly piecewise quadratic whatever one chooses,

    d = (q' - q - h/2 (v + v'),  v' - C u),     |v' - v| <= a h

which is the kinematic model without its clips: where they would act there is a constraint. The functions of one step
are built once, of scalars, and mapped over the horizon, so that making a program takes milliseconds at any horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

import numpy as np

from mbrl_control.core import NORMS, Array, Avoids, Dynamics, MbrlError, Mode, Robot, Task
from mbrl_control.dynamics.analytic import Analytic
from mbrl_control.dynamics.symbolic import column, namespace, symbols

LEVELS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
"""Barrier parameters that a solver begins with: IPOPT reads it once, so each has a solver, made when it is wanted."""
COLD = LEVELS[0]
WARM = {
    "warm_start_init_point": "yes",
    "warm_start_bound_push": 1e-9,
    "warm_start_bound_frac": 1e-9,
    "warm_start_slack_bound_push": 1e-9,
    "warm_start_slack_bound_frac": 1e-9,
    "warm_start_mult_bound_push": 1e-9,
}
SILENT = {"print_time": False, "show_eval_warnings": False, "error_on_fail": False}


class LimitsError(MbrlError):
    """Limits that contradict each other."""


@dataclass(frozen=True)
class Band:
    """What numbers have to stay within, and what they are called where they do not."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: Annotated[np.ndarray, "n"]
    high: Annotated[np.ndarray, "n"]

    def excess(self, values: Annotated[np.ndarray, "... n"]) -> Annotated[np.ndarray, "... n"]:
        """How far values are out of it; 0 inside."""
        return np.maximum(np.maximum(self.low - values, values - self.high), 0.0)

    def said(self, i: int, value: float) -> str:
        """A value that is out of it, in words."""
        end = self.low[i] if value < self.low[i] else self.high[i]
        return f"{self.names[i]} is {abs(value - end):.3g} {self.units[i]} beyond {end:.6g}"

    def check(self, robot: Robot) -> Band:
        """Refuse, by name, limits between which there is nothing."""
        for name, unit, low, high in zip(self.names, self.units, self.low, self.high, strict=True):
            if not low <= high:
                raise LimitsError(
                    f"planner 'collocation' for robot '{robot.name}': {name} from {low:g} to {high:g} {unit}; it takes "
                    "limits of which the lower is not above the upper"
                )
        return self

    def __add__(self, other: Band) -> Band:
        low, high = np.concatenate([self.low, other.low]), np.concatenate([self.high, other.high])
        return Band(self.names + other.names, self.units + other.units, low, high)


NONE = Band((), (), np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Iterate:
    """Where the solver is: a trajectory, not yet one of the model, and the prices of the constraints."""

    knots: Annotated[np.ndarray, "H+1 nx"]
    controls: Annotated[np.ndarray, "H nu"]
    row_prices: Annotated[np.ndarray, "H nr"]
    """Multipliers of the defects and of the path's rows."""
    bound_prices: Annotated[np.ndarray, "H nz"]
    """Multipliers of the bounds of (u_k, x_k+1)."""
    barrier: float
    """IPOPT's barrier parameter; 0: prices and barrier are not known yet."""


@dataclass(frozen=True)
class Wanted:
    """What a program is solved for."""

    start: Annotated[np.ndarray, "nx"]
    goal: Annotated[np.ndarray, "H+1 ng"]
    weights: Annotated[np.ndarray, "T"]


@dataclass(frozen=True)
class Constrained:
    """Which limits a plan keeps to, besides the bounds of its controls."""

    positions: bool
    velocities: bool
    torques: bool
    clearance: float


class Program:
    """The program of a task on a model, and its solvers."""

    def __init__(
        self, task: Task, dynamics: Dynamics, horizon: int, transcription: str, keeps: Constrained, options: dict
    ) -> None:
        """``options`` are IPOPT's."""
        xp, robot = namespace(), task.robot
        self.horizon, self.nx, self.nu = horizon, 2 * robot.nj, robot.nu
        self._options = options
        x, u, after = symbols("x", self.nx), symbols("u", self.nu), symbols("after", self.nx)
        goal, weights = symbols("goal", task.goal_size), symbols("weights", len(task.terms))
        low, high = dynamics.bounds()
        self.controls = _band("control of", robot.channels.names, robot, low, high, "").check(robot)
        self.states = states(robot, keeps).check(robot)
        rows, self.path = path(xp, task, dynamics, keeps, x, after)
        self.path.check(robot)
        self.kept = self.states + self.path
        """What (x_k+1, rows of the path) have to stay within."""
        defects = transcribed(xp, robot, dynamics, transcription, x, u, after)
        terms = scored(xp, task, after, u, goal)
        last = np.asarray([term.terminal for term in task.terms.values()])
        self._build(
            [column(part) for part in (x, u, after)],
            column(xp.concat([defects, rows], axis=-1)),
            [column(goal), column(weights)],
            column(xp.sum(terms * weights, axis=-1) * (1.0 / horizon)),
            column(xp.sum(terms * weights * xp.asarray(last), axis=-1)),
        )
        self._solvers: dict[float, Any] = {}

    def _build(self, step: list[Any], rows: Any, given: list[Any], stage: Any, last: Any) -> None:
        import casadi

        H, nx, nu = self.horizon, self.nx, self.nu
        _, u, after = step
        self._rows = casadi.Function("rows", step, [rows]).map(H)
        stages = casadi.Function("stage", [after, u, *given], [stage]).map(H, [False, False, False, True], [])
        terminal = casadi.Function("terminal", [after, u, *given], [last])
        z = casadi.MX.sym("z", nu + nx, H)
        start, goal = casadi.MX.sym("start", nx), casadi.MX.sym("goal", given[0].shape[0], H)
        weights = casadi.MX.sym("weights", given[1].shape[0])
        controls, later = z[:nu, :], z[nu:, :]
        before = casadi.horzcat(start, later[:, :-1])
        cost = casadi.sum2(stages(later, controls, goal, weights))
        cost += terminal(later[:, -1], controls[:, -1], goal[:, -1], weights)
        constraints = casadi.vec(self._rows(before, controls, later))
        self._nlp = {
            "x": casadi.vec(z),
            "f": cost,
            "g": constraints,
            "p": casadi.vertcat(start, casadi.vec(goal), weights),
        }
        zeros = np.zeros(nx)
        self._low_z, self._high_z = (
            np.tile(np.concatenate([getattr(self.controls, side), getattr(self.states, side)]), H)
            for side in ("low", "high")
        )
        self._low_g, self._high_g = (
            np.tile(np.concatenate([zeros, getattr(self.path, side)]), H) for side in ("low", "high")
        )

    def begun(self, knots: Annotated[np.ndarray, "H+1 nx"], controls: Annotated[np.ndarray, "H nu"]) -> Iterate:
        """A trajectory to begin with, of which no prices are known."""
        nr = self.nx + len(self.path.names)
        return Iterate(knots, controls, np.zeros((self.horizon, nr)), np.zeros((self.horizon, self.nu + self.nx)), 0.0)

    def rows(
        self, knots: Annotated[np.ndarray, "H+1 nx"], controls: Annotated[np.ndarray, "H nu"]
    ) -> tuple[Annotated[np.ndarray, "H nx"], Annotated[np.ndarray, "H nc"]]:
        """Defects, and the rows of the path."""
        found = np.asarray(self._rows(knots[:-1].T, controls.T, knots[1:].T)).T
        return found[:, : self.nx], found[:, self.nx :]

    def solve(self, at: Iterate, wanted: Wanted) -> tuple[Iterate, str]:
        """So many iterations of IPOPT as its options allow, and what it says of them."""
        H, warm = self.horizon, at.barrier > 0.0
        level = min((level for level in LEVELS if level >= at.barrier), default=COLD) if warm else COLD
        solver = self._solver(level, warm)
        found = solver(
            x0=np.concatenate([at.controls, at.knots[1:]], axis=-1).ravel(),
            p=np.concatenate([wanted.start, wanted.goal[1:].ravel(), wanted.weights]),
            lbx=self._low_z,
            ubx=self._high_z,
            lbg=self._low_g,
            ubg=self._high_g,
            lam_x0=at.bound_prices.ravel(),
            lam_g0=at.row_prices.ravel(),
        )
        told = solver.stats()
        z, lam_g, lam_x = (np.asarray(found[name]).reshape(H, -1) for name in ("x", "lam_g", "lam_x"))
        barrier = float(told["iterations"]["mu"][-1]) if told.get("iterations", {}).get("mu") else level
        knots = np.concatenate([wanted.start[None], z[:, self.nu :]])
        return Iterate(knots, z[:, : self.nu], lam_g, lam_x, barrier), told["return_status"]

    def _solver(self, level: float, warm: bool) -> Any:
        import casadi

        key = level if warm else 0.0
        if key not in self._solvers:
            ipopt = {"print_level": 0, "sb": "yes", "mu_init": level, **(WARM if warm else {}), **self._options}
            self._solvers[key] = casadi.nlpsol("solver", "ipopt", self._nlp, {**SILENT, "ipopt": ipopt})
        return self._solvers[key]


def equations(dynamics: Dynamics) -> Any:
    """What has the parts of ``Analytic``: the model, or what it derives; None where nothing has."""
    model = getattr(dynamics, "model", dynamics)
    return model if all(hasattr(model, part.name) for part in fields(Analytic)) else None


def transcribed(
    xp: Any, robot: Robot, dynamics: Dynamics, transcription: str, x: Array, u: Array, after: Array
) -> Array:
    """The defects [nx] of a step."""
    nj, h = robot.nj, dynamics.dt
    torque = xp.matmul(u, xp.asarray(robot.channels.coupling.T))
    if robot.channels.mode is Mode.VELOCITY_REFERENCE:
        moved = after[:nj] - x[:nj] - (x[nj:] + after[nj:]) * (0.5 * h)
        return xp.concat([moved, after[nj:] - torque], axis=-1)
    model: Any = equations(dynamics)
    if transcription == "shooting":
        exact = Analytic(**{part.name: getattr(model, part.name) for part in fields(Analytic)} | {"xp": xp})
        state, _, _ = exact.step({"q": x[:nj], "v": x[nj:]}, u, {})
        return after - xp.concat([state["q"], state["v"]], axis=-1)

    def f(at: Array) -> Array:
        return xp.concat([at[nj:], model.acceleration(xp, at[:nj], at[nj:], torque)], axis=-1)

    begin, end = f(x), f(after)
    if transcription == "trapezoid":
        return after - x - (begin + end) * (0.5 * h)
    middle = (x + after) * 0.5 + (begin - end) * (h / 8.0)
    return after - x - (begin + f(middle) * 4.0 + end) * (h / 6.0)


def scored(xp: Any, task: Task, after: Array, u: Array, goal: Array) -> Array:
    """The terms [T] of a step, without their weights."""
    nj = task.robot.nj
    residuals = task.residuals(xp, {"q": after[:nj], "v": after[nj:]}, u, goal)
    return xp.stack([NORMS[term.norm](xp, residuals[name], term.p) for name, term in task.terms.items()], axis=-1)


def states(robot: Robot, keeps: Constrained) -> Band:
    """What positions and velocities have to stay within."""
    limits, free = robot.limits, np.full(robot.nj, np.inf)
    lower, upper = (limits.lower, limits.upper) if keeps.positions else (-free, free)
    fastest = limits.velocity if keeps.velocities else free
    positions = _band("position of", robot.joints, robot, lower, upper, "")
    return positions + _band("velocity of", robot.joints, robot, -fastest, fastest, "/s")


def path(xp: Any, task: Task, dynamics: Dynamics, keeps: Constrained, x: Array, after: Array) -> tuple[Array, Band]:
    """What else is constrained in a step: how fast references change, torques, clearance."""
    robot, h = task.robot, dynamics.dt
    nj, limits = robot.nj, robot.limits
    rows: list[Array] = [x[:0]]
    band = NONE
    rate = (after[nj:] - x[nj:]) * (1.0 / h)
    if robot.channels.mode is Mode.VELOCITY_REFERENCE:
        rows.append(rate)
        band += _band("acceleration of", robot.joints, robot, -limits.acceleration, limits.acceleration, "/s^2")
        if keeps.torques and robot.inverse_dynamics is not None:
            v = (x[nj:] + after[nj:]) * 0.5
            torque = robot.inverse_dynamics(xp, (x[:nj] + after[:nj]) * 0.5, v, rate)
            rows.append(torque if robot.friction is None else torque + robot.friction(xp, v))
            units = tuple("N" if joint in robot.sliding else "N m" for joint in robot.joints)
            names = tuple(f"torque of {joint}" for joint in robot.joints)
            band += Band(names, units, -limits.torque, limits.torque)
    if isinstance(task, Avoids):
        distances = task.clearance(xp, {"q": after[:nj], "v": after[nj:]})
        count = distances.shape[-1]
        rows.append(distances)
        names = tuple(f"clearance {i}" for i in range(count))
        band += Band(names, ("m",) * count, np.full(count, keeps.clearance), np.full(count, np.inf))
    return xp.concat(rows, axis=-1), band


def _band(what: str, names: Sequence[str], robot: Robot, low: np.ndarray, high: np.ndarray, per: str) -> Band:
    length = ("m" if name in robot.sliding else "rad" for name in names)
    return Band(tuple(f"{what} {name}" for name in names), tuple(unit + per for unit in length), low, high)
