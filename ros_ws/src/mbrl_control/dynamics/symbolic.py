"""The model with exact derivatives by CasADi: of a robot's equations of motion, or of its reference.

A robot commanded by torques steps as ``dynamics/analytic.py``, one commanded by reference velocities as
``dynamics/kinematic.py``. Where ``Robot.friction`` is given, derivatives of the acceleration a come from the inverse
dynamics, in which it is implicit (Carpentier & Mansard, "Analytical Derivatives of Rigid Body Dynamics Algorithms",
RSS 2018):

    M a + h(q, v) + f(v) = C u      =>      da = M^-1 (C du - d(M a + h + f) at a held still)

for less than half of the operations that it takes to differentiate the solution. They are compiled (``knots.py``).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.casadi_graph import package
from mbrl_control.config import param
from mbrl_control.core import Array, Features, Latent, Mode, Noise, Observation, Robot, flat
from mbrl_control.dynamics import analytic
from mbrl_control.dynamics._derivatives import accelerated, derived, in_stages, stepped
from mbrl_control.dynamics.analytic import Analytic, closed_form
from mbrl_control.dynamics.kinematic import Kinematic
from mbrl_control.knots import Knots


@dataclass(frozen=True)
class Config(analytic.Config):
    """The step, and how derivatives are evaluated."""

    compile: bool = param(True, "compile derivatives to machine code, where there is a C compiler")


class Symbolic:
    """A model that also gives its Jacobians: the analytic one, or that of the reference."""

    def __init__(self, model: Analytic | Kinematic, compile: bool) -> None:
        self.model, self.robot, self.dt = model, model.robot, model.dt
        self.xp, self.compile = model.xp, compile

    def init(self, obs: Observation, noise: Noise) -> Latent:
        return self.model.init(obs, noise)

    def step(self, s: Latent, u: Annotated[Array, "... nu"], noise: Noise) -> tuple[Latent, Features, Latent]:
        """One step; of numbers by machine code, where there is some: in a fraction of the time."""
        if self.xp is not np or not self._stepped.native:
            return self.model.step(s, u, noise)
        nj, lead = self.robot.nj, np.broadcast_shapes(s["q"].shape[:-1], u.shape[:-1])
        x = np.broadcast_to(flat(np, s), (*lead, 2 * nj)).reshape(-1, 2 * nj)
        (after,) = self._stepped(x, np.broadcast_to(u, (*lead, u.shape[-1])).reshape(-1, u.shape[-1]))
        after = after.reshape(*lead, 2 * nj)
        state = {"q": after[..., :nj], "v": after[..., nj:]}
        return state, state, {"disagreement": np.zeros((*lead, 1))}

    def features(self, s: Latent) -> Features:
        return self.model.features(s)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return self.model.bounds()

    def plan(self, features: Features, u: Array) -> tuple[Array, Array]:
        return self.model.plan(features, u)

    def linearize(
        self, s: Latent, u: Annotated[np.ndarray, "... nu"]
    ) -> tuple[Annotated[np.ndarray, "... nx nx"], Annotated[np.ndarray, "... nx nu"]]:
        """A = dx'/dx and B = dx'/du of the step at (x, u), with x = [q, v]; leading axes are evaluated in one call."""
        x, u = np.asarray(flat(np, s), dtype=float), np.asarray(u, dtype=float)
        nx, nu, lead = x.shape[-1], u.shape[-1], x.shape[:-1]
        rows, controls, model = x.reshape(-1, nx), u.reshape(-1, nu), self.model
        if isinstance(model, Analytic) and self.robot.friction is not None and model.stages > 1:
            slopes = in_stages(model, self._accelerated, rows, controls)
            A, B = slopes[..., :nx], slopes[..., nx:]
        else:
            _, A, B = self._derivatives(rows, controls)
        return A.reshape(*lead, nx, nx), B.reshape(*lead, nx, nu)

    @functools.cached_property
    def _derivatives(self) -> Knots:
        """(x, u) -> x', and A and B row by row."""
        return Knots(derived(self.model), f"derivatives of the motion of {self.robot.name}", self.compile)

    @functools.cached_property
    def _accelerated(self) -> Knots:
        """(q, v, torque) -> accelerations and their derivatives."""
        return Knots(accelerated(self.robot), f"derivatives of the motion of {self.robot.name}", self.compile)

    @functools.cached_property
    def _stepped(self) -> Knots:
        return Knots(self.stepping, f"the motion of {self.robot.name}", self.compile)

    @functools.cached_property
    def stepping(self) -> Any:
        """CasADi's function (x, u) -> x'."""
        return stepped(self.model)


def make(config: Config, robot: Robot, xp: Any = np) -> Symbolic:
    """The model of a robot, with derivatives: of its equations of motion, or of its reference."""
    package()
    if robot.channels.mode is Mode.VELOCITY_REFERENCE:
        return Symbolic(Kinematic(config.dt, robot, xp), config.compile)
    acceleration = closed_form("symbolic", robot)
    return Symbolic(Analytic(config.dt, config.substeps, robot, acceleration, xp, config.integrator), config.compile)
