"""Franka Emika Panda with the Franka Hand: seven joints, commanded by reference velocities.

Numbers only, from:

* kinematics: franka_description, robots/common/franka_arm.xacro (the published modified DH table);
* inertial parameters of the links: C. Gaz, M. Cognetti, A. Oliva, P. Robuffo Giordano, A. De Luca, "Dynamic
  Identification of the Franka Emika Panda Robot with Retrieval of Feasible Parameters Using Penalty-Based
  Optimization", IEEE RA-L 4(4), 2019, as tabled in franka_description, robots/fer/inertials.yaml;
* hand: mass, centre and inertia that Franka's own tool settings give for the whole hand (same file, ``hand``);
* limits: Franka Control Interface documentation, "Robot and interface specifications", "Limits for Panda";
* rotors: not published; 0.1 kg m^2 a joint, as in DeepMind's MuJoCo Menagerie.

The servo is ours: it stands for the arm's own joint controller, soft enough that a push is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from mbrl_control import mjcf, paths, rigid_body
from mbrl_control.config import param
from mbrl_control.core import Capsule, Channels, Limits, Mode, Robot, Servo, Sink
from mbrl_control.rigid_body import Body, Chain, Link, about_x, about_z, symmetric

FLANGE = 0.107
"""From joint 7 to the flange, along z [m]."""
ARMATURE = 0.1
LINKS = (
    # position, angle about x, body (mass, centre, inertia about the centre as xx yy zz xy xz yz)
    ((0.0, 0.0, 0.333), 0.0, Body(
        4.970684, (3.875e-3, 2.081e-3, -4.762e-2),
        symmetric(7.0337e-1, 7.0661e-1, 9.117e-3, -1.39e-4, 6.772e-3, 1.9169e-2))),
    ((0.0, 0.0, 0.0), -pi / 2, Body(
        0.646926, (-3.141e-3, -2.872e-2, 3.495e-3),
        symmetric(7.962e-3, 2.811e-2, 2.5995e-2, -3.925e-3, 1.0254e-2, 7.04e-4))),
    ((0.0, -0.316, 0.0), pi / 2, Body(
        3.228604, (2.7518e-2, 3.9252e-2, -6.6502e-2),
        symmetric(3.7242e-2, 3.6155e-2, 1.083e-2, -4.761e-3, -1.1396e-2, -1.2805e-2))),
    ((0.0825, 0.0, 0.0), pi / 2, Body(
        3.587895, (-5.317e-2, 1.04419e-1, 2.7454e-2),
        symmetric(2.5853e-2, 1.9552e-2, 2.8323e-2, 7.796e-3, -1.332e-3, 8.641e-3))),
    ((-0.0825, 0.384, 0.0), -pi / 2, Body(
        1.225946, (-1.1953e-2, 4.1065e-2, -3.8437e-2),
        symmetric(3.5549e-2, 2.9474e-2, 8.627e-3, -2.117e-3, -4.037e-3, 2.29e-4))),
    ((0.0, 0.0, 0.0), pi / 2, Body(
        1.666555, (6.0149e-2, -1.4117e-2, -1.0517e-2),
        symmetric(1.964e-3, 4.354e-3, 5.433e-3, 1.09e-4, -1.158e-3, 3.41e-4))),
    ((0.088, 0.0, 0.0), pi / 2, Body(
        0.735522, (1.0517e-2, -4.252e-3, 6.1597e-2),
        symmetric(1.2516e-2, 1.0027e-2, 4.815e-3, -4.28e-4, -1.196e-3, -7.41e-4))),
)  # fmt: skip
HAND = Body(0.73, (-0.01, 0.0, 0.03), symmetric(0.001, 0.0025, 0.0017))
"""In the hand's frame: at the flange, turned by -45 degrees about z."""

LIMITS = Limits(
    lower=np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973]),
    upper=np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]),
    velocity=np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61]),
    acceleration=np.array([15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0]),
    jerk=np.array([7500.0, 3750.0, 5000.0, 6250.0, 7500.0, 10000.0, 10000.0]),
    torque=np.array([87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0]),
)
SERVO = Servo(
    stiffness=np.array([600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0]),
    damping=np.array([40.0, 60.0, 50.0, 50.0, 12.0, 10.0, 5.0]),
)
SOLIDS = (
    Capsule("base", 0.078, (0.0, 0.0, 0.002), (0.0, 0.0, 0.273)),
    Capsule("connector", 0.058, (-0.02, 0.0, 0.062), (-0.10, 0.0, 0.062)),
    Capsule("shoulder", 0.066, (0.0, -0.045, 0.0), (0.0, 0.045, 0.0), 1),
    Capsule("upper_arm", 0.060, (0.0, 0.0, -0.316), (0.0, 0.0, -0.075), 3),
    Capsule("elbow", 0.057, (0.0, 0.0, -0.08), (0.0825, 0.0, 0.0), 3),
    Capsule("crook", 0.056, (0.0, 0.0, 0.0), (-0.0825, 0.07, 0.0), 4),
    Capsule("forearm", 0.0635, (0.0, -0.007, -0.314), (0.0, 0.028, -0.10), 5),
    Capsule("wrist", 0.045, (0.0, 0.06, -0.09), (0.0, 0.02, 0.0), 5),
    Capsule("offset", 0.046, (0.0, 0.0, 0.0), (0.088, -0.008, 0.0), 6),
    Capsule("flange", 0.045, (0.0, 0.0, 0.045), (0.0, 0.0, 0.095), 7),
    Capsule("hand", 0.032, (-0.0495, -0.0495, 0.139), (0.0495, 0.0495, 0.139), 7),
    Capsule("fingers", 0.032, (-0.0131, -0.0131, 0.189), (0.0131, 0.0131, 0.189), 7),
)
"""Shapes of panda.xml, some of them in one: what turns about its own axis (base and column, both parts of the upper
arm) at no loss, the forearm with 7 mm to spare, the fingers with 2 cm to their sides and 5 mm beyond their tips."""
APART = tuple(
    (own, other)
    for own in ("wrist", "offset", "flange", "hand", "fingers")
    for other in ("base", "connector", "shoulder", "upper_arm")
    if (own, other) not in (("wrist", "upper_arm"), ("offset", "upper_arm"))
)


@dataclass(frozen=True)
class Config:
    """What is mounted on the arm: part of the known model, here and in the simulation."""

    tool_offset: float = param(0.1034, "From the flange to the tool point, along z", unit="m", low=0.0, high=0.5)
    tool_mass: float = param(0.73, "Mass of the tool, shaped like the Franka Hand", unit="kg", low=0.0, high=3.0)
    payload: float = param(0.0, "Mass carried at the tool point", unit="kg", low=0.0, high=3.0)


def chain(config: Config) -> Chain:
    """The arm with its tool and payload as one serial chain."""
    links = [Link("hinge", body, position, about_x(angle), ARMATURE) for position, angle, body in LINKS]
    tool = rigid_body.moved(rigid_body.scaled(HAND, config.tool_mass), about_z(-pi / 4), (0.0, 0.0, FLANGE))
    tip = (0.0, 0.0, FLANGE + config.tool_offset)
    links[-1] = Link(
        "hinge",
        rigid_body.merge(links[-1].body, tool, Body(config.payload, tip)),
        links[-1].position,
        links[-1].rotation,
        ARMATURE,
    )
    return Chain(tuple(links), tip, about_z(-pi / 4))


def make(config: Config) -> Robot:
    """The Panda as mounted."""
    arm = chain(config)
    joints = tuple(f"panda_joint{i}" for i in range(1, 8))
    return Robot(
        name="panda",
        joints=joints,
        channels=Channels(Mode.VELOCITY_REFERENCE, joints, np.eye(7), LIMITS.velocity.copy()),
        limits=LIMITS,
        home=np.array([0.0, -pi / 4, 0.0, -3 * pi / 4, 0.0, pi / 2, pi / 4]),
        world=paths.share() / "sim" / "worlds" / "panda.xml",
        tip_body="hand",
        tip=lambda xp, q: rigid_body.tip(xp, arm, q),
        inverse_dynamics=lambda xp, q, v, a: rigid_body.inverse_dynamics(xp, arm, q, v, a),
        acceleration=None,
        sink=Sink("panda_arm_controller/joint_trajectory", "joint_trajectory"),
        state_topic="joint_states",
        state_rate=200.0,
        servo=SERVO,
        mount=lambda spec: mjcf.mount(spec, "hand", config.tool_mass, config.tool_offset, config.payload),
        config=config,
        solids=SOLIDS,
        ends=lambda xp, q: rigid_body.ends(xp, arm, SOLIDS, q),
        apart=APART,
    )
