"""The Panda commanded by joint torques, with gravity and friction: for simulation only.

Arm, tool and payload are ``robots/panda.py``'s. Friction is what C. Gaz et al. (RA-L 2019, cited there) identified,
with the numbers of the code that they published with it: a sigmoid for each joint,

    tau_f = phi1 / (1 + exp(-phi2 (v + phi3))) - phi1 / (1 + exp(-phi2 phi3)),

here without its offset phi3 of at most 0.05 rad/s, so that it takes as much one way as the other:

    tau_f = phi1 / 2 tanh(phi2 v / 2).

In the simulation it is MuJoCo's own dry friction of phi1 / 2, which holds a joint that stands still. Model and
simulation so differ only near zero speed: by a tenth of it at 0.58 rad/s in joint 1 and at 0.17 rad/s in joint 6.

That torques may not change by more than 1000 N m/s is from the Franka Control Interface documentation, "Limits for
Panda". Torques here include those against gravity, which the real arm's interface adds by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from mbrl_control import forward_dynamics
from mbrl_control.config import param
from mbrl_control.core import Array, Channels, Mode, Robot, Sink
from mbrl_control.rigid_body import Chain
from mbrl_control.robots import panda
from mbrl_control.vectors import column

FRICTION = (0.54615, 0.87224, 0.64068, 1.2794, 0.83904, 0.30301, 0.56489)
"""phi1 [N m]."""
STEEPNESS = (5.1181, 9.0657, 10.136, 5.5903, 8.3469, 17.133, 10.336)
"""phi2 [s/rad]."""
LIMITS = replace(panda.LIMITS, torque_rate=np.full(7, 1000.0))


STEP = 0.02
SETTINGS = {
    **{f"{part}.dt": STEP for part in ("symbolic", "analytic", "mujoco")},
    **{f"{part}.dt": STEP for part in ("ilqr", "ddp", "lqr", "collocation", "mppi", "cem", "icem", "shooting")},
    **{f"{part}.horizon": 50 for part in ("ilqr", "ddp", "lqr")},
    **{f"{part}.integrator": "euler" for part in ("symbolic", "analytic")},
}
"""What parts take for this robot where nobody says otherwise: torques held for 50 ms are coarse, their gains slow."""


@dataclass(frozen=True)
class Config(panda.Config):
    """What is mounted on the arm, as in ``panda``, and how much its joints rub."""

    friction: float = param(1.0, "Share of the identified friction, here and in the simulation", low=0.0, high=10.0)


def chain(config: Config) -> Chain:
    """The arm with its tool and payload, as in ``panda``."""
    return panda.chain(config)


def friction(xp: Any, share: float, v: Annotated[Array, "... 7"]) -> Annotated[Array, "... 7"]:
    """Torques that friction takes [N m]."""
    curves = zip(FRICTION, STEEPNESS, strict=True)
    rows = [xp.tanh(v[..., i] * (0.5 * steep)) * (0.5 * share * most) for i, (most, steep) in enumerate(curves)]
    return column(xp, rows, v)


def make(config: Config) -> Robot:
    """The Panda as mounted, on torques."""
    arm, mounted = chain(config), panda.make(config)

    def rub(xp: Any, v: Array) -> Array:
        return friction(xp, config.friction, v)

    def accelerate(xp: Any, q: Array, v: Array, torque: Array) -> Array:
        return forward_dynamics.acceleration(xp, arm, q, v, torque - rub(xp, v))

    def mount(spec: Any) -> None:
        assert mounted.mount is not None  # the Panda carries a tool
        mounted.mount(spec)
        for joint, most in zip(mounted.joints, FRICTION, strict=True):
            spec.joint(joint).frictionloss = 0.5 * config.friction * most

    return replace(
        mounted,
        name="panda_torque",
        channels=Channels(Mode.TORQUE, mounted.joints, np.eye(7), LIMITS.torque.copy()),
        limits=LIMITS,
        acceleration=accelerate,
        friction=rub,
        sink=Sink("effort_controller/commands", "effort"),
        servo=None,
        mount=mount,
    )
