"""The Panda among things that stand around it: a post with a beam, a board on edge and a box.

Everything of the arm is ``robots/panda.py``'s; only the world is another one, and what stands in it is known. Numbers
of our own, the same as in sim/worlds/panda_clutter.xml: tests/maths/test_solids.py compares them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mbrl_control import paths
from mbrl_control.core import Box, Capsule, HalfSpace, Robot, Solid
from mbrl_control.rigid_body import Chain
from mbrl_control.robots import panda

WORLD = "panda_clutter.xml"
OBSTACLES: tuple[Solid, ...] = (
    HalfSpace("floor"),
    Capsule("post", 0.03, (0.38, 0.18, 0.0), (0.38, 0.18, 0.55)),
    Capsule("beam", 0.025, (0.38, 0.18, 0.46), (0.62, 0.18, 0.46)),
    Box("board", (0.14, 0.01, 0.21), (0.42, -0.20, 0.21)),
    Box("box", (0.08, 0.08, 0.10), (0.56, -0.02, 0.10)),
)


@dataclass(frozen=True)
class Config(panda.Config):
    """What is mounted on the arm, as in ``panda``."""


def chain(config: Config) -> Chain:
    """The arm with its tool and payload, as in ``panda``."""
    return panda.chain(config)


def make(config: Config) -> Robot:
    """The Panda as mounted, and what stands around it."""
    world = paths.share() / "sim" / "worlds" / WORLD
    return replace(panda.make(config), name="panda_clutter", world=world, obstacles=OBSTACLES)
