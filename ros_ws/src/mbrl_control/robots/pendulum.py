"""A rod on a pivot with a motor too weak to lift it: gymnasium's Pendulum-v1, its parameters.

    q'' = 3 g / (2 l) sin q + 3 u / (m l^2),    m = 1 kg, l = 1 m, g = 10 m/s^2, |u| <= 2 N m

q = 0 is upright, q > 0 leans towards +x; the rod is uniform, so its inertia about the pivot is m l^2 / 3. The
joint has no stops in gymnasium; ours has two turns each way, so that every joint has finite limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Annotated, Any

import numpy as np

from mbrl_control import paths, rigid_body
from mbrl_control.config import param
from mbrl_control.core import Array, Channels, Limits, Mode, Robot, Sink
from mbrl_control.rigid_body import Body, Chain, Link, symmetric

MASS, LENGTH, GRAVITY, TORQUE = 1.0, 1.0, 10.0, 2.0
THIN = 1e-6
"""Inertia of a rod about its own axis [kg m^2]."""
ROD = Body(MASS, (LENGTH / 2, 0.0, 0.0), symmetric(THIN, MASS * LENGTH**2 / 12, MASS * LENGTH**2 / 12))
UPRIGHT = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
"""The rod's frame: x along the rod, up at q = 0; z, the hinge, along the base's y."""
CHAIN = Chain((Link("hinge", ROD, (0.0, 0.0, 1.2), UPRIGHT),), tip=(LENGTH, 0.0, 0.0), gravity=(0.0, 0.0, -GRAVITY))


@dataclass(frozen=True)
class Config:
    """The motor."""

    torque: float = param(TORQUE, "Largest torque that is commanded", unit="N m", low=0.1, high=TORQUE)


def acceleration(
    xp: Any, q: Annotated[Array, "... 1"], v: Annotated[Array, "... 1"], torque: Annotated[Array, "... 1"]
) -> Annotated[Array, "... 1"]:
    """Acceleration of the hinge [rad/s^2]."""
    return xp.sin(q) * (1.5 * GRAVITY / LENGTH) + torque * (3.0 / (MASS * LENGTH**2)) + xp.zeros_like(v)


def make(config: Config) -> Robot:
    """The pendulum."""
    return Robot(
        name="pendulum",
        joints=("hinge",),
        channels=Channels(Mode.TORQUE, ("hinge",), np.eye(1), np.array([config.torque])),
        limits=Limits(
            lower=np.array([-4 * pi]),
            upper=np.array([4 * pi]),
            velocity=np.array([8.0]),
            acceleration=np.array([25.0]),
            jerk=np.array([500.0]),
            torque=np.array([TORQUE]),
        ),
        home=np.array([pi]),
        world=paths.share() / "sim" / "worlds" / "pendulum.xml",
        tip_body="rod",
        tip=lambda xp, q: rigid_body.tip(xp, CHAIN, q),
        inverse_dynamics=lambda xp, q, v, a: rigid_body.inverse_dynamics(xp, CHAIN, q, v, a),
        acceleration=acceleration,
        sink=Sink("effort_controller/commands", "effort"),
        state_topic="joint_states",
        state_rate=200.0,
        servo=None,
        config=config,
    )
