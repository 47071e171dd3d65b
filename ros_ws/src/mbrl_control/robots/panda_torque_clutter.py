"""The Panda commanded by joint torques among things that stand around it, for simulation only.

The arm is ``robots/panda_torque.py``'s, the things are ``robots/panda_clutter.py``'s.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mbrl_control import paths
from mbrl_control.core import Robot
from mbrl_control.rigid_body import Chain
from mbrl_control.robots import panda_clutter, panda_torque

SETTINGS = panda_torque.SETTINGS


@dataclass(frozen=True)
class Config(panda_torque.Config):
    """What is mounted on the arm, and how much its joints rub, as in ``panda_torque``."""


def chain(config: Config) -> Chain:
    """The arm with its tool and payload, as in ``panda``."""
    return panda_torque.chain(config)


def make(config: Config) -> Robot:
    """The Panda as mounted, on torques, and what stands around it."""
    return replace(
        panda_torque.make(config),
        name="panda_torque_clutter",
        world=paths.share() / "sim" / "worlds" / panda_clutter.WORLD,
        obstacles=panda_clutter.OBSTACLES,
    )
