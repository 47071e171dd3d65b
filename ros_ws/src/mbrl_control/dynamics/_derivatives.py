"""A model's step and its Jacobians as CasADi functions of one knot."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.casadi_graph import column, namespace, package, rows, symbols
from mbrl_control.core import Robot
from mbrl_control.dynamics.analytic import Analytic
from mbrl_control.dynamics.kinematic import Kinematic
from mbrl_control.knots import Knots

SX = Any
"""A matrix of CasADi's scalars."""


def stepped(model: Analytic | Kinematic) -> Any:
    """(x, u) -> x', with x = [q, v]."""
    x, u, after = _step(model)
    return package().Function("step", [x, u], [after])


def derived(model: Analytic | Kinematic) -> Any:
    """(x, u) -> x', A = dx'/dx and B = dx'/du, the matrices row by row."""
    casadi = package()
    if isinstance(model, Analytic) and model.robot.friction is not None:
        x, u, after, slopes = _carried(model)
    else:
        x, u, after = _step(model)
        slopes = casadi.jacobian(after, casadi.vertcat(x, u))
    nx = x.numel()
    return casadi.Function("derivatives", [x, u], [after, rows(slopes[:, :nx]), rows(slopes[:, nx:])])


def in_stages(
    model: Analytic, accelerated: Knots, x: Annotated[np.ndarray, "n nx"], u: Annotated[np.ndarray, "n nu"]
) -> Annotated[np.ndarray, "n nx nz"]:
    """The derivatives of a step by (x, u), by the chain rule through the stages of an integrator that has several.

    As one function they would be several times as long, and take a minute to compile.
    """
    nj, coupling = model.robot.nj, model.robot.channels.coupling
    unit = np.broadcast_to(np.eye(x.shape[-1] + u.shape[-1]), (len(x), *[x.shape[-1] + u.shape[-1]] * 2))
    q, v = _Carried(x[:, :nj], unit[:, :nj]), _Carried(x[:, nj:], unit[:, nj : 2 * nj])
    torque = _Carried(u @ coupling.T, coupling @ unit[:, 2 * nj :])

    def acceleration(_xp: Any, q: _Carried, v: _Carried, torque: _Carried) -> _Carried:
        a, *slopes = accelerated(q.value, v.value, torque.value)
        by_q, by_v, by_torque = (slope.reshape(-1, nj, nj) for slope in slopes)
        return _Carried(a, by_q @ q.slope + by_v @ v.slope + by_torque @ torque.slope)

    after, speed = dataclasses.replace(model, acceleration=acceleration).integrated(q, v, torque)  # type: ignore[arg-type]
    return np.concatenate([after.slope, speed.slope], axis=1)


def _step(model: Analytic | Kinematic) -> tuple[SX, SX, SX]:
    nj, xp = model.robot.nj, namespace()
    x, u = symbols("x", 2 * nj), symbols("u", model.robot.nu)
    after, _, _ = dataclasses.replace(model, xp=xp).step({"q": x[:nj], "v": x[nj:]}, u, {})
    return column(x), column(u), package().densify(column(xp.concat([after["q"], after["v"]], axis=-1)))


@dataclass(frozen=True)
class _Carried:
    """A value and its derivatives by (x, u); as much of arithmetic as integrators take."""

    value: Any
    slope: Any

    def __add__(self, other: _Carried) -> _Carried:
        return _Carried(self.value + other.value, self.slope + other.slope)

    def __mul__(self, factor: float) -> _Carried:
        return _Carried(self.value * factor, self.slope * factor)

    __rmul__ = __mul__


def _carried(model: Analytic) -> tuple[SX, SX, SX, SX]:
    """The step with derivatives carried along, those of the acceleration from the inverse dynamics."""
    casadi, robot = package(), model.robot
    nj, nu = robot.nj, robot.nu
    x, u = casadi.SX.sym("x", 2 * nj), casadi.SX.sym("u", nu)
    coupling = casadi.sparsify(casadi.SX(robot.channels.coupling))
    unit, none = casadi.SX.eye(nj), casadi.SX(nj, nj)
    q = _Carried(x[:nj], casadi.horzcat(unit, none, casadi.SX(nj, nu)))
    v = _Carried(x[nj:], casadi.horzcat(none, unit, casadi.SX(nj, nu)))
    torque = _Carried(coupling @ u, casadi.horzcat(none, none, coupling))
    solved = accelerated(robot)

    def acceleration(_xp: Any, q: _Carried, v: _Carried, torque: _Carried) -> _Carried:
        a, *slopes = solved(q.value, v.value, torque.value)
        by_q, by_v, by_torque = (casadi.reshape(slope, nj, nj).T for slope in slopes)
        return _Carried(a, by_q @ q.slope + by_v @ v.slope + by_torque @ torque.slope)

    after, speed = dataclasses.replace(model, acceleration=acceleration).integrated(q, v, torque)
    return x, u, casadi.vertcat(after.value, speed.value), casadi.vertcat(after.slope, speed.slope)


def accelerated(robot: Robot) -> Any:
    """(q, v, torque) -> a and its derivatives by each of them, row by row."""
    assert robot.inverse_dynamics is not None
    assert robot.friction is not None
    casadi, xp, nj = package(), namespace(), robot.nj
    names = [symbols(name, nj) for name in ("q", "v", "a", "torque")]
    q, v, a, torque = (column(name) for name in names)
    needed = column(robot.inverse_dynamics(xp, *names[:3])) + column(robot.friction(xp, names[1]))
    inertia = casadi.jacobian(needed, a)
    factors = _factored(inertia)
    found = _solved(factors, torque - casadi.substitute(needed, a, casadi.SX.zeros(nj)))
    slopes = casadi.substitute(-casadi.jacobian(needed, casadi.vertcat(q, v)), a, found)
    all_slopes = _solved(factors, casadi.horzcat(slopes, casadi.SX.eye(nj)))
    parts = [all_slopes[:, i * nj : (i + 1) * nj] for i in range(3)]
    return casadi.Function("acceleration", [q, v, torque], [found, *map(rows, parts)])


def _factored(matrix: SX) -> tuple[SX, list[SX]]:
    """L and the diagonal of D with matrix = L D L^T, of a symmetric positive definite one."""
    n = matrix.size1()
    lower, diagonal = package().SX.eye(n), []
    for j in range(n):
        pivot = matrix[j, j]
        for k in range(j):
            pivot -= lower[j, k] ** 2 * diagonal[k]
        diagonal.append(pivot)
        for i in range(j + 1, n):
            rest = matrix[i, j]
            for k in range(j):
                rest -= lower[i, k] * lower[j, k] * diagonal[k]
            lower[i, j] = rest / pivot
    return lower, diagonal


def _solved(factors: tuple[SX, list[SX]], right: SX) -> SX:
    """The solution of L D L^T x = right, for each of its columns."""
    lower, diagonal = factors
    rows: list[SX] = []
    for i in range(len(diagonal)):
        row = right[i, :]
        for k in range(i):
            row -= lower[i, k] * rows[k]
        rows.append(row)
    rows = [row / pivot for row, pivot in zip(rows, diagonal, strict=True)]
    for i in reversed(range(len(diagonal))):
        for k in range(i + 1, len(diagonal)):
            rows[i] = rows[i] - lower[k, i] * rows[k]
    return package().vertcat(*rows)
