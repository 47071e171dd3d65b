"""A step of a trajectory as constraints and costs in CasADi's scalars: what ``collocation`` makes its program of.

Defects d(x, u, x') have to vanish, with x = (q, v), h = dt and f(x, u) = (v, a(q, v, C u)). Of robots on torques:

    shooting          d = x' - F(x, u)                                    F: the model's own step
    trapezoid         d = x' - x - h/2 (f(x, u) + f(x', u))
    hermite_simpson   d = x' - x - h/6 (f(x, u) + 4 f(m, u) + f(x', u)),  m = (x + x')/2 + h/8 (f(x, u) - f(x', u))

Of those on reference velocities, whose motion is exactly piecewise quadratic whatever one chooses:

    d = (q' - q - h/2 (v + v'),  v' - C u)        with        |v' - v| <= a h

which is the kinematic model without its clips: where they would act there is a constraint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import numpy as np

from mbrl_control.casadi_graph import column, namespace, package, symbols
from mbrl_control.config import ConfigError
from mbrl_control.core import NORMS, Array, Avoids, BackEndError, Dynamics, MbrlError, Mode, Robot, Task, flat
from mbrl_control.dynamics.analytic import Analytic
from mbrl_control.dynamics.kinematic import Kinematic
from mbrl_control.sampling import at_home, check_predicts

SAME = 1e-9
"""A model steps as the kinematic one does if it is no further from it."""


class ProgramError(MbrlError):
    """A task or a model of which no program can be made."""


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

    def check(self, robot: Robot) -> None:
        """Refuse, by name, limits between which there is nothing."""
        for name, unit, low, high in zip(self.names, self.units, self.low, self.high, strict=True):
            if not low <= high:
                raise LimitsError(
                    f"planner 'collocation' for robot '{robot.name}': {name} from {low:g} to {high:g} {unit}; it takes "
                    "limits of which the lower is not above the upper"
                )

    def __add__(self, other: Band) -> Band:
        low, high = np.concatenate([self.low, other.low]), np.concatenate([self.high, other.high])
        return Band(self.names + other.names, self.units + other.units, low, high)


@dataclass(frozen=True)
class Constrained:
    """Which limits a plan keeps to, besides those of its controls and of how fast references change."""

    positions: bool
    velocities: bool
    torques: bool
    clearance: float


# --- What is refused --------------------------------------------------------------------------------


def check(dt: float, task: Task, dynamics: Dynamics, xp: Any) -> None:
    """Refuse, by name, what no program can be made of."""
    robot = task.robot
    wanted, model = (type(part).__module__.rsplit(".", 1)[-1] for part in (task, dynamics))
    if xp is not np:
        raise BackEndError(
            f"planner 'collocation' for robot '{robot.name}' on {xp.__name__}: it runs on numpy only; what samples "
            "runs there, as mppi"
        )
    if abs(dt - dynamics.dt) > 1e-9:
        raise ConfigError(
            f"collocation.dt = {dt:g} s, but the dynamics step by dt = {dynamics.dt:g} s: they take the same value"
        )
    check_predicts(dynamics, task)
    rough = [name for name, term in task.terms.items() if not term.gauss_newton]
    if task.sampling_only or rough:
        what = f"term '{rough[0]}' has no derivatives" if rough else "residuals cannot be built by CasADi"
        raise ProgramError(
            f"planner 'collocation' for robot '{robot.name}' with task '{wanted}': its {what}; it takes a planner that "
            "samples, as mppi"
        )
    if not _has_equations(task, dynamics):
        raise ProgramError(
            f"planner 'collocation' for robot '{robot.name}' with dynamics '{model}': it takes a model whose equations "
            "it knows: 'analytic' or 'symbolic' for torques, 'kinematic' or 'symbolic' for reference velocities"
        )


def _has_equations(task: Task, dynamics: Dynamics) -> bool:
    """Whether the model is the closed form of a robot commanded by torques, or steps as the kinematic one does."""
    robot = task.robot
    if robot.channels.mode is Mode.TORQUE:
        return equations(dynamics) is not None
    if list(dynamics.init(at_home(robot, task), {})) != ["q", "v"]:
        return False
    state = {"q": np.asarray(robot.home), "v": 0.1 * robot.limits.velocity}
    u = 0.5 * robot.channels.bound
    says, _, _ = dynamics.step(state, u, {})
    expected, _, _ = Kinematic(dynamics.dt, robot, np).step(state, u, {})
    return not np.any(np.abs(flat(np, says) - flat(np, expected)) > SAME)


def equations(dynamics: Dynamics) -> Any:
    """What has the parts of ``Analytic``: the model, or the one that it derives; None where nothing has."""
    model = getattr(dynamics, "model", dynamics)
    return model if all(hasattr(model, part.name) for part in fields(Analytic)) else None


def _parts(model: Any) -> dict[str, Any]:
    return {part.name: getattr(model, part.name) for part in fields(Analytic)}


# --- What is stated ---------------------------------------------------------------------------------


def transcribed(robot: Robot, dynamics: Dynamics, transcription: str) -> Any:
    """CasADi's function (x, u, x') -> the defects [nx] of a step.

    It calls the equations of motion, where their scalars put in would be differentiated anew at each place.
    """
    casadi, nj, h = package(), robot.nj, dynamics.dt
    x, u, after = (casadi.MX.sym(name, size) for name, size in (("x", 2 * nj), ("u", robot.nu), ("after", 2 * nj)))
    q, v, coupled = x[:nj], x[nj:], robot.channels.coupling @ u
    if robot.channels.mode is Mode.VELOCITY_REFERENCE:
        defects = casadi.vertcat(after[:nj] - q - (v + after[nj:]) * (0.5 * h), after[nj:] - coupled)
        return casadi.Function("defects", [x, u, after], [defects])
    model, motion = equations(dynamics), _motion(robot, equations(dynamics))
    if transcription == "shooting":
        exact = replace(Analytic(**_parts(model)), acceleration=lambda _, *of: motion(*of))
        defects = after - casadi.vertcat(*exact.integrated(q, v, coupled))
        return casadi.Function("defects", [x, u, after], [defects])

    def f(at: Any) -> Any:
        return casadi.vertcat(at[nj:], motion(at[:nj], at[nj:], coupled))

    begin, end = f(x), f(after)
    defects = after - x - (begin + end) * (0.5 * h)
    if transcription == "hermite_simpson":
        middle = (x + after) * 0.5 + (begin - end) * (h / 8.0)
        defects = after - x - (begin + f(middle) * 4.0 + end) * (h / 6.0)
    return casadi.Function("defects", [x, u, after], [defects])


def _motion(robot: Robot, model: Any) -> Any:
    """CasADi's function (q, v, torque) -> accelerations."""
    parts = [symbols(name, robot.nj) for name in ("q", "v", "torque")]
    a = model.acceleration(namespace(), *parts)
    return package().Function("motion", [column(part) for part in parts], [column(a)])


def scored(xp: Any, task: Task, after: Array, u: Array, goal: Array) -> Array:
    """The terms [T] of a step, without their weights."""
    nj = task.robot.nj
    residuals = task.residuals(xp, {"q": after[:nj], "v": after[nj:]}, u, goal)
    return xp.stack([NORMS[term.norm](xp, residuals[name], term.p) for name, term in task.terms.items()], axis=-1)


def controlled(robot: Robot, dynamics: Dynamics) -> Band:
    """What controls have to stay within."""
    low, high = dynamics.bounds()
    return _band("control", robot.channels.names, robot, low, high, "")


def states(robot: Robot, keeps: Constrained) -> Band:
    """What positions and velocities have to stay within."""
    limits, free = robot.limits, np.full(robot.nj, np.inf)
    lower, upper = (limits.lower, limits.upper) if keeps.positions else (-free, free)
    fastest = limits.velocity if keeps.velocities else free
    positions = _band("position", robot.joints, robot, lower, upper, "")
    return positions + _band("velocity", robot.joints, robot, -fastest, fastest, "/s")


def path(xp: Any, task: Task, dynamics: Dynamics, keeps: Constrained, x: Array, after: Array) -> tuple[Array, Band]:
    """What else is constrained in a step: how fast references change, torques in its middle, clearance at its end."""
    robot, nj, limits = task.robot, task.robot.nj, task.robot.limits
    rows: list[Array] = [x[:0]]
    band = Band((), (), np.empty(0), np.empty(0))
    if robot.channels.mode is Mode.VELOCITY_REFERENCE:
        rate, v = (after[nj:] - x[nj:]) * (1.0 / dynamics.dt), (x[nj:] + after[nj:]) * 0.5
        rows.append(rate)
        band += _band("acceleration", robot.joints, robot, -limits.acceleration, limits.acceleration, "/s^2")
        if keeps.torques and robot.inverse_dynamics is not None:
            torque = robot.inverse_dynamics(xp, (x[:nj] + after[:nj]) * 0.5, v, rate)
            rows.append(torque if robot.friction is None else torque + robot.friction(xp, v))
            names = tuple(f"torque of {joint}" for joint in robot.joints)
            units = tuple("N" if joint in robot.sliding else "N m" for joint in robot.joints)
            band += Band(names, units, -limits.torque, limits.torque)
    if isinstance(task, Avoids):
        distances = task.clearance(xp, {"q": after[:nj], "v": after[nj:]})
        count = distances.shape[-1]
        rows.append(distances)
        names = tuple(f"clearance {i}" for i in range(count))
        band += Band(names, ("m",) * count, np.full(count, keeps.clearance), np.full(count, np.inf))
    return xp.concat(rows, axis=-1), band


def _band(what: str, names: Sequence[str], robot: Robot, low: np.ndarray, high: np.ndarray, per: str) -> Band:
    units = tuple(("m" if name in robot.sliding else "rad") + per for name in names)
    return Band(tuple(f"{what} of {name}" for name in names), units, low, high)
