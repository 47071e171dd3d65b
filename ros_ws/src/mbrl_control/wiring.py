"""How a robot is connected where it stands: what its driver calls the joints, and on which topics it can be reached.

A robot's file says how it is by default, ``Wiring`` what is different here, and ``wired`` puts both together. The
robot that comes out is all that the nodes see of it. Topics stay as relative as they were written, so that
namespaces and remaps go on working.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import yaml

from mbrl_control.config import param, parse_yaml
from mbrl_control.core import MbrlError, Mode, Robot, Sink

PREFIX = "wiring"
"""Under which name its parameters stand: ``wiring.joints``."""
Kind = Literal["joint_trajectory", "position", "velocity", "effort"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NUMBERS = ("position", "velocity", "effort")
"""Sinks that take one number a joint, without names."""
NEEDED = {
    "joint_trajectory": ("joints", "interpolate_from_desired_state", "open_loop_control"),
    **dict.fromkeys(NUMBERS, ("joints", "interface_name")),
}
"""Parameters of the driver's controller that say whether it is the sink that we take it for."""
TOPIC = re.compile(r"(/|~/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")


class WiringError(MbrlError):
    """A connection that cannot be what is wanted."""


@dataclass(frozen=True)
class Wiring:
    """What is different from the robot's file; empty: nothing is."""

    joints: tuple[str, ...] = param((), "what the driver calls the joints, in our order")
    state_topic: str = param("", "topic of the driver's joint states")
    sink: str = param("", "what takes the commands", choices=("", *KINDS))
    command_topic: str = param("", "topic of that sink; needed where sink is another one than in the robot's file")
    command_joints: tuple[str, ...] = param(
        (), "order of the numbers of a sink without names: the parameter joints of its forward_command_controller"
    )
    allow_unguarded_sink: bool = param(
        False,
        "accept a velocity or effort sink: nothing stops the arm when commands stop coming, but in the simulation",
    )


def wired(robot: Robot, wiring: Wiring) -> Robot:
    """The robot as it is connected here."""
    for name in ("state_topic", "command_topic"):
        topic = getattr(wiring, name)
        if topic and not TOPIC.fullmatch(topic):
            raise WiringError(f"{PREFIX}.{name} = '{topic}': it takes a topic, as arm/{name} or /left/arm/{name}")
    joints = wiring.joints or robot.driver_joints
    if len(joints) != robot.nj or len(set(joints)) != robot.nj:
        raise WiringError(
            f"{PREFIX}.joints = {_list(joints)}: it takes another name for each of {robot.name}'s {robot.nj} joints, "
            f"in this order: {_list(robot.joints)}"
        )
    kind = cast(Kind, wiring.sink) if wiring.sink else robot.sink.kind
    if kind != robot.sink.kind and not wiring.command_topic:
        raise WiringError(
            f"{PREFIX}.sink = '{kind}': it takes {PREFIX}.command_topic as well; "
            f"'{robot.sink.topic}' is a {robot.sink.kind} topic"
        )
    order = wiring.command_joints or (() if wiring.joints else robot.sink.joints)
    if order and sorted(order) != sorted(joints):
        raise WiringError(f"{PREFIX}.command_joints = {_list(order)}: it takes these, in any order: {_list(joints)}")
    sink = Sink(wiring.command_topic or robot.sink.topic, kind, order)
    return replace(robot, renamed=joints, state_topic=wiring.state_topic or robot.state_topic, sink=sink)


def guarded(robot: Robot, wiring: Wiring) -> Robot:
    """The robot as it is connected here, if the guard may command its sink."""
    robot = wired(robot, wiring)
    if robot.channels.mode is Mode.TORQUE:
        return _torqued(robot, wiring)
    takes = f"it takes joint_trajectory, position, or velocity with {PREFIX}.allow_unguarded_sink: true"
    if robot.sink.kind == "effort":
        raise WiringError(f"{PREFIX}.sink = 'effort': the guard has motion to send, no torques; {takes}")
    if robot.sink.kind == "velocity" and not wiring.allow_unguarded_sink:
        raise WiringError(
            f"{PREFIX}.sink = 'velocity': a forward_command_controller goes on with the last velocity for ever when "
            f"commands stop coming (ros2_controllers#95), nothing stops the arm; {takes}"
        )
    return robot


def _torqued(robot: Robot, wiring: Wiring) -> Robot:
    """The same for a robot that is commanded by torques."""
    if robot.sink.kind != "effort":
        raise WiringError(
            f"{PREFIX}.sink = '{robot.sink.kind}': robot '{robot.name}' is commanded by torques; it takes effort"
        )
    if not wiring.allow_unguarded_sink:
        raise WiringError(
            f"{PREFIX}.sink = 'effort': a forward_command_controller goes on with the last torques for ever when "
            f"commands stop coming (ros2_controllers#95), nothing stops robot '{robot.name}'; it takes "
            f"{PREFIX}.allow_unguarded_sink: true, as sim.launch.yaml says it of our simulation, which brakes"
        )
    return robot


def unwired(text: str, where: str) -> str:
    """A ROS parameter file without what it says of wiring, and otherwise letter for letter what it meant."""
    parse_yaml(text, where)  # mistakes are told with their place
    root = yaml.compose(text)
    rules = [root] if isinstance(root, yaml.MappingNode) else []
    removed = False
    while rules:
        for key, inner in rules.pop().value:
            if not isinstance(inner, yaml.MappingNode):
                continue
            if key.value == "ros__parameters":
                kept = [pair for pair in inner.value if pair[0].value.partition(".")[0] != PREFIX]
                removed |= len(kept) < len(inner.value)
                inner.value = kept
            else:
                rules.append(inner)
    return yaml.serialize(root) if removed else text


def sink_order(robot: Robot) -> list[int]:
    """Where the joint of each of the sink's numbers stands in our order."""
    joints = robot.driver_joints
    return [joints.index(name) for name in robot.sink.joints or joints]


def mismatches(robot: Robot, found: Mapping[str, Any]) -> list[str]:
    """What the parameters of the driver's controller (``NEEDED``; None: not declared) say against commanding it."""
    joints, has = robot.driver_joints, found.get("joints") or ()
    wrong = []
    if robot.sink.kind == "joint_trajectory":
        if sorted(has) != sorted(joints):
            wrong.append(f"its joints are {_list(has)}; it takes {_list(joints)}, in any order")
        if found.get("interpolate_from_desired_state") is False and not found.get("open_loop_control"):
            wrong.append(
                "its interpolate_from_desired_state is false; it takes true, else it jumps to where the arm is"
            )
        return wrong
    order = robot.sink.joints or joints
    if tuple(has) != tuple(order):
        wrong.append(f"its joints are {_list(has)}, {PREFIX}.command_joints are {_list(order)}; they must be the same")
    if found.get("interface_name") not in (None, "", robot.sink.kind):
        wrong.append(f"its interface_name is '{found['interface_name']}'; {PREFIX}.sink is '{robot.sink.kind}'")
    return wrong


def _list(names: Sequence[str]) -> str:
    return f"[{', '.join(names)}]"
