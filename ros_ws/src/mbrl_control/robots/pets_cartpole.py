"""The cart-pole that PETS swings up: heavy, with friction, and 300 N to push it.

Its parameters are those of Chua, Calandra, McAllister, Levine, "Deep Reinforcement Learning in a Handful of Trials
using Probabilistic Dynamics Models" (NeurIPS 2018, the code's environment): cart and pole are capsules of 1000
kg/m^3, the cart 0.2 m long of radius 0.1 m, the pole 0.6 m of radius 0.049 m, with a friction of 1 N s/m and 1 N m
s/rad; the rail is 2.5 m each way. There the pole hangs at 0; here q = 0 is upright and q > 0 leans towards +x, as in
``cartpole``, and it may turn 50 times each way, so that every joint has finite limits. There MuJoCo makes steps of 20
ms, here of 1 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from mbrl_control import paths, rigid_body
from mbrl_control.config import param
from mbrl_control.core import Channels, Limits, Mode, Robot, Sink
from mbrl_control.rigid_body import Chain, Link, capsule
from mbrl_control.robots.cartpole import ALONG, CartAndPole

LENGTH, DENSITY, DAMPING, FORCE, RAIL = 0.6, 1000.0, 1.0, 300.0, 2.5
CART = capsule(DENSITY, 0.1, (0.0, 0.0, -0.1), (0.0, 0.0, 0.1))
POLE = capsule(DENSITY, 0.049, (0.0, 0.0, 0.0), (LENGTH, 0.0, 0.0))
CHAIN = Chain(
    (
        Link("slide", CART, (0.0, 0.0, 1.0), ALONG, damping=DAMPING),
        Link("hinge", POLE, rotation=ALONG, damping=DAMPING),
    ),
    tip=(LENGTH, 0.0, 0.0),
)


@dataclass(frozen=True)
class Config:
    """The cart's motor."""

    force: float = param(FORCE, "Largest force that is commanded", unit="N", low=0.1, high=FORCE)


def made(name: str, force: float, rail: float, turn: float, hangs: bool, config: object) -> Robot:
    """This cart with its pole on a rail so long each way [m], the pole turning so far [rad]."""
    ml = POLE.mass * POLE.com[0]
    equations = CartAndPole(
        total=CART.mass + POLE.mass,
        ml=ml,
        inertia=POLE.inertia[2][2] + ml * POLE.com[0],
        gravity=-CHAIN.gravity[2],
        damping=DAMPING,
    )
    return Robot(
        name=name,
        joints=("slider", "hinge"),
        channels=Channels(Mode.TORQUE, ("slider",), np.array([[1.0], [0.0]]), np.array([force])),
        limits=Limits(
            lower=np.array([-rail, -turn]),
            upper=np.array([rail, turn]),
            velocity=np.array([10.0, 20.0]),
            acceleration=np.array([30.0, 100.0]),
            jerk=np.array([600.0, 2000.0]),
            torque=np.array([FORCE, 0.0]),
        ),
        home=np.array([0.0, pi if hangs else 0.0]),
        world=paths.share() / "sim" / "worlds" / f"{name}.xml",
        tip_body="pole",
        tip=lambda xp, q: rigid_body.tip(xp, CHAIN, q),
        inverse_dynamics=lambda xp, q, v, a: rigid_body.inverse_dynamics(xp, CHAIN, q, v, a),
        acceleration=equations,
        sink=Sink("effort_controller/commands", "effort"),
        state_topic="joint_states",
        state_rate=200.0,
        servo=None,
        config=config,
        sliding=("slider",),
    )


def make(config: Config) -> Robot:
    """The cart, its pole hanging."""
    return made("pets_cartpole", config.force, RAIL, 100 * pi, hangs=True, config=config)
