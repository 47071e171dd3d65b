"""A robot's closed-form equations of motion, integrated by the classical Runge-Kutta method of order four.

    x = (q, v),   x' = (v, f(q, v, C u)),   x <- x + h (k1 + 2 k2 + 2 k3 + k4) / 6,   h = dt / substeps

or by semi-implicit Euler, v <- v + h f(q, v, C u), q <- q + h v, for short steps.
``u`` [N m, or N for a slide] is held over the step (zero-order hold) and C is the coupling of channels to joints.
Controls are not clipped: their bounds are the planner's to keep, and a clip would hide them from derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Array, Features, Latent, MbrlError, Mode, Noise, Observation, Robot

Acceleration = Callable[[Any, Array, Array, Array], Array]
"""(xp, q, v, torque) -> joint accelerations, as in ``Robot.acceleration``."""


class ClosedFormError(MbrlError):
    """A robot without closed-form equations of motion, or one not commanded by torques."""


@dataclass(frozen=True)
class Config:
    """The step."""

    dt: float = param(0.05, "Duration of one step", unit="s", low=0.001, high=1.0)
    substeps: int = param(1, "Steps of the integrator in one step", low=1, high=100)
    integrator: str = param(
        "rk4",
        "Runge-Kutta of order four, or semi-implicit Euler: a quarter of the work, and of order one",
        choices=("rk4", "euler"),
    )


@dataclass(frozen=True)
class Analytic:
    """The model. Arrays of ``xp``, any leading axes."""

    dt: float
    substeps: int
    robot: Robot
    acceleration: Acceleration
    xp: Any
    integrator: str = "rk4"

    def init(self, obs: Observation, noise: Noise) -> Latent:  # noqa: ARG002 - the protocol's, nothing is random here
        return {"q": self.xp.asarray(obs.joints.q), "v": self.xp.asarray(obs.joints.v)}

    def step(
        self,
        s: Latent,
        u: Annotated[Array, "... nu"],
        noise: Noise,  # noqa: ARG002
    ) -> tuple[Latent, Features, Mapping[str, Array]]:
        """The joints one step later."""
        coupling = self.xp.asarray(self.robot.channels.coupling.T, dtype=u.dtype, device=u.device)
        torque = self.xp.matmul(u, coupling)
        q, v = self.integrated(s["q"], s["v"], torque)
        state = {"q": q, "v": v}
        return state, state, {"disagreement": self.xp.zeros_like(v[..., :1])}

    def integrated(self, q: Array, v: Array, torque: Array) -> tuple[Array, Array]:
        """Positions and speeds after a step."""
        integrate = self._runge_kutta if self.integrator == "rk4" else self._euler
        for _ in range(self.substeps):
            q, v = integrate(q, v, torque, self.dt / self.substeps)
        return q, v

    def _runge_kutta(self, q: Array, v: Array, torque: Array, h: float) -> tuple[Array, Array]:
        f, xp = self.acceleration, self.xp
        v1, a1 = v, f(xp, q, v, torque)
        v2, a2 = v + a1 * (h / 2), f(xp, q + v1 * (h / 2), v + a1 * (h / 2), torque)
        v3, a3 = v + a2 * (h / 2), f(xp, q + v2 * (h / 2), v + a2 * (h / 2), torque)
        v4, a4 = v + a3 * h, f(xp, q + v3 * h, v + a3 * h, torque)
        return q + (v1 + 2.0 * v2 + 2.0 * v3 + v4) * (h / 6), v + (a1 + 2.0 * a2 + 2.0 * a3 + a4) * (h / 6)

    def _euler(self, q: Array, v: Array, torque: Array, h: float) -> tuple[Array, Array]:
        v = v + self.acceleration(self.xp, q, v, torque) * h
        return q + v * h, v

    def features(self, s: Latent) -> Features:
        return {"q": s["q"], "v": s["v"]}

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        bound = self.robot.channels.bound
        return -bound, bound.copy()

    def plan(self, features: Features, u: Array) -> tuple[Array, Array]:  # noqa: ARG002
        return features["q"], features["v"]


def closed_form(name: str, robot: Robot) -> Acceleration:
    """The robot's ``acceleration``; refuses, by name, a robot that has none or is not commanded by torques."""
    if robot.acceleration is None or robot.channels.mode is not Mode.TORQUE:
        form = "no closed form" if robot.acceleration is None else "a closed form"
        raise ClosedFormError(
            f"dynamics '{name}' for robot '{robot.name}' with mode {robot.channels.mode} and {form}: it takes a robot "
            f"with mode {Mode.TORQUE} and an acceleration in closed form"
        )
    return robot.acceleration


def make(config: Config, robot: Robot, xp: Any = np) -> Analytic:
    """The model of a robot whose ``acceleration`` is given."""
    return Analytic(config.dt, config.substeps, robot, closed_form("analytic", robot), xp, config.integrator)
