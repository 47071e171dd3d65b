"""The Panda on a table, with a puck in front of it that its hand pushes.

Everything of the arm is ``robots/panda.py``'s; only the world is another one, and the arm goes slowly, so that the puck
does not fly off: at 0.4 m/s it slides on for 2 cm. Where the puck is and how it moves are blocks of the observation.
In simulation they are exact; on a robot a tracker says them, on the same topics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mbrl_control import paths
from mbrl_control.config import param
from mbrl_control.core import Block, Robot
from mbrl_control.rigid_body import Chain
from mbrl_control.robots import panda

FRESH = 0.2
"""Older than this [s] and what is seen of the puck counts as missing."""
BLOCKS = (
    Block("puck", 3, "m", "linear", "puck", FRESH),
    Block("puck_velocity", 3, "m/s", "linear", "puck", FRESH),
)


@dataclass(frozen=True)
class Config(panda.Config):
    """What is mounted on the arm, as in ``panda``, and how fast it goes."""

    speed: float = param(0.3, "Share of the joints' velocity limits that is used", low=0.01, high=1.0)


def chain(config: Config) -> Chain:
    """The arm with its tool and payload, as in ``panda``."""
    return panda.chain(config)


def make(config: Config) -> Robot:
    """The Panda as mounted, slowed down, and the puck."""
    world = paths.share() / "sim" / "worlds" / "panda_push.xml"
    return replace(panda.make(config).at_speed(config.speed), name="panda_push", world=world, blocks=BLOCKS)
