"""A pole hinged on a cart that a force pushes along a rail: gymnasium's CartPole, its parameters, no friction.

    [ M + m      m l cos q ] [x'']   [ f + m l q'^2 sin q ]
    [ m l cos q  4/3 m l^2 ] [q''] = [ m g l sin q        ]

M = 1 kg, m = 0.1 kg, half-length l = 0.5 m, g = 9.8 m/s^2, |f| <= 10 N; q = 0 is upright and q > 0 leans towards
+x (Florian, "Correct equations for the dynamics of the cart-pole system", 2007). The rail is 2.4 m each way; the
pole may turn twice each way, so that every joint has finite limits.
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

CART, POLE, HALF, GRAVITY, FORCE = 1.0, 0.1, 0.5, 9.8, 10.0
THIN = 1e-6
"""Inertia of a rod about its own axis [kg m^2]."""
ROD = Body(POLE, (HALF, 0.0, 0.0), symmetric(THIN, POLE * HALF**2 / 3, POLE * HALF**2 / 3))
ALONG = ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
"""The cart's frame: z along the rail (the base's x), y up; the pole's: x along the pole, z the hinge (base's y)."""
CHAIN = Chain(
    (
        Link("slide", Body(CART, inertia=symmetric(0.01, 0.01, 0.01)), (0.0, 0.0, 1.0), ALONG),
        Link("hinge", ROD, rotation=ALONG),
    ),
    tip=(2 * HALF, 0.0, 0.0),
    gravity=(0.0, 0.0, -GRAVITY),
)


@dataclass(frozen=True)
class Config:
    """The cart's motor."""

    force: float = param(FORCE, "Largest force that is commanded", unit="N", low=0.1, high=FORCE)


@dataclass(frozen=True, slots=True)
class CartAndPole:
    """The equations of motion of any cart with a pole, friction of the joints included."""

    total: float
    """Mass of both [kg]."""
    ml: float
    """Mass of the pole times how far its centre is from the hinge [kg m]."""
    inertia: float
    """Of the pole about the hinge [kg m^2]."""
    gravity: float
    """[m/s^2]"""
    damping: float = 0.0
    """Viscous friction of each joint [N s/m; N m s/rad]."""

    def __call__(
        self, xp: Any, q: Annotated[Array, "... 2"], v: Annotated[Array, "... 2"], torque: Annotated[Array, "... 2"]
    ) -> Annotated[Array, "... 2"]:
        """Accelerations of cart [m/s^2] and pole [rad/s^2] under a force on the cart and a torque on the hinge."""
        s, c = xp.sin(q[..., 1]), xp.cos(q[..., 1])
        push = torque[..., 0] - self.damping * v[..., 0] + self.ml * s * xp.square(v[..., 1])
        turn = torque[..., 1] - self.damping * v[..., 1] + self.ml * self.gravity * s
        determinant = self.total * self.inertia - xp.square(self.ml * c)
        x = (self.inertia * push - self.ml * c * turn) / determinant
        theta = (self.total * turn - self.ml * c * push) / determinant
        return xp.stack([x, theta], axis=-1)


acceleration = CartAndPole(CART + POLE, POLE * HALF, 4.0 / 3.0 * POLE * HALF**2, GRAVITY)


def make(config: Config) -> Robot:
    """The cart and its pole."""
    return Robot(
        name="cartpole",
        joints=("slider", "hinge"),
        channels=Channels(Mode.TORQUE, ("slider",), np.array([[1.0], [0.0]]), np.array([config.force])),
        limits=Limits(
            lower=np.array([-2.4, -4 * pi]),
            upper=np.array([2.4, 4 * pi]),
            velocity=np.array([6.0, 15.0]),
            acceleration=np.array([20.0, 60.0]),
            jerk=np.array([400.0, 1200.0]),
            torque=np.array([FORCE, 0.0]),
        ),
        home=np.array([0.0, pi]),
        world=paths.share() / "sim" / "worlds" / "cartpole.xml",
        tip_body="pole",
        tip=lambda xp, q: rigid_body.tip(xp, CHAIN, q),
        inverse_dynamics=lambda xp, q, v, a: rigid_body.inverse_dynamics(xp, CHAIN, q, v, a),
        acceleration=acceleration,
        sink=Sink("effort_controller/commands", "effort"),
        state_topic="joint_states",
        state_rate=200.0,
        servo=None,
        config=config,
        sliding=("slider",),
    )
