"""The reference of a robot commanded by reference velocities: what the guard does with ``u``, as a model.

    v' = v + clip(C clip(u, -b, b) - v, -a dt, a dt)        q' = q + dt (v + v') / 2

``u`` [rad/s or m/s] is the reference velocity wanted at the end of the step, C the coupling, b the channels'
bound and a the joints' acceleration limit: a first-order hold, so that q is piecewise quadratic and exactly what
a cubic through the knots gives. The state is the *reference* (block ``reference``: its position and velocity),
not the measured joints, from which streamed plans would stall behind the servo's lag. Exact, so nothing disagrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from mbrl_control.config import param
from mbrl_control.core import Array, Features, Latent, MbrlError, Mode, Noise, Observation, Robot
from mbrl_control.model import REFERENCE
from mbrl_control.tangents import Tangents, jacobians


class ModeError(MbrlError):
    """A robot whose channels are not what a model takes."""


@dataclass(frozen=True)
class Config:
    """The step."""

    dt: float = param(0.05, "Duration of one step", unit="s", low=0.001, high=1.0)


@dataclass(frozen=True)
class Kinematic:
    """The model. Arrays of ``xp``, any leading axes."""

    dt: float
    robot: Robot
    xp: Any

    def init(self, obs: Observation, noise: Noise) -> Latent:  # noqa: ARG002 - the protocol's, nothing is random here
        """The guard's reference if the observation holds it, else the measured joints."""
        x = obs.blocks.get(REFERENCE)
        if x is None:
            return {"q": self.xp.asarray(obs.joints.q), "v": self.xp.asarray(obs.joints.v)}
        x, nj = self.xp.asarray(x), self.robot.nj
        return {"q": x[..., :nj], "v": x[..., nj:]}

    def step(
        self,
        s: Latent,
        u: Annotated[Array, "... nu"],
        noise: Noise,  # noqa: ARG002
    ) -> tuple[Latent, Features, Mapping[str, Array]]:
        """The reference one step later."""
        xp, robot = self.xp, self.robot
        q, v = s["q"], s["v"]
        bound = self._like(u, robot.channels.bound)
        change = self._like(u, robot.limits.acceleration * self.dt)
        wanted = xp.matmul(xp.clip(u, -bound, bound), self._like(u, robot.channels.coupling.T))
        after = v + xp.clip(wanted - v, -change, change)
        state = {"q": q + (v + after) * (0.5 * self.dt), "v": after}
        return state, state, {"disagreement": xp.zeros_like(after[..., :1])}

    def linearize(
        self, s: Latent, u: Annotated[np.ndarray, "... nu"]
    ) -> tuple[Annotated[np.ndarray, "... nx nx"], Annotated[np.ndarray, "... nx nu"]]:
        """Of the step at (x, u), x = [q, v]: where a limit holds, what is beyond it changes nothing."""
        twin = Kinematic(self.dt, self.robot, Tangents(np))
        return jacobians(lambda s, u: twin.step(s, u, {})[0], s, u)

    def features(self, s: Latent) -> Features:
        return {"q": s["q"], "v": s["v"]}

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        bound = self.robot.channels.bound
        return -bound, bound.copy()

    def plan(self, features: Features, u: Array) -> tuple[Array, Array]:  # noqa: ARG002
        return features["q"], features["v"]

    def _like(self, x: Array, values: np.ndarray) -> Array:
        return self.xp.asarray(values, dtype=x.dtype, device=x.device)


def make(config: Config, robot: Robot, xp: Any = np) -> Kinematic:
    """The model of a robot commanded by reference velocities; refuses others by name."""
    if robot.channels.mode is not Mode.VELOCITY_REFERENCE:
        raise ModeError(
            f"dynamics 'kinematic' for robot '{robot.name}' with mode {robot.channels.mode}: it takes a robot with "
            f"mode {Mode.VELOCITY_REFERENCE}; for torques there is dynamics 'analytic'"
        )
    return Kinematic(config.dt, robot, xp)
