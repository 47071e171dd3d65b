"""A heavy pole that stands on a cart: gymnasium's InvertedPendulum, its parameters.

Cart, pole, friction and motor are those of ``pets_cartpole``, which was made from it; here the rail is 1 m each way,
the pole turns by a right angle each way, and at home it stands. There MuJoCo makes steps of 20 ms, here of 1 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

from mbrl_control.config import param
from mbrl_control.core import Robot
from mbrl_control.robots import pets_cartpole

CHAIN, FORCE = pets_cartpole.CHAIN, pets_cartpole.FORCE


@dataclass(frozen=True)
class Config:
    """The cart's motor."""

    force: float = param(FORCE, "Largest force that is commanded", unit="N", low=0.1, high=FORCE)


def make(config: Config) -> Robot:
    """The cart, its pole upright."""
    return pets_cartpole.made("inverted_pendulum", config.force, 1.0, pi / 2, hangs=False, config=config)
