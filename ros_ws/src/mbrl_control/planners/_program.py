"""The nonlinear program of ``collocation``: a step of ``_transcription``, over a horizon, and IPOPT to solve it.

    minimise    sum_k w_k . c_k                      c_k: terms of (x_k+1, u_k, goal_k+1), weighted as in core.costs
    over        u_0 x_1 u_1 x_2 ... x_H              x = (q, v); x_0 is given
    so that     d(x_k, u_k, x_k+1) = 0               defects
                low <= p(x_k, x_k+1) <= high         rates, torques, clearance
                low <= (u_k, x_k+1) <= high

The functions of one step are built once, of scalars, and mapped over the horizon, so that a program is made in
milliseconds at any horizon. IPOPT is asked for few iterations at a time, and handed back what it had found: the
trajectory, the multipliers and the barrier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.casadi_graph import column, namespace, package, symbols
from mbrl_control.core import Dynamics, Task
from mbrl_control.planners._transcription import Constrained, controlled, path, scored, states, transcribed

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


@dataclass(frozen=True)
class Iterate:
    """Where IPOPT is: a trajectory, not yet one of the model, and the prices of the constraints."""

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
class Ending:
    """When IPOPT ends, and what it knows of second derivatives."""

    iterations: int
    tolerance: float
    feasible: float
    curvature: bool
    """Whether those of constraints are among them."""

    def options(self) -> dict[str, Any]:
        """As IPOPT calls it."""
        return {"max_iter": self.iterations, "tol": self.tolerance, "constr_viol_tol": self.feasible / 2}


class Program:
    """The program of a task on a model."""

    def __init__(
        self, task: Task, dynamics: Dynamics, horizon: int, transcription: str, keeps: Constrained, ending: Ending
    ) -> None:
        xp, robot = namespace(), task.robot
        self.horizon, self.nx, self.nu = horizon, 2 * robot.nj, robot.nu
        self._ending = ending
        self._terminal = np.asarray([term.terminal for term in task.terms.values()])
        x, u, after = symbols("x", self.nx), symbols("u", self.nu), symbols("after", self.nx)
        goal, weights = symbols("goal", task.goal_size), symbols("weights", len(task.terms))
        rows, self.path = path(xp, task, dynamics, keeps, x, after)
        self.controls, self.states = controlled(robot, dynamics), states(robot, keeps)
        for band in (self.controls, self.states, self.path):
            band.check(robot)
        self.kept = self.states + self.path
        """What (x_k+1, rows of the path) have to stay within."""
        defects = transcribed(robot, dynamics, transcription)
        cost = xp.sum(scored(xp, task, after, u, goal) * weights, axis=-1)
        casadi = package()
        charged = [column(part) for part in (u, after, goal, weights)]
        step = [casadi.MX.sym("part", *defects.size_in(i)) for i in range(3)]
        path_rows = casadi.Function("path", [column(x), column(after)], [column(rows)])
        stacked = casadi.vertcat(defects(*step), path_rows(step[0], step[2]))
        self._rows = casadi.Function("rows", step, [stacked]).map(horizon)
        self._stages = casadi.Function("stage", charged, [column(cost)]).map(horizon)
        self._lower, self._upper = self._ends("low"), self._ends("high")
        self._program, self._options = self._stated()
        self._solvers: dict[float, Any] = {}

    def _stated(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Costs and constraints of the whole horizon, and what IPOPT is told of their derivatives."""
        casadi, nu = package(), self.nu
        z = casadi.MX.sym("z", nu + self.nx, self.horizon)
        start = casadi.MX.sym("start", self.nx)
        goal, weights = (casadi.MX.sym("given", *self._stages.size_in(i)) for i in (2, 3))
        u, after = z[:nu, :], z[nu:, :]
        cost = casadi.sum2(self._stages(u, after, goal, weights))
        rows = self._rows(casadi.horzcat(start, after[:, :-1]), u, after)
        given = casadi.vertcat(start, casadi.vec(goal), casadi.vec(weights))
        stated = {"x": casadi.vec(z), "f": cost, "g": casadi.vec(rows), "p": given}
        if self._ending.curvature:
            return stated, {}
        flat = casadi.MX.sym("x", z.numel())
        at = casadi.reshape(flat, z.shape)
        charged = casadi.sum2(self._stages(at[:nu, :], at[nu:, :], goal, weights))
        curvature, _ = casadi.hessian(charged, flat)
        scale, prices = casadi.MX.sym("scale"), casadi.MX.sym("prices", rows.numel())
        lagrangian = casadi.Function("lagrangian", [flat, given, scale, prices], [scale * casadi.triu(curvature)])
        return stated, {"hess_lag": lagrangian}

    def _ends(self, side: str) -> tuple[Annotated[np.ndarray, "n"], Annotated[np.ndarray, "m"]]:
        """Of all variables and of all rows."""
        variables = np.concatenate([getattr(self.controls, side), getattr(self.states, side)])
        rows = np.concatenate([np.zeros(self.nx), getattr(self.path, side)])
        return np.tile(variables, self.horizon), np.tile(rows, self.horizon)

    def begun(self, knots: Annotated[np.ndarray, "H+1 nx"], controls: Annotated[np.ndarray, "H nu"]) -> Iterate:
        """A trajectory to begin with, of which no prices are known."""
        rows, variables = self.nx + len(self.path.names), self.nu + self.nx
        return Iterate(knots, controls, np.zeros((self.horizon, rows)), np.zeros((self.horizon, variables)), 0.0)

    def rows(
        self, knots: Annotated[np.ndarray, "H+1 nx"], controls: Annotated[np.ndarray, "H nu"]
    ) -> tuple[Annotated[np.ndarray, "H nx"], Annotated[np.ndarray, "H nc"]]:
        """Defects, and the rows of the path."""
        found = np.asarray(self._rows(knots[:-1].T, controls.T, knots[1:].T)).T
        return found[:, : self.nx], found[:, self.nx :]

    def solve(self, at: Iterate, wanted: Wanted) -> tuple[Iterate, str]:
        """So many iterations of IPOPT as there may be, and what it says of them."""
        H = self.horizon
        each = np.tile(wanted.weights / H, (H, 1))
        each[-1] += wanted.weights * self._terminal
        level = min((level for level in LEVELS if level >= at.barrier), default=COLD) if at.barrier > 0.0 else 0.0
        solver = self._solver(level)
        found = solver(
            x0=np.concatenate([at.controls, at.knots[1:]], axis=-1).ravel(),
            p=np.concatenate([wanted.start, wanted.goal[1:].ravel(), each.ravel()]),
            lbx=self._lower[0],
            ubx=self._upper[0],
            lbg=self._lower[1],
            ubg=self._upper[1],
            lam_x0=at.bound_prices.ravel(),
            lam_g0=at.row_prices.ravel(),
        )
        told = solver.stats()
        z, lam_g, lam_x = (np.asarray(found[name]).reshape(H, -1) for name in ("x", "lam_g", "lam_x"))
        barriers = told.get("iterations", {}).get("mu") or [level or COLD]
        knots = np.concatenate([wanted.start[None], z[:, self.nu :]])
        return Iterate(knots, z[:, : self.nu], lam_g, lam_x, float(barriers[-1])), told["return_status"]

    def _solver(self, level: float) -> Any:
        """The one that begins with a barrier; 0: without prices."""
        if level not in self._solvers:
            start = {"mu_init": level, **WARM} if level else {"mu_init": COLD}
            ipopt = {"print_level": 0, "sb": "yes", **start, **self._ending.options()}
            options = {**SILENT, **self._options, "ipopt": ipopt}
            self._solvers[level] = package().nlpsol("solver", "ipopt", self._program, options)
        return self._solvers[level]
