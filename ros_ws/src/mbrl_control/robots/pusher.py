"""A 7-DoF arm with weak motors over a table, with a puck to push, after the one of PETS.

The axes, lengths, ranges, friction and torques are those of its environment (Chua et al. 2018, the code's ``pusher``,
after OpenAI Gym's): an arm as in ``reacher`` of 300 kg/m^3, its hand a fork. There is no gravity. The puck is a
cylinder of 5 cm radius that slides in the plane against a friction of 0.5 N s/m; its place and speed are blocks of
the observation. What differs is as in ``reacher``, and the puck weighs what its joints' rotors weigh there, 40 g,
rather than next to nothing besides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mbrl_control.config import param
from mbrl_control.core import Block, Robot
from mbrl_control.rigid_body import Chain
from mbrl_control.robots import reacher
from mbrl_control.robots.reacher import Rod

FORK: Sequence[Rod] = (
    (0.02, (0.0, -0.1, 0.0), (0.0, 0.1, 0.0)),
    (0.02, (0.0, -0.1, 0.0), (0.1, -0.1, 0.0)),
    (0.02, (0.0, 0.1, 0.0), (0.1, 0.1, 0.0)),
)
TORQUE = 2.0
FRESH = 0.2
"""Older than this [s] and what is seen of the puck counts as missing."""
BLOCKS = (
    Block("object", 3, "m", "linear", "object", FRESH),
    Block("object_velocity", 3, "m/s", "linear", "object", FRESH),
)


@dataclass(frozen=True)
class Config:
    """The motors."""

    torque: float = param(TORQUE, "Largest torque that is commanded", unit="N m", low=0.1, high=TORQUE)


def chain(config: Config) -> Chain:  # noqa: ARG001 - the motors are no part of it
    """The arm's kinematics and masses."""
    return reacher.arm((0.0, -0.6, 0.0), 300.0, (1.0, 1.0, 0.1, 0.1, 0.1, 0.1, 0.1), FORK, 0.1)


def make(config: Config) -> Robot:
    """The arm, and the puck."""
    lower = (-2.2854, -0.5236, -1.5, -2.3213, -1.5, -1.094, -1.5)
    upper = (2.0, 1.3963, 1.7, 0.0, 1.5, 0.0, 1.5)
    return reacher.made("pusher", chain(config), lower, upper, (TORQUE, config.torque), config, BLOCKS)
