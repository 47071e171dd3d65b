"""Universal Robots UR5e with a plain tool: six joints, commanded by reference velocities.

Numbers only, from:

* kinematics, masses, centres of mass: Universal Robots, support article "DH Parameters for calculations of kinematics
  and dynamics", table UR5e; frames, joint names and the elbow's range of +-180 degrees as in ur_description,
  config/ur5e/default_kinematics.yaml and joint_limits.yaml. The frames are base_link's: x points forwards;
* inertia tensors: ur_description from 2.5.0, config/ur5e/physical_parameters.yaml (UR's own, from the arm's design;
  the article calls them negligible and older versions have cylinders);
* ranges and speeds: UR5e user manual, technical specifications: +-360 degrees, 180 degrees/s for every joint;
* torques: Universal Robots, support article "Max. joint torques": 150 N m for the large joints, 28 N m for the wrist;
* rotors: not published; 0.1 kg m^2 a joint, as in DeepMind's MuJoCo Menagerie.

Declared by us, since UR publishes none (``LIMITS`` says why):

* acceleration: 5 rad/s^2, as ur_moveit_config, config/joint_limits.yaml, which calls it conservative: what limits the
  arm is torque alone. With the tool as declared the published torques suffice for it in every joint at once, in every
  pose, with a fifth to spare (tests/maths/test_robots.py). They would not with more than about 1.5 kg besides: the arm
  stretched out cannot brake that as fast, and has to be given lower limits;
* jerk: the whole acceleration within 0.03 s, the shortest ``servoj_lookahead_time`` that ur_robot_driver takes, over
  which the arm smooths its commands in any case;
* the tool: a cylinder of 1 kg with two fingers, about as large and heavy as common grippers; no product.

The driver publishes joint states at 500 Hz; 200 Hz are simulated, which is enough for the guard and spares the
processor. Its ``JointState.effort`` is motor current, not torque; nothing here reads it. From ROS 2 Lyrical on the
driver has ``joint_trajectory_controller`` in the place of ``scaled_joint_trajectory_controller``.

The servo is ours: it stands for the arm's own joint controller, soft enough that a push is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from mbrl_control import mjcf, paths, rigid_body
from mbrl_control.config import param
from mbrl_control.core import Capsule, Channels, Limits, Mode, Robot, Servo, Sink
from mbrl_control.rigid_body import IDENTITY, Body, Chain, Link, about_x, about_z, symmetric

UPPER_ARM, FOREARM = 0.425, 0.3922
ARMATURE = 0.1
JOINTS = (
    "shoulder_pan_joint", "shoulder_lift_joint", "elbow_joint", "wrist_1_joint", "wrist_2_joint", "wrist_3_joint",
)  # fmt: skip
LINKS = (
    # position, rotation; body (mass, centre, inertia about the centre as xx yy zz xy xz yz) in UR's own frame of the
    # link, which the article's table defines; and how that frame stands in ours: angle about x, origin along x
    ((0.0, 0.0, 0.1625), about_z(pi), Body(
        3.761, (0.0, -0.02561, 0.00193),
        symmetric(7.0021e-3, 6.48091e-3, 6.57286e-3, 7.3e-7, -1.053e-5, 4.9994e-4)), pi / 2, 0.0),
    ((0.0, 0.0, 0.0), about_x(pi / 2), Body(
        8.058, (0.2125, 0.0, 0.11336),
        symmetric(1.505885e-2, 3.3388086e-1, 3.3247207e-1, -5.4e-5, 5.63e-6, -1.81e-6)), 0.0, -UPPER_ARM),
    ((-UPPER_ARM, 0.0, 0.0), IDENTITY, Body(
        2.846, (0.15, 0.0, 0.0265),
        symmetric(3.99632e-3, 7.879254e-2, 7.84851e-2, -1.365e-5, 1.37272e-3, -6.6e-6)), 0.0, -FOREARM),
    ((-FOREARM, 0.0, 0.1333), IDENTITY, Body(
        1.37, (0.0, -0.0018, 0.01634),
        symmetric(1.65491e-3, 1.35962e-3, 1.26279e-3, -2.82e-6, -4.38e-6, 1.0157e-4)), pi / 2, 0.0),
    ((0.0, -0.0997, 0.0), about_x(pi / 2), Body(
        1.3, (0.0, 0.0018, 0.01634),
        symmetric(1.35617e-3, 1.27827e-3, 9.6614e-4, -2.74e-6, 4.44e-6, -5.048e-5)), -pi / 2, 0.0),
    ((0.0, 0.0996, 0.0), about_x(-pi / 2), Body(
        0.365, (0.0, 0.0, -0.001159),
        symmetric(1.8694e-4, 1.8908e-4, 2.5756e-4, 6e-8, -1.7e-7, -9.2e-7)), 0.0, 0.0),
)  # fmt: skip
TOOL = Body(1.0, (0.0, 0.0, 0.05), symmetric(1.14e-3, 1.14e-3, 6.1e-4))
"""A cylinder of radius 35 mm and length 100 mm on the flange, whose frame is that of the last link."""

ACCELERATION = 5.0
LOOKAHEAD = 0.03
LIMITS = Limits(
    lower=np.array([-2 * pi, -2 * pi, -pi, -2 * pi, -2 * pi, -2 * pi]),
    upper=np.array([2 * pi, 2 * pi, pi, 2 * pi, 2 * pi, 2 * pi]),
    velocity=np.full(6, pi),
    acceleration=np.full(6, ACCELERATION),
    jerk=np.full(6, ACCELERATION / LOOKAHEAD),
    torque=np.array([150.0, 150.0, 150.0, 28.0, 28.0, 28.0]),
)
SERVO = Servo(
    stiffness=np.array([1200.0, 1200.0, 800.0, 250.0, 250.0, 100.0]),
    damping=np.array([100.0, 100.0, 65.0, 14.0, 14.0, 8.0]),
)
SOLIDS = (
    Capsule("base", 0.075, (0.0, 0.0, 0.002), (0.0, 0.0, 0.1925)),
    Capsule("shoulder", 0.060, (0.0, 0.005, 0.0), (0.0, -0.02, 0.0), 1),
    Capsule("upper_arm", 0.066, (0.0, 0.0, 0.136), (-UPPER_ARM, 0.0, 0.136), 2),
    Capsule("forearm", 0.065, (0.0, 0.0, 0.0075), (-FOREARM, 0.0, 0.015), 3),
    Capsule("wrist_1", 0.050, (0.0, 0.0, -0.003), (0.0, -0.010, 0.0), 4),
    Capsule("wrist_2", 0.050, (0.0, 0.0, -0.003), (0.0, 0.010, 0.0), 5),
    Capsule("tool", 0.0375, (0.0, 0.0, -0.045), (0.0, 0.0, 0.1), 6),
    Capsule("fingers", 0.032, (0.0, -0.0206, 0.128), (0.0, 0.0206, 0.128), 6),
)
"""Shapes of ur5e.xml, those of a link in one: some with 1 cm to spare, the fingers with 2 cm to their sides."""
APART = (
    *((own, other) for own in ("tool", "fingers") for other in ("base", "shoulder", "upper_arm", "forearm")),
    *((own, "upper_arm") for own in ("wrist_1", "wrist_2")),
    *(("forearm", other) for other in ("base", "shoulder")),
)


@dataclass(frozen=True)
class Config:
    """What is mounted on the arm: part of the known model, here and in the simulation."""

    tool_offset: float = param(0.15, "From the flange to the tool point, along z", unit="m", low=0.0, high=0.5)
    tool_mass: float = param(1.0, "Mass of the tool, shaped like a cylinder", unit="kg", low=0.0, high=5.0)
    payload: float = param(0.0, "Mass carried at the tool point", unit="kg", low=0.0, high=5.0)


def chain(config: Config) -> Chain:
    """The arm with its tool and payload as one serial chain."""
    links = [
        Link("hinge", rigid_body.moved(body, about_x(angle), (x, 0.0, 0.0)), position, rotation, ARMATURE)
        for position, rotation, body, angle, x in LINKS
    ]
    last, tip = links[-1], (0.0, 0.0, config.tool_offset)
    tool = rigid_body.scaled(TOOL, config.tool_mass)
    carrying = rigid_body.merge(last.body, tool, Body(config.payload, tip))
    links[-1] = Link("hinge", carrying, last.position, last.rotation, ARMATURE)
    return Chain(tuple(links), tip)


def make(config: Config) -> Robot:
    """The UR5e as mounted."""
    arm = chain(config)
    return Robot(
        name="ur5e",
        joints=JOINTS,
        channels=Channels(Mode.VELOCITY_REFERENCE, JOINTS, np.eye(6), LIMITS.velocity.copy()),
        limits=LIMITS,
        home=np.array([0.0, -pi / 2, pi / 3, -pi / 3, -pi / 2, 0.0]),
        world=paths.share() / "sim" / "worlds" / "ur5e.xml",
        tip_body="tool",
        tip=lambda xp, q: rigid_body.tip(xp, arm, q),
        inverse_dynamics=lambda xp, q, v, a: rigid_body.inverse_dynamics(xp, arm, q, v, a),
        acceleration=None,
        sink=Sink("scaled_joint_trajectory_controller/joint_trajectory", "joint_trajectory"),
        state_topic="joint_states",
        state_rate=200.0,
        servo=SERVO,
        mount=lambda spec: mjcf.mount(spec, "tool", config.tool_mass, config.tool_offset, config.payload),
        config=config,
        solids=SOLIDS,
        ends=lambda xp, q: rigid_body.ends(xp, arm, SOLIDS, q),
        apart=APART,
    )
