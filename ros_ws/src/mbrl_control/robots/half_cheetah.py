"""A planar runner with two legs, after OpenAI Gym's HalfCheetah (Wawrzynski 2009).

Dimensions, masses (14 kg in all), springs, friction and torques are Gym's. Three root joints that nothing drives let
the torso move in the x-z plane and turn; each leg has a thigh, a shin and a foot. The tip is the nose end of the
torso. What differs: the root joints have ends, far away, so that every joint has finite limits, and MuJoCo makes
steps of 2 ms where it makes 10 ms there. Its equations of motion are not given in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Annotated, Any

import numpy as np

from mbrl_control import paths
from mbrl_control.config import param
from mbrl_control.core import Array, Channels, Limits, Mode, Robot, Sink

ROOT = ("root_x", "root_z", "root_y")
LEGS = ("back_thigh", "back_shin", "back_foot", "front_thigh", "front_shin", "front_foot")
TORQUES = np.array([120.0, 90.0, 60.0, 120.0, 60.0, 30.0])
HEIGHT, NOSE = 0.7, 0.5
"""The torso's height at home, and its half length [m]."""


@dataclass(frozen=True)
class Config:
    """The motors."""

    strength: float = param(1.0, "Share of each motor's torque that is commanded", low=0.01, high=1.0)


def tip(xp: Any, q: Annotated[Array, "... 9"]) -> Annotated[Array, "... 3"]:
    """Position of the torso's nose end [m]."""
    x, z, pitch = q[..., 0], q[..., 1], q[..., 2]
    return xp.stack([x + NOSE * xp.cos(pitch), xp.zeros_like(x), HEIGHT + z - NOSE * xp.sin(pitch)], axis=-1)


def make(config: Config) -> Robot:
    """The runner."""
    none = np.zeros(len(ROOT))
    return Robot(
        name="half_cheetah",
        joints=ROOT + LEGS,
        channels=Channels(
            Mode.TORQUE, LEGS, np.concatenate([np.zeros((len(ROOT), len(LEGS))), np.eye(6)]), TORQUES * config.strength
        ),
        limits=Limits(
            lower=np.array([-1000.0, -1.0, -100 * pi, -0.52, -0.785, -0.4, -1.0, -1.2, -0.5]),
            upper=np.array([1000.0, 9.0, 100 * pi, 1.05, 0.785, 0.785, 0.7, 0.87, 0.5]),
            velocity=np.array([20.0, 10.0, 20.0, 30.0, 30.0, 30.0, 30.0, 30.0, 30.0]),
            acceleration=np.full(9, 500.0),
            jerk=np.full(9, 1e4),
            torque=np.concatenate([none, TORQUES]),
        ),
        home=np.zeros(9),
        world=paths.share() / "sim" / "worlds" / "half_cheetah.xml",
        tip_body="torso",
        tip=tip,
        inverse_dynamics=None,
        acceleration=None,
        sink=Sink("effort_controller/commands", "effort"),
        state_topic="joint_states",
        state_rate=200.0,
        servo=None,
        config=config,
        sliding=ROOT[:2],
    )
