"""A task on a model over a horizon as planners by derivatives see it: rolled out, and expanded about a trajectory.

Costs are those of ``core.costs``, built by CasADi from ``Task.residuals``. Their Hessians are Gauss and Newton's: of a
norm phi of a residual r with the Jacobian J = dr/dz the gradient is J' phi'(r), and of the Hessian what the curvature
of r adds is left out, so that it cannot be indefinite:

    quadratic     p r'r / 2                     J' r p                  J'J p
    smooth_abs    s - p, s = sqrt(r'r + p^2)    J' r / s                (J'J - J'r r'J / s^2) / s
    gaussian      1 - e, e = exp(-r'r / 2p^2)   J' r e / p^2            J'J e / p^2  (the norm's own is indefinite)

A term that has no such Hessian is refused by name. States are latent states as ``core.flat`` has them.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from mbrl_control import knots, machine_code
from mbrl_control.backward import Expansion, Policy
from mbrl_control.casadi_graph import column, namespace, package, rows, symbols
from mbrl_control.config import ConfigError
from mbrl_control.core import (
    NORMS,
    Array,
    BackEndError,
    Differentiable,
    Features,
    Goal,
    Latent,
    MbrlError,
    Observation,
    Task,
    costs,
    flat,
    is_finite,
    unflat,
)
from mbrl_control.dynamics.symbolic import Symbolic
from mbrl_control.knots import LANES, Knots
from mbrl_control.sampling import at_home, check_predicts


class NoDerivativesError(MbrlError):
    """A task or a model of which derivatives cannot be taken."""


@dataclass(frozen=True, slots=True)
class Case:
    """What a trajectory is charged by."""

    goal: Annotated[np.ndarray, "H+1 ng"]
    weights: Annotated[np.ndarray, "T"]
    each: Annotated[np.ndarray, "H T"]
    """Weights of the terms at each knot: shares of the mean over the horizon, and the terminal part at the last."""


@dataclass(frozen=True, slots=True)
class Rolled:
    """Trajectories, and the terms of their costs."""

    x: Annotated[np.ndarray, "n H+1 nx"]
    u: Annotated[np.ndarray, "n H nu"]
    terms: Annotated[np.ndarray, "n T"]

    @property
    def cost(self) -> Annotated[np.ndarray, "n"]:
        """What is not finite is infinite."""
        total = self.terms.sum(axis=-1)
        ends = self.x[:, -1].sum(axis=-1) + self.u[:, -1].sum(axis=-1)
        return np.where(np.isfinite(total + ends), total, np.inf)


class Problem:
    """A task on a model over a horizon."""

    def __init__(self, name: str, dt: float, horizon: int, task: Task, dynamics: Any, xp: Any, compile: bool) -> None:
        """``name`` is the planner's, for what it refuses."""
        check(name, dt, task, dynamics, xp)
        self.dt, self.horizon, self.task, self.dynamics, self.compile = dt, horizon, task, dynamics, compile
        self.low, self.high = dynamics.bounds()
        self.nu, self.ng = len(self.low), task.goal_size
        start = dynamics.init(at_home(task.robot, task), {})
        self.sizes = {part: int(np.shape(tensor)[-1]) for part, tensor in start.items()}
        self.nx = sum(self.sizes.values())
        self._terminal = np.array([term.terminal for term in task.terms.values()])

    def weights(self) -> Annotated[np.ndarray, "T"]:
        """The weights of the task's terms, as a knob."""
        return np.asarray([term.weight for term in self.task.terms.values()], dtype=float)

    @functools.cached_property
    def joints(self) -> Annotated[np.ndarray, "2nj"]:
        """Where the positions and speeds of the joints stand in a state: what features give of the numbers 0, 1, ..."""
        seen = self.features(np.arange(float(self.nx)))
        return np.rint(np.concatenate([seen["q"], seen["v"]])).astype(int)

    def start(self, obs: Observation) -> Annotated[np.ndarray, "nx"]:
        """The state at an observation."""
        return self._flat(self.dynamics.init(obs, {}))

    def _flat(self, s: Latent) -> Annotated[np.ndarray, "... nx"]:
        """A state as one vector, its tensors in the order of ``init``."""
        return np.asarray(flat(np, {name: s[name] for name in self.sizes}), dtype=float)

    def features(self, x: Annotated[Array, "... nx"]) -> Features:
        return self.dynamics.features(unflat(x, self.sizes))

    def case(self, goal: Goal, weights: Array) -> Case:
        """What a trajectory is charged by."""
        weights = np.asarray(weights, dtype=float)
        each = np.tile(weights / self.horizon, (self.horizon, 1))
        each[-1] += weights * self._terminal
        return Case(np.asarray(goal.value, dtype=float), weights, each)

    # --- Rolled out -----------------------------------------------------------------------------------

    def rolled(
        self,
        start: Annotated[np.ndarray, "nx"],
        x: Annotated[np.ndarray, "H+1 nx"],
        u: Annotated[np.ndarray, "H nu"],
        policy: Policy,
        shares: Annotated[np.ndarray, "n"],
        case: Case,
    ) -> Rolled:
        """Where u + share k + K (x' - x) leads from ``start``, clipped to the bounds, for up to ``LANES`` shares."""
        if self._native is None:
            return self._rolled_in_numpy(start, x, u, policy, shares, case)
        H, n = self.horizon, len(shares)
        sizes = np.zeros(LANES)
        sizes[:n] = shares
        given = np.concatenate([case.goal[1:], case.each], axis=-1)
        arrays = [start, x, u, policy.k, policy.K, sizes, self.low, self.high, given]
        arrays = [np.ascontiguousarray(array, dtype=float) for array in arrays]
        found = Rolled(
            np.empty((LANES, H + 1, self.nx)), np.empty((LANES, H, self.nu)), np.empty((LANES, len(self.task.terms)))
        )
        table = machine_code.pointers([*arrays, found.x, found.u, found.terms])
        self._native(H, table.ctypes.data)
        return Rolled(found.x[:n], found.u[:n], found.terms[:n])

    def _rolled_in_numpy(
        self, start: np.ndarray, x: np.ndarray, u: np.ndarray, policy: Policy, shares: np.ndarray, case: Case
    ) -> Rolled:
        state = unflat(np.tile(start, (len(shares), 1)), self.sizes)
        rows, controls, seen = [self._flat(state)], [], [self.dynamics.features(state)]
        for t in range(self.horizon):
            wanted = u[t] + shares[:, None] * policy.k[t] + (rows[-1] - x[t]) @ policy.K[t].T
            controls.append(np.clip(wanted, self.low, self.high))
            state, features, _ = self.dynamics.step(state, controls[-1], {})
            rows.append(self._flat(state))
            seen.append(features)
        stacked = {name: np.stack([np.asarray(row[name]) for row in seen], axis=1) for name in seen[0]}
        found = np.stack(controls, axis=1)
        terms = costs(np, self.task, case.weights, stacked, found, case.goal)
        return Rolled(np.stack(rows, axis=1), found, np.asarray(terms))

    @functools.cached_property
    def _native(self) -> Any:
        """Roll-outs in machine code, of a model that CasADi can step."""
        if not (self.compile and isinstance(self.dynamics, Symbolic) and self.dynamics.compile):
            return None
        what = f"roll-outs of {self._named}"
        sizes = {"NX": self.nx, "NU": self.nu, "NP": self.ng + len(self.task.terms), "TERMS": len(self.task.terms)}
        source = "\n".join(
            [
                knots.HEAD,
                *(f"#define {name} {size}" for name, size in sizes.items()),
                knots.written(self.dynamics.stepping, "step"),
                knots.written(self._charged(second=False), "cost"),
                (Path(__file__).parent / "native" / "roll.c").read_text(),
            ]
        )
        library = machine_code.compiled(source, what)
        if library is None:
            return None
        library.roll.argtypes, library.roll.restype = [ctypes.c_long, ctypes.c_void_p], None
        return library.roll

    # --- Expanded -------------------------------------------------------------------------------------

    def expanded(
        self, x: Annotated[np.ndarray, "H+1 nx"], u: Annotated[np.ndarray, "H nu"], case: Case
    ) -> tuple[Annotated[np.ndarray, "T"], Expansion]:
        """The terms of a trajectory's cost, and how it changes with the trajectory."""
        H, nx, nu = self.horizon, self.nx, self.nu
        A, B = self.dynamics.linearize(unflat(x[:-1], self.sizes), u)
        terms, gx, gu, hxx, hux, huu = self._expansion(x[1:], u, case.goal[1:], case.each)
        hessians = hxx.reshape(H, nx, nx), hux.reshape(H, nu, nx), huu.reshape(H, nu, nu)
        return terms.sum(axis=0), Expansion(A, B, gx, gu, *hessians)

    @functools.cached_property
    def _expansion(self) -> Knots:
        return Knots(self._charged(second=True), f"derivatives of the costs of {self._named}", self.compile)

    @property
    def _named(self) -> str:
        return f"{type(self.task).__name__} with {self.task.robot.name}"

    def _charged(self, second: bool) -> Any:
        """(x', u, goal, weights) -> the terms of a knot's cost; and the gradients and Hessians of their sum."""
        casadi, xp = package(), namespace()
        x, u = symbols("x", self.nx), symbols("u", self.nu)
        goal, weights = symbols("goal", self.ng), symbols("weights", len(self.task.terms))
        residuals = self.task.residuals(xp, self.features(x), u, goal)
        inputs = [column(part) for part in (x, u, goal, weights)]
        values = [
            weights[i] * NORMS[term.norm](xp, residuals[name], term.p)
            for i, (name, term) in enumerate(self.task.terms.items())
        ]
        terms = casadi.densify(column(xp.stack(values)))
        if not second:
            return casadi.Function("cost", inputs, [terms])
        z = casadi.vertcat(*inputs[:2])
        gradient, hessian = casadi.SX.zeros(z.numel()), casadi.SX.zeros(z.numel(), z.numel())
        for i, (name, term) in enumerate(self.task.terms.items()):
            g, h = _gauss_newton(term.norm, term.p, column(residuals[name]), z)
            weight = inputs[3][i]
            gradient, hessian = gradient + weight * g, hessian + weight * h
        n = self.nx
        parts = [gradient[:n], gradient[n:], *map(rows, (hessian[:n, :n], hessian[n:, :n], hessian[n:, n:]))]
        return casadi.Function("expansion", inputs, [terms, *map(casadi.densify, parts)])


def _gauss_newton(norm: str, p: float, r: Any, z: Any) -> tuple[Any, Any]:
    """Gradient and Hessian of a norm of a residual by z, as the table of this file has them."""
    casadi = package()
    J = casadi.jacobian(r, z)
    slope, square = J.T @ r, J.T @ J
    if norm == "quadratic":
        return slope * p, square * p
    if norm == "smooth_abs":
        s = casadi.sqrt(casadi.dot(r, r) + p * p)
        return slope / s, (square - slope @ slope.T / (s * s)) / s
    if norm == "gaussian":
        e = casadi.exp(casadi.dot(r, r) * (-0.5 / (p * p))) / (p * p)
        return slope * e, square * e
    raise NoDerivativesError(f"norm '{norm}': it takes quadratic, smooth_abs or gaussian")


def second(problem: Problem, x: np.ndarray, u: np.ndarray) -> Annotated[np.ndarray, "H nx nz nz"]:
    """Second derivatives of the motion about a trajectory: central differences of its exact Jacobians."""
    nx, nz = problem.nx, problem.nx + problem.nu
    z = np.concatenate([x[:-1], u], axis=-1)[:, None]
    h = STEP * np.maximum(1.0, np.abs(z))
    moved = np.concatenate([z + h * np.eye(nz), z - h * np.eye(nz)], axis=1)
    A, B = problem.dynamics.linearize(unflat(moved[..., :nx], problem.sizes), moved[..., nx:])
    slopes = np.concatenate([A, B], axis=-1)
    bent = np.moveaxis((slopes[:, :nz] - slopes[:, nz:]) / (2.0 * h[:, 0, :, None, None]), 1, -1)
    return 0.5 * (bent + np.swapaxes(bent, -1, -2))


STEP = 1e-5
"""Of those differences, relative to numbers above 1."""


def shifted(rows: Annotated[np.ndarray, "n ..."], steps: float) -> Annotated[np.ndarray, "n ..."]:
    """Rows that stand ``steps`` later; fractions interpolate, and beyond the ends the last and first row last."""
    last = len(rows) - 1
    place = np.clip(np.arange(len(rows)) + steps, 0.0, last)
    at = place.astype(int)
    share = (place - at).reshape(-1, *[1] * (rows.ndim - 1))
    return rows[at] * (1.0 - share) + rows[np.minimum(at + 1, last)] * share


def check(name: str, dt: float, task: Task, dynamics: Any, xp: Any) -> None:
    """Refuse, by name, what derivatives cannot be taken of."""
    robot = task.robot.name
    if xp is not np:
        raise BackEndError(
            f"planner '{name}' for robot '{robot}' on {xp.__name__}: it runs on numpy only; what samples runs there, "
            "as mppi"
        )
    if abs(dt - dynamics.dt) > 1e-9:
        raise ConfigError(
            f"{name}.dt = {dt:g} s, but the dynamics step by dt = {dynamics.dt:g} s: they take the same value"
        )
    if not isinstance(dynamics, Differentiable):
        raise NoDerivativesError(
            f"planner '{name}' for robot '{robot}' on a {type(dynamics).__name__} model, which gives no derivatives: "
            "it takes dynamics 'symbolic', or another with a method linearize"
        )
    if task.sampling_only:
        raise NoDerivativesError(
            f"planner '{name}' for robot '{robot}' with task {type(task).__name__}, whose residuals have no "
            "derivatives: it takes a planner that samples, as mppi"
        )
    for term, how in task.terms.items():
        if not how.gauss_newton:
            raise NoDerivativesError(
                f"planner '{name}' for robot '{robot}' with task {type(task).__name__}: term '{term}' has norm "
                f"'{how.norm}'; it takes quadratic, smooth_abs or gaussian, or a planner that samples, as mppi"
            )
    low, high = dynamics.bounds()
    if not (is_finite(low, high) and (low <= high).all()):
        raise ConfigError(
            f"planner '{name}' for robot '{robot}': controls between {low.tolist()} and {high.tolist()}; it takes "
            "finite bounds, the lower first"
        )
    check_predicts(dynamics, task)
