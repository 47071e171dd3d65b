"""A 7-DoF arm with torque motors and no gravity, after the one that PETS reaches with.

The axes, lengths, ranges, friction and torques are those of its environment (Chua et al. 2018, the code's
``reacher3d``), an arm like a PR2's: pan and lift of the shoulder, roll of the upper arm, elbow, roll of the forearm,
bend and roll of the wrist; every joint has a rotor of 0.04 kg m^2. What differs: links are one capsule of 1000 kg/m^3
each and the hand is three, so that masses are like its, not the same; forearm and wrist roll over two turns each way
where its have no ends; elbow and wrist begin bent by 0.1 rad, since at 0 they are at their ends. There MuJoCo makes
steps of 10 ms, here of 2 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi

import numpy as np

from mbrl_control import forward_dynamics, paths, rigid_body
from mbrl_control.config import param
from mbrl_control.core import Block, Channels, Limits, Mode, Robot, Sink
from mbrl_control.rigid_body import Body, Chain, Link, Matrix, capsule, merge, moved

JOINTS = ("shoulder_pan", "shoulder_lift", "upper_arm_roll", "elbow_flex", "forearm_roll", "wrist_flex", "wrist_roll")
UPPER, FOREARM, ARMATURE = 0.4, 0.321, 0.04
AXES: Sequence[Matrix] = (
    ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
    ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
)
"""Frames of the links that turn about z, y and x of the stretched arm, in its base's: their z is the joint."""
ORDER = (0, 1, 2, 1, 2, 1, 2)
Vector = tuple[float, float, float]
Rod = tuple[float, Vector, Vector]
"""Radius, and both ends as the arm is stretched out along x, from the joint [m]."""
LINKS: Sequence[tuple[Vector, Rod]] = (
    ((0.0, 0.0, 0.0), (0.1, (0.0, 0.0, -0.4), (0.0, 0.0, 0.2))),
    ((0.1, 0.0, 0.0), (0.1, (0.0, -0.1, 0.0), (0.0, 0.1, 0.0))),
    ((0.0, 0.0, 0.0), (0.06, (0.0, 0.0, 0.0), (UPPER, 0.0, 0.0))),
    ((UPPER, 0.0, 0.0), (0.06, (0.0, -0.02, 0.0), (0.0, 0.02, 0.0))),
    ((0.0, 0.0, 0.0), (0.05, (0.0, 0.0, 0.0), (FOREARM, 0.0, 0.0))),
    ((FOREARM, 0.0, 0.0), (0.03, (0.0, -0.02, 0.0), (0.0, 0.02, 0.0))),
)
"""Where each joint is from the one before, and its link; the hand is the seventh."""
HAND: Sequence[Rod] = (
    (0.05, (0.05, 0.0, -0.02), (0.05, 0.0, 0.02)),
    (0.01, (0.077, 0.03, 0.0), (0.168, 0.03, 0.0)),
    (0.01, (0.077, -0.03, 0.0), (0.168, -0.03, 0.0)),
)
TORQUE = 20.0


@dataclass(frozen=True)
class Config:
    """The motors."""

    torque: float = param(TORQUE, "Largest torque that is commanded", unit="N m", low=0.1, high=TORQUE)


def chain(config: Config) -> Chain:  # noqa: ARG001 - the motors are no part of it
    """The arm's kinematics and masses."""
    return arm((0.0, -0.188, 0.0), 1000.0, (10.0, 10.0, 0.1, 1.0, 0.1, 0.1, 0.1), HAND, 0.16828)


def arm(base: Vector, density: float, damping: Sequence[float], hand: Sequence[Rod], reach: float) -> Chain:
    """Such an arm at ``base``, its tip ``reach`` before the wrist."""
    links: list[Link] = []
    before = np.eye(3)
    bodies = [[rod] for _, rod in LINKS] + [list(hand)]
    places = [place for place, _ in LINKS] + [(0.0, 0.0, 0.0)]
    places[0] = base
    for axis, place, rods, friction in zip(ORDER, places, bodies, damping, strict=True):
        frame = np.array(AXES[axis])
        rotation = _matrix(before.T @ frame)
        links.append(
            Link("hinge", _body(density, rods, frame), _vector(before.T @ place), rotation, ARMATURE, friction)
        )
        before = frame
    return Chain(tuple(links), tip=_vector(before.T @ (reach, 0.0, 0.0)), gravity=(0.0, 0.0, 0.0))


def made(
    name: str,
    arm: Chain,
    lower: Sequence[float],
    upper: Sequence[float],
    torque: tuple[float, float],
    config: object,
    blocks: tuple[Block, ...] = (),
) -> Robot:
    """A robot of such an arm; torques are what it has and what is commanded of it [N m]."""
    seven = np.ones(7)
    return Robot(
        name=name,
        joints=JOINTS,
        channels=Channels(Mode.TORQUE, JOINTS, np.eye(7), torque[1] * seven),
        limits=Limits(
            lower=np.array(lower),
            upper=np.array(upper),
            velocity=np.array([3.0, 3.0, 10.0, 10.0, 15.0, 15.0, 15.0]),
            acceleration=50.0 * seven,
            jerk=1000.0 * seven,
            torque=torque[0] * seven,
        ),
        home=np.array([0.0, 0.0, 0.0, -0.1, 0.0, -0.1, 0.0]),
        world=paths.share() / "sim" / "worlds" / f"{name}.xml",
        tip_body="hand",
        tip=lambda xp, q: rigid_body.tip(xp, arm, q),
        inverse_dynamics=lambda xp, q, v, a: rigid_body.inverse_dynamics(xp, arm, q, v, a),
        acceleration=None,
        sink=Sink("effort_controller/commands", "effort"),
        state_topic="joint_states",
        state_rate=200.0,
        servo=None,
        config=config,
        blocks=blocks,
    )


def make(config: Config) -> Robot:
    """The arm."""
    lower = (-2.2854, -0.5236, -3.9, -2.3213, -4 * pi, -2.094, -4 * pi)
    upper = (1.714602, 1.3963, 0.8, 0.0, 4 * pi, 0.0, 4 * pi)
    arm = chain(config)
    return replace(
        made("reacher", arm, lower, upper, (TORQUE, config.torque), config),
        acceleration=lambda xp, q, v, torque: forward_dynamics.acceleration(
            xp, arm, q, v, torque - rigid_body.friction(xp, arm, v)
        ),
        friction=lambda xp, v: rigid_body.friction(xp, arm, v),
    )


def _body(density: float, rods: Sequence[Rod], frame: np.ndarray) -> Body:
    """Capsules as one body, in the link's own frame."""
    return moved(merge(*(capsule(density, *rod) for rod in rods)), _matrix(frame.T), (0.0, 0.0, 0.0))


def _matrix(m: np.ndarray) -> Matrix:
    a, b, c = (_vector(row) for row in m)
    return a, b, c


def _vector(v: np.ndarray) -> Vector:
    x, y, z = (float(value) + 0.0 for value in v)
    return x, y, z
